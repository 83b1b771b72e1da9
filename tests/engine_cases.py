"""Writes test cases for a runner that needs no Python: networks, pictures and expected outputs.

python tests/engine_cases.py FILE. The layout of the file is that of src/engine/tests/replay.cpp. Expected
outputs are those of the slow definition or, if rows are also converted and resized, of the portable kernels
in int8: integers, which must be the same on every instruction set.
"""

import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from engine_networks import model_of, quantized
from onebranch.algebra.integer import run_integer_network
from onebranch.algebra.network import run_network
from onebranch.model.file import Model
from onebranch.runtime.engine import Engine
from onebranch.runtime.engine_library import COLOUR_CONVERSIONS, SAMPLE_TYPES
from onebranch.runtime.engine_network import describe
from onebranch.spec.network import BlockSpec, NetworkSpec, Skip

MAGIC = b"OBCASES\1"

FLOAT32 = 1e-5
"""Tolerance relative to the largest value, as in the engine's tests."""

BFLOAT16 = 2.0**-8
"""Relative rounding of bfloat16, as in the engine's tests."""

SIZES = ((1, 1), (2, 37), (9, 20))


def network(task: str, scale: int, colour: str, widths: str, skips: str = "", **options: str) -> NetworkSpec:
    """A spec from words: widths "16:3x3:prelu 8:1x1:relu", skips "0-2 1-2"; the tail is 3x3."""
    blocks = [
        BlockSpec((kernel,), int(width), activation)
        for width, kernel, activation in (word.split(":") for word in widths.split())
    ]
    downsampling = options.get("downsampling", "none")
    free = downsampling in ("convolution", "unshuffle")
    outputs = 5 if free else (1 if colour == "y" else 3) * (scale**2 if task == "upscale" else 1)
    return NetworkSpec(
        task=task,
        colour=colour,
        scale=scale,
        head=blocks[0],
        blocks=tuple(blocks[1:]),
        tail=BlockSpec(("3x3",), outputs, "none"),
        skips=tuple(Skip(*map(int, pair.split("-"))) for pair in skips.split()),
        residual=options.get("residual", "none"),
        downsampling=downsampling,
    )


NETWORKS = (
    network("denoise", 1, "y", "16:3x3:prelu 16:3x3:prelu 16:3x3:prelu", "0-2"),
    network("denoise", 1, "rgb", "8:3x3:relu 8:5x5:prelu 8:3x1:none 8:3x3:leaky_relu", "0-1 1-3 0-3"),
    network("denoise", 1, "y", "3:7x7:leaky_relu 19:1x1:prelu 5:1x5:relu"),
    network("denoise", 1, "rgb", "32:3x3:prelu 33:3x3:prelu"),
    network("upscale", 2, "y", "16:3x3:prelu 16:3x3:prelu", "0-1", residual="bicubic"),
    network("upscale", 3, "rgb", "12:3x3:prelu", residual="nearest"),
    network("upscale", 4, "y", "8:3x3:relu 8:3x3:relu", residual="bicubic"),
    network("downscale", 2, "y", "8:3x3:prelu", residual="bicubic", downsampling="convolution"),
    network("downscale", 3, "rgb", "6:3x3:prelu", downsampling="average"),
    network("downscale", 2, "rgb", "4:3x3:prelu 4:3x3:prelu", residual="bicubic", downsampling="unshuffle"),
)


def largest_value(model: Model, picture: np.ndarray) -> float:
    """The output of the network with absolute weights, to which rounding errors are relative."""
    weights = {name: np.abs(value) for name, value in model.weights.items()}
    return max(1.0, float(np.abs(run_network(model.spec, weights, picture.astype(np.float64))).max()))


def defined(index: int, size: tuple[int, int]) -> Iterator[bytes]:
    """Cases of a network on planar floats: fp32, bf16, and int8 if no float layer follows the tail."""
    model = quantized(model_of(NETWORKS[index], index), index)
    picture = np.random.default_rng(index).random((1, model.spec.channels, *size), np.float32)
    expected = run_network(model.spec, model.weights, picture.astype(np.float64))
    largest = largest_value(model, picture)
    limits = {"fp32": FLOAT32, "bf16": 2 * len(model.spec.all_blocks) * BFLOAT16}
    for precision, limit in limits.items():
        name = f"network {index} {precision} {size[0]}x{size[1]}"
        yield case(name, describe(model, precision), picture[0], expected[0], True, "own", limit * largest)
    if model.spec.task == "denoise" and model.spec.residual == "none":
        exact = run_integer_network(model.spec, model.weights, model.quantization or {}, picture)
        name = f"network {index} int8 {size[0]}x{size[1]}"
        yield case(name, describe(model, "int8"), picture[0], exact[0], True, "own", 0)


def converted(index: int, size: tuple[int, int]) -> Iterator[bytes]:
    """Cases of a network in int8 on 8-bit and 16-bit pictures, in the colour conversions that it supports."""
    model = quantized(model_of(NETWORKS[index], index), index)
    colours = {"y": {"own": 1, "y of rgb": 3, "y of grey": 1}, "rgb": {"own": 3, "rgb of grey": 1}}
    description = describe(model, "int8")
    engine = Engine(description, 1, "portable")
    random = np.random.default_rng(index)
    for kind in ("uint8", "uint16"):
        for colour, channels in colours[model.spec.colour].items():
            picture = random.integers(0, np.iinfo(kind).max + 1, (*size, channels), kind)
            expected = engine.run(picture, kind, colour)
            name = f"network {index} int8 {size[0]}x{size[1]} {kind} {colour}"
            yield case(name, description, picture, expected, False, colour, 0)


def case(
    name: str,
    description: bytes,
    picture: np.ndarray,
    expected: np.ndarray,
    planar: bool,
    colour: str,
    tolerance: float,
) -> bytes:
    """One case as bytes. picture, expected: (C, H, W) where planar, else (H, W, C)."""
    if expected.dtype.kind == "f":
        expected = expected.astype(np.float32)
    height, width = picture.shape[1:] if planar else picture.shape[:2]
    types = SAMPLE_TYPES[picture.dtype.name], SAMPLE_TYPES[expected.dtype.name]
    return b"".join(
        [
            struct.pack("<i", len(name)),
            name.encode(),
            _sized(description),
            struct.pack("<qq4id", height, width, *types, COLOUR_CONVERSIONS[colour], planar, tolerance),
            _sized(np.ascontiguousarray(picture).tobytes()),
            _sized(np.ascontiguousarray(expected).tobytes()),
        ]
    )


def _sized(content: bytes) -> bytes:
    return struct.pack("<q", len(content)) + content


def cases() -> list[bytes]:
    """All of them; the same on every machine."""
    recorded = [one for index in range(len(NETWORKS)) for size in SIZES for one in defined(index, size)]
    return recorded + [one for index in range(len(NETWORKS)) for one in converted(index, (7, 23))]


def write(path: Path) -> int:
    """Writes the file; returns the number of cases."""
    recorded = cases()
    path.write_bytes(MAGIC + struct.pack("<i", len(recorded)) + b"".join(recorded))
    return len(recorded)


if __name__ == "__main__":
    print(f"{sys.argv[1]}: {write(Path(sys.argv[1]))} cases")
