"""The lowered graph in ONNX Runtime equals the numpy definition of the network, for every kind of network."""

from fractions import Fraction

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from network_specs import ACTIVATIONS, network_specs, random_model
from onebranch.algebra.network import run_network
from onebranch.errors import OnebranchError
from onebranch.graph.analysis.halo import Halo, halo
from onebranch.graph.onnx.writing import to_onnx
from onebranch.graph.operations import Builder, Graph, Node, Value
from onebranch.graph.prelu import prelu_as_convolutions
from onebranch.lowering.floats import lower
from onebranch.runtime.onnxruntime import OnnxRuntime
from onebranch.spec.network import BlockSpec, NetworkSpec
from onebranch.spec.shorthand import NetworkShorthand, expand

pytestmark = pytest.mark.fast

TOLERANCE = 1e-5
"""Relative to the largest value: float32 sums of up to a few hundred products of magnitude one."""


def spec_of(**options: object) -> NetworkSpec:
    """A small network written in the short way."""
    return expand(
        NetworkShorthand(**{"task": "upscale", "width": 4, "depth": 1, "branches": ("3x3",)} | options)
    )


def pictures_of(spec: NetworkSpec, height: int, width: int, batch: int = 1) -> np.ndarray:
    """Random pictures for the network, float32."""
    return np.random.default_rng(7).random((batch, spec.channels, height, width), np.float32)


def assert_runs_as_defined(spec: NetworkSpec, pictures: np.ndarray, seed: int = 0) -> None:
    """ONNX Runtime's output is the float64 definition's, shape and values."""
    model = random_model(spec, seed)
    expected = run_network(spec, model.weights, pictures.astype(np.float64))
    actual = OnnxRuntime(model, threads=1).run(pictures)
    assert actual.shape == expected.shape
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE * max(1, np.abs(expected).max()))


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(network_specs(), st.integers(1, 13), st.integers(1, 13), st.integers(0, 99))
def test_any_network_runs_as_defined(spec: NetworkSpec, height: int, width: int, seed: int) -> None:
    assert_runs_as_defined(spec, pictures_of(spec, height, width), seed)


@pytest.mark.parametrize("residual", ["none", "nearest", "bicubic"])
@pytest.mark.parametrize("colour", ["y", "rgb"])
@pytest.mark.parametrize(
    ("task", "scale", "downsampling"),
    [("upscale", s, None) for s in (2, 3, 4)]
    + [("downscale", s, layer) for s in (2, 3, 4) for layer in ("convolution", "average", "unshuffle")]
    + [("denoise", None, None)],
)
def test_every_task_runs_as_defined(task, scale, downsampling, colour, residual) -> None:
    spec = spec_of(task=task, scale=scale, downsampling=downsampling, colour=colour, residual=residual)
    for height, width in [(1, 1), (1, 9), (7, 2), (8, 12), (11, 13)]:
        assert_runs_as_defined(spec, pictures_of(spec, height, width, batch=2))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_runs_as_defined(activation: str) -> None:
    spec = spec_of(activation=activation, depth=2)
    assert_runs_as_defined(spec, pictures_of(spec, 9, 6))


def test_a_network_that_passes_its_input_on() -> None:
    block = BlockSpec(("identity",), 1, "none")
    spec = NetworkSpec(task="denoise", colour="y", scale=1, head=block, blocks=(), tail=block)
    assert_runs_as_defined(spec, pictures_of(spec, 3, 5))


def test_a_merged_network_is_convolutions_and_activations_only() -> None:
    spec = spec_of(task="upscale", width=16, depth=4, activation="leaky_relu")
    kinds = [node.kind for node in lower(spec, random_model(spec).weights).nodes]
    assert kinds == ["Conv", "LeakyRelu"] * 5 + ["Conv", "DepthToSpace"]


@pytest.mark.parametrize("steepest", [1.0, 3.0])
def test_prelu_becomes_convolutions_only_where_its_slopes_are_constants_of_channels(steepest: float) -> None:
    shape = Value(("batch", 3, "height", "width"))
    builder = Builder({"input": shape, "slopes": Value((3, 1, 1))})
    slopes = np.array([0.2, -1.5, steepest], np.float32)
    first = builder.add("PRelu", ("input", builder.constant("a", slopes.reshape(3, 1, 1))), "first")
    second = builder.add("PRelu", (first, "slopes"), "second")
    third = builder.add("PRelu", (second, builder.constant("b", slopes[:1])), "third")
    graph = builder.graph({third: shape})
    rewritten = prelu_as_convolutions(graph)
    first_four = ["Conv", "Relu", "Conv", "Add"] if steepest == 1 else ["Relu", "Conv", "Conv", "Add"]
    assert [node.kind for node in rewritten.nodes] == [*first_four, "PRelu", "PRelu"]
    feeds = {"input": np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype(np.float32)}
    feeds["slopes"] = np.full((3, 1, 1), 0.5, np.float32)
    one, other = (ReferenceEvaluator(to_onnx(g)).run(None, feeds)[0] for g in (graph, rewritten))
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)


def test_chains_pad_by_their_first_convolution_where_it_reaches_as_far() -> None:
    def kinds(*branches: str) -> list[str]:
        spec = spec_of(branches=branches, depth=0, activation="none", task="denoise")
        return [node.kind for node in lower(spec, random_model(spec).weights).nodes]

    assert kinds("3x3*2 bn 1x1") == ["Conv", "BatchNormalization", "Conv"] * 2
    assert kinds("1x1 3x3") == ["Pad", "Conv", "Conv"] * 2
    assert kinds("1x1 3x3", "3x3 1x1", "1x1*2 3x3").count("Pad") == 2  # one a block, shared


def test_bytes_are_deterministic_and_follow_the_conventions() -> None:
    spec = spec_of(task="downscale", colour="rgb", residual="bicubic")
    model = random_model(spec)
    data = to_onnx(lower(spec, model.weights), {"scale": "2"})
    assert data == to_onnx(lower(spec, dict(reversed(model.weights.items()))), {"scale": "2"})
    proto = onnx.load_from_string(data)
    onnx.checker.check_model(proto, full_check=True)
    (picture,), (result,) = proto.graph.input, proto.graph.output
    assert (picture.name, result.name) == ("input", "output")
    sizes = [d.dim_param or d.dim_value for d in picture.type.tensor_type.shape.dim]
    assert sizes == ["batch", 3, "height", "width"]
    assert proto.opset_import[0].version >= 18
    assert {p.key: p.value for p in proto.metadata_props} == {"scale": "2"}


def measured_halo(spec: NetworkSpec, seed: int) -> tuple[int, int, int, int]:
    """The halo, measured by perturbing every pixel of a picture and recording which output cells change."""
    cells, multiple = 23, spec.scale if spec.task == "downscale" else 1
    scale = spec.scale if spec.task == "upscale" else 1
    side = cells * multiple
    model = random_model(spec, seed)
    picture = np.random.default_rng(seed).random((1, spec.channels, side, side))
    base = run_network(spec, model.weights, picture)
    middle = cells // 2
    sides = []
    for axis in (0, 1):
        before = after = 0
        for pixel in range(side):
            changed = picture.copy()
            np.moveaxis(changed, 2 + axis, 0)[pixel] += 0.5
            change = np.abs(run_network(spec, model.weights, changed) - base)
            lines = np.moveaxis(change, 2 + axis, 0)[middle * scale : (middle + 1) * scale]
            if lines.max() > 1e-13:
                before = max(before, middle * multiple - pixel)
                after = max(after, pixel - (middle + 1) * multiple + 1)
        sides += [before, after]
    return tuple(sides)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(network_specs(), st.integers(0, 9))
def test_halo_covers_what_the_network_needs(spec: NetworkSpec, seed: int) -> None:
    actual = halo(lower(spec, random_model(spec).weights))
    needed = measured_halo(spec, seed)
    assert all(
        f >= n for f, n in zip((actual.top, actual.bottom, actual.left, actual.right), needed, strict=True)
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"task": "upscale", "scale": 3}, (3, 3, 3, 3)),
        (
            {"task": "upscale", "scale": 2, "depth": 0, "branches": ("1x1",), "residual": "bicubic"},
            (2, 2, 2, 2),
        ),
        ({"task": "denoise", "branches": ("5x3", "1x1 3x3 1x5"), "activation": "none"}, (6, 6, 9, 9)),
        ({"task": "downscale", "scale": 2, "downsampling": "convolution"}, (4, 4, 4, 4)),
        ({"task": "downscale", "scale": 3, "downsampling": "average"}, (3, 3, 3, 3)),
        ({"task": "downscale", "scale": 3, "downsampling": "unshuffle"}, (6, 6, 6, 6)),
    ],
)
def test_halo_is_exact(options: dict, expected: tuple[int, int, int, int]) -> None:
    spec = spec_of(**options)
    actual = halo(lower(spec, random_model(spec).weights))
    assert (actual.top, actual.bottom, actual.left, actual.right) == expected
    assert measured_halo(spec, 3) == expected


def test_halo_of_convolutions_after_a_pixel_shuffle_counts_fine_pixels() -> None:
    open_shape = Value(("batch", 1, "height", "width"))
    builder = Builder({"input": open_shape})
    kernel = builder.constant("kernel", np.ones((4, 1, 1, 1), np.float32))
    fine = builder.constant("fine", np.ones((1, 1, 3, 3), np.float32))
    value = builder.add("DepthToSpace", (builder.add("Conv", ("input", kernel), "a"),), "b", blocksize=2)
    value = builder.add("Conv", (value, fine), "c", pads=(1, 1, 1, 1))
    value = builder.add("Conv", (value, fine), "d", pads=(1, 1, 1, 1))
    graph = builder.graph({value: open_shape})
    assert halo(graph) == Halo(1, 1, 1, 1, Fraction(2))  # two fine pixels are one pixel


def test_graphs_and_halos_refuse_what_they_do_not_know() -> None:
    shape = {"x": Value(("n", 1, "h", "w"))}
    with pytest.raises(OnebranchError, match=r"NonZero 'y': this operation is not known"):
        halo(Graph((Node("NonZero", ("x",), ("y",)),), shape, {"y": Value(())}))
    with pytest.raises(OnebranchError, match="reads 'z' before"):
        Graph((Node("Relu", ("z",), ("y",)),), shape, {"y": Value(())})
    with pytest.raises(OnebranchError, match="made twice"):
        Graph((Node("Relu", ("x",), ("x",)),), shape, {"x": Value(())})
    with pytest.raises(OnebranchError, match="made by no operation"):
        Graph((), shape, {"y": Value(())})
