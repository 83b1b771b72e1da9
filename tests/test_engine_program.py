"""Programs: networks in the native engine that equal ONNX Runtime; damaged programs are refused."""

from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from math import prod

import numpy as np
import onnx
import pytest
from torch import nn

from benchmarks.published_networks import NETWORKS as PUBLISHED
from benchmarks.published_speed import NETWORKS as TIMED
from onebranch.errors import OnebranchError
from onebranch.graph.analysis.graph_analysis import analyze
from onebranch.graph.onnx.graph import graph_of
from onebranch.lowering.program import (
    Binary,
    ElementwiseNode,
    ElementwiseStep,
    GatherNode,
    Operand,
    Program,
    Unary,
    UnshuffleNode,
)
from onebranch.lowering.program_compiler import NoProgramError
from onebranch.runtime.engine import Engine
from onebranch.runtime.engine_library import instruction_sets, library, programs_available
from onnx_networks import Sketch
from programs import NETWORKS, expected, exported, program_of, streamed

pytestmark = pytest.mark.skipif(bool(programs_available()), reason=programs_available())

SIZES = ((1, 1), (1, 9), (14, 1), (23, 70))
TOLERANCE = 1e-5

SMALL = {network.name: network for network in PUBLISHED if network.name in ("ESPCN", "FSRCNN", "SESR-M5")}
LARGE = {name: TIMED[name] for name in ("SPAN", "Compact 64x16", "Compact 64x32")}


def assert_equal_to_onnxruntime(model: onnx.ModelProto, channels: int, sets: list[str | None]) -> None:
    """The program equals ONNX Runtime on every size; pieces and streams equal the whole, bit for bit."""
    program = program_of(model)
    content = program.packed()
    for instructions in sets:
        engine = Engine(content, threads=1, instructions=instructions)
        for height, width in SIZES:
            picture = np.random.default_rng(height).random((channels, height, width), np.float32)
            wanted = expected(model, picture, program.block)
            whole = engine.run(picture, "float32", planar=True)
            assert np.ptp(wanted) > 0 or height == width == 1
            np.testing.assert_allclose(whole, wanted, rtol=0, atol=TOLERANCE * max(1, np.abs(wanted).max()))
            pieces = engine.run(picture, "float32", planar=True, strip=8, band=3)
            np.testing.assert_array_equal(pieces, whole)
            np.testing.assert_array_equal(streamed(engine, picture, 3), whole)


@pytest.mark.parametrize("name", [*NETWORKS, *SMALL])
def test_networks_equal_onnxruntime_in_pieces_and_streamed(name: str) -> None:
    if name in SMALL:
        channels, build = SMALL[name].channels, SMALL[name].build
    else:
        channels, build = NETWORKS[name]
    assert_equal_to_onnxruntime(exported(build(), channels), channels, [None])


@pytest.mark.slow
@pytest.mark.parametrize("name", [*LARGE])
def test_large_networks_equal_onnxruntime(name: str) -> None:
    network = LARGE[name]
    model = exported(network.build(), network.channels)
    assert_equal_to_onnxruntime(model, network.channels, list(instruction_sets()))


@pytest.mark.parametrize("name", ["mixed", "u-net"])
def test_every_instruction_set_runs_programs(name: str) -> None:
    channels, build = NETWORKS[name]
    assert_equal_to_onnxruntime(exported(build(), channels), channels, list(instruction_sets()))


@pytest.mark.parametrize("name", ["mixed", "two-shuffles", "compact-24x8", "span-8"])
def test_the_lag_is_what_the_receptive_field_says(name: str) -> None:
    channels, build = NETWORKS[name]
    model = exported(build(), channels)
    halo = analyze(graph_of(model)).halo
    assert halo is not None and program_of(model).lag == halo.bottom


def test_samples_are_converted_and_threads_change_nothing() -> None:
    channels, build = NETWORKS["compact-24x8"]
    content = program_of(exported(build(), channels)).packed()
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    one, three = (Engine(content, threads).run(picture, "uint8") for threads in (1, 3))
    np.testing.assert_array_equal(one, three)
    values = Engine(content, 1).run((picture / np.float32(255)).astype(np.float32), "float32")
    np.testing.assert_array_equal(one, (np.clip(values, 0, 1) * np.float32(255) + 0.5).astype(np.uint8))


def test_memory_does_not_grow_with_the_height() -> None:
    channels, build = NETWORKS["dncnn"]
    program = program_of(exported(build(), channels))
    lags = np.array(program.lags)
    kept = [
        lags[index] - lags[operand.value]
        for index, node in enumerate(program.nodes, 1)
        for operand in node.inputs
    ]
    assert max(kept) <= program.lag < 8


def test_elementwise_operations_become_steps_of_the_convolutions_before_them() -> None:
    program = program_of(exported(NETWORKS["span-8"][1](), 3))
    kinds = Counter(type(node).__name__ for node in program.nodes)
    # Of six blocks of three convolutions; the last block's first result is needed before its SiLU, too.
    assert kinds == {"ConvolutionNode": 22, "ElementwiseNode": 1, "GatherNode": 1}
    assert sorted(len(node.steps) for node in program.nodes) == [0] * 6 + [1] * 12 + [4] * 6


def test_a_picture_is_extended_to_whole_blocks_of_a_network_with_strides() -> None:
    channels, build = NETWORKS["u-net"]
    program = program_of(exported(build(), channels))
    assert program.block == 4 and set(program.rates) == {1, Fraction(1, 2), Fraction(1, 4)}
    engine = Engine(program.packed(), threads=2)
    assert engine.output_size(5, 7) == (5, 7)
    picture = np.random.default_rng(0).integers(0, 256, (21, 30, 3), np.uint8)
    extended = np.pad(picture, ((0, 3), (0, 2), (0, 0)), "edge")
    np.testing.assert_array_equal(engine.run(picture, "uint8"), engine.run(extended, "uint8")[:21, :30])


# ---- activations ----

X = np.concatenate(
    [
        np.linspace(-110, 110, 20001, dtype=np.float32),
        np.random.default_rng(0).normal(0, 1, 20000).astype(np.float32),
        np.random.default_rng(1).uniform(-20, 20, 400_000).astype(np.float32),
        np.array([0, -0.0, 1e-30, -1e-30, 0.625, -0.625, 1e30, -1e30], np.float32),
    ]
)


def _erfc(values: np.ndarray) -> np.ndarray:
    from math import erfc

    return np.array([erfc(value) for value in values.tolist()])


DEFINITIONS: dict[Unary, Callable[[np.ndarray], np.ndarray]] = {
    Unary.SIGMOID: lambda x: 1 / (1 + np.exp(-x)),
    Unary.TANH: np.tanh,
    Unary.SILU: lambda x: x / (1 + np.exp(-x)),
    Unary.HARD_SWISH: lambda x: x * np.clip(x + 3, 0, 6) / 6,
    Unary.GELU: lambda x: 0.5 * x * _erfc(-x / np.sqrt(2)),
    Unary.GELU_TANH: lambda x: x / (1 + np.exp(-2 * np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
}


@pytest.mark.parametrize("operation", DEFINITIONS, ids=lambda operation: operation.name.lower())
def test_activations_are_within_two_ulp_and_equal_on_every_set(operation: Unary) -> None:
    results = [_applied(operation, X, name) for name in instruction_sets()]
    with np.errstate(over="ignore"):
        exact = DEFINITIONS[operation](X.astype(np.float64))
    wanted = exact.astype(np.float32)
    ulp = np.spacing(np.maximum(np.abs(wanted), np.finfo(np.float32).tiny)).astype(np.float64)
    assert (np.abs(results[0].astype(np.float64) - exact) / ulp).max() <= 2
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


LIMITS: dict[Unary, tuple[float, float]] = {
    Unary.SIGMOID: (0, 1),
    Unary.TANH: (-1, 1),
    Unary.SILU: (0, np.inf),
}
"""The function at minus and plus infinity."""


@pytest.mark.parametrize("operation", LIMITS, ids=lambda operation: operation.name.lower())
def test_activations_of_infinity_and_nan(operation: Unary) -> None:
    values = np.array([-np.inf, np.inf, np.nan, -3e38, 3e38], np.float32)
    low, high = LIMITS[operation]
    for name in instruction_sets():
        result = _applied(operation, values, name)
        np.testing.assert_array_equal(result[:3], [low, high, np.nan])
        assert result[3] == low and result[4] == min(high, np.float32(3e38))


def _applied(operation: Unary, values: np.ndarray, instructions: str) -> np.ndarray:
    result = np.empty_like(values)
    done = library().ob_program_unary(
        instructions.encode(), operation, values.ctypes.data, 0, 0, len(values), result.ctypes.data
    )
    assert done
    return result


# ---- what is refused ----


def _global_pool(s: Sketch) -> str:
    return s.add("Mul", [s.conv("x", "body", 3), s.add("GlobalAveragePool", "body", "pool")], "y")


def _strided(s: Sketch) -> str:
    return s.conv("x", "y", 3, strides=[2, 2])


def _sine(s: Sketch) -> str:
    return s.add("Sin", s.conv("x", "body", 3), "y")


def _reflected(s: Sketch) -> str:
    pads = s.constant("pads", np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64))
    return s.conv(s.add("Pad", ["x", pads], "framed", mode="reflect"), "y", 3, pad=0)


def _instance_norm(s: Sketch) -> str:
    names = ["x", s.normal("scale", 3), s.normal("bias", 3)]
    return s.add("InstanceNormalization", names, "y")


def _huge_parameter(s: Sketch) -> str:
    return s.add("Div", ["x", s.constant("tiny", np.full((1, 3, 1, 1), 1e-40, np.float32))], "y")


REFUSED: dict[Callable[[Sketch], str], str] = {
    _global_pool: "GlobalAveragePool 'pool' needs the whole picture",
    _strided: "its scale, 1/2, is not a whole number",
    _sine: "Sin 'y' has no counterpart in the engine",
    _reflected: "Pad 'framed': it pads by mode 'reflect'",
    _huge_parameter: "Div 'y': a parameter is not a finite float32 number",
    _instance_norm: "InstanceNormalization 'y' needs the whole picture",
}


@pytest.mark.parametrize("build", REFUSED, ids=lambda build: build.__name__.strip("_"))
def test_what_does_not_fit_is_named(build: Callable[[Sketch], str]) -> None:
    sketch = Sketch(0, x=(1, 3, "H", "W"))
    with pytest.raises(NoProgramError) as caught:
        program_of(sketch.model(build(sketch)))
    assert str(caught.value) == REFUSED[build]


@pytest.mark.parametrize(
    ("taken", "returned", "reason"),
    [
        (5, 5, "its pictures have 5 channels, more than 4"),
        (1, 3, "it takes 1 and returns 3 channels, and both must be equal"),
    ],
)
def test_pictures_of_other_channels_are_refused(taken: int, returned: int, reason: str) -> None:
    with pytest.raises(NoProgramError) as caught:
        program_of(exported(nn.Sequential(nn.Conv2d(taken, returned, 3, padding=1)), taken))
    assert str(caught.value) == reason


# ---- damaged programs ----


def _small_program(name: str = "mixed") -> Program:
    channels, build = NETWORKS[name]
    return program_of(exported(build(), channels))


def assert_survives(content: bytes) -> bool:
    """A damaged program is refused, or runs without a crash; whether it ran."""
    try:
        engine = Engine(content, threads=1)
    except OnebranchError:
        return False
    picture = np.zeros((engine.picture_channels("own"), 5, 6), np.float32)
    engine.run(picture, "float32", planar=True, strip=4, band=3)
    return True


def mutated(content: bytes, random: np.random.Generator) -> bytes:
    """Some numbers of the program changed, to small ones, extreme ones or random bytes; or a part cut out."""
    changed = bytearray(content)
    if random.random() < 0.1:
        first = int(random.integers(len(changed)))
        del changed[first : first + int(random.integers(1, 40))]
    # The first 256 numbers hold the header and the first nodes; their weights are changed seldom.
    for _ in range(int(random.integers(1, 4))):
        limit = 64 if random.random() < 0.5 else len(changed) // 4 - 1
        offset = 4 * int(random.integers(2, limit))
        number = random.choice([0, 1, 2, 3, 4, 5, 31, 60, 61, -1, 2**31 - 1, -(2**31), 4096, 16384])
        value = int(number) if random.random() < 0.8 else int(random.integers(-(2**31), 2**31))
        changed[offset : offset + 4] = int(value).to_bytes(4, "little", signed=True)
    return bytes(changed)


def fuzz(rounds: int, seed: int) -> int:
    """Mutated programs, and how many of them ran."""
    contents = [_small_program(name).packed() for name in ("mixed", "u-net", "span-8")]
    random = np.random.default_rng(seed)
    return sum(assert_survives(mutated(contents[k % 3], random)) for k in range(rounds))


def test_mutated_programs_never_crash() -> None:
    assert 0 < fuzz(300, 0) < 300


@pytest.mark.slow
def test_many_mutated_programs_never_crash() -> None:
    assert fuzz(20_000, 1) > 0


def test_random_bytes_and_truncated_programs_are_refused() -> None:
    random, content = np.random.default_rng(0), _small_program().packed()
    for length in (0, 7, 8, 30, 200):
        assert not assert_survives(content[:8] + random.bytes(length))
        assert not assert_survives(content[:length])
    assert not assert_survives(content + b"\0")


@pytest.mark.parametrize(
    ("index", "number", "reason"),
    [
        (2, 5, "out of range"),  # channels of the picture
        (4, 33, "out of range"),  # the scale
        (5, 17, "out of range"),  # the rows of a block
        (9, 1 << 14, "before the rows that it reads"),  # the first node's lag: the next ones run too early
    ],
)
def test_the_engine_says_what_is_wrong(index: int, number: int, reason: str) -> None:
    content = bytearray(_small_program().packed())
    content[4 * index : 4 * index + 4] = number.to_bytes(4, "little")
    with pytest.raises(OnebranchError, match=reason):
        Engine(bytes(content), threads=1)


def test_a_step_reads_values_of_its_own_rate_only() -> None:
    steps = (ElementwiseStep(Binary.ADD, (0, -1)),)  # the picture, at twice the rate of the unshuffled one
    nodes = (UnshuffleNode((Operand(0, 0, 1),), 2, steps=steps),)
    with pytest.raises(OnebranchError, match="an operation on values of different rates"):
        Engine(Program(1, 1, 2, nodes, Operand(1, 0, 4)).packed(), threads=1)


@pytest.mark.parametrize(("count", "is_refused"), [(900, False), (1200, True)])
def test_the_limit_of_memory_counts_the_rows_that_are_kept(count: int, is_refused: bool) -> None:
    """A value of 64 channels keeps four rows, so 1,200 of them are more than 2^18 rows of a channel."""
    copy = ElementwiseStep(Unary.COPY, (0,), np.zeros(64, np.float32), np.zeros(64, np.float32))
    nodes = [GatherNode((Operand(0, 0, 4),) * 16, 16)]
    nodes += [ElementwiseNode((Operand(k, 0, 64),), (copy,)) for k in range(1, count)]
    content = Program(4, 4, 1, tuple(nodes), Operand(count, 0, 4)).packed()
    if is_refused:
        with pytest.raises(OnebranchError, match="keeps too many rows"):
            Engine(content, threads=1)
    else:
        Engine(content, threads=1)


def test_a_module_is_no_larger_than_its_values() -> None:
    channels, build = NETWORKS["dncnn"]
    program = program_of(exported(build(), channels))
    weights = sum(prod(p.shape) for p in build().parameters())
    assert len(program.nodes) == 5  # batch normalization and activations are part of the convolutions
    assert weights * 4 < len(program.packed()) < weights * 5


def test_plain_modules_are_one_convolution() -> None:
    model = exported(nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.ReLU()), 1)
    assert [type(node).__name__ for node in program_of(model).nodes] == ["ConvolutionNode"]
