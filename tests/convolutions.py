"""Counts the convolutions and multiply-accumulates that a network runs, by observing it while it runs.

A dispatch mode records the operators that PyTorch executes for a module, be it eager code, torch.fx or
torch.export. An ONNX model runs in ONNX Runtime with the inputs and results of its convolutions and matrix
products among its outputs. No code is shared with the package.
"""

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten

CONVOLUTIONS = (aten.convolution, aten.mkldnn_convolution, aten._convolution)
NORMALIZATIONS = (
    aten.native_batch_norm,
    aten._native_batch_norm_legit_no_training,
    aten._native_batch_norm_legit,
    aten.cudnn_batch_norm,
    aten.batch_norm,
)
PRODUCTS = (aten.addmm, aten.mm, aten.bmm, aten.baddbmm)
ELEMENTWISE = (aten.add, aten.add_, aten.sub, aten.sub_, aten.mul, aten.mul_, aten.div, aten.div_)


@dataclass(frozen=True)
class Convolution:
    """Kernel and bias (None: no bias) of one convolution that ran."""

    weight: Tensor
    bias: Tensor | None


@dataclass
class Work:
    """What ran: convolutions, batch normalizations, and multiply-accumulates.

    macs: of convolutions and matrix products; batch normalizations and arithmetic between two arrays or an
    array and a number count one for each value of the result.
    """

    convolutions: list[Convolution] = field(default_factory=list)
    normalizations: int = 0
    macs: int = 0
    operators: Counter[str] = field(default_factory=Counter)


class _Counting(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.work = Work()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        packet = function.overloadpacket
        self.work.operators[str(packet)] += 1
        if packet in CONVOLUTIONS:
            self._convolution(args, result)
        elif packet in NORMALIZATIONS:
            self.work.normalizations += 1
            self.work.macs += result[0].numel()
        elif packet in PRODUCTS:
            left = args[1] if packet in (aten.addmm, aten.baddbmm) else args[0]
            self.work.macs += result.numel() * left.shape[-1]
        elif packet in ELEMENTWISE and isinstance(result, Tensor):
            self.work.macs += result.numel()
        return result

    def _convolution(self, args: Any, result: Tensor) -> None:
        weight, bias, transposed = args[1], args[2], args[6]
        self.work.convolutions.append(Convolution(weight.detach(), None if bias is None else bias.detach()))
        positions = args[0] if transposed else result
        self.work.macs += positions.numel() * weight[0].numel()


def counted(module: nn.Module, *inputs: Tensor) -> Work:
    """The operations that `module` runs on `inputs`, in order."""
    with torch.no_grad(), _Counting() as counting:
        module(*inputs)
    return counting.work


@dataclass(frozen=True)
class OnnxWork:
    """The operations that an ONNX model runs: node counts by type, and multiply-accumulates as in `Work`."""

    nodes: Counter[str]
    macs: int

    @property
    def convolutions(self) -> int:
        """The number of convolutions, including transposed ones."""
        return self.nodes["Conv"] + self.nodes["ConvTranspose"]


def counted_onnx(model: onnx.ModelProto, picture: np.ndarray) -> OnnxWork:
    """The operations that `model` runs on a picture, its only input, without ONNX Runtime's optimizer."""
    watched = [node for node in model.graph.node if node.op_type in ONNX_MACS]
    shapes = _shapes(model, watched, picture)
    macs = sum(ONNX_MACS[node.op_type](*(shapes[name] for name in _seen(node))) for node in watched)
    return OnnxWork(Counter(node.op_type for node in model.graph.node), macs)


def _convolution_macs(inputs: tuple[int, ...], weight: tuple[int, ...], result: tuple[int, ...]) -> int:
    return math.prod(result) * math.prod(weight[1:])


def _transposed_macs(inputs: tuple[int, ...], weight: tuple[int, ...], result: tuple[int, ...]) -> int:
    return math.prod(inputs) * math.prod(weight[1:])


def _product_macs(left: tuple[int, ...], right: tuple[int, ...], result: tuple[int, ...]) -> int:
    return math.prod(result) * left[-1]


def _elementwise_macs(*shapes: tuple[int, ...]) -> int:
    return math.prod(shapes[-1])


ONNX_MACS = {
    "Conv": _convolution_macs,
    "ConvTranspose": _transposed_macs,
    "Gemm": _product_macs,
    "MatMul": _product_macs,
    **dict.fromkeys(("BatchNormalization", "Add", "Sub", "Mul", "Div"), _elementwise_macs),
}
"""Multiply-accumulates of a node, from the shapes of its two inputs and its result (Gemm: transA = 0)."""


def _seen(node: onnx.NodeProto) -> tuple[str, ...]:
    return *node.input[:2], node.output[0]


def _shapes(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], picture: np.ndarray
) -> dict[str, tuple[int, ...]]:
    """Shapes of the nodes' inputs and outputs, found by running the model with these as outputs."""
    shapes = {stored.name: tuple(stored.dims) for stored in model.graph.initializer}
    shapes[model.graph.input[0].name] = picture.shape
    wanted = sorted({name for node in nodes for name in _seen(node)} - set(shapes))
    watching = onnx.ModelProto()
    watching.CopyFrom(model)
    del watching.graph.output[:]
    watching.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(watching.SerializeToString(), options)
    results = session.run(None, {model.graph.input[0].name: picture})
    return shapes | {name: result.shape for name, result in zip(wanted, results, strict=True)}
