"""One picture on every platform that runs models: difference from the engine, bytes to install, milliseconds.

The platforms are the command line, Python, the service, WebAssembly in Node and in Chromium, and a shader for
video players. A platform that cannot run here is listed with the reason. A shader enlarges luma alone, so its
differences are those of luma; its time is omitted if the only device is a software driver.
"""

import base64
import http.client
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from statistics import median

import numpy as np

import onebranch
from benchmarks.browser import opened
from benchmarks.web_pages import chromium, served
from onebranch.errors import OnebranchError
from onebranch.exporting import mpv
from onebranch.exporting.mpv_shader import shader_text
from onebranch.images.picture import Picture
from onebranch.model.catalogue import CATALOGUE, load
from onebranch.page import page_files, write_page
from onebranch.runtime.engine import Engine
from onebranch.runtime.engine_network import describe

MODELS = {"fp32": "photo-x2", "int8": "photo-x2-int8"}
"""The model of each precision."""

SHADER_SIZE = (63, 95)
"""Height and width of the part of the picture that the shader enlarges: a software driver takes seconds."""

START_SECONDS = 60.0
SOFTWARE_DRIVERS = ("llvmpipe", "lavapipe", "SwiftShader")

MODULES = ("onebranch", "engine", "bands", "alpha", "model", "resampling", "worker")
"""The modules of the JavaScript package."""

NODE_SCRIPT = """
import { readFileSync, writeFileSync } from "node:fs";
const [folder, file, precision, raw, width, height, out, rounds] = process.argv.slice(2);
const { load } = await import(`${folder}/onebranch.mjs`);
const engine = readFileSync(`${folder}/engine.wasm`);
const network = await load(readFileSync(file), { engine, workers: 0 });
const data = Uint8ClampedArray.from(readFileSync(raw));
const picture = { width: Number(width), height: Number(height), data };
const seconds = [];
let result;
for (let k = 0; k < Number(rounds); k++) {
  const begin = performance.now();
  result = await network.enhance(picture, { precision });
  seconds.push((performance.now() - begin) / 1000);
}
writeFileSync(out, result.data);
console.log(JSON.stringify(seconds));
"""
"""Enhances raw RGBA samples on the calling thread, writes the result's, and prints the seconds."""

PAGE_SCRIPT = """
async ([file, precision, encoded, width, height, rounds]) => {
  const { load } = await import("/page/onebranch.mjs");
  const model = await (await fetch(`/page/models/${file}`)).arrayBuffer();
  const network = await load(model, { workers: 1 });
  const data = Uint8ClampedArray.from(atob(encoded), (letter) => letter.charCodeAt(0));
  const seconds = [];
  let result;
  for (let k = 0; k < rounds; k++) {
    const begin = performance.now();
    result = await network.enhance({ width, height, data }, { precision });
    seconds.push((performance.now() - begin) / 1000);
  }
  network.close();
  let text = "";
  for (let at = 0; at < result.data.length; at += 32768)
    text += String.fromCharCode(...result.data.subarray(at, at + 32768));
  return [btoa(text), seconds];
}
"""
"""The same in a browser, with one worker; samples in base64."""


@dataclass(frozen=True)
class Platform:
    """The measurements of one platform. problem: why it did not run, else "".

    difference: the largest of a sample, in grey levels. differing: how many samples differ by half a level or
    more. size: bytes to install. milliseconds: None for a software driver.
    """

    name: str
    precision: str
    difference: float = 0.0
    differing: int = 0
    samples: int = 0
    size: int = 0
    milliseconds: float | None = None
    problem: str = ""


@dataclass(frozen=True)
class Task:
    """A picture, the native engine's result, and how often each platform is timed. source: as PNG."""

    folder: Path
    source: Path
    pixels: np.ndarray
    precision: str
    expected: np.ndarray
    rounds: int

    @property
    def model(self) -> str:
        """The name of the model."""
        return MODELS[self.precision]

    @property
    def rgba(self) -> bytes:
        """The samples of the picture with an opaque alpha."""
        alpha = np.full((*self.pixels.shape[:2], 1), 255, np.uint8)
        return np.concatenate([self.pixels, alpha], axis=2).tobytes()


Measured = tuple[np.ndarray, int, list[float]]
"""The samples of a result, the bytes to install, and the seconds of each round."""


def measure_platforms(picture: np.ndarray, rounds: int) -> list[Platform]:
    """Measure every platform in both precisions. picture: (H, W, 3), uint8."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "picture.png"
        onebranch.write_picture(Picture(picture), source)
        for precision, model in MODELS.items():
            engine = Engine(describe(load(model), precision), threads=1)
            expected = engine.run(picture, "uint8", "y of rgb")
            task = Task(folder, source, picture, precision, expected, rounds)
            rows += [_measured(each, task, run) for each, run in PLATFORMS.items()]
        rows.append(_shader(picture))
    return rows


def _measured(name: str, task: Task, run: Callable[[Task], Measured]) -> Platform:
    try:
        result, size, seconds = run(task)
    except OnebranchError as error:
        return Platform(name, task.precision, problem=str(error))
    distances = np.abs(result.astype(float) - task.expected)
    return Platform(
        name,
        task.precision,
        float(distances.max()),
        int(np.count_nonzero(distances >= 0.5)),
        distances.size,
        size,
        1e3 * median(seconds),
    )


def _command_line(task: Task) -> Measured:
    result = task.folder / "result.png"
    options = ["-o", str(result), "--model", task.model, "--precision", task.precision, "--threads", "1"]
    command = [sys.executable, "-m", "onebranch", "enhance", str(task.source), *options, "-q", "--overwrite"]
    seconds = _timed(task.rounds, lambda: subprocess.run(command, check=True, capture_output=True))
    return np.asarray(onebranch.read_picture(result).pixels), installed_bytes("onebranch"), seconds


def _python(task: Task) -> Measured:
    picture = onebranch.read_picture(task.source)
    results: list[Picture] = []
    seconds = _timed(task.rounds, lambda: results.append(_enhanced(picture, task)))
    return np.asarray(results[-1].pixels), installed_bytes("onebranch"), seconds


def _enhanced(picture: Picture, task: Task) -> Picture:
    return onebranch.enhance(picture, task.model, precision=task.precision, threads=1)


def _service(task: Task) -> Measured:
    body = task.source.read_bytes()
    path = f"/v1/enhance?model={task.model}&precision={task.precision}"
    answers: list[bytes] = []
    with _running_service() as port:
        seconds = _timed(task.rounds, lambda: answers.append(_ask(port, path, body)))
    result = task.folder / "answer.png"
    result.write_bytes(answers[-1])
    size = installed_bytes("onebranch", "serve")
    return np.asarray(onebranch.read_picture(result).pixels), size, seconds


@contextmanager
def _running_service() -> Iterator[int]:
    """The port of a service in a process of its own."""
    command = [sys.executable, "-m", "onebranch", "serve", "--port", "0", "--workers", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if match := re.search(r'"message": "ready".*"port": (\d+)', line):
                yield int(match[1])
                return
        raise OnebranchError("the service did not start (pip install 'onebranch[serve]')")
    finally:
        process.terminate()
        process.wait(START_SECONDS)
        process.stderr.close()


def _ask(port: int, path: str, body: bytes) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_SECONDS)
    try:
        connection.request("POST", path, body, {"Content-Type": "image/png"})
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise OnebranchError(f"the service answered with status {answer.status}")
    return content


def _node(task: Task) -> Measured:
    node = shutil.which("node")
    if node is None:
        raise OnebranchError("node is not installed")
    package, raw, out = (task.folder / name for name in ("package", "in.raw", "out.raw"))
    write_page(package) if not package.exists() else None
    raw.write_bytes(task.rgba)
    script = task.folder / "enhance.mjs"
    script.write_text(NODE_SCRIPT)
    height, width = task.pixels.shape[:2]
    model = CATALOGUE[task.model].path
    words = [package, model, task.precision, raw, width, height, out, task.rounds + 1]
    done = subprocess.run([node, str(script), *map(str, words)], check=True, capture_output=True, text=True)
    return _colours(out.read_bytes(), task), _package_bytes(task.model), json.loads(done.stdout)[1:]


def _browser(task: Task) -> Measured:
    height, width = task.pixels.shape[:2]
    site = task.folder / "site"
    if not site.exists():
        write_page(site / "page")
        (site / "index.html").write_text('<!doctype html><link rel="icon" href="data:,">')
    picture = base64.b64encode(task.rgba).decode()
    file = CATALOGUE[task.model].path.name
    with opened() as playwright, served(site) as address, chromium(playwright) as browser:
        page = browser.new_page()
        page.goto(f"{address}/index.html")
        arguments = [file, task.precision, picture, width, height, task.rounds + 1]
        encoded, seconds = page.evaluate(PAGE_SCRIPT, arguments)
    return _colours(base64.b64decode(encoded), task), _package_bytes(task.model), seconds[1:]


PLATFORMS: dict[str, Callable[[Task], Measured]] = {
    "command line": _command_line,
    "Python": _python,
    "service": _service,
    "WebAssembly, Node": _node,
    "WebAssembly, Chromium": _browser,
}
"""The platforms that enhance a whole picture, by their names in the table."""


def _shader(picture: np.ndarray) -> Platform:
    """The shader of the fp32 model, on the luma of a part of the picture, beside the engine."""
    name, precision = "mpv shader", "fp32"
    device, reason = mpv.vulkan_device()
    if reason:
        return Platform(name, precision, problem=reason)
    model = load(MODELS[precision])
    height, width = SHADER_SIZE
    part = picture[:height, :width].astype(np.float64)
    luma = np.round(part @ np.array([65.481, 128.553, 24.966]) / 255 + 16)
    text = shader_text(model)
    begin = time.perf_counter()
    result = mpv.run_shader(text, luma, 8, model.spec.scale)
    milliseconds = 1e3 * (time.perf_counter() - begin)
    engine = Engine(describe(model, precision), threads=1)
    expected = engine.run((luma[..., None] / 255).astype(np.float32), "float32")[..., 0] * 255
    distances = np.abs(np.clip(expected, 0, 65535 / 256) - result)
    return Platform(
        f"{name} ({device})",
        precision,
        float(distances.max()),
        int(np.count_nonzero(distances >= 0.5)),
        distances.size,
        len(text.encode()),
        None if any(driver in device for driver in SOFTWARE_DRIVERS) else milliseconds,
    )


def _colours(rgba: bytes, task: Task) -> np.ndarray:
    """The colours of raw RGBA samples."""
    height, width = task.expected.shape[:2]
    return np.frombuffer(rgba, np.uint8).reshape(height, width, 4)[..., :3]


def _timed(rounds: int, work: Callable[[], object]) -> list[float]:
    """The seconds of each round; one more round before them is not counted."""
    work()
    seconds = []
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return seconds


def _package_bytes(model: str) -> int:
    """The bytes of the engine in WebAssembly, its modules, and a model."""
    names = {"engine.wasm", *(f"{name}.mjs" for name in MODULES)}
    files = page_files()
    return sum(len(files[name]) for name in names) + CATALOGUE[model].path.stat().st_size


def installed_bytes(name: str, extra: str = "") -> int:
    """The bytes of an installed distribution with everything that it requires, each counted once."""
    distributions: dict[str, Distribution] = {}
    _collect(name, extra, distributions)
    return sum(_bytes_of(each) for each in distributions.values()) + _package_folder_bytes()


def _collect(name: str, extra: str, distributions: dict[str, Distribution]) -> None:
    from packaging.requirements import Requirement

    try:
        each = distribution(name)
    except PackageNotFoundError:  # of another platform
        return
    distributions[name.lower()] = each
    for text in each.requires or ():
        requirement = Requirement(text)
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": extra})
        if wanted and requirement.name.lower() not in distributions:
            _collect(requirement.name, next(iter(requirement.extras), ""), distributions)


def _bytes_of(each: Distribution) -> int:
    files = [Path(str(each.locate_file(file))) for file in each.files or ()]
    return sum(path.stat().st_size for path in files if path.is_file() and path.suffix != ".pyc")


def _package_folder_bytes() -> int:
    """The bytes of this package itself, because pip records no files of an editable installation."""
    folder = Path(str(onebranch.__file__)).parent
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    web = sum(len(content) for content in page_files().values())
    return sum(path.stat().st_size for path in files) + web


def report(rows: list[Platform], size: tuple[int, int]) -> list[str]:
    """The table as Markdown. size: (height, width) of the picture."""
    lines = [
        f"{size[1]}x{size[0]} pixels, {' and '.join(MODELS.values())}, one thread",
        "",
        "| platform | precision | difference, grey levels | differing samples | to install | milliseconds |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    return lines + [f"| {' | '.join(_cells(row))} |" for row in rows]


def _cells(row: Platform) -> list[str]:
    if row.problem:
        return [row.name, row.precision, f"not run: {row.problem}", "–", "–", "–"]
    difference = f"{row.difference:.2f}" if row.difference % 1 else f"{row.difference:.0f}"
    size = f"{row.size / 1e6:,.1f} MB" if row.size >= 1e6 else f"{row.size / 1e3:,.0f} kB"
    time_text = "–" if row.milliseconds is None else f"{row.milliseconds:,.0f}"
    return [row.name, row.precision, difference, f"{row.differing:,} of {row.samples:,}", size, time_text]
