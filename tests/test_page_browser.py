"""The page in Chromium: what a visitor does, and what the browser says about it."""

import base64
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
from PIL import Image

import onebranch
from benchmarks.web_pages import chromium, served, why_no_browser
from onebranch.page import write_page

playwright_api = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed (make wasm installs it)"
)

pytestmark = [
    pytest.mark.wasm,
    pytest.mark.skipif(bool(why_no_browser()), reason=why_no_browser() or "there is a browser"),
]

ROOT = Path(__file__).parent.parent
AXE = ROOT / "build" / "wasm" / "axe.min.js"
SUBFOLDER = "some/folder"
PATIENCE_MS = 240_000
"""The longest that anything may take on a busy machine."""

MAX_RESPONSE_SECONDS = 2.0
"""The longest that a click may take while a large picture is enhanced, on a busy machine."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page, in a subfolder of a static server."""
    folder = tmp_path_factory.mktemp("server")
    write_page(folder / SUBFOLDER)
    (folder / "frame.html").write_text(
        '<!doctype html><title>Frame</title><link rel="icon" href="data:,">'
        f'<iframe src="{SUBFOLDER}/" width="1000" height="800"></iframe>'
    )
    with served(folder) as root:
        yield root


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium."""
    with playwright_api.sync_playwright() as playwright, chromium(playwright) as opened:
        yield opened


class Visit:
    """A visitor's page, and what went wrong on it."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.address, self.problems, self.requests = address, list[str](), list[str]()
        self.context = browser.new_context(viewport={"width": 1200, "height": 800}, **options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("console", self._collect_problem)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.context.on("request", lambda request: self.requests.append(request.url))

    def _collect_problem(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(message.text)

    def open(self) -> None:
        """Go to the page and wait until it is ready."""
        self.page.goto(f"{self.address}/{SUBFOLDER}/")
        self.page.locator("html[data-ready]").wait_for()

    def choose(self, scale: str, model: str, precision: str) -> None:
        """The settings."""
        self.page.locator(f'#scales input[value="{scale}"]').check(force=True)
        self.page.locator("#model").select_option(model)
        self.page.locator("#precision").select_option(precision)

    def upload(self, *files: Path) -> None:
        """Choose pictures as with the button."""
        self.page.locator("#files").set_input_files(files)

    def finished(self, name: str) -> str:
        """Wait until a picture is enhanced; what its row says."""
        row = self.page.locator("#list li").filter(has_text=name)
        row.locator(".state").filter(has_text="×").wait_for()
        return str(row.locator(".state").text_content())

    def download(self, kind: str) -> bytes:
        """Save the visible result; the file's bytes."""
        self.page.locator("#format").select_option(f"image/{kind}")
        with self.page.expect_download() as saved:
            self.page.locator("#save").click()
        return Path(saved.value.path()).read_bytes()


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Visit]:
    """A new visitor. Nothing may go wrong, and no other site be asked for anything."""
    made = Visit(browser, address)
    made.open()
    yield made
    made.context.close()
    assert made.problems == []
    assert all(url.startswith((address, f"blob:{address}")) for url in made.requests), made.requests


def picture(mode: str, width: int = 90, height: int = 70) -> np.ndarray:
    """A test picture: a smooth ramp with noise. Modes: those of `saved`."""
    random = np.random.default_rng(len(mode))
    rows, columns = np.mgrid[:height, :width]
    planes = [rows / height, columns / width, (rows + columns) / (height + width)]
    values = np.stack(planes, 2) * 0.8 + random.random((height, width, 3)) * 0.2
    if mode.startswith("grey"):
        values = values[..., :1]
    if "alpha" in mode:
        alpha = np.clip(random.random((height, width, 1)) * 3 - 1, 0, 1)
        alpha[20:50, 20:60] = 0
        values = np.concatenate([values, alpha], 2)
    dtype = np.uint16 if mode.endswith("16") else np.uint8
    return (values * np.iinfo(dtype).max).astype(dtype)


def saved(mode: str, path: Path) -> Path:
    """The test picture as a file, written by the package itself."""
    from onebranch.images.picture import Picture
    from onebranch.images.writing import write

    samples = picture(mode)
    has_alpha = "alpha" in mode
    pixels = samples[..., :-1] if has_alpha else samples
    write(Picture(np.ascontiguousarray(pixels), samples[..., -1] if has_alpha else None), path)
    return path


@pytest.mark.parametrize("mode", ["rgb", "rgb alpha", "grey", "rgb 16", "rgb alpha 16"])
def test_int8_results_are_those_of_the_command_line(visit, tmp_path, mode):
    """The PNG that the page saves has the samples of `onebranch enhance`, alpha and 16 bits included."""
    source = saved(mode, tmp_path / "picture.png")
    expected = enhanced(source, "photo-x2-int8", "int8")
    visit.choose("2", "photo-x2", "int8")
    visit.upload(source)
    visit.finished("picture.png")
    result = samples_of(visit.download("png"), tmp_path)
    assert result.dtype == expected.dtype and result.shape == expected.shape
    assert np.array_equal(result, expected)


@pytest.mark.parametrize(
    ("scale", "model"), [("2", "restore-x2"), ("4", "restore-x4"), ("1", "denoise"), ("0.5", "shrink-x2")]
)
def test_fp32_results_are_within_a_level(visit, tmp_path, scale, model):
    """Odd sizes, every task, several bands."""
    Image.fromarray(picture("rgb", 101, 203)).save(tmp_path / "picture.png")
    visit.choose(scale, model, "fp32")
    visit.upload(tmp_path / "picture.png")
    visit.finished("picture.png")
    expected = enhanced(tmp_path / "picture.png", model, "fp32").astype(int)
    result = samples_of(visit.download("png"), tmp_path).astype(int)
    assert np.abs(result - expected).max() <= 1


def enhanced(source: Path, model: str, precision: str) -> np.ndarray:
    """The samples of what `onebranch enhance` writes."""
    out = source.parent / f"{model}-{precision}"
    onebranch.enhance_files([source], out, onebranch.Options(model=model, precision=precision))
    return samples_of((out / source.name).read_bytes(), source.parent)


def samples_of(content: bytes, folder: Path) -> np.ndarray:
    """The samples of a PNG file."""
    from onebranch.images.reading import read

    path = folder / "read.png"
    path.write_bytes(content)
    result = read(path)
    alpha = [] if result.alpha is None else [result.alpha[..., None]]
    return np.concatenate([result.pixels, *alpha], 2)


def test_profiles_are_kept(visit, tmp_path):
    """PNG, JPEG and WebP results carry the profile of the input, whatever its format."""
    profile = bytes(pyvips.Operation.call("profile_load", "p3"))
    for name, options in (("a.png", {}), ("b.jpg", {"quality": 95}), ("c.webp", {"lossless": True})):
        Image.fromarray(picture("rgb")).save(tmp_path / name, icc_profile=profile, **options)
    visit.choose("2", "photo-x2", "int8")
    for name in ("a.png", "b.jpg", "c.webp"):
        visit.upload(tmp_path / name)
        visit.finished(name)
        for kind in ("png", "jpeg", "webp"):
            image = Image.open(io.BytesIO(visit.download(kind)))
            image.load()
            assert image.size == (180, 140) and image.info["icc_profile"] == profile, (name, kind)


def test_a_dropped_picture_and_a_pasted_one(visit, tmp_path):
    """Both are enhanced like a chosen one."""
    content = io.BytesIO()
    Image.fromarray(picture("rgb")).save(content, "png")
    text = base64.b64encode(content.getvalue()).decode()
    visit.page.evaluate(
        """text => {
          const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
          const transfer = name => {
            const data = new DataTransfer();
            data.items.add(new File([bytes], name, {type: "image/png"}));
            return data;
          };
          const drop = new DragEvent("drop", {dataTransfer: transfer("dropped.png"), bubbles: true});
          document.querySelector("#empty").dispatchEvent(drop);
          document.dispatchEvent(new ClipboardEvent("paste", {clipboardData: transfer("pasted.png")}));
        }""",
        text,
    )
    assert "180 × 140" in visit.finished("dropped.png")
    assert "180 × 140" in visit.finished("pasted.png")
    assert visit.page.locator("#save-all").is_visible()


def test_keyboard_alone(visit, tmp_path):
    """Tab reaches the divider, whose keys move it, zoom, pan and magnify; labels say what happens."""
    Image.fromarray(picture("rgb")).save(tmp_path / "picture.png")
    visit.upload(tmp_path / "picture.png")
    visit.finished("picture.png")
    page, divider = visit.page, visit.page.locator("#divider")
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "divider":
            break
    assert page.evaluate("document.activeElement.id") == "divider"
    for key, value in (("ArrowRight", "52"), ("ArrowLeft", "50"), ("Home", "0"), ("End", "100")):
        page.keyboard.press(key)
        assert divider.get_attribute("aria-valuenow") == value
    page.keyboard.press("PageDown")
    assert "90 % before" in divider.get_attribute("aria-valuetext")
    fitted = page.locator("#zoom").text_content()
    page.keyboard.press("+")
    assert page.locator("#zoom").text_content() != fitted
    page.keyboard.press("1")
    assert page.locator("#zoom").text_content() == "100 %"
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("0")
    assert page.locator("#zoom").text_content() == fitted
    page.keyboard.press("m")
    assert page.locator("#loupe").get_attribute("aria-pressed") == "true"


def test_the_divider_and_the_picture_are_dragged(visit, tmp_path):
    """The mouse drags the divider and pans; the wheel zooms around the pointer."""
    Image.fromarray(picture("rgb")).save(tmp_path / "picture.png")
    visit.upload(tmp_path / "picture.png")
    visit.finished("picture.png")
    page, box = visit.page, visit.page.locator("#viewer").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.25, middle[1], steps=4)
    page.mouse.up()
    assert page.locator("#divider").get_attribute("aria-valuenow") == "25"
    before = page.locator("#zoom").text_content()
    page.mouse.move(box["x"] + box["width"] * 0.7, middle[1])
    page.mouse.wheel(0, -240)
    page.wait_for_timeout(200)
    assert page.locator("#zoom").text_content() != before
    first = page.locator("#viewer").screenshot()
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, middle[1] + 40, steps=4)
    page.mouse.up()
    page.wait_for_timeout(200)
    assert page.locator("#viewer").screenshot() != first


def test_a_broken_file_is_one_message(visit, tmp_path):
    """It is named with the reason, and other pictures are enhanced."""
    content = io.BytesIO()
    Image.fromarray(picture("rgb")).save(content, "png")
    (tmp_path / "cut.png").write_bytes(content.getvalue()[:4000])
    (tmp_path / "noise.jpg").write_bytes(b"\xff\xd8\xff\xe0 this is no picture")
    (tmp_path / "good.png").write_bytes(content.getvalue())
    for name, reason in (("cut.png", "damaged or cut off"), ("noise.jpg", "damaged, or not a picture")):
        visit.upload(tmp_path / name)
        message = visit.page.locator("#errors:not(:empty)")
        message.filter(has_text=name).wait_for()
        assert re.search(f"^{name}: .*({reason})", str(message.text_content()))
    visit.upload(tmp_path / "good.png")
    visit.finished("good.png")
    assert visit.page.locator("#list li").count() == 1
    assert visit.page.locator("#errors").text_content() == ""


def test_every_file_that_fails_is_named(visit, tmp_path):
    """Of several files each that fails has its line, with the way out; the first good one stays visible."""
    content = io.BytesIO()
    Image.fromarray(picture("rgb")).save(content, "png")
    files = {
        "text.png": (b"Dear aunt,", "not a picture"),
        "first.png": (content.getvalue(), ""),
        "phone.heic": (b"\0\0\0\x18ftypheic\0\0\0\0" + bytes(999), "Save it as JPEG first"),
        "scan.tif": (b"II*\0" + bytes(99), "Save it as PNG first"),
        "empty.jpg": (b"", "the file is empty"),
        "second.png": (content.getvalue(), ""),
    }
    for name, (written, _) in files.items():
        (tmp_path / name).write_bytes(written)
    visit.upload(*(tmp_path / name for name in files))
    visit.page.locator("#status").filter(has_text="2 pictures are done.").wait_for()
    lines = str(visit.page.locator("#errors").text_content()).splitlines()
    expected = [(name, reason) for name, (_, reason) in files.items() if reason]
    assert len(lines) == len(expected)
    for line, (name, reason) in zip(lines, expected, strict=True):
        assert line.startswith(f"{name}: ") and reason in line
    assert "first.png" in str(visit.page.locator("#list [aria-current=true]").text_content())
    drop = """name => {
      const dataTransfer = new DataTransfer();
      if (name) dataTransfer.items.add(new File(["text"], name, {type: "text/plain"}));
      document.body.dispatchEvent(new DragEvent("drop", {dataTransfer, bubbles: true}));
    }"""
    for name, said in (
        ("notes.txt", "notes.txt: this is not a picture"),
        ("", "Only files can be dropped here."),
    ):
        visit.page.evaluate(drop, name)
        assert str(visit.page.locator("#errors").text_content()).startswith(said)


def test_removing_by_keyboard_keeps_the_place(visit, tmp_path):
    """After a picture is removed, the next one's button has the focus; after the last, Choose."""
    Image.fromarray(picture("rgb", 20, 20)).save(tmp_path / "a.png")
    Image.fromarray(picture("rgb", 20, 20)).save(tmp_path / "b.png")
    visit.upload(tmp_path / "a.png", tmp_path / "b.png")
    visit.page.locator("#status").filter(has_text="2 pictures").wait_for()
    visit.page.locator("#list .remove").first.press("Enter")
    assert visit.page.evaluate("document.activeElement.ariaLabel") == "Remove b.png"
    visit.page.keyboard.press("Enter")
    assert visit.page.evaluate("document.activeElement.id") == "choose"
    assert visit.page.locator("#status").text_content() == ""


def test_transparency_is_seen_and_white_in_a_jpeg(visit, tmp_path):
    """Squares are behind what is transparent; a JPEG is white there, and the page says so."""
    clear = np.zeros((60, 80, 4), np.uint8)
    clear[:, :40] = (200, 30, 30, 255)
    Image.fromarray(clear).save(tmp_path / "clear.png")
    visit.choose("2", "photo-x2", "int8")
    visit.upload(tmp_path / "clear.png")
    visit.finished("clear.png")
    result = Image.open(io.BytesIO(visit.download("jpeg"))).convert("RGB")
    assert min(result.getpixel((140, 60))) > 250
    assert "white in a JPEG" in str(visit.page.locator("#status").text_content())
    shown = Image.open(io.BytesIO(visit.page.locator("#canvas").screenshot())).convert("RGB")
    assert min(shown.getpixel((shown.width * 3 // 4, shown.height // 2))) > 200


def test_an_interlaced_file_is_exact(visit, tmp_path):
    """16 bits and alpha of an interlaced PNG are those of the command line, as of any other."""
    samples = picture("rgb alpha 16", 37, 21)
    source = tmp_path / "interlaced.png"
    pyvips.Image.new_from_array(samples).copy(interpretation="rgb16").pngsave(str(source), interlace=True)
    assert source.read_bytes()[28] == 1
    expected = enhanced(source, "photo-x2-int8", "int8")
    visit.choose("2", "photo-x2", "int8")
    visit.upload(source)
    visit.finished("interlaced.png")
    result = samples_of(visit.download("png"), tmp_path)
    assert result.dtype == expected.dtype == np.uint16 and np.array_equal(result, expected)


def test_a_profile_that_does_not_fit_is_not_kept(visit, tmp_path):
    """Pictures in CMYK become sRGB, and so the result has no profile for CMYK."""
    image = pyvips.Image.new_from_array(picture("rgb")).copy(interpretation="srgb")
    image.icc_transform("cmyk", input_profile="srgb").jpegsave(str(tmp_path / "cmyk.jpg"), Q=95)
    written = Image.open(io.BytesIO((tmp_path / "cmyk.jpg").read_bytes()))
    assert written.info["icc_profile"][16:20] == b"CMYK"
    visit.choose("2", "photo-x2", "int8")
    visit.upload(tmp_path / "cmyk.jpg")
    visit.finished("cmyk.jpg")
    for kind in ("png", "jpeg", "webp"):
        profile = Image.open(io.BytesIO(visit.download(kind))).info.get("icc_profile", b"")
        assert profile[16:20] in (b"", b"RGB "), kind


def test_display_p3_is_shown_as_such(visit, tmp_path):
    """A colour of Display P3 is converted for the screen; the result keeps its samples and its profile."""
    colour = np.full((40, 40, 3), (200, 100, 60), np.uint8)
    profile = bytes(pyvips.Operation.call("profile_load", "p3"))
    Image.fromarray(colour).save(tmp_path / "p3.png", icc_profile=profile)
    visit.choose("2", "photo-x2", "int8")
    visit.upload(tmp_path / "p3.png")
    visit.finished("p3.png")
    shown = Image.open(io.BytesIO(visit.page.locator("#canvas").screenshot())).convert("RGB")
    on_screen = np.array(shown.getpixel((shown.width // 4, shown.height // 4)), int)
    assert np.abs(on_screen - (215, 93, 48)).max() <= 4, on_screen
    image = Image.open(io.BytesIO(visit.download("png")))
    assert image.info["icc_profile"] == profile


def test_a_large_picture_leaves_the_page_responsive(visit, tmp_path):
    """While 24 megapixels are enhanced, another picture's divider and Cancel answer."""
    Image.fromarray(picture("rgb")).save(tmp_path / "small.png")
    tile = Image.fromarray(picture("rgb", 500, 400))
    large = Image.new("RGB", (6000, 4000))
    for x in range(0, 6000, 500):
        for y in range(0, 4000, 400):
            large.paste(tile, (x, y))
    large.save(tmp_path / "large.jpg", quality=90)
    page = visit.page
    visit.choose("2", "photo-x2", "fp32")
    visit.upload(tmp_path / "small.png")
    visit.finished("small.png")
    visit.upload(tmp_path / "large.jpg")
    row = page.locator("#list li").filter(has_text="large.jpg").locator(".state")
    row.filter(has_text="enhancing").wait_for()
    page.locator("#list li").filter(has_text="small.png").locator(".pick").click()
    page.locator("#divider").wait_for()
    seconds = page.evaluate(
        """async () => {
          const divider = document.querySelector("#divider"), begin = performance.now();
          divider.dispatchEvent(new KeyboardEvent("keydown", {key: "Home"}));
          await new Promise(requestAnimationFrame);
          await new Promise(requestAnimationFrame);
          return (performance.now() - begin) / 1000;
        }"""
    )
    assert page.locator("#divider").get_attribute("aria-valuenow") == "0"
    assert seconds < MAX_RESPONSE_SECONDS
    assert "enhancing" in str(row.text_content())
    page.locator("#cancel").click()
    row.filter(has_text="cancelled").wait_for(timeout=1000 * MAX_RESPONSE_SECONDS)
    assert page.locator("#status").text_content() == "Cancelled."
    page.wait_for_timeout(500)
    assert "cancelled" in str(row.text_content())
    page.locator("#enhance").wait_for()


def test_changed_settings_enhance_again(visit, tmp_path):
    """Another size or model replaces the result."""
    Image.fromarray(picture("rgb")).save(tmp_path / "picture.png")
    visit.upload(tmp_path / "picture.png")
    assert "180 × 140" in visit.finished("picture.png")
    visit.page.locator('#scales input[value="4"]').check(force=True)
    visit.page.locator("#list .state").filter(has_text="360 × 280").wait_for()
    assert "restore-x4" in str(visit.page.locator("#facts").text_content())


def test_offline_after_the_first_visit(visit, tmp_path):
    """Without a connection the page opens again and enhances with the model that was used."""
    Image.fromarray(picture("rgb")).save(tmp_path / "picture.png")
    visit.upload(tmp_path / "picture.png")
    visit.finished("picture.png")
    visit.page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    visit.context.set_offline(True)
    visit.page.reload()
    visit.page.locator("html[data-ready]").wait_for()
    visit.upload(tmp_path / "picture.png")
    assert "180 × 140" in visit.finished("picture.png")
    visit.choose("2", "photo-x2", "fp32")
    visit.page.locator("#errors").filter(has_text="connection").wait_for()
    visit.problems[:] = [text for text in visit.problems if "ERR_INTERNET_DISCONNECTED" not in text]


def test_inside_an_iframe(visit, tmp_path):
    """The page works in a frame of another document."""
    Image.fromarray(picture("rgb")).save(tmp_path / "picture.png")
    visit.page.goto(f"{visit.address}/frame.html")
    frame = visit.page.frame_locator("iframe")
    frame.locator("html[data-ready]").wait_for()
    frame.locator("#files").set_input_files(tmp_path / "picture.png")
    frame.locator("#list .state").filter(has_text="180 × 140").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
def test_accessibility_and_width(browser, address, tmp_path, scheme, width):
    """axe finds nothing, empty and with a result, light and dark; nothing is wider than a phone."""
    if not AXE.exists():
        pytest.skip("axe-core is not there (scripts/install_browser.sh fetches it from npm)")
    Image.fromarray(picture("rgb")).save(tmp_path / "picture.png")
    visit = Visit(browser, address, color_scheme=scheme)
    visit.page.set_viewport_size({"width": width, "height": 844})
    visit.open()
    visit.page.evaluate(AXE.read_text())
    assert violations(visit) == []
    visit.upload(tmp_path / "picture.png", tmp_path / "picture.png")
    visit.page.locator("#save-all").wait_for()
    assert violations(visit) == []
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    visit.context.close()


def violations(visit: Visit) -> list[str]:
    """What axe finds on the page as it is."""
    entries = visit.page.evaluate("axe.run().then(result => result.violations)")
    return [f"{one['id']}: {one['help']}: {[node['html'] for node in one['nodes']]}" for one in entries]


def test_code_that_is_not_ours_does_not_run(browser, address):
    """The policy refuses inline scripts and requests to other sites."""
    visit = Visit(browser, address)
    visit.open()
    refused = visit.page.evaluate(
        """async () => {
          const refused = [];
          const note = event => refused.push(event.effectiveDirective);
          document.addEventListener("securitypolicyviolation", note);
          const script = document.createElement("script");
          script.textContent = "window.ran = true";
          document.head.append(script);
          await fetch("http://127.0.0.1:9/").catch(() => {});
          await new Promise(resolve => setTimeout(resolve, 100));
          return [refused, window.ran ?? false];
        }"""
    )
    assert refused == [["script-src-elem", "connect-src"], False]
    visit.context.close()
