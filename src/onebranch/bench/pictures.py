"""`onebranch enhance` as people run it: whole commands on files beside the network alone in ONNX Runtime.

Commands and networks take turns. Memory is the peak (VmHWM) of the command's own process.
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
from pathlib import Path
from statistics import median

import numpy as np

from onebranch.bench.cold import STEPS
from onebranch.bench.interleaved import ratio
from onebranch.bench.targets import Target
from onebranch.bench.ways import WAYS
from onebranch.errors import OnebranchError
from onebranch.images.encoders.encoding import encode
from onebranch.images.folders import find_pictures
from onebranch.images.formats import FORMATS
from onebranch.images.picture import Picture, as_depth
from onebranch.images.reading import read
from onebranch.images.writing import write
from onebranch.model import catalogue

MODEL = "photo-x2"
LARGE = (4000, 6000)
"""Height and width of the large picture: 24 megapixels."""

TILE = 500
"""Edge of the pieces in which the network alone meets the large picture; they fit into it exactly."""

SMALL = 512
"""Edge of the cold start's picture."""

WHOLE, COLD = 1.25, 0.6
"""The goals: times the network alone in ONNX Runtime, with JPEG output; seconds of a cold start."""

REFERENCES = ("ONNX Runtime", "ONNX Runtime, PReLU rewritten", "engine fp32")
"""The network alone; goals are by the first, the network as it is exported."""

REST = 0.1
"""Seconds before each turn, in which the others' threads stop spinning."""

Progress = Callable[[str], None]

COMMAND = """
import atexit, sys
from pathlib import Path
def leave(target, status=Path("/proc/self/status")):
    if status.exists():
        lines = [line.split() for line in status.read_text().splitlines()]
        Path(target).write_text(next(words[1] for words in lines if words[0] == "VmHWM:"))
atexit.register(leave, sys.argv.pop())
from onebranch.cli import main
main()
"""
"""The command line, which leaves the peak of its memory in the file that its last argument names."""


@dataclass(frozen=True)
class Turn:
    """One run: seconds by the clock, seconds of all cores, and the peak of memory in bytes if known."""

    seconds: float
    work: float
    peak: int | None = None


@dataclass(frozen=True)
class Load:
    """What is enhanced. sizes: of the pictures; pieces: of what the network alone is given."""

    name: str
    source: Path
    form: str
    sizes: tuple[tuple[int, int], ...]
    pieces: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Row:
    """A load: medians of the whole command; the network's seconds by reference, and ratios to them.

    megabytes: of 10^6 bytes, None where the system does not say. work: seconds of all cores.
    """

    name: str
    form: str
    pictures: int
    megapixels: float
    seconds: float
    work: float
    megabytes: float | None
    alone: dict[str, float]
    ratios: dict[str, float]


@dataclass(frozen=True)
class Encoder:
    """One way to encode results: milliseconds of all cores and megabytes for a picture, the share of the
    whole command's work that it would be, and whether it is what `enhance` does."""

    name: str
    milliseconds: float
    megabytes: float
    share: float
    ours: bool


@dataclass(frozen=True)
class Result:
    """rows: loads. encoders: for pictures of `encoded` (height, width). cold: seconds of a whole command on
    one small JPEG; steps: the same in steps, milliseconds."""

    rows: tuple[Row, ...]
    encoders: tuple[Encoder, ...]
    encoded: tuple[int, int]
    cold: float
    steps: dict[str, float]

    def targets(self) -> list[Target]:
        """The goals."""
        found = [
            Target(f"{row.name}: command over {reference} alone", WHOLE, row.ratios[reference], at_most=True)
            for row in self.rows
            if row.form == "JPEG"
            for reference in REFERENCES[:1]
            if reference in row.ratios
        ]
        return [*found, Target("cold start, one 512x512 JPEG", COLD, self.cold, " s", at_most=True)]


def compare(folder: Path | str, rounds: int, threads: int, shown: Progress = lambda line: None) -> Result:
    """Everything, on the pictures of a folder. OnebranchError where there are none or they cannot be read."""
    pictures = [_eight_bits(read(path)) for path in find_pictures(folder)]
    with tempfile.TemporaryDirectory(prefix="onebranch-bench-") as place:
        shown("making pictures")
        loads = _loads(pictures, Path(place))
        small = Path(place) / "small.jpg"
        write(Picture(_tiled(pictures, (SMALL, SMALL))), small)
        networks = _networks(loads, threads)
        turns = _in_turns(loads, networks, small, rounds, threads, Path(place), shown)
        rows = tuple(_row(load, networks, turns) for load in loads)
        shown("encoders")
        encoded, encoders = _encoders(pictures, rows, rounds)
        shown("cold start")
        steps = _cold_steps(small, rounds, Path(place))
    return Result(rows, encoders, encoded, median(t.seconds for t in turns["cold"]), steps)


def _eight_bits(picture: Picture) -> Picture:
    """RGB of 8 bits, nothing else."""
    pixels = as_depth(picture.pixels, "uint8")
    return Picture(pixels if picture.channels == 3 else np.repeat(pixels, 3, axis=2))


def _loads(pictures: Sequence[Picture], place: Path) -> list[Load]:
    sizes = tuple((picture.height, picture.width) for picture in pictures)
    loads = []
    for form, suffix in (("JPEG", ".jpg"), ("PNG", ".png")):
        folder = place / form
        folder.mkdir()
        for index, picture in enumerate(pictures):
            write(picture, folder / f"{index:03}{suffix}")
        loads.append(Load(f"{len(pictures)} {form} pictures", folder, form, sizes, sizes))
    large = place / "large.jpg"
    write(Picture(_tiled(pictures, LARGE)), large)
    pieces = ((TILE, TILE),) * (LARGE[0] * LARGE[1] // TILE**2)
    return [*loads, Load(f"a JPEG of {LARGE[1]}x{LARGE[0]}", large, "JPEG", (LARGE,), pieces)]


def _tiled(pictures: Sequence[Picture], size: tuple[int, int]) -> np.ndarray:
    """Pictures one after the other, row by row, cut to the size."""
    result, turn, top = np.empty((*size, 3), np.uint8), 0, 0
    while top < size[0]:
        left, tallest = 0, size[0]
        while left < size[1]:
            pixels = pictures[turn % len(pictures)].pixels[: size[0] - top, : size[1] - left]
            result[top : top + len(pixels), left : left + pixels.shape[1]] = pixels
            left, tallest, turn = left + pixels.shape[1], min(tallest, len(pixels)), turn + 1
        top += tallest
    return result


Networks = dict[str, Callable[[Load], object]]


def _networks(loads: Sequence[Load], threads: int) -> Networks:
    """The network alone in each reference, over all pieces of a load: nothing but the runs is timed."""
    model = catalogue.load(MODEL)
    random = np.random.default_rng(0)
    sizes = {size for load in loads for size in load.pieces}
    inputs = {size: random.random((1, 1, *size), np.float32) for size in sorted(sizes)}
    found: Networks = {}
    for label in REFERENCES:
        way = WAYS[label]
        try:
            run = way.opened(model, threads)
        except OnebranchError:  # the engine is not built
            continue

        def all_pieces(load: Load, run: Callable[[np.ndarray], object] = run) -> None:
            for size in load.pieces:
                run(inputs[size])

        found[label] = all_pieces
    return found


Turns = dict[str, list[Turn]]


def _in_turns(
    loads: Sequence[Load],
    networks: Networks,
    small: Path,
    rounds: int,
    threads: int,
    place: Path,
    shown: Progress,
) -> Turns:
    """Everything once a round; the first round is not counted."""
    turns: Turns = {}
    for index in range(rounds + 1):
        for name, run in _candidates(loads, networks, small, threads, place):
            shown(f"{f'round {index} of {rounds}' if index else 'warming up'}: {name}")
            time.sleep(REST)
            turn = run()
            if index:
                turns.setdefault(name, []).append(turn)
    return turns


def _candidates(
    loads: Sequence[Load], networks: Networks, small: Path, threads: int, place: Path
) -> Iterator[tuple[str, Callable[[], Turn]]]:
    for load in loads:
        yield load.name, lambda load=load: _command(load.source, threads, place)  # type: ignore[misc]
        for label, run in networks.items():
            yield f"{load.name}: {label}", lambda load=load, run=run: _timed(lambda: run(load))  # type: ignore[misc]
    yield "cold", lambda: _command(small, threads, place)


def _command(source: Path, threads: int, place: Path) -> Turn:
    """One run of `onebranch enhance` in a process of its own. OnebranchError where it fails."""
    out, peak = place / "out", place / "peak"
    target = out if source.is_dir() else out / source.name
    words = ["enhance", str(source), "-o", str(target), "-m", MODEL, "-q"]
    out.mkdir()
    try:
        with _spent() as spent:
            done = subprocess.run(
                [sys.executable, "-c", COMMAND, *words, "--threads", str(threads), str(peak)],
                check=False,
                capture_output=True,
                text=True,
            )
        if done.returncode:
            raise OnebranchError(f"onebranch enhance failed: {done.stderr.strip()[-200:]}")
        held = 1024 * int(peak.read_text()) if peak.exists() else None
    finally:
        shutil.rmtree(out)
        peak.unlink(missing_ok=True)
    return Turn(spent[0], spent[1], held)


@contextmanager
def _spent() -> Iterator[list[float]]:
    """Seconds by the clock, and of all cores in this process and those that it waited for, at the end."""
    spent: list[float] = []
    before, start = os.times(), time.perf_counter()
    yield spent
    seconds, after = time.perf_counter() - start, os.times()
    spent += [seconds, sum(after[:4]) - sum(before[:4])]


def _timed(run: Callable[[], object]) -> Turn:
    with _spent() as spent:
        run()
    return Turn(spent[0], spent[1])


def _row(load: Load, networks: Networks, turns: Turns) -> Row:
    own = turns[load.name]
    peaks = [turn.peak for turn in own if turn.peak is not None]
    alone = {label: [turn.seconds for turn in turns[f"{load.name}: {label}"]] for label in networks}
    return Row(
        name=load.name,
        form=load.form,
        pictures=len(load.sizes),
        megapixels=sum(height * width for height, width in load.sizes) / 1e6,
        seconds=median(turn.seconds for turn in own),
        work=median(turn.work for turn in own),
        megabytes=median(peaks) / 1e6 if peaks else None,
        alone={label: median(seconds) for label, seconds in alone.items()},
        ratios={label: ratio([turn.seconds for turn in own], seconds) for label, seconds in alone.items()},
    )


LEVELS = (0, 1, 2, 3, 6, 9)
FILTERS = ("none", "sub", "up", "paeth", "all")


def _encoders(
    pictures: Sequence[Picture], rows: Sequence[Row], rounds: int
) -> tuple[tuple[int, int], tuple[Encoder, ...]]:
    """Ways to encode the first picture's result, in turns, beside the work of the commands on folders."""
    from onebranch.enhancer.enhancer import enhance

    result = enhance(pictures[0], MODEL)
    ways = dict(_ways_to_encode(result))
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    sizes = {name: len(encoded()) for name, encoded in ways.items()}
    for _ in range(rounds):
        for name, encoded in ways.items():
            seconds[name].append(_work_of(encoded))
    by_form = {row.form: row for row in reversed(rows) if row.pictures > 1 or len(pictures) == 1}
    ours = {form: median(seconds[f"{form}, as enhance does"]) for form in ("JPEG", "PNG")}
    found = []
    for name, times in seconds.items():
        form = name.split(",")[0]
        row = by_form[form]
        rest = row.work / row.pictures - ours[form]
        share = median(times) / max(rest + median(times), 1e-9)
        found.append(Encoder(name, 1e3 * median(times), sizes[name] / 1e6, share, "as enhance" in name))
    return (result.height, result.width), tuple(found)


def _work_of(encoded: Callable[[], bytes]) -> float:
    """Seconds of all cores."""
    start = time.process_time()
    encoded()
    return time.process_time() - start


def _ways_to_encode(result: Picture) -> Iterator[tuple[str, Callable[[], bytes]]]:
    import io

    from PIL import Image

    from onebranch.images.encoders.encoding import Encoding
    from onebranch.images.libvips import pyvips

    pixels = np.ascontiguousarray(result.pixels)
    height, width, channels = pixels.shape
    image = pyvips.Image.new_from_memory(pixels.data, width, height, channels, "uchar")
    image = image.copy(interpretation="srgb")
    shown = Image.fromarray(pixels)

    def pillow(form: str, **options: int) -> bytes:
        file = io.BytesIO()
        shown.save(file, form, **options)
        return file.getvalue()

    for form in ("JPEG", "PNG"):
        yield f"{form}, as enhance does", lambda form=form: encode(result, FORMATS[form], Encoding())  # type: ignore[misc]
    yield "JPEG, libvips, quality 95", lambda: image.jpegsave_buffer(Q=95)
    yield "JPEG, libvips, quality 75", lambda: image.jpegsave_buffer(Q=75)
    yield "JPEG, Pillow, quality 95", lambda: pillow("JPEG", quality=95, subsampling=0)
    for level in LEVELS:
        for kind in FILTERS if level in (1, 6) else ("none",) if level == 0 else ("up",):
            yield (
                f"PNG, libvips, level {level}, filter {kind}",
                lambda level=level, kind=kind: image.pngsave_buffer(compression=level, filter=kind),  # type: ignore[misc]
            )
    for level in (1, 6):
        yield f"PNG, Pillow, level {level}", lambda level=level: pillow("PNG", compress_level=level)  # type: ignore[misc]


def _cold_steps(small: Path, rounds: int, place: Path) -> dict[str, float]:
    """Milliseconds of every step of a cold start, medians."""
    found: dict[str, list[float]] = {name: [] for name in STEPS}
    for _ in range(rounds):
        begin = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "onebranch.bench.cold", small, place / "cold.jpg"],
            check=True,
            capture_output=True,
            text=True,
        )
        moments = [begin, *json.loads(done.stdout), time.monotonic()]
        for name, start, end in zip(STEPS, moments, moments[1:], strict=False):
            found[name].append(1e3 * (end - start))
    return {name: median(times) for name, times in found.items()}
