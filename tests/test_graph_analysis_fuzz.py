"""Random picture networks of everything that moves pixels: what is computed in tiles equals the whole."""

import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from onebranch.enhancer.tiles import run_tiled
from onebranch.errors import OnebranchError
from onebranch.graph.analysis.graph_analysis import GraphAnalysis, analyze
from onebranch.graph.onnx.file import write
from onebranch.graph.onnx.graph import graph_of
from onebranch.model.foreign import read_foreign
from onebranch.runtime.foreign import ForeignRuntime
from picture_networks import Drawing

TOLERANCE = 1e-5
"""Relative to the largest value: float32 sums differ in order, because runtimes block by size."""

WIDTH = 4
"""Channels of every value."""

MAX_GROWTH = 9
"""Output pixels for one input pixel, along an axis, that a network may have within it."""

Choose = np.random.Generator


class Growing(Drawing):
    """A network to which random operations are appended; `value` is its last value."""

    def __init__(self, random: Choose) -> None:
        super().__init__()
        self.choose, self.count, self.scale = random, 0, 1.0
        self.value = self.conv("x", "head", WIDTH)

    def then(self, kind: str, *others: str, channels: int = WIDTH, **attributes: object) -> str:
        """One more operation on the value."""
        self.count += 1
        self.value = self.add(kind, [self.value, *others], f"v{self.count}", **attributes)
        self.channels[self.value] = channels
        return self.value

    def number(self, low: int, high: int) -> int:
        """A random integer up to and including `high`."""
        return int(self.choose.integers(low, high + 1))

    def numbers_here(self, *values: int) -> str:
        """A constant list with a name of its own."""
        return self.numbers(f"n{len(self.constants)}", *values)

    def kernel(self, *shape: int) -> str:
        """A random kernel with a name of its own."""
        return self.normal(f"w{len(self.constants)}", *shape)


def convolve(d: Growing) -> None:
    k, l = d.number(1, 5), d.number(1, 5)
    stride, dilation = d.number(1, 2), d.number(1, 2)
    pads = [d.number(0, 3) for _ in range(4)]
    d.then("Conv", d.kernel(WIDTH, WIDTH, k, l), pads=pads, strides=[stride] * 2, dilations=[dilation] * 2)
    d.scale /= stride


def convolve_with_same_padding(d: Growing) -> None:
    k, l, stride = d.number(1, 5), d.number(1, 5), d.number(1, 3)
    mode = ("SAME_UPPER", "SAME_LOWER")[d.number(0, 1)]
    d.then("Conv", d.kernel(WIDTH, WIDTH, k, l), auto_pad=mode, strides=[stride] * 2)
    d.scale /= stride


def pool(d: Growing) -> None:
    kind, k, stride = ("MaxPool", "AveragePool")[d.number(0, 1)], d.number(2, 4), d.number(1, 3)
    pads = [d.number(0, 1) for _ in range(4)]
    d.then(kind, kernel_shape=[k, k], strides=[stride] * 2, pads=pads, ceil_mode=d.number(0, 1))
    d.scale /= stride


def transpose(d: Growing) -> None:
    k, stride = d.number(2, 5), d.number(1, 3)
    pads = [d.number(0, 1) for _ in range(4)]
    added = [d.number(0, stride - 1) for _ in range(2)]
    d.then(
        "ConvTranspose", d.kernel(WIDTH, WIDTH, k, k), strides=[stride] * 2, pads=pads, output_padding=added
    )
    d.scale *= stride


def shuffle(d: Growing) -> None:
    factor = d.number(2, 3)
    d.then("Conv", d.kernel(WIDTH * factor**2, WIDTH, 1, 1), channels=WIDTH * factor**2)
    d.then("DepthToSpace", blocksize=factor, mode=("CRD", "DCR")[d.number(0, 1)])
    d.scale *= factor


def resize(d: Growing) -> None:
    mode = ("nearest", "linear", "cubic")[d.number(0, 2)]
    exact = [
        2,
        0.5,
        0.25,
    ]  # for others, ONNX Runtime rounds positions to float32: 5e-5 of a pixel at pixel 400
    scale = float(d.choose.choice([*exact, 1.5, 3] if mode == "nearest" else exact))
    coordinates = ("half_pixel", "asymmetric", "pytorch_half_pixel")[d.number(0, 2)]
    antialiasing = (
        {"antialias": 1} if mode != "nearest" and coordinates == "half_pixel" and d.number(0, 1) else {}
    )
    scales = d.constant(f"n{len(d.constants)}", np.array([1, 1, scale, scale], np.float32))
    d.then("Resize", "", scales, mode=mode, coordinate_transformation_mode=coordinates, **antialiasing)
    d.scale *= scale


def pad(d: Growing) -> None:
    mode = ("constant", "edge", "reflect")[d.number(0, 2)]
    low = -2 if mode == "constant" else 0
    amounts = [d.number(low, 3) for _ in range(4)]
    d.then("Pad", d.numbers_here(0, 0, *amounts[:2], 0, 0, *amounts[2:]), mode=mode)


def cut(d: Growing) -> None:
    step = d.number(1, 2)
    starts, ends = (d.number(0, 2), d.number(0, 2)), (-d.number(1, 2), 2**31)
    lists = [d.numbers_here(*values) for values in (starts, ends, (2, 3), (step, step))]
    d.then("Slice", *lists)
    d.scale /= step


def join(d: Growing) -> None:
    """The value and its convolution, added or concatenated."""
    before, side = d.value, d.conv(d.value, f"side{d.count}", WIDTH, d.number(0, 2) * 2 + 1)
    if d.number(0, 1):
        d.then("Add", side)
        return
    d.count += 1
    d.add("Concat", [before, side], f"v{d.count}", axis=1)
    d.channels[f"v{d.count}"] = 2 * WIDTH
    d.value = f"v{d.count}"
    d.then("Conv", d.kernel(WIDTH, 2 * WIDTH, 1, 1))


def one_by_one(d: Growing) -> None:
    kind = ("Relu", "Sigmoid", "Tanh", "Softmax", "HardSwish")[d.number(0, 4)]
    d.then(kind, **({"axis": 1} if kind == "Softmax" else {}))


STEPS: tuple[Callable[[Growing], None], ...] = (
    *(convolve, convolve_with_same_padding, pool, transpose, shuffle),
    *(resize, pad, cut, join, one_by_one),
)


def random_network(seed: int) -> onnx.ModelProto:
    """Up to six operations, then those that give the output the scaled size of the input."""
    random = np.random.default_rng(seed)
    d = Growing(random)
    for _ in range(d.number(1, 6)):
        steps = [s for s in STEPS if s not in (transpose, shuffle, resize) or d.scale < MAX_GROWTH / 3]
        steps[d.number(0, len(steps) - 1)](d)
    d.conv(d.value, "tail", 3, 1)
    for axis in (2, 3):
        d.value = "tail" if axis == 2 else d.value
        missing = missing_pixels(d, axis)
        amounts = [0] * 8
        amounts[4 + axis] = missing
        d.then("Pad", d.numbers_here(*amounts), channels=3)
    return d.model(d.value, opset=19, version=8)


def missing_pixels(d: Growing, axis: int) -> int:
    """How many pixels more the end would need along an axis, found by asking for them."""
    try:
        analyze(graph_of(d.model(d.value, opset=19, version=8)))
    except OnebranchError as error:
        word = "rows" if axis == 2 else "columns"
        match = re.search(rf"times the picture's {word} ([+-]\d+)", str(error))
        return -int(match[1]) if match else 0
    return 0


def check(seed: int, path: Path) -> GraphAnalysis:
    """Raise AssertionError unless tiles equal the whole."""
    write(random_network(seed), path, overwrite=True)
    model = read_foreign(path)
    assert model.refusal == ""
    analysis = model.usable()[1]
    assert analysis.unsupported == ""
    assert analysis.halo is not None
    runtime = ForeignRuntime(model, threads=1)
    random = np.random.default_rng(seed)
    height, width = (int(random.integers(1, 90)) for _ in range(2))
    picture = random.random((height, width, 3), np.float32)

    def run(piece: np.ndarray) -> np.ndarray:
        return runtime.run(np.ascontiguousarray(piece.transpose(2, 0, 1)[None]))[0].transpose(1, 2, 0)

    whole = run(picture)
    for tile in (8, 17, 40):
        tiled = run_tiled(run, picture, runtime.halo, tile)
        np.testing.assert_allclose(tiled, whole, rtol=0, atol=TOLERANCE * max(1, np.abs(whole).max()))
    return analysis


@pytest.mark.parametrize("seed", range(60))
def test_random_networks_in_tiles(seed: int, tmp_path: Path) -> None:
    check(seed, tmp_path / "x.onnx")


@pytest.mark.slow
def test_many_random_networks_in_tiles(fuzz_seconds: float, tmp_path: Path) -> None:
    end, seed = time.monotonic() + fuzz_seconds, 1000
    while time.monotonic() < end:
        try:
            check(seed, tmp_path / "x.onnx")
        except (AssertionError, OnebranchError) as error:
            raise AssertionError(f"seed {seed}") from error
        seed += 1
    assert seed > 1000
