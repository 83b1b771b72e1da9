"""The engine in Chromium beside onnxruntime-web on one thread; the page's longest task for a large picture.

Both run in the same browser and alternately. onnxruntime-web gets luma as floats; the engine gets the picture
and also does the colour conversion, chroma and rounding.
"""

import gzip
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.web_pages import chromium, served, why_no_browser
from onebranch.errors import OnebranchError
from onebranch.page import page_files, write_page

MODEL, ORT = "photo-x2", "onnxruntime-web@1.30.0"
HEIGHT, WIDTH = 540, 960
LARGE_HEIGHT, LARGE_WIDTH = 4000, 6000
"""Size of the large picture: 24 megapixels."""

MIN_SPEED_RATIO, MIN_SIZE_RATIO, MAX_TASK_MILLISECONDS = 2.0, 30.0, 100.0
"""The goals: times faster than onnxruntime-web, times smaller, and the longest task of the main thread."""

WAIT_MILLISECONDS = 600_000

PREPARE = """
async ([width, height]) => {
  const ort = await import("/ort/ort.wasm.min.mjs");
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = new URL("/ort/", location.href).href;
  const { load } = await import("/page/onebranch.mjs");
  const bytes = async (name) => (await fetch(name)).arrayBuffer();
  const sample = (_, k) => (k % 4 === 3 ? 255 : (k * 7919) % 256);
  const data = new Uint8ClampedArray(4 * width * height).map(sample);
  const luma = Float32Array.from({ length: width * height }, (_, k) => data[4 * k] / 255);
  const input = new ort.Tensor("float32", luma, [1, 1, height, width]);
  const session = await ort.InferenceSession.create(await bytes("/model.onnx"));
  const floats = await load(await bytes("/page/models/photo-x2.safetensors"), { workers: 1 });
  const integers = await load(await bytes("/page/models/photo-x2-int8.safetensors"), { workers: 1 });
  window.runs = {
    "onnxruntime-web fp32": () => session.run({ input }),
    "engine fp32": () => floats.enhance({ width, height, data }, { precision: "fp32" }),
    "engine int8": () => integers.enhance({ width, height, data }, { precision: "int8" }),
  };
}
"""
"""Loads both programs with their networks, each with one thread."""

TIME = """
async () => {
  const seconds = {};
  for (const [name, run] of Object.entries(window.runs)) {
    const begin = performance.now();
    await run();
    seconds[name] = (performance.now() - begin) / 1000;
  }
  return seconds;
}
"""
"""One round: seconds of each program."""

WATCH = """
() => {
  window.tasks = [];
  const note = (list) => window.tasks.push(...list.getEntries().map((entry) => entry.duration));
  new PerformanceObserver(note).observe({ entryTypes: ["longtask"] });
}
"""
"""Records the tasks of the main thread that take more than 50 ms."""


@dataclass(frozen=True)
class BrowserRow:
    """One program in Chromium: median milliseconds, and bytes with gzip, None if counted elsewhere."""

    name: str
    milliseconds: float
    gzip_bytes: int | None


@dataclass(frozen=True)
class LargePicture:
    """24 megapixels on the page: seconds, and milliseconds of the main thread's longest task, at least 50."""

    seconds: float
    longest_task: float


def compare(rounds: int) -> list[BrowserRow]:
    """Both programs at 960x540 on one thread."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_page(folder / "page")
        export = ["export", MODEL, "-o", str(folder / "model.onnx")]
        subprocess.run([sys.executable, "-m", "onebranch", *export], check=True, capture_output=True)
        sizes = {"onnxruntime-web fp32": _unpack_ort(folder), "engine fp32": _engine_bytes()}
        (folder / "index.html").write_text('<!doctype html><link rel="icon" href="data:,">')
        seconds = _timed(folder, rounds)
    return [BrowserRow(name, 1e3 * median(values), sizes.get(name)) for name, values in seconds.items()]


def _timed(folder: Path, rounds: int) -> dict[str, list[float]]:
    with opened() as playwright, served(folder) as address, chromium(playwright) as browser:
        page = browser.new_page()
        page.goto(f"{address}/index.html")
        page.evaluate(PREPARE, [WIDTH, HEIGHT])
        page.evaluate(TIME)  # the browser compiles what is often called once more
        measured = [page.evaluate(TIME) for _ in range(rounds)]
    return {name: [one[name] for one in measured] for name in measured[0]}


def _unpack_ort(folder: Path) -> int:
    """Fetch onnxruntime-web from npm into the folder; its bytes with gzip: two modules and one binary."""
    if not (npm := shutil.which("npm")):
        raise OnebranchError("the comparison needs npm, to fetch onnxruntime-web")
    subprocess.run([npm, "pack", "--silent", ORT], cwd=folder, check=True, capture_output=True)
    names = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
    (folder / "ort").mkdir()
    with tarfile.open(next(folder.glob("onnxruntime-web-*.tgz"))) as archive:
        for name in names:
            content = archive.extractfile(f"package/dist/{name}")
            assert content is not None
            (folder / "ort" / name).write_bytes(content.read())
    return sum(len(gzip.compress((folder / "ort" / name).read_bytes(), 9)) for name in names)


def _engine_bytes() -> int:
    """The bytes of the engine and its modules with gzip, without the page."""
    package = ("onebranch", "engine", "bands", "alpha", "model", "resampling", "worker")
    names = {"engine.wasm", *(f"{name}.mjs" for name in package)}
    return sum(len(gzip.compress(content, 9)) for name, content in page_files().items() if name in names)


def large_picture() -> LargePicture:
    """Enhance 24 megapixels on the page, while its divider moves, and save them as PNG."""
    from PIL import Image

    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (LARGE_HEIGHT // 8, LARGE_WIDTH // 8, 3), np.uint8)
    picture = Image.fromarray(noise).resize((LARGE_WIDTH, LARGE_HEIGHT))
    with tempfile.TemporaryDirectory() as name, opened() as playwright:
        file, site = Path(name) / "large.jpg", Path(name) / "site"
        picture.save(file, quality=90)
        write_page(site)
        with served(site) as address, chromium(playwright) as browser:
            return _watched(browser, address, file)


def _watched(browser: Any, address: str, picture: Path) -> LargePicture:
    page = browser.new_page()
    page.set_default_timeout(WAIT_MILLISECONDS)
    page.goto(address)
    page.locator("html[data-ready]").wait_for()
    page.evaluate(WATCH)
    page.locator("#model").select_option(MODEL)
    page.locator("#files").set_input_files(picture)
    page.locator("#list .state").filter(has_text="×").wait_for()
    for key in ("Home", "ArrowRight", "1", "Shift+ArrowRight", "0", "End"):
        page.locator("#divider").press(key)
        page.wait_for_timeout(300)
    with page.expect_download():
        page.locator("#save").click()
    facts, tasks = page.locator("#facts").text_content(), page.evaluate("window.tasks")
    return LargePicture(_seconds(facts), max(tasks, default=50.0))


def _seconds(facts: str) -> float:
    """The time in '6000 × 4000 → 12000 × 8000 · 24.1 s · photo-x2'."""
    number, unit = facts.split(" · ")[1].split()
    return float(number) / (1000 if unit == "ms" else 1)


def opened() -> Any:
    """Playwright, as a context. Raises OnebranchError where there is no browser."""
    if reason := why_no_browser():
        raise OnebranchError(reason)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise OnebranchError("playwright is not installed (make wasm installs it)") from None
    return sync_playwright()


def report(rows: Sequence[BrowserRow], large: LargePicture) -> list[str]:
    """The lines that the command prints."""
    other, engine = rows[0], rows[1]
    lines = [f"{MODEL}, {WIDTH}x{HEIGHT}, one thread, Chromium"]
    for row in rows:
        size = "the same file" if row.gzip_bytes is None else f"{row.gzip_bytes / 1e3:,.0f} kB with gzip"
        ratio = f"{other.milliseconds / row.milliseconds:.2f} x"
        lines.append(f"  {row.name:22}{row.milliseconds:8.0f} ms  {ratio:>8}  {size}")
    assert other.gzip_bytes and engine.gzip_bytes
    smaller = other.gzip_bytes / engine.gzip_bytes
    lines.append(
        f"  {smaller:.1f} times smaller; goals: {MIN_SPEED_RATIO:g} x faster, {MIN_SIZE_RATIO:g} x smaller"
    )
    lines.append(
        f"24 megapixels on the page: {large.seconds:.1f} s; longest task of the main thread"
        f" {large.longest_task:.0f} ms (50 or less where it says 50; goal {MAX_TASK_MILLISECONDS:g} ms)"
    )
    return lines
