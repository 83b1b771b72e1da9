"""The native engine: equal to the slow definitions, however a picture is cut and whatever the machine."""

import struct
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from benchmarks.networks import random_model
from engine_networks import model_of, quantized, seeds, sizes, specs
from onebranch.algebra.integer import run_integer_network
from onebranch.algebra.network import run_network
from onebranch.enhancer.engine_stage import EngineStage
from onebranch.enhancer.stage import ArrayStage
from onebranch.errors import OnebranchError
from onebranch.images.reading import read as read_picture
from onebranch.images.samples import as_depth
from onebranch.model.catalogue import CATALOGUE, load
from onebranch.runtime.engine import Engine, EngineRuntime
from onebranch.runtime.engine_library import available, instruction_sets
from onebranch.runtime.engine_network import NETWORK_SIGNATURE, describe, reason_against
from onebranch.spec.network import BlockSpec, NetworkSpec, Skip
from onebranch.spec.shorthand import NetworkShorthand, expand
from onebranch.verification import PHOTOGRAPH

pytestmark = pytest.mark.skipif(bool(available()), reason=available())

TOLERANCE = 1e-5
"""Relative to the largest value, for float32."""

BF16 = 2.0**-8
"""Relative rounding of bfloat16, weights and feature maps alike; a layer adds two of them."""

SETS = instruction_sets() if not available() else []


def largest_value(spec: NetworkSpec, model, pictures: np.ndarray) -> float:
    """The output of the network with absolute weights; rounding errors are relative to it if sums cancel."""
    weights = {name: np.abs(value) for name, value in model.weights.items()}
    return float(np.abs(run_network(spec, weights, pictures.astype(np.float64))).max())


def picture_of(spec: NetworkSpec, size: tuple[int, int], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((1, spec.channels, *size), np.float32)


@pytest.mark.parametrize("instructions", SETS)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(spec=specs(), size=sizes, seed=seeds)
def test_float32_is_the_definition(
    instructions: str, spec: NetworkSpec, size: tuple[int, int], seed: int
) -> None:
    model, picture = model_of(spec, seed), picture_of(spec, size, seed)
    expected = run_network(spec, model.weights, picture.astype(np.float64))
    actual = EngineRuntime(model, 1, instructions=instructions).run(picture)
    assert actual.shape == expected.shape
    limit = TOLERANCE * max(1.0, largest_value(spec, model, picture))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=limit)


@pytest.mark.parametrize("instructions", SETS)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(spec=specs(), size=sizes, seed=seeds)
def test_int8_is_the_integer_reference_bit_for_bit(
    instructions: str, spec: NetworkSpec, size: tuple[int, int], seed: int
) -> None:
    # Without the layers after the tail, which are float32 in an order of their own.
    channels = spec.channels
    assume(spec.task != "downscale")
    plain = {
        "residual": "none",
        "scale": 1,
        "task": "denoise",
        "tail": BlockSpec(spec.tail.branches, channels, "none"),
    }
    spec = NetworkSpec(colour=spec.colour, head=spec.head, blocks=spec.blocks, skips=spec.skips, **plain)
    model = quantized(model_of(spec, seed), seed)
    picture = picture_of(spec, size, seed)
    expected = run_integer_network(spec, model.weights, model.quantization, picture)
    actual = EngineRuntime(model, 1, "int8", instructions=instructions).run(picture)
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("instructions", SETS)
@pytest.mark.parametrize("units", [89_000_000, 90_000_000, 2_000_000_000])
def test_int8_is_exact_where_a_scaled_accumulator_leaves_32_bits(units: int, instructions: str) -> None:
    """24 times an accumulator of the tail fits 32 bits below 89,478,485: beyond, Winograd is not used."""
    body = BlockSpec(("3x3",), 8)
    spec = small(task="upscale", scale=2, head=body, blocks=(body,), tail=BlockSpec(("3x3",), 4, "none"))
    model = quantized(model_of(spec, 0), 0)
    *_, block, tail = model.quantization["layers"]
    signs = np.array([1, -1, 1, -1]) * units * block["output"]["scale"] * np.array(tail["weight_scales"])
    bias = {"tail.branches.0.0.bias": signs.astype(np.float32)}
    model = replace(model, weights={**model.weights, **bias})
    picture = picture_of(spec, (5, 21), 0)
    expected = run_integer_network(spec, model.weights, model.quantization, picture)
    actual = EngineRuntime(model, 1, "int8", instructions=instructions).run(picture)
    np.testing.assert_array_equal(actual, expected)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(spec=specs(), size=sizes, seed=seeds)
def test_int8_with_its_last_layers_is_the_reference_but_for_their_rounding(
    spec: NetworkSpec, size: tuple[int, int], seed: int
) -> None:
    model, picture = quantized(model_of(spec, seed), seed), picture_of(spec, size, seed)
    expected = run_integer_network(spec, model.weights, model.quantization, picture)
    actual = EngineRuntime(model, 1, "int8").run(picture)
    np.testing.assert_allclose(
        actual, expected, rtol=0, atol=TOLERANCE * max(1.0, float(np.abs(expected).max()))
    )


@pytest.mark.parametrize("instructions", SETS)
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(spec=specs(), size=sizes, seed=seeds)
def test_bfloat16_is_near_the_definition(
    instructions: str, spec: NetworkSpec, size: tuple[int, int], seed: int
) -> None:
    model, picture = model_of(spec, seed), picture_of(spec, size, seed)
    expected = run_network(spec, model.weights, picture.astype(np.float64))
    actual = EngineRuntime(model, 1, "bf16", instructions=instructions).run(picture)
    layers = 2 * len(spec.all_blocks)
    limit = layers * BF16 * max(1.0, largest_value(spec, model, picture))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=limit)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    spec=specs(),
    size=st.tuples(st.integers(1, 60), st.integers(1, 150)),
    seed=seeds,
    strip=st.integers(1, 80),
    band=st.integers(1, 30),
    threads=st.integers(1, 5),
    precision=st.sampled_from(("fp32", "bf16", "int8")),
    instructions=st.sampled_from(SETS or ["none"]),
)
def test_the_result_does_not_depend_on_pieces_and_threads(
    spec, size, seed, strip, band, threads, precision, instructions
) -> None:
    model = quantized(model_of(spec, seed), seed)
    picture = picture_of(spec, size, seed)[0]
    description = describe(model, precision)
    whole = Engine(description, 1, instructions).run(picture, "float32", planar=True, strip=10**6, band=10**6)
    pieces = Engine(description, threads, instructions).run(
        picture, "float32", planar=True, strip=strip, band=band
    )
    np.testing.assert_array_equal(pieces, whole)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(spec=specs(), size=sizes, seed=seeds, most=st.integers(1, 20), threads=st.integers(1, 3))
def test_a_stream_gives_the_rows_of_the_whole(spec, size, seed, most: int, threads: int) -> None:
    model, random = model_of(spec, seed), np.random.default_rng(seed)
    picture = random.integers(0, 256, (*size, spec.channels), np.uint8)
    engine = Engine(describe(model), threads)
    whole = engine.run(picture, "uint8")
    stream, rows, at = engine.stream(*size, spec.channels, "uint8", "uint8"), [], 0
    while at < size[0]:
        count = int(random.integers(0, most + 1))
        rows.append(stream.push(picture[at : at + count]))
        at += count
    np.testing.assert_array_equal(np.concatenate(rows), whole)


COLOURS = {("y", 3): "y of rgb", ("y", 1): "y of grey", ("rgb", 3): "own", ("rgb", 1): "rgb of grey"}


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    spec=specs(),
    size=sizes,
    seed=seeds,
    channels=st.sampled_from((1, 3)),
    source=st.sampled_from(("uint8", "uint16", "float32")),
    target=st.sampled_from(("uint8", "uint16", "float32")),
    chroma=st.sampled_from(("bicubic", "bilinear")),
)
def test_pictures_are_converted_as_the_definition_does(
    spec, size, seed, channels, source, target, chroma
) -> None:
    model = model_of(spec, seed)
    random = np.random.default_rng(seed).random((*size, channels), np.float32)
    picture = as_depth(random, source)
    stage = ArrayStage(model, EngineRuntime(model, 1), chroma)
    expected = stage.pixels(channels, source, "float32")(picture)
    engine = Engine(describe(model, "fp32", chroma), 1)
    actual = engine.run(picture, target, COLOURS[spec.colour, channels])
    assert actual.dtype == target and actual.shape == expected.shape
    if target == "float32":
        limit = TOLERANCE * max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(actual, expected, rtol=0, atol=limit)
    else:
        white = np.iinfo(target).max
        off = np.abs(actual.astype(float) - np.clip(expected, 0, 1) * white)
        assert off.max() <= 0.5 + white * TOLERANCE * max(1.0, float(np.abs(expected).max()))


@pytest.mark.parametrize("instructions", SETS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", [name for name in CATALOGUE if not name.endswith(("-int8", "-branches"))])
def test_shipped_models_run(name: str, precision: str, instructions: str) -> None:
    model = load(name)
    rows = read_picture(PHOTOGRAPH).pixels[40:77, 60:130].astype(np.float32) / np.float32(255)
    picture = np.ascontiguousarray(rows[..., : model.spec.channels].transpose(2, 0, 1)[None])
    expected = run_network(model.spec, model.weights, picture.astype(np.float64))
    actual = EngineRuntime(model, 2, precision, instructions=instructions).run(picture)
    if precision == "fp32":
        np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE / 10)
    else:
        assert np.sqrt(np.mean((actual - expected) ** 2)) < BF16 / 4


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("instructions", SETS)
@pytest.mark.parametrize("width", [8, 34, 70])
def test_wide_networks_run(width: int, instructions: str, precision: str) -> None:
    """Widths that fill blocks of channels, tiles and their steps, and widths that do not."""
    spec = expand(NetworkShorthand(task="denoise", colour="rgb", width=width, depth=3, branches=("3x3",)))
    model, picture = quantized(model_of(spec, 0), 0), picture_of(spec, (9, 67), 0)
    actual = EngineRuntime(model, 1, precision, instructions=instructions).run(picture)
    if precision == "int8":
        expected = run_integer_network(spec, model.weights, model.quantization, picture)
        np.testing.assert_array_equal(actual, expected)
        return
    expected = run_network(spec, model.weights, picture.astype(np.float64))
    if precision == "fp32":
        limit = TOLERANCE * largest_value(spec, model, picture)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=limit)
    else:  # a sum that lacks a product differs by more
        assert np.sqrt(np.mean((actual - expected) ** 2)) < 0.01 * expected.std()


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("instructions", SETS)
@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(spec=specs(), left_out=st.integers(1, 7), seed=seeds)
def test_a_row_does_not_depend_on_rows_beyond_the_receptive_field(
    instructions: str, precision: str, spec: NetworkSpec, left_out: int, seed: int
) -> None:
    """The same bits, whether a picture begins `left_out` rows higher or not, where neither border is near."""
    assume(spec.task != "downscale")
    model = quantized(model_of(spec, seed), seed)
    runtime = EngineRuntime(model, 1, precision, instructions=instructions)
    radius = sum(block.parsed[0].radius[0] for block in spec.all_blocks) + 2  # and the picture residual's
    picture = picture_of(spec, (2 * radius + 9 + left_out, 37), seed)
    scale = spec.scale if spec.task == "upscale" else 1
    whole = runtime.run(picture)[:, :, scale * (left_out + radius) :]
    lower = runtime.run(np.ascontiguousarray(picture[:, :, left_out:]))[:, :, scale * radius :]
    np.testing.assert_array_equal(lower, whole)


def small(**changes: object) -> NetworkSpec:
    facts = dict(
        task="denoise", colour="y", scale=1, head=BlockSpec(("3x3",), 4), tail=BlockSpec(("3x3",), 1, "none")
    )
    return NetworkSpec(**{**facts, "blocks": (BlockSpec(("3x3",), 4),), **changes})


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (
            small(head=BlockSpec(("3x3", "1x1"), 4)),
            "head is not one convolution (onebranch merge makes it one)",
        ),
        (small(head=BlockSpec(("3x3 1x1",), 4)), "head is not one convolution"),
        (small(blocks=(BlockSpec(("3x3",), 4, "silu"),)), "blocks.0 has the activation 'silu'"),
        (
            small(blocks=(BlockSpec(("3x3 dw",), 4),)),
            "blocks.0 is '3x3 dw', a convolution in groups or dilated",
        ),
        (
            small(blocks=(BlockSpec(("3x3 d2",), 4),)),
            "blocks.0 is '3x3 d2', a convolution in groups or dilated",
        ),
        (small(blocks=(BlockSpec(("33x33",), 4),)), "blocks.0 is '33x33', larger than 31 pixels"),
        (small(skips=(Skip(0, 1, "concatenate"),)), "it has skips that concatenate"),
    ],
)
def test_what_the_engine_does_not_run_is_named(spec: NetworkSpec, reason: str) -> None:
    model = random_model(spec, np.random.default_rng(0))
    assert reason in reason_against(model)
    with pytest.raises(OnebranchError, match="the engine does not run this network"):
        EngineRuntime(model)


def test_int8_needs_a_record() -> None:
    model = model_of(small(), 0)
    assert "not quantized" in reason_against(model, "int8") and not reason_against(model, "bf16")


@settings(deadline=None, max_examples=400)
@given(seed=seeds, data=st.data())
def test_damaged_descriptions_are_refused_or_run_within_bounds(seed: int, data: st.DataObject) -> None:
    """Run under AddressSanitizer too, which reports accesses out of bounds."""
    precision = data.draw(st.sampled_from(("fp32", "bf16", "int8")))
    description = bytearray(describe(quantized(model_of(data.draw(specs()), seed), seed), precision))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, min(len(description) - 1, data.draw(st.sampled_from((64, 10**6))))))
        description[at] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del description[data.draw(st.integers(0, len(description))) :]
    try:
        engine = Engine(bytes(description), 1)
    except OnebranchError:
        return
    channels = description[16]
    engine.run(np.zeros((5, 9, channels), np.float32), "uint8")


@pytest.mark.parametrize(
    ("before", "taps", "is_refused"), [(16, 17, False), (0, 17, False), (17, 18, True), (0, 18, True)]
)
def test_a_resampling_reads_no_further_than_the_margins(before: int, taps: int, is_refused: bool) -> None:
    """Further out would be other memory."""
    tail = BlockSpec(("3x3",), 4, "none")
    content = describe(model_of(small(task="upscale", scale=2, residual="nearest", tail=tail), 0))
    start = len(NETWORK_SIGNATURE) + 4 * 7  # the residual: phases, stride, taps, before, weights
    phases, stride, old_taps, _ = struct.unpack_from("<4i", content, start)
    rest = content[start + 16 + 4 * phases * old_taps :]
    residual = struct.pack("<4i", phases, stride, taps, before) + bytes(4 * phases * taps)
    description = content[:start] + residual + rest
    if is_refused:
        with pytest.raises(OnebranchError, match="a resampling reads too many pixels"):
            Engine(description, 1)
    else:
        Engine(description, 1).run(np.zeros((5, 9, 1), np.float32), "uint8")


@pytest.mark.parametrize("junk", [b"", b"OBNET\0\0\1", b"\0" * 400, b"OBNET\0\0\1" + b"\xff" * 400])
def test_junk_is_refused(junk: bytes) -> None:
    with pytest.raises(OnebranchError, match="the engine cannot take this network"):
        Engine(junk, 1)


def test_unknown_instructions_are_refused() -> None:
    with pytest.raises(OnebranchError, match="does not support the instruction set sse9"):
        EngineRuntime(load("photo-x2"), instructions="sse9")


def test_too_large_a_picture_is_an_error_not_a_crash() -> None:
    engine = Engine(describe(load("photo-x2")), 1)
    with pytest.raises(OnebranchError, match="too large: at most 16,777,216 columns"):
        engine.stream(10, 2**25, 1, "uint8", "uint8")
    picture = np.broadcast_to(np.zeros(1, np.uint8), (2**20, 2**24, 1))
    with pytest.raises(OnebranchError, match="there is not enough memory for a picture of 16777216x1048576"):
        engine.run(picture, "float32")


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are others there")
@pytest.mark.parametrize("left", [1 << 20, 100 << 20, 1500 << 20, 1900 << 20])
def test_a_failed_allocation_inside_is_an_error(left: int) -> None:
    # left: bytes beyond what the process has, since machines with more cores reserve more beforehand.
    code = f"""
import resource
from pathlib import Path
from onebranch.errors import OnebranchError
from onebranch.model.catalogue import load
from onebranch.runtime.engine import Engine
from onebranch.runtime.engine_network import describe
engine = Engine(describe(load("photo-x2")), 1)
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + {left}
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    engine.stream(100, 1 << 22, 1, "uint8", "uint8")
except OnebranchError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    assert "there is not enough memory for a picture of this size" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("samples", "colour", "words"),
    [
        (np.zeros((5, 6, 2), np.uint8), "y of rgb", r"shape \(5, 6, 2\) where the network takes \(H, W, 3\)"),
        (np.zeros((5, 6, 4), np.uint8), "y of rgb", "shape"),
        (np.zeros((5, 6, 3), np.uint8), "y of grey", "shape"),
        (np.zeros((5, 6, 3), np.uint8), "own", "shape"),
        (np.zeros((5, 6), np.uint8), "own", "shape"),
        (np.zeros((2, 5, 6, 3), np.uint8), "y of rgb", "shape"),
        (np.zeros((0, 6, 3), np.uint8), "y of rgb", "at least one row"),
        (np.zeros((5, 6, 3), np.float64), "y of rgb", "float32, not float64"),
        (np.zeros((5, 6, 3), np.uint8), "rgb", "unknown colour 'rgb'"),
        (np.zeros((5, 6, 3), np.uint8), "rgb of grey", "shape"),
    ],
)
def test_other_samples_are_refused(samples: np.ndarray, colour: str, words: str) -> None:
    """They would be read beyond their end."""
    engine = Engine(describe(load("photo-x2")), 1)
    with pytest.raises(OnebranchError, match=words):
        engine.run(samples, "uint8", colour)
    if samples.ndim == 3 and len(samples) and colour != "y of rgb":
        with pytest.raises(OnebranchError, match=r"channels where|unknown colour"):
            engine.stream(5, 6, 3, "uint8", "uint8", colour)


def test_the_order_of_bytes_does_not_matter() -> None:
    engine = Engine(describe(load("photo-x2")), 1)
    samples = np.random.default_rng(0).integers(0, 65536, (9, 8, 3)).astype(np.uint16)
    expected = engine.run(samples, "uint16", "y of rgb")
    np.testing.assert_array_equal(engine.run(samples.astype(">u2"), "uint16", "y of rgb"), expected)
    stream = engine.stream(9, 8, 3, "uint16", "uint16", "y of rgb")
    np.testing.assert_array_equal(stream.push(samples.astype(">u2")), expected)


def test_threads_take_turns_with_a_stream() -> None:
    """Rows that do not fit any more are refused, and nothing is written beyond the result's end."""
    engine = Engine(describe(load("photo-x2")), 2)
    rows = np.random.default_rng(0).integers(0, 256, (16, 40, 3)).astype(np.uint8)
    expected = engine.run(np.concatenate([rows] * 60), "uint8", "y of rgb")
    stream = engine.stream(16 * 60, 40, 3, "uint8", "uint8", "y of rgb")
    outputs: list[np.ndarray] = []
    refused: list[OnebranchError] = []

    def push() -> None:
        try:
            while True:
                outputs.append(stream.push(rows))
        except OnebranchError as error:
            refused.append(error)

    threads = [threading.Thread(target=push) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [str(error) for error in refused] == ["976 rows for a stream whose picture has 960"] * 3
    assert sum(len(part) for part in outputs) == len(expected)


LEAVING = """
import threading, time
import numpy as np
from onebranch.model.catalogue import load
from onebranch.runtime.engine import Engine
from onebranch.runtime.engine_network import describe
engine, picture = Engine(describe(load("photo-x2")), 2), np.zeros((600, 600, 3), np.uint8)
engine.run(picture[:9], "uint8", "y of rgb")
def work():
    while True:
        engine.run(picture, "uint8", "y of rgb")
threading.Thread(target=work, daemon=True).start()
time.sleep(0.2)
"""


def test_a_process_may_end_while_the_engine_works() -> None:
    done = subprocess.run([sys.executable, "-c", LEAVING], check=False, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_stream_refuses_other_rows() -> None:
    stream = Engine(describe(load("photo-x2")), 1).stream(4, 6, 1, "uint8", "uint8")
    with pytest.raises(OnebranchError, match="where the stream takes"):
        stream.push(np.zeros((1, 5, 1), np.uint8))
    with pytest.raises(OnebranchError, match="5 rows for a stream whose picture has 4"):
        stream.push(np.zeros((5, 6, 1), np.uint8))


INTERRUPTED = """
import numpy as np, os, signal, threading, time
from onebranch.model.catalogue import load
from onebranch.runtime.engine import EngineRuntime
signal.signal(signal.SIGINT, signal.default_int_handler)  # what started this may have it ignored
runtime = EngineRuntime(load("photo-x4"), 1, instructions="portable")
picture = np.zeros((1, 1, 4000, 2000), np.float32)
start = time.monotonic()
runtime.run(picture[:, :, :40])
whole = 100 * (time.monotonic() - start)
threading.Timer(whole / 100, os.kill, (os.getpid(), signal.SIGINT)).start()
start = time.monotonic()
try:
    runtime.run(picture)
except KeyboardInterrupt:
    print("interrupted", "early" if time.monotonic() - start < whole / 3 else "late")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are others there")
def test_an_interrupt_ends_a_run_early() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], check=True, capture_output=True, text=True)
    assert done.stdout == "interrupted early\n", done.stderr


def test_many_threads_may_run_one_network() -> None:
    runtime = EngineRuntime(load("photo-x2"), 2)
    pictures = [np.random.default_rng(k).random((1, 1, 40, 50), np.float32) for k in range(8)]
    expected = [runtime.run(picture) for picture in pictures]
    outputs: dict[int, np.ndarray] = {}

    def work(k: int) -> None:
        outputs[k] = runtime.run(pictures[k])

    workers = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for k, result in enumerate(expected):
        np.testing.assert_array_equal(outputs[k], result)


@settings(deadline=None, max_examples=60)
@given(
    size=sizes,
    seed=seeds,
    task=st.sampled_from(
        [("upscale", 2), ("upscale", 3), ("upscale", 4), ("downscale", 2), ("downscale", 3), ("denoise", 1)]
    ),
    chroma=st.sampled_from(("bicubic", "bilinear")),
    depth=st.sampled_from(("uint8", "uint16", "float32")),
)
def test_alpha_is_interpolated_as_the_definition_does(size, seed, task, chroma, depth) -> None:
    name, scale = task
    facts = dict(downsampling="average") if name == "downscale" else {}
    tail = BlockSpec(("3x3",), scale**2 if name == "upscale" else 1, "none")
    model = model_of(small(task=name, scale=scale, tail=tail, **facts), seed)
    alpha = as_depth(np.random.default_rng(seed).random((*size, 1), np.float32), depth)
    expected = ArrayStage(model, EngineRuntime(model, 1), chroma).alpha(depth, "float32")(alpha)
    actual = EngineStage(model, chroma, 1).alpha(depth, "float32")(alpha)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE)
