"""The engine as WebAssembly, in wasmtime and in node, against the native engine and the slow definition."""

import json
import shutil
import struct
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import onebranch
from engine_cases import MAGIC, NETWORKS, cases, write
from engine_networks import model_of, quantized
from onebranch.images.picture import Picture
from onebranch.model.catalogue import CATALOGUE, load
from onebranch.runtime.engine import Engine
from onebranch.runtime.engine_library import COLOUR_CONVERSIONS, SAMPLE_TYPES, instruction_sets
from onebranch.runtime.engine_network import describe, describe_interpolation

pytest.importorskip("wasmtime", reason="wasmtime is not installed (make wasm installs it)")

from wasm_engine import WasmEngine

pytestmark = pytest.mark.wasm

ROOT = Path(__file__).parent.parent
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed")

MODELS = [name for name in CATALOGUE if name != "photo-x2-branches"]
SIZES = ((37, 53), (1, 1), (64, 96))
TOLERANCE = 1e-5
MAX_SHARE_OF_OTHER_LEVELS = 1e-4

SAMPLE_NAMES = {number: name for name, number in SAMPLE_TYPES.items()}
COLOUR_NAMES = {number: name for name, number in COLOUR_CONVERSIONS.items()}


def recorded() -> list[tuple[str, bytes, np.ndarray, str, str, bool, float, bytes]]:
    """The recorded cases that the module runs: those of fp32 and int8."""
    return [case for case in map(parsed, cases()) if " bf16 " not in case[0]]


def parsed(case: bytes) -> tuple[str, bytes, np.ndarray, str, str, bool, float, bytes]:
    """Name, description, samples, target type, colour, planar, tolerance and expected bytes of a case."""
    (length,), at = struct.unpack_from("<i", case), 4
    name, at = case[at : at + length].decode(), at + length
    (length,), at = struct.unpack_from("<q", case, at), at + 8
    description, at = case[at : at + length], at + length
    height, width, source, target, colour, planar, tolerance = struct.unpack_from("<qq4id", case, at)
    at += struct.calcsize("<qq4id")
    (length,), at = struct.unpack_from("<q", case, at), at + 8
    content, at = case[at : at + length], at + length
    samples = np.frombuffer(content, SAMPLE_NAMES[source])
    samples = samples.reshape((-1, height, width) if planar else (height, width, -1))
    expected = case[at + 8 :]
    return (
        name,
        description,
        samples,
        SAMPLE_NAMES[target],
        COLOUR_NAMES[colour],
        bool(planar),
        tolerance,
        expected,
    )


def test_recorded_cases_in_wasmtime():
    """Integers as recorded; floats within their tolerance, and bit for bit those of the portable set."""
    counts: Counter[str] = Counter()
    for name, description, samples, target, colour, planar, tolerance, expected in recorded():
        engine = WasmEngine(description)
        result = engine.run(samples, target, colour, planar=planar)
        native = Engine(description, 1, "portable").run(samples, target, colour, planar=planar)
        assert result.tobytes() == native.tobytes(), name
        if tolerance == 0:
            assert result.tobytes() == expected, name
        else:
            difference = np.abs(result.ravel() - np.frombuffer(expected, target)).max()
            assert difference <= tolerance, name
        pieces = engine.run(samples, target, colour, planar=planar, strip=8, band=3)
        assert pieces.tobytes() == result.tobytes(), f"{name}: the result depends on the size of pieces"
        counts["integer" if tolerance == 0 else "float"] += 1
    print(f"recorded cases in wasmtime: {counts['integer']} of integers, {counts['float']} of floats")
    assert min(counts["integer"], counts["float"]) > 20


@needs_node
def test_recorded_cases_in_node(tmp_path):
    """The module runs the recorded file of cases in node, too: whole and streamed in uneven pushes."""
    write(tmp_path / "cases.bin")
    done = node(ROOT / "tests" / "replay_cases.mjs", tmp_path / "cases.bin")
    counts = json.loads(done)
    assert counts["failed"] == []
    assert counts["passed"] == len(recorded())
    print(f"recorded cases in node: {counts['passed']} passed")
    assert MAGIC.startswith(b"OBCASES")


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_shipped_models(name, kind, capsys):
    """int8: the bytes of every native set. fp32: those of the portable set; near those of the fused sets."""
    model = load(name)
    precision = "int8" if model.quantization else "fp32"
    description = describe(model, precision)
    engine, others, samples = WasmEngine(description), 0, 0
    colour = "y of rgb" if model.colour == "y" else "own"
    for size in SIZES:
        picture = noise((*size, 3), kind)
        result = engine.run(picture, kind, colour)
        for instructions in instruction_sets():
            native = Engine(description, 1, instructions).run(picture, kind, colour)
            if instructions == "portable" or precision == "int8":
                assert result.tobytes() == native.tobytes(), f"{instructions} {size}"
            elif kind == "float32":
                np.testing.assert_allclose(result, native, rtol=0, atol=TOLERANCE)
            elif kind == "uint8":
                distances = np.abs(result.astype(int) - native)
                assert distances.max() <= 1
                others, samples = others + np.count_nonzero(distances), samples + distances.size
    if samples:
        with capsys.disabled():
            print(f"\n{name}: {others} of {samples:,} 8-bit samples are one level from a fused set", end=" ")
        assert others <= MAX_SHARE_OF_OTHER_LEVELS * samples


@pytest.mark.parametrize("name", ["photo-x2", "photo-x4", "denoise", "shrink-x2"])
@pytest.mark.parametrize("kind", ["uint8", "uint16"])
def test_interpolation_of_alpha(name, kind):
    """Alpha is interpolated to the same samples as in the portable set."""
    description = describe_interpolation(load(name).spec, "bicubic")
    alpha = noise((29, 43, 1), kind)
    result = WasmEngine(description).run(alpha, kind)
    assert result.tobytes() == Engine(description, 1, "portable").run(alpha, kind).tobytes()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: d[:-1], "truncated"),
        (lambda d: d + b"\0", "data follows its end"),
        (lambda d: b"x" + d[1:], "not a network description"),
        (lambda d: d[:24] + struct.pack("<i", 99) + d[28:], "out of range"),
        (lambda d: d[:12] + struct.pack("<i", 1) + d[16:], "bfloat16"),
    ],
)
def test_damaged_descriptions_are_errors(damage, message):
    """An invalid description is a message, not a trap."""
    description = describe(model_of(NETWORKS[0], 0), "fp32")
    with pytest.raises(ValueError, match=message):
        WasmEngine(damage(description))


def test_random_damage_never_traps():
    """Whatever byte is changed, the module answers: with a network or with a message."""
    random, description = np.random.default_rng(0), describe(quantized(model_of(NETWORKS[1], 1), 1), "int8")
    refused = 0
    for _ in range(60):
        damaged = bytearray(description)
        damaged[random.integers(8, 200)] = random.integers(256)
        try:
            WasmEngine(bytes(damaged))
        except ValueError:  # a trap is another exception
            refused += 1
    assert refused > 5


def test_a_picture_beyond_the_memory_is_an_error():
    """The rows of a picture of 2^24 columns do not fit 32-bit memory."""
    engine = WasmEngine(describe(load("denoise"), "fp32"))
    with pytest.raises(ValueError, match="not enough memory"):
        engine.run(np.zeros((1, 1 << 24, 3), np.uint8), "uint8", strip=1 << 24)


@needs_node
@pytest.mark.parametrize("name", MODELS)
def test_javascript_lowers_models_to_the_same_bytes(name, tmp_path):
    """The descriptions that JavaScript makes from a model file are those of Python, byte for byte."""
    model = load(name)
    for precision in ("fp32", "int8") if model.quantization else ("fp32",):
        for chroma in ("bicubic", "bilinear"):
            node(ROOT / "tests" / "lower_model.mjs", CATALOGUE[name].path, precision, chroma, tmp_path)
            assert (tmp_path / "description").read_bytes() == describe(model, precision, chroma)
            assert (tmp_path / "interpolation").read_bytes() == describe_interpolation(model.spec, chroma)


@needs_node
@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize(
    ("name", "precision", "kind", "colours"),
    [
        ("photo-x2-int8", "int8", "uint8", "rgb alpha"),
        ("photo-x4-int8", "int8", "uint16", "rgb alpha"),
        ("denoise-int8", "int8", "uint8", "grey alpha"),
        ("shrink-x2-int8", "int8", "uint16", "rgb alpha"),
        ("shrink-x2-int8", "int8", "uint8", "grey"),
        ("restore-x2-int8", "int8", "uint8", "rgb"),
    ],
)
def test_javascript_enhances_as_the_package(name, precision, kind, colours, bands, tmp_path):
    """In one band and in three, at an odd size, transparent pixels included: as `onebranch.enhance`."""
    height, width = 131, 57
    channels, alpha = 1 if colours.startswith("grey") else 3, "alpha" in colours
    pixels = noise((height, width, channels), kind)
    opacity = hidden_parts(noise((height, width), kind)) if alpha else None
    expected = onebranch.enhance(Picture(pixels, opacity), name, precision=precision)
    white = np.full((height, width, 1), np.iinfo(kind).max, kind)
    rgb = np.repeat(pixels, 3, 2) if channels == 1 else pixels
    raw = np.concatenate([rgb, white if opacity is None else opacity[..., None]], 2)
    (tmp_path / "raw").write_bytes(raw.tobytes())
    printed = node(
        *(ROOT / "tests" / "enhance_picture.mjs", CATALOGUE[name].path, precision, str(bands)),
        *(tmp_path / "raw", str(width), str(height), str(8 * raw.itemsize), colours.split()[0]),
        tmp_path / "result",
    ).splitlines()
    size = json.loads(printed[0])
    result = np.frombuffer((tmp_path / "result").read_bytes(), kind)
    result = result.reshape(size["height"], size["width"], 4)
    assert np.array_equal(result[..., :channels], expected.pixels)
    assert (result[..., 3] == (np.iinfo(kind).max if opacity is None else expected.alpha)).all()
    assert json.loads(printed[1]) == ["AbortError", "OnebranchError", "OnebranchError"]


def hidden_parts(alpha: np.ndarray) -> np.ndarray:
    """Alpha with a hidden rectangle, which is larger than any network's radius, and hidden single pixels."""
    alpha = alpha.copy()
    alpha[20:95, 10:40] = 0
    alpha[::7, ::5] = 0
    return alpha


def noise(shape: tuple[int, ...], kind: str) -> np.ndarray:
    """Smooth noise with every level, as samples of that type."""
    values = np.random.default_rng(sum(shape)).random(shape, np.float32)
    smooth = (values + np.roll(values, 1, 0) + np.roll(values, 1, 1)) / 3
    white = {"uint8": 255, "uint16": 65535, "float32": 1}[kind]
    return (smooth * white).astype(kind)


def node(*arguments: str | Path) -> str:
    """What a script prints in node."""
    assert NODE
    done = subprocess.run([NODE, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
