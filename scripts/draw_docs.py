"""Draw the pictures of docs/method.md into docs/pictures/: a block, a merge, both ways through a block."""

from pathlib import Path

import numpy as np

from onebranch.model import svg
from onebranch.model.drawing import (
    FAN,
    GAP,
    MARGIN,
    STEP,
    Label,
    Layer,
    Panel,
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
BLOCK = Panel("a block", BlockSpec(preset("patent").blocks[0], 16), 16)
PICTURE, RESULT = Layer(Label("picture", ("input",))), Layer(Label("picture", ("output",)))
DASHES = "5 4"


def block_picture() -> str:
    """The block of the preset `patent`, its parts named."""
    x, top = MARGIN + BLOCK.width / 2, MARGIN
    panel_top = top + PICTURE.height + GAP
    split = panel_top + 12
    node = panel_top + BLOCK.height - 12 - STEP - 9 - (BLOCK.activation.height if BLOCK.activation else 0)
    named = (
        (split, "the input goes to every branch"),
        ((split + node) / 2, "linear: every chain equals"),
        ((split + node) / 2 + 16, "one convolution, and so does their sum"),
        (node, "their results are added"),
        (node + 9 + STEP + 12, "the activation, not linear, stays"),
    )
    left = x + BLOCK.width / 2 + 16
    notes = [svg.write_text(left, y + 4, text, 12, svg.MUTED, "start") for y, text in named]
    width = left + max(svg.text_width(text, 12) for _, text in named) + MARGIN
    shapes, height = through(BLOCK, x, top)
    return svg.document(width, height + MARGIN, [*shapes, *notes], "A block of five branches")


def through(panel: Panel, x: float, y: float) -> tuple[list[str], float]:
    """Input, block and output below each other from (x, y), and the y of the lower edge."""
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
    """A model with a name to write above its drawing."""
    shapes = expected_tensors(spec).items()
    return Model(spec, {key: np.zeros(shape, np.float32) for key, shape in shapes}, name)


def modes_picture() -> str:
    """The two forward modes of a block: the picture passes every branch, or one merged convolution."""
    x, top = MARGIN + BLOCK.width / 2, MARGIN + 44
    middle = 2 * MARGIN + BLOCK.width
    width = 132 + chains_width(BLOCK.chains)
    shapes, bottom = through(BLOCK, x, top)
    shapes += heading(x, "branches", "the picture passes every branch")
    shapes += heading(
        middle + MARGIN + width / 2, "merged", "kernels merge, the picture passes one convolution"
    )
    shapes += merged_block(middle + MARGIN, top, width)
    shapes += legend(middle + MARGIN + 150, bottom - 8)
    return svg.document(middle + width + 2 * MARGIN, bottom + MARGIN, shapes, "Both ways through a block")


def heading(x: float, name: str, about: str) -> list[str]:
    """A mode's name and what happens in it."""
    return [
        svg.write_text(x, MARGIN + 8, name, 17, weight=700),
        svg.write_text(x, MARGIN + 27, about, 12, svg.MUTED),
    ]


def merged_block(left: float, y: float, width: float) -> list[str]:
    """The block as a panel: the picture's line on its left side, the kernels on its right."""
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
    """The branches' kernels, which no picture passes, merged into one."""
    tall = max(each.height for each in BLOCK.chains)
    shapes: list[str] = []
    for each, middle in zip(BLOCK.chains, spread(BLOCK.chains, x), strict=True):
        shapes += [fan(middle, y + tall, x, node - 9, svg.KERNEL, DASHES)]
        shapes += each.draw(middle, y, tall, svg.KERNEL, DASHES)
    return [*shapes, svg.plus(x, node, svg.KERNEL)]


def legend(x: float, y: float) -> list[str]:
    """Which line is what."""
    return [
        svg.wire(f"M {x:g} {y - 4:g} L {x + 28:g} {y - 4:g}"),
        svg.write_text(x + 36, y, "the picture", 12, svg.MUTED, "start"),
        svg.wire(f"M {x + 128:g} {y - 4:g} L {x + 156:g} {y - 4:g}", svg.KERNEL, DASHES),
        svg.write_text(x + 164, y, "kernels", 12, svg.MUTED, "start"),
    ]


def main() -> None:
    """Write every picture."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in (("block", block_picture()), ("merge", merge_picture()), ("modes", modes_picture())):
        (FOLDER / f"{name}.svg").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
