"""Models as ONNX files by the usual conventions: one `input`, one `output`, NCHW, dynamic sizes, [0, 1].

Precisions: fp32; fp16, including input and output; int8 for quantized models, with QuantizeLinear and
DequantizeLinear.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from onebranch.algebra.integer import run_integer_network
from onebranch.algebra.network import run_network
from onebranch.errors import OnebranchError, nearest
from onebranch.exporting.comparison import (
    Comparison,
    Exported,
    float_comparison,
    half_comparison,
    integer_comparison,
    random_picture,
)
from onebranch.graph.operations import Graph
from onebranch.model.file import Model
from onebranch.progress import StepProgress, no_progress
from onebranch.spec.network import NetworkSpec

REAL_PICTURE = Path(__file__).parent.parent / "data" / "photograph.png"

CROP_ORIGIN, CROP_SIZE = (100, 100), (96, 120)
"""(y, x) and (height, width) of the part of the photograph on which 8-bit files are compared.

They are quantized for real pictures, not for noise."""

WRITTEN_SHARE = 0.2
"""Share of an export that is completed, about, when the file is made; comparing it takes the rest."""

NEEDS_VNNI = (
    "ONNX Runtime's products of uint8 and int8 saturate on processors without VNNI unless its session option"
    " session.x64quantprecision is 1"
)


def export_onnx(model: Model, precision: str = "fp32", progress: StepProgress = no_progress) -> Exported:
    """The model as an ONNX file, and its comparison in ONNX Runtime and, if installed, in OpenVINO.

    precision: "fp32", "fp16" or "int8". The same model always gives the same bytes. progress: called with the
    share of the comparisons. Raises OnebranchError for a precision that the model does not support, and for a
    difference above its bound.
    """
    from onebranch.extras import require

    require("onnx", "exporting to ONNX")
    from onebranch.graph.onnx.writing import to_onnx
    from onebranch.runtime.selection import installed

    if precision not in ONNX_PRECISIONS:
        raise OnebranchError(
            f"unknown precision '{precision}' for ONNX files; {nearest(precision, ONNX_PRECISIONS)}"
        )
    lower_model, compare = ONNX_PRECISIONS[precision]
    spec = model.spec
    metadata = {"name": model.name, "task": spec.task, "scale": str(spec.scale), "colour": spec.colour}
    metadata["precision"] = precision
    data = to_onnx(lower_model(model), {key: value for key, value in metadata.items() if value})
    comparisons: list[Comparison] = []
    progress("running and comparing the file", WRITTEN_SHARE)
    for number, each in enumerate(compare(model, data), 1):
        comparisons.append(each.checked(f"{precision} ONNX"))
        share = WRITTEN_SHARE + (1 - WRITTEN_SHARE) * number / (1 + installed("openvino"))
        progress(f"compared in {each.runtime}", share)
    return Exported(data, tuple(comparisons))


def conventional_name(model: Model, precision: str) -> str:
    """The file name that other programs expect: scale, name, shape, precision and opset.

    >>> from onebranch.model.catalogue import load
    >>> conventional_name(load("photo-x2"), "fp16")
    '2x_photo-x2_1x1xHxW_dyn-HW_fp16_op18.onnx'
    """
    from onebranch.graph.onnx.writing import OPSET

    spec = model.spec
    scale = 1 / spec.scale if spec.task == "downscale" else spec.scale
    shape = f"1x{spec.channels}xHxW_dyn-HW"
    return f"{scale:.3g}x_{model.name or 'model'}_{shape}_{precision}_op{OPSET}.onnx"


def _float_graph(model: Model) -> Graph:
    from onebranch.lowering.floats import lower

    return lower(model.spec, model.weights)


def _half_graph(model: Model) -> Graph:
    from onebranch.graph.half import in_half

    return in_half(_float_graph(model))


def _integer_graph(model: Model) -> Graph:
    from onebranch.lowering.integers import lower_integer
    from onebranch.runtime.selection import without_record
    from onebranch.spec.quantization import quantization_of

    if model.quantization is None:
        raise OnebranchError(without_record(model))
    return lower_integer(model.spec, model.weights, quantization_of(model.quantization, model.spec))


def _compare_in_floats(model: Model, data: bytes) -> Iterator[Comparison]:
    picture = random_picture(model.spec.channels)
    expected = run_network(model.spec, model.weights, picture.astype(np.float64))
    for runtime, actual in _results(data, picture):
        yield float_comparison(runtime, actual, expected)


def _compare_in_half(model: Model, data: bytes) -> Iterator[Comparison]:
    picture = random_picture(model.spec.channels).astype(np.float16)
    half_weights = {name: value.astype(np.float16) for name, value in model.weights.items()}
    rounded_weights = {name: value.astype(np.float64) for name, value in half_weights.items()}
    expected = run_network(model.spec, rounded_weights, picture.astype(np.float64))
    half_output = run_network(model.spec, half_weights, picture).astype(np.float64)
    for runtime, actual in _results(data, picture):
        yield half_comparison(runtime, actual.astype(np.float64), expected, half_output)


def _compare_in_integers(model: Model, data: bytes) -> Iterator[Comparison]:
    """The comparisons of an 8-bit file; not in OpenVINO where its products saturate."""
    from onebranch.runtime.openvino import int8_saturates

    picture = real_picture(model.spec)
    expected = run_integer_network(model.spec, model.weights, model.quantization or {}, picture)
    for runtime, actual in _results(data, picture):
        if runtime == "openvino" and int8_saturates():
            continue
        yield integer_comparison(runtime, actual, expected, NEEDS_VNNI)


def real_picture(spec: NetworkSpec) -> np.ndarray:
    """A crop of the photograph in the package as input of the network: (1, C, H, W) float32."""
    from onebranch.images.colour import luma
    from onebranch.images.reading import read
    from onebranch.images.samples import as_depth

    (y, x), (height, width) = CROP_ORIGIN, CROP_SIZE
    crop = as_depth(read(REAL_PICTURE).pixels[y : y + height, x : x + width], "float32").astype(np.float32)
    planes = luma(crop)[None] if spec.colour == "y" else crop.transpose(2, 0, 1)
    return np.ascontiguousarray(planes[None], np.float32)


def _results(data: bytes, picture: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The output of the file in every installed runtime, by name."""
    import onnxruntime

    from onebranch.runtime.onnxruntime import session_options
    from onebranch.runtime.selection import installed

    session = onnxruntime.InferenceSession(data, session_options(1), providers=["CPUExecutionProvider"])
    yield "onnxruntime", session.run(None, {"input": picture})[0]
    if installed("openvino"):
        from onebranch.runtime.openvino import compiled

        yield "openvino", np.array(compiled(data, 1, "f32")({"input": picture})[0])


LowerAndCompare = tuple[Callable[[Model], Graph], Callable[[Model, bytes], Iterator[Comparison]]]

ONNX_PRECISIONS: dict[str, LowerAndCompare] = {
    "fp32": (_float_graph, _compare_in_floats),
    "fp16": (_half_graph, _compare_in_half),
    "int8": (_integer_graph, _compare_in_integers),
}
"""For each precision the functions that lower a model to a graph and that compare the file."""
