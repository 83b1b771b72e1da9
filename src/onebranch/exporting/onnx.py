"""Models as ONNX files by the field's conventions: one `input`, one `output`, NCHW, all sizes open, [0, 1].

In fp32; in fp16, input and output too; in int8, for quantized models, by QuantizeLinear and DequantizeLinear.
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
from onebranch.spec.network import NetworkSpec

PHOTOGRAPH = Path(__file__).parent.parent / "data" / "photograph.png"

CORNER, SIDES = (100, 100), (96, 120)
"""The piece of the photograph that 8-bit files are run on: they are about real pictures."""

NEEDS_VNNI = (
    "ONNX Runtime's products of uint8 and int8 saturate on processors without VNNI unless its session option"
    " session.x64quantprecision is 1"
)


def export_onnx(model: Model, precision: str = "fp32") -> Exported:
    """The model as an ONNX file, run in ONNX Runtime, and in OpenVINO where installed, and compared.

    precision: "fp32", "fp16", "int8". The same model gives the same bytes. Raises OnebranchError for a
    precision that the model does not have, and for a difference above its bound.
    """
    from onebranch.extras import require

    require("onnx", "exporting to ONNX")
    from onebranch.graph.onnx.writing import to_onnx

    if precision not in FORMS:
        raise OnebranchError(f"unknown precision '{precision}' of ONNX files; {nearest(precision, FORMS)}")
    lowered, compared = FORMS[precision]
    spec = model.spec
    facts = {"name": model.name, "task": spec.task, "scale": str(spec.scale), "colour": spec.colour}
    written = {**facts, "precision": precision}
    data = to_onnx(lowered(model), {key: value for key, value in written.items() if value})
    found = tuple(comparison.checked(f"{precision} ONNX") for comparison in compared(model, data))
    return Exported(data, found)


def conventional_name(model: Model, precision: str) -> str:
    """The name that such a file has by the field's conventions.

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


def _compared_in_floats(model: Model, data: bytes) -> Iterator[Comparison]:
    picture = random_picture(model.spec.channels)
    expected = run_network(model.spec, model.weights, picture.astype(np.float64))
    for runtime, actual in _results(data, picture):
        yield float_comparison(runtime, actual, expected)


def _compared_in_half(model: Model, data: bytes) -> Iterator[Comparison]:
    picture = random_picture(model.spec.channels).astype(np.float16)
    halves = {name: value.astype(np.float16) for name, value in model.weights.items()}
    exact = {name: value.astype(np.float64) for name, value in halves.items()}
    expected = run_network(model.spec, exact, picture.astype(np.float64))
    coarse = run_network(model.spec, halves, picture).astype(np.float64)
    for runtime, actual in _results(data, picture):
        yield half_comparison(runtime, actual.astype(np.float64), expected, coarse)


def _compared_in_integers(model: Model, data: bytes) -> Iterator[Comparison]:
    picture = real_picture(model.spec)
    expected = run_integer_network(model.spec, model.weights, model.quantization or {}, picture)
    for runtime, actual in _results(data, picture):
        yield integer_comparison(runtime, actual, expected, NEEDS_VNNI)


def real_picture(spec: NetworkSpec) -> np.ndarray:
    """A piece of the photograph in the package, as the network takes it: (1, C, H, W) float32."""
    from onebranch.images.colour import luma
    from onebranch.images.reading import read
    from onebranch.images.samples import as_depth

    (y, x), (height, width) = CORNER, SIDES
    piece = as_depth(read(PHOTOGRAPH).pixels[y : y + height, x : x + width], "float32").astype(np.float32)
    planes = luma(piece)[None] if spec.colour == "y" else piece.transpose(2, 0, 1)
    return np.ascontiguousarray(planes[None], np.float32)


def _results(data: bytes, picture: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The file's output by every runtime at hand."""
    import onnxruntime

    from onebranch.runtime.onnxruntime import session_options
    from onebranch.runtime.selection import installed

    options = session_options(1)
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    yield "onnxruntime", session.run(None, {"input": picture})[0]
    if installed("openvino"):
        from onebranch.runtime.openvino import compiled

        yield "openvino", np.array(compiled(data, 1, "f32")({"input": picture})[0])


Form = tuple[Callable[[Model], Graph], Callable[[Model, bytes], Iterator[Comparison]]]

FORMS: dict[str, Form] = {
    "fp32": (_float_graph, _compared_in_floats),
    "fp16": (_half_graph, _compared_in_half),
    "int8": (_integer_graph, _compared_in_integers),
}
"""By precision: how a model becomes a graph, and how the file is compared."""
