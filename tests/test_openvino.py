"""OpenVINO computes in the requested precision and agrees with the numpy definitions."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from network_specs import network_specs, random_model
from onebranch.algebra.integer import run_integer_network
from onebranch.algebra.network import run_network
from onebranch.enhancer.enhancer import Enhancer
from onebranch.enhancer.options import Options
from onebranch.errors import OnebranchError
from onebranch.images.picture import Picture
from onebranch.runtime import openvino as module
from onebranch.runtime.openvino import OpenvinoRuntime
from onebranch.runtime.selection import chosen, open_runtime
from onebranch.spec.network import NetworkSpec
from onebranch.spec.shorthand import NetworkShorthand, expand
from quantized_models import random_quantized

pytest.importorskip("openvino", reason="OpenVINO is not installed: its runtime was not tested")

MODEL = random_model(expand(NetworkShorthand(task="upscale", width=8, depth=2, branches=("3x3",))))


def pictures_for(spec: NetworkSpec, height: int = 9, width: int = 12, seed: int = 0) -> np.ndarray:
    """Two random pictures."""
    return np.random.default_rng(seed).random((2, spec.channels, height, width), np.float32)


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(network_specs(), st.integers(1, 9), st.integers(1, 9))
def test_floats_are_the_definition(spec: NetworkSpec, height: int, width: int) -> None:
    model, pictures = random_model(spec), pictures_for(spec, height, width)
    expected = run_network(spec, model.weights, pictures.astype(np.float64))
    actual = open_runtime(model, "openvino", threads=1).run(pictures)
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 2), (3, 3), (1, 9)])
def test_sums_of_branches_are_right_in_the_smallest_pictures(size: tuple[int, int], count: int) -> None:
    spec = expand(NetworkShorthand(task="upscale", width=2, depth=1, branches=("3x3", "3x3")))
    model, pictures = random_model(spec), pictures_for(spec, *size)[:count]
    expected = run_network(spec, model.weights, pictures.astype(np.float64))
    actual = open_runtime(model, "openvino", threads=1).run(pictures)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))


def test_one_runtime_serves_many_threads() -> None:
    """As when several pictures are enhanced or scored at the same time."""
    runtime = OpenvinoRuntime(MODEL, 1)
    pictures = [pictures_for(MODEL.spec, 9 + 40 * (seed % 3), 120, seed) for seed in range(60)]
    expected = [run_network(MODEL.spec, MODEL.weights, each.astype(np.float64)) for each in pictures]
    with ThreadPoolExecutor(4) as pool:
        for actual, wanted in zip(pool.map(runtime.run, pictures), expected, strict=True):
            np.testing.assert_allclose(actual, wanted, rtol=0, atol=1e-5 * max(1, np.abs(wanted).max()))


def test_one_runtime_takes_all_sizes_and_keeps_its_results() -> None:
    runtime = open_runtime(MODEL, "openvino", threads=2)
    results = [(p, runtime.run(p)) for p in (pictures_for(MODEL.spec, n, 7, n) for n in (1, 8, 3, 8))]
    for pictures, actual in results:
        expected = run_network(MODEL.spec, MODEL.weights, pictures.astype(np.float64))
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))


CLOSE_TWO_AND_INTERRUPT = """
import gc, signal
from test_openvino import MODEL, open_runtime

signal.signal(signal.SIGINT, signal.default_int_handler)  # a command in the background ignores it
first, second = (open_runtime(MODEL, "openvino", threads=1) for _ in range(2))
del first
gc.collect()
del second
gc.collect()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_a_signal_after_models_were_closed_does_not_end_the_process() -> None:
    """Only one plugin may set the signal stack: the first one's is unmapped when it is closed first."""
    command = [sys.executable, "-X", "faulthandler", "-c", CLOSE_TWO_AND_INTERRUPT]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


class SlowCore:
    """An `openvino.Core` whose creation takes so long that threads overlap in it."""

    created = 0

    def __init__(self) -> None:
        SlowCore.created += 1
        time.sleep(0.2)

    def read_model(self, content: bytes) -> None:
        """No model."""

    def compile_model(self, *arguments: object) -> None:
        """No compiled model."""


def test_threads_share_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    import openvino

    monkeypatch.setattr(openvino, "Core", SlowCore)
    monkeypatch.setattr(module, "_core", cache(module._core.__wrapped__))
    monkeypatch.setattr(module, "_float_precision", lambda compiled: "f32")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: module.compiled(b"", 1, "f32"), range(4)))
    assert SlowCore.created == 1


def test_precision_is_what_was_asked_for() -> None:
    """bfloat16 keeps 8 bits, so its error is above 2**-12; that of fp32 is far below."""
    pictures = pictures_for(MODEL.spec, 24, 24)
    expected = run_network(MODEL.spec, MODEL.weights, pictures.astype(np.float64))
    errors = {}
    for precision in ("fp32", "bf16"):
        try:
            runtime = open_runtime(MODEL, "openvino", 1, precision)
        except OnebranchError as error:
            pytest.skip(f"this machine does not compute in {precision}: {error}")
        assert runtime.precision == precision
        errors[precision] = np.abs(runtime.run(pictures) - expected).max() / np.abs(expected).max()
    assert errors["fp32"] < 1e-5
    assert 2**-12 < errors["bf16"] < 2**-4


def test_a_precision_that_is_not_taken_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO may silently compute in another precision; the runtime asks which one it uses."""
    right = module.PRECISION_HINTS["fp32"]
    monkeypatch.setattr(module, "_float_precision", lambda compiled: "f16")
    with pytest.raises(OnebranchError, match=f"OpenVINO computes in f16 on this machine, not in {right}"):
        OpenvinoRuntime(MODEL, 1)


SATURATES = pytest.mark.skipif(
    module.int8_saturates(), reason="OpenVINO's 8-bit products saturate on this processor: it is refused"
)


def test_saturating_int8_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "int8_saturates", lambda: True)
    with pytest.raises(OnebranchError, match="saturate on processors without VNNI"):
        OpenvinoRuntime(MODEL, 1, "int8")


@SATURATES
@pytest.mark.parametrize("activation", ["prelu", "leaky_relu", "relu", "none"])
def test_integers_are_the_reference_but_for_edges_of_levels(activation: str) -> None:
    """A value near a rounding boundary may round differently: few outputs differ by over 1 % of the range."""
    spec = expand(
        NetworkShorthand(task="upscale", width=8, depth=3, branches=("3x3",), activation=activation)
    )
    model, pictures = random_quantized(spec), pictures_for(spec, 16, 20)
    expected = run_integer_network(spec, model.weights, model.quantization, pictures)
    actual = open_runtime(model, "openvino", 1, "int8").run(pictures)
    floats = run_network(spec, model.weights, pictures.astype(np.float64))
    off = np.abs(actual - expected) / np.ptp(expected)
    assert off.mean() < 0.2 * np.abs(floats - expected).mean() / np.ptp(expected)
    assert np.quantile(off, 0.99) < 0.01


def test_pictures_go_through_it() -> None:
    picture = Picture(np.random.default_rng(0).integers(0, 256, (30, 41, 3), np.uint8))
    calm = replace(MODEL, weights={name: value * np.float32(0.3) for name, value in MODEL.weights.items()})
    results = []
    for runtime in ("openvino", "onnxruntime"):
        enhancer = Enhancer(Options(model=calm, runtime=runtime, threads=1, tile=32))
        results.append(enhancer.enhance(picture).pixels.astype(int))
    assert np.abs(results[0] - results[1]).max() <= 1
    assert (results[0] != results[1]).mean() < 1e-3
    assert chosen(calm, "openvino", "bf16").precision == "bf16"
