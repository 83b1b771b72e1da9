"""Third-party networks that are chains of convolutions, such as Compact, as models of onebranch.

Only such a model can be quantized. The graph of the file is followed from the picture to the result, and the
model is run beside the file before it is used, so that nothing that was overlooked stays unnoticed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from onebranch.errors import OnebranchError
from onebranch.graph.operations import Graph, Node
from onebranch.model.catalogue import find, load
from onebranch.model.file import Model
from onebranch.model.third_party import is_third_party_file, require_reader
from onebranch.spec.network import LEAKY_SLOPE, Activation, BlockSpec, NetworkSpec, Residual

if TYPE_CHECKING:
    from onebranch.model.foreign import ForeignModel

COMPARED_SIZES = ((24, 40), (33, 29))
"""Heights and widths in pixels at which model and file are compared."""

MODEL_TOLERANCE = 1e-4
"""Largest difference of model and file, relative to the largest number in an output; a wrong reading differs
by far more, and rounding by far less unless the network amplifies it."""

PASSED_ON = ("Identity", "Cast", "Dropout")
"""Operations whose output is their input, in a network of one element type in evaluation mode."""


@dataclass
class _Layer:
    """A convolution, and the activation after it. slopes: of a PReLU."""

    weight: np.ndarray
    bias: np.ndarray
    activation: Activation = "none"
    slopes: np.ndarray | None = None


@dataclass
class _ChainReader:
    """What has been read so far, from the picture on.

    value: the current end of the chain. scale: of the pixel shuffle. residual: of the picture.
    """

    graph: Graph
    value: str
    layers: list[_Layer] = field(default_factory=list)
    scale: int = 1
    residual: Residual = "none"


def as_model(source: Model | str | os.PathLike[str]) -> Model:
    """The model itself, a model of onebranch by name or file, or a third-party network as such a model.

    A third-party network (an ONNX file, or PyTorch weights) must be a chain of dense convolutions of stride 1
    with zero padding and PReLU, leaky ReLU, ReLU or no activation; then, optionally, a pixel shuffle, and the
    picture, enlarged by repeating its pixels, added. Merge its branches first. Raises OnebranchError, which
    names the first operation that does not fit, or if the model's outputs differ from the file's.
    """
    if isinstance(source, Model):
        return source
    if not is_third_party_file(source):
        return load(source)
    path = find(source)
    require_reader(path, "quantizing")
    from onebranch.model.foreign import read_foreign  # imported late: it imports ONNX

    foreign = read_foreign(path)
    try:
        model = model_of_chain(foreign.usable()[0], foreign.name)
    except OnebranchError as error:
        raise OnebranchError(
            f"{path} cannot be quantized: {str(error).removeprefix(f'{path}: ')}; integers take a chain of"
            " dense convolutions with PReLU, leaky ReLU or ReLU; if it has branches, merge them first"
        ) from None
    _check_equal(foreign, model)
    return model


def model_of_chain(graph: Graph, name: str) -> Model:
    """The model that a graph of one picture describes. Raises OnebranchError as `as_model` does."""
    ((picture, _),) = graph.inputs.items()
    ((output, _),) = graph.outputs.items()
    chain = _ChainReader(graph, picture)
    readers = _readers(graph)
    while chain.value != output:
        _follow(chain, picture, readers)
    if len(chain.layers) < 2:
        raise OnebranchError(f"it has {len(chain.layers)} convolutions where a network has two or more")
    return _assembled(chain, name)


def _readers(graph: Graph) -> Mapping[str, list[Node]]:
    readers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for name in dict.fromkeys(node.inputs):
            readers.setdefault(name, []).append(node)
    return readers


def _follow(chain: _ChainReader, picture: str, readers: Mapping[str, list[Node]]) -> None:
    """Read the operation that follows the end of the chain."""
    following = readers.get(chain.value, [])
    if chain.value == picture:  # the picture residual reads it too
        following = [node for node in following if node.kind in ("Conv", *PASSED_ON)]
    if len(following) != 1:
        raise OnebranchError(f"'{chain.value}' is read by {len(following)} operations where a chain has one")
    (node,) = following
    read = _READERS.get(node.kind)
    if read is None:
        raise OnebranchError(f"{node.kind} '{node.outputs[0]}' is not part of a chain")
    read(chain, node)
    chain.value = node.outputs[0]


def _convolution(chain: _ChainReader, node: Node) -> None:
    weight = _constant(chain, node, 1)
    differing = _differing_attributes(node, weight.shape[2:])
    if chain.scale != 1:
        raise OnebranchError(f"Conv '{node.outputs[0]}' follows the pixel shuffle")
    if differing:
        raise OnebranchError(f"the {differing[0]} of Conv '{node.outputs[0]}' does not fit")
    has_bias = len(node.inputs) > 2 and node.inputs[2]
    bias = _constant(chain, node, 2) if has_bias else np.zeros(len(weight), np.float32)
    chain.layers.append(_Layer(weight, bias))


def _differing_attributes(node: Node, kernel: tuple[int, ...]) -> list[str]:
    """The attributes of a convolution that are not those of a chain, which keeps the size of the picture."""
    padding = tuple(side // 2 for side in kernel)
    expected = {
        "strides": (1, 1),
        "dilations": (1, 1),
        "group": 1,
        "auto_pad": "NOTSET",
        "pads": (*padding, *padding),
    }
    defaults = {**expected, "pads": (0, 0, 0, 0)}
    differing = [key for key, value in expected.items() if node.attributes.get(key, defaults[key]) != value]
    is_odd = len(kernel) == 2 and all(side % 2 for side in kernel)
    return differing if is_odd else [*differing, "kernel"]


def _activation(chain: _ChainReader, node: Node) -> None:
    if not chain.layers or chain.layers[-1].activation != "none" or chain.scale != 1:
        raise OnebranchError(f"{node.kind} '{node.outputs[0]}' does not follow a convolution")
    layer = chain.layers[-1]
    if node.kind == "Relu":
        layer.activation = "relu"
        return
    slope = _constant(chain, node, 1) if node.kind == "PRelu" else node.attributes.get("alpha", 0.01)
    slopes = np.asarray(slope, np.float32).reshape(-1)
    if len(slopes) not in (1, len(layer.weight)):
        raise OnebranchError(f"the slopes of PRelu '{node.outputs[0]}' differ from pixel to pixel")
    if node.kind == "LeakyRelu" and slopes[0] == np.float32(LEAKY_SLOPE):
        layer.activation = "leaky_relu"
        return
    layer.activation, layer.slopes = "prelu", np.resize(slopes, len(layer.weight))


def _shuffle(chain: _ChainReader, node: Node) -> None:
    if node.attributes.get("mode", "DCR") != "CRD" or chain.scale != 1:
        raise OnebranchError(f"DepthToSpace '{node.outputs[0]}' is not a pixel shuffle after the last layer")
    chain.scale = int(node.attributes["blocksize"])  # type: ignore[arg-type]  # ONNX: an integer


def _sum(chain: _ChainReader, node: Node) -> None:
    """The picture residual; whether it is the picture is found out by comparing the outputs."""
    (other,) = (name for name in node.inputs if name != chain.value)
    if _resized_source(chain.graph, other) not in chain.graph.inputs or chain.residual != "none":
        raise OnebranchError(f"Add '{node.outputs[0]}' adds something else than the picture")
    chain.residual = "nearest"


def _resized_source(graph: Graph, name: str) -> str:
    """The value that a value is a nearest-neighbour enlargement of; the value itself if it is none."""
    makers = {output: node for node in graph.nodes for output in node.outputs}
    while (maker := makers.get(name)) is not None:
        is_nearest = maker.kind == "Resize" and maker.attributes.get("mode") == "nearest"
        if not is_nearest and maker.kind not in PASSED_ON:
            break
        name = maker.inputs[0]
    return name


def _passed_on(chain: _ChainReader, node: Node) -> None:
    """Nothing changes."""


_READERS = {
    "Conv": _convolution,
    "PRelu": _activation,
    "LeakyRelu": _activation,
    "Relu": _activation,
    "DepthToSpace": _shuffle,
    "Add": _sum,
    **dict.fromkeys(PASSED_ON, _passed_on),
}
"""How each kind of operation is read."""


def _constant(chain: _ChainReader, node: Node, index: int) -> np.ndarray:
    name = node.inputs[index]
    if name not in chain.graph.constants:
        raise OnebranchError(f"{node.kind} '{node.outputs[0]}' reads '{name}', which is computed at run time")
    return np.asarray(chain.graph.constants[name], np.float32)


def _assembled(chain: _ChainReader, name: str) -> Model:
    head, *blocks, tail = (_block(layer) for layer in chain.layers)
    channels = chain.layers[0].weight.shape[1]
    spec = NetworkSpec(
        task="denoise" if chain.scale == 1 else "upscale",
        colour="y" if channels == 1 else "rgb",
        scale=chain.scale,
        head=head,
        blocks=tuple(blocks),
        tail=tail,
        residual=chain.residual,
    )
    weights = {}
    for prefix, layer in zip(spec.names, chain.layers, strict=True):
        weights[f"{prefix}.branches.0.0.weight"] = layer.weight
        weights[f"{prefix}.branches.0.0.bias"] = layer.bias
        if layer.slopes is not None:
            weights[f"{prefix}.activation.weight"] = layer.slopes
    return Model(spec, weights, name)


def _block(layer: _Layer) -> BlockSpec:
    width, _, height, columns = layer.weight.shape
    return BlockSpec((f"{height}x{columns}",), width, layer.activation)


def _check_equal(foreign: ForeignModel, model: Model) -> None:
    """Raise OnebranchError unless the model gives the file's outputs for random pictures."""
    from onebranch.runtime.foreign import ForeignRuntime
    from onebranch.runtime.onnxruntime import OnnxRuntime

    original, read = ForeignRuntime(foreign, 1), OnnxRuntime(model, 1)
    random = np.random.default_rng(0)
    for height, width in COMPARED_SIZES:
        picture = random.random((1, model.spec.channels, height, width), np.float32)
        expected, output = original.run(picture), read.run(picture)
        largest = float(np.abs(expected).max()) or 1.0
        same_shape = expected.shape == output.shape
        difference = float(np.abs(expected - output).max()) / largest if same_shape else float("inf")
        if not difference <= MODEL_TOLERANCE:
            raise OnebranchError(
                f"{foreign.path} cannot be quantized: as a chain of convolutions its output differs by"
                f" {difference:.1e} of the largest value, and {MODEL_TOLERANCE:.0e} is allowed; if its"
                " weights are float16, export it in float32"
            )
