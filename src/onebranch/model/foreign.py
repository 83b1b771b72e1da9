"""Third-party networks (ONNX files, PyTorch weights) with one picture in and one out, and their analysis."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path

import onnx

from onebranch.errors import OnebranchError
from onebranch.graph.analysis.graph_analysis import GraphAnalysis, analyze
from onebranch.graph.analysis.valid_sizes import (
    InputSize,
    valid_sizes,
    with_input_size,
    with_open_channels_resolved,
)
from onebranch.graph.onnx.file import opset_of, read, runnable_content, tensors_of
from onebranch.graph.onnx.graph import graph_of, interface_of
from onebranch.graph.operations import Graph, Value
from onebranch.model.third_party import is_pytorch_file
from onebranch.spec.network import Colour

SAMPLE_KINDS = ("float32", "float16", "float64")
"""Element types of supported input and output pictures, whose values are from 0 to 1."""


MAX_ANALYZED_SIZES = 32
"""The number of sizes that are analyzed, of those on which the shapes of a graph fit together."""


@dataclass(frozen=True)
class ForeignModel:
    """A third-party file, and whether it maps a picture of luma or RGB in [0, 1] to another one.

    inputs, outputs: by name. operations: the number of nodes of each operator. parameters: elements of its
    weights. properties: the metadata that its author stored. graph, analysis: None if they could not be
    read. refusal: why the network cannot run, in one line; empty if it can. content: the bytes
    that a runtime opens in place of the file; None if it opens the file. architecture: what spandrel calls
    the network of a file of PyTorch weights; empty for ONNX files.
    """

    path: Path
    opset: int
    inputs: Mapping[str, Value]
    outputs: Mapping[str, Value]
    operations: Mapping[str, int]
    parameters: int
    properties: Mapping[str, str]
    graph: Graph | None = None
    analysis: GraphAnalysis | None = None
    refusal: str = ""
    content: bytes | None = field(default=None, repr=False)
    architecture: str = ""

    @property
    def name(self) -> str:
        """The file's name without its suffix."""
        return self.path.stem

    def usable(self) -> tuple[Graph, GraphAnalysis]:
        """The graph and its analysis. Raises OnebranchError, with the reason, if the network cannot run."""
        if self.graph is None or self.analysis is None or self.refusal:
            raise OnebranchError(f"{self.path}: {self.refusal}")
        return self.graph, self.analysis

    @property
    def colour(self) -> Colour:
        """`y` for one channel, `rgb` for three."""
        return "y" if self.usable()[1].channels[0] == 1 else "rgb"


def read_foreign(path: str | os.PathLike[str], input_size: InputSize | None = None) -> ForeignModel:
    """Read and analyze an ONNX file, or PyTorch weights; `refusal` says why a network cannot run.

    input_size: the only size on which the network is run, for a file that leaves its size open; by default
    every size on which it runs, or the one that the graph fixes. Raises OnebranchError, one line that names
    the file, if the file cannot be read.
    """
    file = Path(path)
    architecture, model = _read(file)
    content = runnable_content(model)
    if architecture and content is None:
        content = model.SerializeToString()
    result = ForeignModel(
        path=file,
        opset=opset_of(model),
        inputs={},
        outputs={},
        operations=Counter(node.op_type for node in model.graph.node if node.op_type != "Constant"),
        parameters=sum(prod(t.dims) for t in tensors_of(model) if t.data_type != onnx.TensorProto.INT64),
        properties={entry.key: entry.value for entry in model.metadata_props},
        content=content,
        architecture=architecture,
    )
    try:
        inputs, outputs = interface_of(model)
        result = replace(result, inputs=inputs, outputs=outputs)
        _check_pictures(result)
        graph, analysis = _analyzed(graph_of(model), input_size)
        result = replace(result, graph=graph, analysis=analysis)
        _check_channels(result)
    except OnebranchError as error:
        return replace(result, refusal=str(error))
    return result


def _read(file: Path) -> tuple[str, onnx.ModelProto]:
    """The architecture of PyTorch weights, or "" for an ONNX file, and the network as ONNX."""
    if not is_pytorch_file(file):
        return "", read(file)
    from onebranch.pytorch_files.conversion import ARCHITECTURE, converted

    model = converted(file)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    return properties.get(ARCHITECTURE, "PyTorch"), model


def _check_pictures(model: ForeignModel) -> None:
    """Raise OnebranchError unless there is one input and one output, each a picture of a supported type."""
    for what, values in (("input", model.inputs), ("output", model.outputs)):
        if len(values) != 1:
            names = ", ".join(f"'{name}'" for name in values)
            raise OnebranchError(f"it has {len(values)} {what}s ({names}) where a picture network has one")
        ((name, value),) = values.items()
        if value.kind not in SAMPLE_KINDS:
            raise OnebranchError(
                f"its {what} '{name}' is of type {value.kind}; it must be {', '.join(SAMPLE_KINDS)},"
                " from 0 to 1"
            )
        if len(value.shape) not in (0, 4):
            raise OnebranchError(
                f"its {what} '{name}' has {len(value.shape)} axes where a picture has four: (1, C, H, W)"
            )
    shape = next(iter(model.inputs.values())).shape
    if shape and shape[3] in (1, 3) and shape[1] not in (1, 3):
        raise OnebranchError(
            f"the channels of its input come last, {shape}; they must come second: (1, C, H, W)"
        )


def _analyzed(graph: Graph, input_size: InputSize | None) -> tuple[Graph, GraphAnalysis]:
    """The graph, with the size of its input fixed if it is named or found, and its analysis.

    Raises OnebranchError if there is no such size, or more than one.
    """
    ((name, value),) = graph.inputs.items()
    if input_size is not None:
        graph = with_input_size(graph, name, input_size)
        return graph, analyze(graph)
    if len(value.shape) == 4 and not isinstance(value.shape[1], int):
        graph = with_open_channels_resolved(graph, {})
    try:
        analysis = analyze(graph)
    except OnebranchError as error:
        return _with_fixed_size(graph, name, str(error))
    if analysis.unsupported and analysis.fixed_size == (None, None):
        with suppress(NoFixedSizeError):
            return _with_fixed_size(graph, name, analysis.unsupported)
    return graph, analysis


class NoFixedSizeError(OnebranchError):
    """The graph does not fix its size."""


def _with_fixed_size(graph: Graph, name: str, reason: str) -> tuple[Graph, GraphAnalysis]:
    """The graph with the one size on which all its operations fit together, and its analysis.

    reason: why the graph cannot be analyzed with an open size. Raises NoFixedSizeError with that reason if
    the graph fixes no size, and OnebranchError if it runs on several.
    """
    value = graph.inputs[name]
    if len(value.shape) != 4 or all(isinstance(side, int) for side in value.shape[2:]):
        raise NoFixedSizeError(reason)
    valid = valid_sizes(graph, {})
    fitting = []
    for size in valid.fixed()[:MAX_ANALYZED_SIZES]:
        candidate = with_input_size(graph, name, size)
        with suppress(OnebranchError):
            analysis = analyze(candidate)
            if not analysis.unsupported:
                fitting.append((size, candidate, analysis))
    if not fitting:
        raise NoFixedSizeError(reason)
    if len(fitting) > 1:
        sizes = ", ".join(str(size) for size, _, _ in fitting[:3])
        raise OnebranchError(
            f"its size is declared open, but {valid.cause} fixes it, and several sizes fit ({sizes}); name"
            " the one for which it was exported with --input-size HxW (height x width)"
        )
    _, fixed, analysis = fitting[0]
    return fixed, analysis


def _check_channels(model: ForeignModel) -> None:
    analysis = model.usable()[1]
    inputs, outputs = analysis.channels
    if inputs not in (1, 3):
        raise OnebranchError(
            f"its input has {inputs} channels; it must have 1 (luma, BT.601 studio range / 255) or 3 (RGB)"
        )
    if not analysis.unsupported and outputs != inputs:
        raise OnebranchError(
            f"its output has {outputs} channels where its input has {inputs}; they must be equal"
        )
