"""What `onebranch info` shows about a third-party network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onebranch.graph.analysis.graph_analysis import GraphAnalysis
    from onebranch.graph.operations import Value
    from onebranch.model.foreign import ForeignModel

TILE_PIXELS = 512
"""Edge in pixels of the tile for which memory is estimated, without its halo."""

MAX_PROPERTY_CHARACTERS = 200
"""Characters of a metadata property that a table shows."""


def foreign_facts(model: ForeignModel) -> dict[str, Any]:
    """Everything about the file as JSON values: inputs, outputs, operations, analysis, whether it runs."""
    analysis = model.analysis
    return {
        "name": model.name,
        "format": _format(model),
        "inputs": {name: _shape(value) for name, value in model.inputs.items()},
        "outputs": {name: _shape(value) for name, value in model.outputs.items()},
        "parameters": model.parameters,
        "operations": dict(sorted(model.operations.items(), key=lambda item: (-item[1], item[0]))),
        **(_analysis_facts(model, analysis) if analysis else {}),
        "properties": dict(model.properties),
        "runs": not model.refusal,
        "refusal": model.refusal,
        **({} if model.refusal else _runtime(model)),
    }


def shown_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts for a table: without empty ones, long properties truncated."""
    shortened = {
        key: value
        if len(value) <= MAX_PROPERTY_CHARACTERS
        else f"{value[:MAX_PROPERTY_CHARACTERS]}... (--json prints all)"
        for key, value in facts["properties"].items()
    }
    return {key: value for key, value in {**facts, "properties": shortened}.items() if value != ""}


def _format(model: ForeignModel) -> str:
    onnx_format = f"ONNX, opset {model.opset}"
    if not model.architecture:
        return onnx_format
    return f"PyTorch weights of {model.architecture}, converted to {onnx_format}"


def _shape(value: Value) -> str:
    return f"{value.kind} ({', '.join(str(side) for side in value.shape)})"


def _analysis_facts(model: ForeignModel, analysis: GraphAnalysis) -> dict[str, Any]:
    """Colour, scale, halo and multiple, operations that need the whole picture, and memory per tile."""
    facts: dict[str, Any] = {
        "colour": {1: "luma (BT.601 studio range / 255)", 3: "RGB"}.get(analysis.channels[0], "")
    }
    if analysis.unsupported or analysis.scale is None:
        return facts | {"scale": f"found by running it: {analysis.unsupported}", "halo": "the whole picture"}
    facts |= {"scale": str(analysis.scale), "multiple": analysis.multiple}
    if None not in analysis.fixed_size:
        facts["fixed_size"] = f"{analysis.fixed_size[1]}x{analysis.fixed_size[0]} pixels"
    if analysis.halo is None:
        return facts | {"halo": "the whole picture", "whole": list(analysis.whole_picture_reasons)}
    facts["halo"] = vars(analysis.halo)
    return facts | ({"memory_of_a_tile": _memory(model, analysis)} if not model.refusal else {})


def _runtime(model: ForeignModel) -> dict[str, str]:
    """The runtime that `--runtime auto` chooses, and why it is not the engine where it is not."""
    from onebranch.runtime.selection import chosen_for_foreign

    choice = chosen_for_foreign(model)
    return {"runtime": choice.runtime, "reason": choice.reason}


def _memory(model: ForeignModel, analysis: GraphAnalysis) -> str:
    from onebranch.algebra.padding import Padding
    from onebranch.runtime.memory import format_bytes, memory_estimate

    graph, _ = model.usable()
    halo = analysis.halo or Padding()
    height, width = (
        fixed or TILE_PIXELS + both
        for fixed, both in zip(analysis.fixed_size, (halo.height, halo.width), strict=True)
    )
    return (
        f"about {format_bytes(memory_estimate(graph, analysis, height, width))} for {width}x{height} pixels"
    )
