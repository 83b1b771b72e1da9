"""Models written for other programs: ONNX, and the layout of Real-ESRGAN's Compact networks."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from onebranch.algebra.conv import Conv, pad
from onebranch.algebra.network import run_network
from onebranch.errors import OnebranchError, nearest
from onebranch.images.files import write_atomically
from onebranch.model.file import Model
from onebranch.spec.branch import Convolution
from onebranch.spec.network import LEAKY_SLOPE, BlockSpec, NetworkSpec

TOLERANCE = 1e-5
"""Largest difference between an exported file's output and the definition, of the largest value: float32."""

SLOPES = {"leaky_relu": LEAKY_SLOPE, "relu": 0.0, "none": 1.0}
"""PReLU slopes of the activations that are a PReLU of constant slope."""


def export(model: Model, path: str | os.PathLike[str], format: str = "onnx", overwrite: bool = False) -> None:
    """Write the model to `path` in a format: "onnx" or "compact".

    Raises OnebranchError where the format is unknown or cannot hold the network, where the path exists
    (unless `overwrite`) or cannot be written; then nothing is left behind.
    """
    if format not in FORMATS:
        raise OnebranchError(f"unknown format '{format}'; {nearest(format, FORMATS)}")
    write_atomically(Path(path), FORMATS[format](model), overwrite=overwrite)


def onnx_bytes(model: Model) -> bytes:
    """The model as an ONNX file: `input` -> `output`, NCHW, values in [0, 1], all sizes open.

    ONNX Runtime runs it on a small picture before it is returned; a difference to the definition of more than
    1e-5 is an error.
    """
    from onebranch.graph.onnx import to_onnx
    from onebranch.lowering import lower

    spec = model.spec
    facts = {"name": model.name, "task": spec.task, "scale": str(spec.scale), "colour": spec.colour}
    data = to_onnx(lower(spec, model.weights), {key: value for key, value in facts.items() if value})
    _check_onnx(model, data)
    return data


def _check_onnx(model: Model, data: bytes) -> None:
    import onnxruntime

    picture = np.random.default_rng(0).random((1, model.spec.channels, 13, 10), np.float32)
    expected = run_network(model.spec, model.weights, picture.astype(np.float64))
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    error = float(np.abs(session.run(None, {"input": picture})[0] - expected).max())
    if error > TOLERANCE * max(1.0, float(np.abs(expected).max())):
        raise OnebranchError(
            f"the ONNX file is off by {error:.1e}, above {TOLERANCE:.0e}; nothing is written"
        )


def compact_bytes(model: Model) -> bytes:
    """The model as a safetensors file in the layout of Real-ESRGAN's Compact (SRVGGNetCompact).

    Keys body.0, body.1, ... in turn a 3x3 convolution and a PReLU's slopes. Programs that know the layout
    (spandrel, and through it chaiNNer and ComfyUI) load it as it is. Raises OnebranchError, with the reason,
    for a network that the layout cannot hold.
    """
    from safetensors.numpy import save

    check_compact(model.spec)
    tensors: dict[str, np.ndarray] = {}
    for index, (name, block, _) in enumerate(model.spec.walk()):
        conv = pad(_convolution(model, name, block), (3, 3))
        tensors[f"body.{2 * index}.weight"], tensors[f"body.{2 * index}.bias"] = conv.weight, conv.bias
        if name != "tail":
            tensors[f"body.{2 * index + 1}.weight"] = _slopes(model, name, block)
    facts = {"scale": model.spec.scale, "colour": model.spec.colour, "name": model.name}
    return bytes(
        save(
            {k: np.ascontiguousarray(v) for k, v in tensors.items()}, {"onebranch_compact": json.dumps(facts)}
        )
    )


def _convolution(model: Model, name: str, block: BlockSpec) -> Conv:
    weight = model.weights[f"{name}.branches.0.0.weight"]
    bias = model.weights.get(f"{name}.branches.0.0.bias", np.zeros(block.width, np.float32))
    return Conv(weight, bias)


def _slopes(model: Model, name: str, block: BlockSpec) -> np.ndarray:
    if block.activation == "prelu":
        return model.weights[f"{name}.activation.weight"]
    return np.full(block.width, SLOPES[block.activation], np.float32)


def check_compact(spec: NetworkSpec) -> None:
    """Raise OnebranchError, with the first reason, where the Compact layout cannot hold the network."""
    for reason in (_reason_of_network(spec), *(_reason_of_block(n, b, spec) for n, b, _ in spec.walk())):
        if reason:
            raise OnebranchError(f"this network has no Compact form: {reason}")


def _reason_of_network(spec: NetworkSpec) -> str:
    if spec.task == "downscale":
        return "it reduces pictures; Compact enlarges them or keeps their size"
    if spec.skips:
        return f"it has {len(spec.skips)} feature skip(s)"
    if spec.residual != "nearest" and not (spec.task == "denoise" and spec.residual == "bicubic"):
        return f"its picture residual is '{spec.residual}' where Compact adds the nearest-neighbour picture"
    return ""


def _reason_of_block(name: str, block: BlockSpec, spec: NetworkSpec) -> str:
    steps = block.parsed[0].steps
    if len(block.branches) > 1 or len(steps) > 1:
        return f"{name} is not one convolution; merge the network first"
    step = steps[0]
    if not isinstance(step, Convolution) or max(step.kernel) > 3 or step.dilation > 1 or step.groups != 1:
        return f"{name} is '{block.branches[0]}' where Compact has a dense 3x3 convolution"
    if name != "tail" and block.width != spec.head.width:
        return f"{name} is {block.width} channels wide where the head is {spec.head.width}"
    if name != "tail" and block.activation not in ("prelu", *SLOPES):
        return f"{name} has the activation '{block.activation}', which is no PReLU"
    return ""


FORMATS: dict[str, Callable[[Model], bytes]] = {"onnx": onnx_bytes, "compact": compact_bytes}
"""Every format that a model is written in."""
