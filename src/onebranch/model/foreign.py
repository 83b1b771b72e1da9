"""Somebody else's network: an ONNX file with one picture in and one out, and what was found out about it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import onnx

from onebranch.errors import OnebranchError
from onebranch.graph.onnx.file import opset_of, read, tensors_of
from onebranch.graph.onnx.graph import ends_of, graph_of
from onebranch.graph.operations import Graph, Value
from onebranch.graph.seeing.sight import Sight, channels_read, look
from onebranch.spec.network import Colour

KINDS = ("float32", "float16", "float64")
"""Types of pictures that are understood: values from 0 to 1."""


@dataclass(frozen=True)
class ForeignModel:
    """An ONNX file, and whether it is a network from a picture of luma or RGB in [0, 1] to another.

    inputs, outputs: by name. operations: how many of each kind. parameters: numbers in its weights.
    properties: what its author wrote into it. graph, sight: what it computes and sees. refusal: why it cannot
    run, in one line; then there may be no graph or sight. Empty where it can.
    """

    path: Path
    opset: int
    inputs: Mapping[str, Value]
    outputs: Mapping[str, Value]
    operations: Mapping[str, int]
    parameters: int
    properties: Mapping[str, str]
    graph: Graph | None = None
    sight: Sight | None = None
    refusal: str = ""

    @property
    def name(self) -> str:
        """The file's name without its suffix."""
        return self.path.stem

    def usable(self) -> tuple[Graph, Sight]:
        """Graph and sight. Raises OnebranchError, with the reason, where it cannot run."""
        if self.graph is None or self.sight is None or self.refusal:
            raise OnebranchError(f"{self.path}: {self.refusal}")
        return self.graph, self.sight

    @property
    def colour(self) -> Colour:
        """`y` for one channel, `rgb` for three."""
        return "y" if self.usable()[1].channels[0] == 1 else "rgb"


def read_foreign(path: str | os.PathLike[str]) -> ForeignModel:
    """What is in an ONNX file; one that cannot run says why.

    Raises OnebranchError, one line that names the file, where it cannot be read.
    """
    file = Path(path)
    model = read(file)
    facts = ForeignModel(
        path=file,
        opset=opset_of(model),
        inputs={},
        outputs={},
        operations=Counter(node.op_type for node in model.graph.node if node.op_type != "Constant"),
        parameters=sum(prod(t.dims) for t in tensors_of(model) if t.data_type != onnx.TensorProto.INT64),
        properties={entry.key: entry.value for entry in model.metadata_props},
    )
    try:
        inputs, outputs = ends_of(model)
        facts = replace(facts, inputs=inputs, outputs=outputs)
        _check_ends(facts)
        graph = _with_channels(graph_of(model))
        facts = replace(facts, graph=graph, sight=look(graph))
        _check_channels(facts)
    except OnebranchError as error:
        return replace(facts, refusal=str(error))
    return facts


def _check_ends(model: ForeignModel) -> None:
    """Raise OnebranchError unless there is one picture of a known type in, and one out."""
    for what, values in (("input", model.inputs), ("output", model.outputs)):
        if len(values) != 1:
            names = ", ".join(f"'{name}'" for name in values)
            raise OnebranchError(f"it has {len(values)} {what}s ({names}) where a picture network has one")
        ((name, value),) = values.items()
        if value.kind not in KINDS:
            raise OnebranchError(
                f"its {what} '{name}' is of type {value.kind}; it must be {', '.join(KINDS)}, from 0 to 1"
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


def _with_channels(graph: Graph) -> Graph:
    """The graph with the number of channels that its first kernel has, where its input leaves it open."""
    ((name, value),) = graph.inputs.items()
    if len(value.shape) != 4 or isinstance(value.shape[1], int):
        return graph
    batch, _, *sides = value.shape
    found = channels_read(graph, name)
    return (
        graph
        if found is None
        else replace(graph, inputs={name: replace(value, shape=(batch, found, *sides))})
    )


def _check_channels(model: ForeignModel) -> None:
    sight = model.usable()[1]
    given, made = sight.channels
    if given not in (1, 3):
        raise OnebranchError(
            f"its input has {given} channels; it must have 1 (luma, BT.601 studio range / 255) or 3 (RGB)"
        )
    if not sight.unknown and made != given:
        raise OnebranchError(
            f"its output has {made} channels where its input has {given}; they must be equal"
        )
