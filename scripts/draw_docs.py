"""Draw the pictures of docs/concepts/method.md and docs/concepts/engine.md into docs/pictures/."""

from pathlib import Path

import numpy as np

from onebranch.model import svg
from onebranch.model.drawing import (
    FAN,
    GAP,
    MARGIN,
    STEP,
    BlockPanel,
    Label,
    Layer,
    chains_width,
    connection,
    draw,
    fan,
    spread,
)
from onebranch.model.file import Model, expected_tensors
from onebranch.spec.network import BlockSpec, NetworkSpec
from onebranch.spec.presets import preset
from onebranch.spec.shorthand import NetworkShorthand, expand

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "pictures"
BLOCK = BlockPanel("a block", BlockSpec(preset("patent").blocks[0], 16), 16)
PICTURE, RESULT = Layer(Label("picture", ("input",))), Layer(Label("picture", ("output",)))
DASHES = "5 4"


def block_picture() -> str:
    """The block of the preset `patent`, with notes beside its parts."""
    x, top = MARGIN + BLOCK.width / 2, MARGIN
    panel_top = top + PICTURE.height + GAP
    split = panel_top + 12
    node = panel_top + BLOCK.height - 12 - STEP - 9 - (BLOCK.activation.height if BLOCK.activation else 0)
    named = (
        (split, "the input goes to every branch"),
        ((split + node) / 2, "affine: every chain equals"),
        ((split + node) / 2 + 16, "one convolution, and so does their sum"),
        (node, "the outputs are added"),
        (node + 9 + STEP + 12, "the activation, which is nonlinear, stays"),
    )
    left = x + BLOCK.width / 2 + 16
    notes = [svg.write_text(left, y + 4, text, 12, svg.MUTED, "start") for y, text in named]
    width = left + max(svg.text_width(text, 12) for _, text in named) + MARGIN
    shapes, height = through(BLOCK, x, top)
    return svg.document(width, height + MARGIN, [*shapes, *notes], "A block of five branches")


def through(panel: BlockPanel, x: float, y: float) -> tuple[list[str], float]:
    """Input, block and output drawn from (x, y) downwards, and the y of the lower edge."""
    shapes: list[str] = []
    for row in (PICTURE, panel, RESULT):
        shapes += row.draw(x, y)
        y += row.height + GAP
        shapes += connection(x, y - GAP, y) if row is not RESULT else []
    return shapes, y - GAP


def merge_picture() -> str:
    """A network with branches beside the merged one."""
    before, after = (
        expand(NetworkShorthand(task="upscale", branches=name, residual="bicubic"))
        for name in ("patent", "plain")
    )
    return draw(named(before, "trained: branches"), named(after, "merged: one convolution"))


def named(spec: NetworkSpec, name: str) -> Model:
    """A model of zeros with a name, which is written above its drawing."""
    shapes = expected_tensors(spec).items()
    return Model(spec, {key: np.zeros(shape, np.float32) for key, shape in shapes}, name)


def modes_picture() -> str:
    """The two forward modes of a block: through every branch, or through one merged convolution."""
    x, top = MARGIN + BLOCK.width / 2, MARGIN + 44
    middle = 2 * MARGIN + BLOCK.width
    width = 132 + chains_width(BLOCK.chains)
    shapes, bottom = through(BLOCK, x, top)
    shapes += heading(x, "branches", "the picture passes through every branch")
    shapes += heading(
        middle + MARGIN + width / 2,
        "merged",
        "kernels are merged, the picture passes through one convolution",
    )
    shapes += merged_block(middle + MARGIN, top, width)
    shapes += legend(middle + MARGIN + 150, bottom - 8)
    return svg.document(
        middle + width + 2 * MARGIN, bottom + MARGIN, shapes, "The two forward modes of a block"
    )


def heading(x: float, name: str, about: str) -> list[str]:
    """The name of a mode and a line that describes it."""
    return [
        svg.write_text(x, MARGIN + 8, name, 17, weight=700),
        svg.write_text(x, MARGIN + 27, about, 12, svg.MUTED),
    ]


def merged_block(left: float, y: float, width: float) -> list[str]:
    """A panel with the path of the picture on the left and the merge of the kernels on the right."""
    x, top = left + 60, y + PICTURE.height + GAP
    bottom = top + BLOCK.height
    chains = top + FAN
    node = chains + max(each.height for each in BLOCK.chains) + FAN + 6
    plus_x = left + 118 + chains_width(BLOCK.chains) / 2
    convolution, activation = Label("convolution", ("3×3", "16 → 16")), Label("activation", ("PReLU",))
    return [
        svg.rectangle(left, top, width, BLOCK.height, "panel", 10),
        svg.write_text(left + width - 12, top + 20, "kernels", 11, svg.KERNEL, "end"),
        *PICTURE.draw(x, y),
        *connection(x, y + PICTURE.height, node - 18),
        *kernels(plus_x, chains, node),
        svg.wire(f"M {plus_x - 9:g} {node:g} L {x + 40:g} {node:g}", svg.KERNEL, DASHES),
        svg.arrow_head(x + 34, node, "left", svg.KERNEL),
        svg.write_text((plus_x + x + 25) / 2, node + 17, "merge", 11, svg.KERNEL),
        *convolution.draw(x, node - 18, 66),
        svg.wire(f"M {x:g} {node + 18:g} L {x:g} {bottom + GAP - 3:g}"),
        svg.arrow_head(x, bottom + GAP),
        *activation.draw(x, bottom - 12 - activation.height, activation.width + 10),
        *RESULT.draw(x, bottom + GAP),
    ]


def kernels(x: float, y: float, node: float) -> list[str]:
    """The kernels of the branches, merged into one; the picture does not pass through them."""
    tall = max(each.height for each in BLOCK.chains)
    shapes: list[str] = []
    for each, middle in zip(BLOCK.chains, spread(BLOCK.chains, x), strict=True):
        shapes += [fan(middle, y + tall, x, node - 9, svg.KERNEL, DASHES)]
        shapes += each.draw(middle, y, tall, svg.KERNEL, DASHES)
    return [*shapes, svg.plus(x, node, svg.KERNEL)]


def legend(x: float, y: float) -> list[str]:
    """The legend of the two line styles."""
    return [
        svg.wire(f"M {x:g} {y - 4:g} L {x + 28:g} {y - 4:g}"),
        svg.write_text(x + 36, y, "the picture", 12, svg.MUTED, "start"),
        svg.wire(f"M {x + 128:g} {y - 4:g} L {x + 156:g} {y - 4:g}", svg.KERNEL, DASHES),
        svg.write_text(x + 164, y, "kernels", 12, svg.MUTED, "start"),
    ]


ROWS, ROW, COLUMN = 12, 15.0, 104.0
STAGES = (
    ("picture", 0, 7),
    ("head", 1, 3),
    ("block 1", 2, 3),
    ("block 2", 3, 3),
    ("tail", 4, 1),
    ("result", 4, 0),
)
"""The stages of a network in the engine: name, lag behind the picture in rows, number of rows kept."""

NOW = 9
"""The row of the picture that the drawn step reads."""


def engine_picture() -> str:
    """One step of the engine: every layer computes one row from three rows of its predecessor."""
    left, top = MARGIN + 70, MARGIN + 54
    shapes = [
        svg.write_text(left - 14, top + row * ROW + 11, str(row), 10, svg.MUTED, "end") for row in range(ROWS)
    ]
    shapes.append(svg.write_text(left - 14, top - 10, "row", 10, svg.MUTED, "end"))
    for index, (name, lag, kept) in enumerate(STAGES):
        shapes += _stage_rows(left + index * COLUMN, top, name, NOW - lag, kept)
        if 0 < index < len(STAGES) - 1:
            shapes += _reading(left + index * COLUMN, top, NOW - lag)
    foot = top + ROWS * ROW + 30
    legend = (
        ("edge", "computed in this step"),
        ("convolution", "kept"),
        ("picture", "no longer needed"),
        ("frame", "not yet computed"),
    )
    x = left
    for kind, words in legend:
        shapes += [
            svg.rectangle(x, foot, 22, ROW - 3, kind, 2),
            svg.write_text(x + 30, foot + 10, words, 11, svg.INK, "start"),
        ]
        x += svg.text_width(words, 11) + 60
    title = f"step {NOW}: one row of the picture is read, every layer computes one row"
    shapes.append(svg.write_text(left - 40, MARGIN + 14, title, 13, svg.INK, "start", 600))
    return svg.document(left + len(STAGES) * COLUMN + MARGIN, foot + ROW + MARGIN, shapes, title)


def _stage_rows(x: float, top: float, name: str, now: int, kept: int) -> list[str]:
    """All rows of one layer below its name."""
    shapes = [svg.write_text(x + 32, top - 10, name, 12, svg.INK, "middle", 600)]
    for row in range(ROWS):
        kind = (
            "edge"
            if row == now
            else "frame"
            if row > now
            else "convolution"
            if row > now - kept
            else "picture"
        )
        shapes.append(svg.rectangle(x, top + row * ROW, 64, ROW - 3, kind, 2))
    return shapes


def _reading(x: float, top: float, row: int) -> list[str]:
    """Lines from three rows of the layer on the left to the row computed from them."""
    y = top + row * ROW + 6
    lines = [f"M {x - 40:g} {y + step * ROW:g} L {x - 8:g} {y:g}" for step in (-1, 0, 1)]
    return [*(svg.wire(line) for line in lines), svg.arrow_head(x - 2, y, "right")]


def cells_picture() -> str:
    """The memory layout of a row of four channels in each precision."""
    left, top, size = MARGIN + 96, MARGIN + 40, 30.0
    kinds = (
        ("float32", [("c0", range(phase, 32, 4)) for phase in range(4)]),
        ("bfloat16", [("c0 c1", range(8)), ("c2 c3", range(8))]),
        ("8 bits", [("c0 c1 c2 c3", range(8))]),
    )
    shapes = [
        svg.write_text(
            left,
            MARGIN + 14,
            "a cell is 32 bits; a vector holds the cells of neighbouring pixels",
            13,
            svg.INK,
            "start",
            600,
        )
    ]
    y = top
    for name, planes in kinds:
        shapes.append(svg.write_text(left - 14, y + 20, name, 12, svg.INK, "end", 600))
        for channels, pixels in planes:
            for index, pixel in enumerate(pixels):
                shapes += _cell(left + index * (size * 2 + 6), y, f"x{pixel}", channels.split(), size)
            y += size + 8
        y += 10
    return svg.document(left + 8 * (size * 2 + 6) + MARGIN, y + MARGIN - 10, shapes, "Cells of feature maps")


def _cell(x: float, y: float, pixel: str, channels: list[str], size: float) -> list[str]:
    """One cell: the channels of one pixel that share 32 bits."""
    part, shapes = size * 2 / len(channels), []
    for k, channel in enumerate(channels):
        middle = x + (k + 0.5) * part
        shapes.append(svg.rectangle(x + k * part, y, part, size, "convolution", 2))
        shapes.append(svg.write_text(middle, y + 13, channel, 9, svg.INK))
        shapes.append(svg.write_text(middle, y + 24, pixel, 8, svg.MUTED))
    return shapes


def main() -> None:
    """Write every picture."""
    FOLDER.mkdir(exist_ok=True)
    pictures = {
        "block": block_picture,
        "merge": merge_picture,
        "modes": modes_picture,
        "engine": engine_picture,
        "cells": cells_picture,
    }
    for name, picture in pictures.items():
        (FOLDER / f"{name}.svg").write_text(picture(), encoding="utf-8")


if __name__ == "__main__":
    main()
