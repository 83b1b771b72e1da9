"""What `onebranch info` says of an ONNX file that may be anybody's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onebranch.graph.operations import Value
    from onebranch.graph.seeing.sight import Sight
    from onebranch.model.foreign import ForeignModel

TILE = 512
"""Edge of the tile for which memory is estimated, without its halo."""

LONG = 200
"""Characters of a property that are shown in a table."""


def foreign_facts(model: ForeignModel) -> dict[str, Any]:
    """Everything about the file as JSON values: what goes in and out, what it sees, whether it runs."""
    sight = model.sight
    return {
        "name": model.name,
        "format": f"ONNX, opset {model.opset}",
        "inputs": {name: _shape(value) for name, value in model.inputs.items()},
        "outputs": {name: _shape(value) for name, value in model.outputs.items()},
        "parameters": model.parameters,
        "operations": dict(sorted(model.operations.items(), key=lambda item: (-item[1], item[0]))),
        **(_seen(model, sight) if sight else {}),
        "properties": dict(model.properties),
        "runs": not model.refusal,
        "refusal": model.refusal,
    }


def shown_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts as a table shows them: without what is empty, long properties cut short."""
    shortened = {
        key: value if len(value) <= LONG else f"{value[:LONG]}... (--json prints all)"
        for key, value in facts["properties"].items()
    }
    return {key: value for key, value in {**facts, "properties": shortened}.items() if value != ""}


def _shape(value: Value) -> str:
    return f"{value.kind} ({', '.join(str(side) for side in value.shape)})"


def _seen(model: ForeignModel, sight: Sight) -> dict[str, Any]:
    """Colour, scale, halo and multiple; what needs the whole picture; the memory of a tile."""
    facts: dict[str, Any] = {
        "colour": {1: "luma (BT.601 studio range / 255)", 3: "RGB"}.get(sight.channels[0], "")
    }
    if sight.unknown or sight.scale is None:
        return facts | {"scale": f"found by running it: {sight.unknown}", "halo": "the whole picture"}
    facts |= {"scale": str(sight.scale), "multiple": sight.multiple}
    if None not in sight.size:
        facts["fixed_size"] = f"{sight.size[1]}x{sight.size[0]} pixels"
    if sight.sides is None:
        return facts | {"halo": "the whole picture", "whole": list(sight.whole)}
    facts["halo"] = dict(zip(("top", "bottom", "left", "right"), sight.sides, strict=True))
    return facts | ({"memory_of_a_tile": _memory(model, sight)} if not model.refusal else {})


def _memory(model: ForeignModel, sight: Sight) -> str:
    from onebranch.runtime.memory import in_words, needed

    graph, _ = model.usable()
    top, bottom, left, right = sight.sides or (0, 0, 0, 0)
    height, width = (
        fixed or TILE + both for fixed, both in zip(sight.size, (top + bottom, left + right), strict=True)
    )
    return f"about {in_words(needed(graph, sight, height, width))} for {width}x{height} pixels"
