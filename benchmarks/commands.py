"""The command `onebranch enhance` on files, compared with running just the network in ONNX Runtime.

Commands and networks are timed alternately. Memory is the peak (VmHWM) of the command's own process.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.cold_start import STEPS
from benchmarks.configurations import CONFIGURATIONS
from benchmarks.isolated import python_environment
from benchmarks.targets import Target
from onebranch.bench import median_ratio
from onebranch.errors import OnebranchError
from onebranch.images.encoders.encoding import encode
from onebranch.images.folders import find_pictures
from onebranch.images.formats import FORMATS
from onebranch.images.picture import Picture
from onebranch.images.reading import read
from onebranch.images.samples import as_depth
from onebranch.images.writing import write
from onebranch.model import catalogue

MODEL = "photo-x2"
LARGE_SIZE = (4000, 6000)
"""Height and width of the large picture: 24 megapixels."""

TILE_EDGE = 500
"""Edge of the tiles in which just the network processes the large picture; it divides the picture evenly."""

COLD_START_EDGE = 512
"""Edge of the picture for the cold start, in pixels."""

MAX_COMMAND_RATIO, MAX_COLD_START_SECONDS = 1.25, 0.6
"""The goals: a command with JPEG output over just the network in ONNX Runtime; a cold start."""

REFERENCES = ("ONNX Runtime", "ONNX Runtime, PReLU rewritten", "engine fp32")
"""The configurations that run just the network; the goal refers to the first."""

REST_SECONDS = 0.1
"""Pause before each measurement, in which the spinning threads of other runtimes go to sleep."""

Progress = Callable[[str], None]

COMMAND_SCRIPT = """
import atexit, sys
from pathlib import Path
def write_peak(target, status=Path("/proc/self/status")):
    if status.exists():
        lines = [line.split() for line in status.read_text().splitlines()]
        Path(target).write_text(next(words[1] for words in lines if words[0] == "VmHWM:"))
atexit.register(write_peak, sys.argv.pop())
from onebranch.cli import main
main()
"""
"""Runs the command line and writes its peak memory in kB to the file that its last argument names."""


@dataclass(frozen=True)
class Timing:
    """One run: elapsed seconds, processor seconds of all cores, and peak memory in bytes if it is known."""

    seconds: float
    processor_seconds: float
    peak_bytes: int | None = None


@dataclass(frozen=True)
class Workload:
    """Pictures to enhance. sizes: of the pictures. tiles: sizes of the inputs for just the network."""

    name: str
    source: Path
    file_format: str
    sizes: tuple[tuple[int, int], ...]
    tiles: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class CommandRow:
    """One workload: medians of the command; seconds of just the network by reference, and the ratios to them.

    megabytes: peak memory in units of 10^6 bytes; None if it is unknown.
    """

    name: str
    file_format: str
    pictures: int
    megapixels: float
    seconds: float
    processor_seconds: float
    megabytes: float | None
    network_seconds: dict[str, float]
    ratios: dict[str, float]


@dataclass(frozen=True)
class EncoderRow:
    """One encoder setting: processor milliseconds and megabytes for a picture, and whether `enhance` uses it.

    share: of the processor time of a command that uses the setting.
    """

    name: str
    milliseconds: float
    megabytes: float
    share: float
    used: bool


@dataclass(frozen=True)
class CommandsResult:
    """encoders: for pictures of `encoded_size` (height, width). cold_start_seconds: of a command on one small
    JPEG. cold_start_steps: milliseconds of its steps."""

    rows: tuple[CommandRow, ...]
    encoders: tuple[EncoderRow, ...]
    encoded_size: tuple[int, int]
    cold_start_seconds: float
    cold_start_steps: dict[str, float]

    def targets(self) -> list[Target]:
        """The goals."""
        targets = [
            Target(
                f"{row.name}: command over network in {reference}",
                MAX_COMMAND_RATIO,
                row.ratios[reference],
                at_most=True,
            )
            for row in self.rows
            if row.file_format == "JPEG"
            for reference in REFERENCES[:1]
            if reference in row.ratios
        ]
        cold_start = Target(
            "cold start, one 512x512 JPEG",
            MAX_COLD_START_SECONDS,
            self.cold_start_seconds,
            " s",
            at_most=True,
        )
        return [*targets, cold_start]


def compare(
    source: Path | str, rounds: int, threads: int, report: Progress = lambda line: None
) -> CommandsResult:
    """Measure everything on the pictures of a folder.

    Raises OnebranchError if there are none or if one cannot be read.
    """
    pictures = [_as_rgb8(read(path)) for path in find_pictures(source)]
    with tempfile.TemporaryDirectory(prefix="onebranch-bench-") as name:
        folder = Path(name)
        report("making pictures")
        workloads = _workloads(pictures, folder)
        small = folder / "small.jpg"
        write(Picture(_tiled(pictures, (COLD_START_EDGE, COLD_START_EDGE))), small)
        networks = _networks(workloads, threads)
        timings = _timings(workloads, networks, small, rounds, threads, folder, report)
        rows = tuple(_row(workload, networks, timings) for workload in workloads)
        report("encoders")
        encoded_size, encoders = _encoders(pictures, rows, rounds)
        report("cold start")
        steps = _cold_start_steps(small, rounds, folder)
    cold_start = median(timing.seconds for timing in timings[COLD_START])
    return CommandsResult(rows, encoders, encoded_size, cold_start, steps)


def _as_rgb8(picture: Picture) -> Picture:
    """The picture as 8-bit RGB without metadata."""
    pixels = as_depth(picture.pixels, "uint8")
    return Picture(pixels if picture.channels == 3 else np.repeat(pixels, 3, axis=2))


def _workloads(pictures: Sequence[Picture], folder: Path) -> list[Workload]:
    sizes = tuple((picture.height, picture.width) for picture in pictures)
    workloads = []
    for file_format, suffix in (("JPEG", ".jpg"), ("PNG", ".png")):
        source = folder / file_format
        source.mkdir()
        for index, picture in enumerate(pictures):
            write(picture, source / f"{index:03}{suffix}")
        name = f"{len(pictures)} {file_format} pictures"
        workloads.append(Workload(name, source, file_format, sizes, sizes))
    large = folder / "large.jpg"
    write(Picture(_tiled(pictures, LARGE_SIZE)), large)
    tiles = ((TILE_EDGE, TILE_EDGE),) * (LARGE_SIZE[0] * LARGE_SIZE[1] // TILE_EDGE**2)
    name = f"a JPEG of {LARGE_SIZE[1]}x{LARGE_SIZE[0]}"
    return [*workloads, Workload(name, large, "JPEG", (LARGE_SIZE,), tiles)]


def _tiled(pictures: Sequence[Picture], size: tuple[int, int]) -> np.ndarray:
    """A mosaic of the given size: the pictures in order, row by row, cropped where they do not fit."""
    result, index, top = np.empty((*size, 3), np.uint8), 0, 0
    while top < size[0]:
        left, row_height = 0, size[0]
        while left < size[1]:
            pixels = pictures[index % len(pictures)].pixels[: size[0] - top, : size[1] - left]
            result[top : top + len(pixels), left : left + pixels.shape[1]] = pixels
            left, row_height, index = left + pixels.shape[1], min(row_height, len(pixels)), index + 1
        top += row_height
    return result


Networks = dict[str, Callable[[Workload], object]]
"""Runs just the network on all tiles of a workload, by reference."""


def _networks(workloads: Sequence[Workload], threads: int) -> Networks:
    """Just the network in each reference, on random inputs that are made beforehand."""
    model = catalogue.load(MODEL)
    random = np.random.default_rng(0)
    sizes = {size for workload in workloads for size in workload.tiles}
    inputs = {size: random.random((1, 1, *size), np.float32) for size in sorted(sizes)}
    networks: Networks = {}
    for label in REFERENCES:
        try:
            run = CONFIGURATIONS[label].open(model, threads)
        except OnebranchError:  # the engine is not built
            continue

        def run_all_tiles(workload: Workload, run: Callable[[np.ndarray], object] = run) -> None:
            for size in workload.tiles:
                run(inputs[size])

        networks[label] = run_all_tiles
    return networks


COLD_START = "cold start"

Timings = dict[str, list[Timing]]


def _timings(
    workloads: Sequence[Workload],
    networks: Networks,
    small: Path,
    rounds: int,
    threads: int,
    folder: Path,
    report: Progress,
) -> Timings:
    """Every candidate once a round; the first round is not counted."""
    timings: Timings = {}
    for index in range(rounds + 1):
        for name, run in _candidates(workloads, networks, small, threads, folder):
            report(f"{f'round {index} of {rounds}' if index else 'warming up'}: {name}")
            time.sleep(REST_SECONDS)
            timing = run()
            if index:
                timings.setdefault(name, []).append(timing)
    return timings


def _candidates(
    workloads: Sequence[Workload], networks: Networks, small: Path, threads: int, folder: Path
) -> Iterator[tuple[str, Callable[[], Timing]]]:
    for each in workloads:
        yield each.name, partial(_time_command, each.source, threads, folder)
        for label, run in networks.items():
            yield f"{each.name}: {label}", partial(_time, partial(run, each))
    yield COLD_START, partial(_time_command, small, threads, folder)


def _time_command(source: Path, threads: int, folder: Path) -> Timing:
    """One run of `onebranch enhance` in a separate process. Raises OnebranchError if it fails."""
    out, peak = folder / "out", folder / "peak"
    target = out if source.is_dir() else out / source.name
    words = ["enhance", str(source), "-o", str(target), "-m", MODEL, "-q"]
    out.mkdir()
    try:
        with _stopwatch() as elapsed:
            done = subprocess.run(
                [sys.executable, "-c", COMMAND_SCRIPT, *words, "--threads", str(threads), str(peak)],
                check=False,
                capture_output=True,
                text=True,
            )
        if done.returncode:
            raise OnebranchError(f"onebranch enhance failed: {done.stderr.strip()[-200:]}")
        peak_bytes = 1024 * int(peak.read_text()) if peak.exists() else None
    finally:
        shutil.rmtree(out)
        peak.unlink(missing_ok=True)
    return Timing(elapsed[0], elapsed[1], peak_bytes)


@contextmanager
def _stopwatch() -> Iterator[list[float]]:
    """Yields a list that finally holds elapsed seconds, and processor seconds including children."""
    elapsed: list[float] = []
    before, start = os.times(), time.perf_counter()
    yield elapsed
    seconds, after = time.perf_counter() - start, os.times()
    elapsed += [seconds, sum(after[:4]) - sum(before[:4])]


def _time(run: Callable[[], object]) -> Timing:
    with _stopwatch() as elapsed:
        run()
    return Timing(elapsed[0], elapsed[1])


def _row(workload: Workload, networks: Networks, timings: Timings) -> CommandRow:
    commands = timings[workload.name]
    seconds = [timing.seconds for timing in commands]
    peaks = [timing.peak_bytes for timing in commands if timing.peak_bytes is not None]
    network_seconds = {
        label: [timing.seconds for timing in timings[f"{workload.name}: {label}"]] for label in networks
    }
    return CommandRow(
        name=workload.name,
        file_format=workload.file_format,
        pictures=len(workload.sizes),
        megapixels=sum(height * width for height, width in workload.sizes) / 1e6,
        seconds=median(seconds),
        processor_seconds=median(timing.processor_seconds for timing in commands),
        megabytes=median(peaks) / 1e6 if peaks else None,
        network_seconds={label: median(values) for label, values in network_seconds.items()},
        ratios={label: median_ratio(seconds, values) for label, values in network_seconds.items()},
    )


PNG_LEVELS = (0, 1, 2, 3, 6, 9)
PNG_FILTERS = ("none", "sub", "up", "paeth", "all")


def _encoders(
    pictures: Sequence[Picture], rows: Sequence[CommandRow], rounds: int
) -> tuple[tuple[int, int], tuple[EncoderRow, ...]]:
    """Size and encoder timings of the first picture's result, relative to the commands on folders."""
    from onebranch.enhancer.enhancer import enhance

    result = enhance(pictures[0], MODEL)
    encoders = dict(_encoder_settings(result))
    seconds: dict[str, list[float]] = {name: [] for name in encoders}
    sizes = {name: len(encode_result()) for name, encode_result in encoders.items()}
    for _ in range(rounds):
        for name, encode_result in encoders.items():
            seconds[name].append(_processor_seconds(encode_result))
    by_format = {row.file_format: row for row in reversed(rows) if row.pictures > 1 or len(pictures) == 1}
    used = {name: median(seconds[f"{name}, as enhance does"]) for name in ("JPEG", "PNG")}
    encoder_rows = []
    for name, times in seconds.items():
        file_format = name.split(",")[0]
        row = by_format[file_format]
        rest = row.processor_seconds / row.pictures - used[file_format]
        share = median(times) / max(rest + median(times), 1e-9)
        is_used = "as enhance" in name
        encoder_rows.append(EncoderRow(name, 1e3 * median(times), sizes[name] / 1e6, share, is_used))
    return (result.height, result.width), tuple(encoder_rows)


def _processor_seconds(run: Callable[[], bytes]) -> float:
    """Processor seconds of all threads of this process."""
    start = time.process_time()
    run()
    return time.process_time() - start


def _encoder_settings(result: Picture) -> Iterator[tuple[str, Callable[[], bytes]]]:
    import io

    from PIL import Image

    from onebranch.images.encoders.encoding import Encoding
    from onebranch.images.libvips import pyvips

    pixels = np.ascontiguousarray(result.pixels)
    height, width, channels = pixels.shape
    image = pyvips.Image.new_from_memory(pixels.data, width, height, channels, "uchar")
    image = image.copy(interpretation="srgb")
    pillow_image = Image.fromarray(pixels)

    def pillow(file_format: str, **options: int) -> bytes:
        file = io.BytesIO()
        pillow_image.save(file, file_format, **options)
        return file.getvalue()

    for name in ("JPEG", "PNG"):
        yield f"{name}, as enhance does", partial(encode, result, FORMATS[name], Encoding())
    yield "JPEG, libvips, quality 95", lambda: image.jpegsave_buffer(Q=95)
    yield "JPEG, libvips, quality 75", lambda: image.jpegsave_buffer(Q=75)
    yield "JPEG, Pillow, quality 95", lambda: pillow("JPEG", quality=95, subsampling=0)
    for level in PNG_LEVELS:
        for kind in PNG_FILTERS if level in (1, 6) else ("none",) if level == 0 else ("up",):
            yield (
                f"PNG, libvips, level {level}, filter {kind}",
                partial(image.pngsave_buffer, compression=level, filter=kind),
            )
    for level in (1, 6):
        yield f"PNG, Pillow, level {level}", partial(pillow, "PNG", compress_level=level)


def _cold_start_steps(small: Path, rounds: int, folder: Path) -> dict[str, float]:
    """Median milliseconds of every step of a cold start."""
    steps: dict[str, list[float]] = {name: [] for name in STEPS}
    for _ in range(rounds):
        begin = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.cold_start", small, folder / "cold.jpg"],
            env=python_environment(),
            check=True,
            capture_output=True,
            text=True,
        )
        moments = [begin, *json.loads(done.stdout), time.monotonic()]
        for name, start, end in zip(STEPS, moments, moments[1:], strict=False):
            steps[name].append(1e3 * (end - start))
    return {name: median(times) for name, times in steps.items()}
