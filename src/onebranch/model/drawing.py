"""One network, or two side by side, as an SVG picture, from the input at the top to the output at the bottom.

Every row of a drawing is a value that has a size and draws itself below a point on the main line.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from onebranch.errors import OnebranchError
from onebranch.model import svg
from onebranch.model.file import Model
from onebranch.spec.branch import AveragePool, BatchNorm, Branch, BranchStep, Convolution, Identity
from onebranch.spec.network import BlockSpec, NetworkSpec, Skip, macs, parameters

ACTIVATION_LABELS = {
    "prelu": "PReLU",
    "relu": "ReLU",
    "leaky_relu": "leaky ReLU",
    "silu": "SiLU",
    "gelu": "GELU",
}
"""Labels of the activations; "none" is not drawn."""

MARGIN, GAP, STEP, FAN, COLUMN = 28.0, 26.0, 10.0, 30.0, 12.0
"""Pixels: outer margin, between rows, between boxes of a branch, height of a fan, between branches."""

LANE = 18.0
"""Pixels between the lines of two skips."""


@dataclass(frozen=True)
class Label:
    """A box with one to three lines of text; with an empty kind only the text on the line."""

    kind: str
    lines: tuple[str, ...]

    @property
    def width(self) -> float:
        """The width of the longest line."""
        sizes = (12, *(10.5,) * len(self.lines))
        return max(svg.text_width(text, size) for text, size in zip(self.lines, sizes, strict=False)) + 14

    @property
    def height(self) -> float:
        """Depends on the number of lines only."""
        return 10 + 13.0 * len(self.lines)

    def draw(self, x: float, y: float, width: float) -> list[str]:
        """The box, centred on x, its upper edge at y."""
        if not self.kind:
            return [
                svg.cover(x - self.width / 2 + 5, y + 3, self.width - 10, self.height - 6, svg.PANEL),
                svg.write_text(x, y + self.height / 2 + 4, self.lines[0], 11, svg.MUTED),
            ]
        radius = self.height / 2 if self.kind in ("activation", "picture") else 5
        first, *others = self.lines
        return [
            svg.rectangle(x - width / 2, y, width, self.height, self.kind, radius),
            svg.write_text(x, y + 16, first, weight=600),
            *(
                svg.write_text(x, y + 16 + 13 * k, text, 10.5, svg.MUTED)
                for k, text in enumerate(others, start=1)
            ),
        ]


def step_label(step: BranchStep, inputs: int, outputs: int) -> Label:
    """The box of one step of a branch.

    >>> step_label(Convolution((3, 3), 2, groups=0), 16, 32).lines
    ('3×3', '16 → 32', 'depthwise')
    """
    if isinstance(step, Convolution):
        lines = (_size(step.kernel), f"{inputs} → {outputs}", *_modifiers(step))
        return Label("convolution", lines)
    if isinstance(step, BatchNorm):
        return Label("normalization", ("BN",))
    if isinstance(step, AveragePool):
        return Label("average", (_size(step.kernel), "average"))
    if isinstance(step, Identity):
        return Label("", ("identity",))
    return Label("edge", ("3×3", step.name.replace("_", " ")))


def _size(kernel: tuple[int, int]) -> str:
    return f"{kernel[0]}×{kernel[1]}"


def _modifiers(step: Convolution) -> tuple[str, ...]:
    groups = ["depthwise"] if step.groups == 0 else [f"{step.groups} groups"] * (step.groups > 1)
    dilation = [f"dilated {step.dilation}"] * (step.dilation > 1)
    words = [*groups, *dilation, *["no bias"] * (not step.bias)]
    return tuple(words)


@dataclass(frozen=True)
class BoxChain:
    """One branch: its boxes from top to bottom."""

    labels: tuple[Label, ...]

    @property
    def width(self) -> float:
        """The widest box."""
        return max(label.width for label in self.labels)

    @property
    def height(self) -> float:
        """From the first box's upper edge to the last one's lower edge."""
        return sum(label.height for label in self.labels) + STEP * (len(self.labels) - 1)

    def draw(
        self, x: float, y: float, height: float, colour: str = svg.WIRE, dashes: str = "none"
    ) -> list[str]:
        """The chain in the middle of `height` pixels below (x, y), on a line through all of them."""
        shapes = [svg.wire(f"M {x:g} {y:g} L {x:g} {y + height:g}", colour, dashes)]
        top = y + (height - self.height) / 2
        for label in self.labels:
            shapes += label.draw(x, top, self.width)
            top += label.height + STEP
        return shapes


def chain(branch: Branch, inputs: int, width: int) -> BoxChain:
    """The boxes of a branch in a block from `inputs` to `width` channels."""
    after = branch.channels(inputs, width)
    before = (inputs, *after[:-1])
    steps = zip(branch.steps, before, after, strict=True)
    return BoxChain(tuple(step_label(step, i, o) for step, i, o in steps))


def column_width(chains: Sequence[BoxChain]) -> float:
    """The width of the widest branch, which every branch gets, so that a middle one is on the main line."""
    return max(each.width for each in chains)


def spread(chains: Sequence[BoxChain], x: float) -> list[float]:
    """The middle of each chain, side by side, centred on x."""
    pitch = column_width(chains) + COLUMN
    return [x + pitch * (k - (len(chains) - 1) / 2) for k in range(len(chains))]


def chains_width(chains: Sequence[BoxChain]) -> float:
    """All chains side by side."""
    return (column_width(chains) + COLUMN) * len(chains) - COLUMN


def fan(x: float, y: float, to_x: float, to_y: float, colour: str = svg.WIRE, dashes: str = "none") -> str:
    """A smooth curve between two points, vertical at both ends."""
    middle = (y + to_y) / 2
    path = f"M {x:g} {y:g} C {x:g} {middle:g} {to_x:g} {middle:g} {to_x:g} {to_y:g}"
    return svg.wire(path, colour, dashes)


class DrawnRow(Protocol):
    """Something on the main line."""

    @property
    def width(self) -> float:
        """Pixels, centred on the main line."""

    @property
    def height(self) -> float:
        """Pixels along the main line."""

    def draw(self, x: float, y: float) -> list[str]:
        """The shapes; the main line enters at (x, y) and leaves at (x, y + height)."""


@dataclass(frozen=True)
class Layer:
    """One box on the main line: input, output, resampling."""

    label: Label

    @property
    def width(self) -> float:
        """A little wider than its text."""
        return self.label.width + 16

    @property
    def height(self) -> float:
        """The height of the box."""
        return self.label.height

    def draw(self, x: float, y: float) -> list[str]:
        """The box."""
        return self.label.draw(x, y, self.width)


@dataclass(frozen=True)
class BlockPanel:
    """One block: split point, branches, plus node, activation; a block of one branch is a plain chain."""

    name: str
    block: BlockSpec
    inputs: int

    @property
    def chains(self) -> tuple[BoxChain, ...]:
        """The boxes of its branches."""
        return tuple(chain(branch, self.inputs, self.block.width) for branch in self.block.parsed)

    @property
    def activation(self) -> Label | None:
        """The box of the activation."""
        name = ACTIVATION_LABELS.get(self.block.activation)
        return Label("activation", (name,)) if name else None

    @property
    def width(self) -> float:
        """The width of the branches, or of the heading on both sides of the main line."""
        heading = max(svg.text_width(self.name, 12), svg.text_width(self._widths, 11))
        return max(chains_width(self.chains) + 28, 2 * heading + 52)

    @property
    def _widths(self) -> str:
        return f"width {self.block.width}"

    @property
    def _branched(self) -> bool:
        return len(self.chains) > 1

    @property
    def _tall(self) -> float:
        return max(each.height for each in self.chains)

    @property
    def height(self) -> float:
        """The sum of the heights of its parts."""
        around = 12 + FAN + FAN + 9 + 9 + 12 if self._branched else 34 + 12
        return around + self._tall + (self.activation.height + STEP if self.activation else 0)

    def draw(self, x: float, y: float) -> list[str]:
        """The panel with its heading, then the block."""
        left = x - self.width / 2
        bottom = y + self.height
        ends = f"M {x:g} {y:g} L {x:g} {y + 12:g} M {x:g} {bottom - 12:g} L {x:g} {bottom:g}"
        return [
            svg.rectangle(left, y, self.width, self.height, "panel", 10),
            svg.write_text(left + 12, y + 20, self.name, anchor="start", weight=700),
            svg.write_text(left + self.width - 12, y + 20, self._widths, 11, svg.MUTED, "end"),
            svg.wire(ends),
            *(self._parallel(x, y + 12) if self._branched else self._single(x, y + 12)),
        ]

    def _single(self, x: float, y: float) -> list[str]:
        line = svg.wire(f"M {x:g} {y:g} L {x:g} {y + 22:g}")
        return [line, *self.chains[0].draw(x, y + 22, self._tall), *self._activated(x, y + 22 + self._tall)]

    def _parallel(self, x: float, y: float) -> list[str]:
        top, bottom = y + FAN, y + FAN + self._tall
        shapes = []
        for each, middle in zip(self.chains, spread(self.chains, x), strict=True):
            shapes += [fan(x, y, middle, top), fan(middle, bottom, x, bottom + FAN)]
            shapes += each.draw(middle, top, self._tall)
        node = bottom + FAN + 9
        return [*shapes, svg.dot(x, y), svg.plus(x, node), *self._activated(x, node + 9)]

    def _activated(self, x: float, y: float) -> list[str]:
        if self.activation is None:
            return []
        line = svg.wire(f"M {x:g} {y:g} L {x:g} {y + STEP:g}")
        return [line, *self.activation.draw(x, y + STEP, self.activation.width + 10)]


@dataclass(frozen=True)
class DrawnBlocks:
    """Blocks that are repeated together, with the starts and ends of skips below them."""

    panels: tuple[BlockPanel, ...]
    repeat: int = 1
    tapped: bool = False
    added: bool = False
    concatenated: int = 0

    @property
    def _inset(self) -> float:
        return 16.0 if self.repeat > 1 else 0.0

    @property
    def width(self) -> float:
        """The widest panel, with the frame around it."""
        return max(panel.width for panel in self.panels) + 2 * self._inset

    @property
    def framed_height(self) -> float:
        """The height without the nodes of skips."""
        inside = sum(panel.height for panel in self.panels) + GAP * (len(self.panels) - 1)
        return inside + 2 * self._inset

    @property
    def offsets(self) -> tuple[float, float, float]:
        """Distances from the top to the start of skips, the addition node and the concatenation."""
        tap = self.framed_height + 14 * self.tapped
        add = tap + 24 * self.added
        return tap, add, add + 28 * (self.concatenated > 0)

    @property
    def height(self) -> float:
        """The height with the nodes of skips."""
        concatenation = self.offsets[2]
        return concatenation + (12 if self.concatenated else 9 if self.added else 0)

    def draw(self, x: float, y: float) -> list[str]:
        """The shapes of the frame, the panels and the nodes."""
        shapes = self._frame(x, y) if self.repeat > 1 else []
        top = y + self._inset
        for panel in self.panels:
            shapes += panel.draw(x, top)
            top += panel.height + GAP
        ends = pairwise(self.panels)
        return [*shapes, *self._between(x, y + self._inset, ends), *self._nodes(x, y)]

    def _frame(self, x: float, y: float) -> list[str]:
        text, right = f"× {self.repeat}", x + self.width / 2
        width = svg.text_width(text, 13) + 16
        bottom = y + self.framed_height
        return [
            svg.rectangle(x - self.width / 2, y, self.width, self.framed_height, "frame", 14),
            svg.rectangle(right - width - 14, y - 11, width, 22, "badge", 11),
            svg.write_text(right - width / 2 - 14, y + 4.5, text, 13, svg.PAPER, weight=700),
            svg.wire(f"M {x:g} {y:g} L {x:g} {y + 16:g} M {x:g} {bottom - 16:g} L {x:g} {bottom:g}"),
        ]

    def _between(self, x: float, y: float, pairs: Iterable[tuple[BlockPanel, BlockPanel]]) -> list[str]:
        shapes: list[str] = []
        for upper, _ in pairs:
            y += upper.height
            shapes += connection(x, y, y + GAP)
            y += GAP
        return shapes

    def _nodes(self, x: float, y: float) -> list[str]:
        tap, add, concatenation = (y + offset for offset in self.offsets)
        start, end = y + self.framed_height, y + self.height
        shapes = [svg.wire(f"M {x:g} {start:g} L {x:g} {end:g}")] if end > start else []
        shapes += [svg.dot(x, tap, svg.SKIP)] * self.tapped + [svg.plus(x, add, svg.SKIP)] * self.added
        if self.concatenated:
            label = Label("layer", (f"concatenate to {self.concatenated}",))
            shapes += label.draw(x, concatenation - label.height / 2, label.width)
        return shapes


@dataclass(frozen=True)
class ResidualSum:
    """The node at which the picture residual is added."""

    label: Label
    width: float = 240.0
    height: float = 18.0

    def draw(self, x: float, y: float) -> list[str]:
        """The node; the line from the left belongs to the network."""
        return [svg.plus(x, y + 9)]


def connection(x: float, y: float, to_y: float) -> list[str]:
    """A straight line downwards with an arrow head."""
    return [svg.wire(f"M {x:g} {y:g} L {x:g} {to_y - 3:g}"), svg.arrow_head(x, to_y)]


RepeatedBlocks = tuple[int, int, int]
"""Index of the first block, blocks in one period, repetitions."""


def groups(keys: Sequence[object], endpoints: set[int]) -> list[RepeatedBlocks]:
    """Consecutive equal blocks, or equal sequences of blocks, grouped unless a skip starts or ends inside.

    >>> groups("aaab", set()), groups("aaab", {1}), groups("abab", set())
    ([(0, 1, 3), (3, 1, 1)], [(0, 1, 2), (2, 1, 1), (3, 1, 1)], [(0, 2, 2)])
    """
    runs, start = [], 0
    while start < len(keys):
        periods = range(1, (len(keys) - start) // 2 + 1)
        options = [(start, period, _repeats(keys, endpoints, start, period)) for period in periods]
        best = max(options, key=lambda group: group[1] * (group[2] - 1), default=(start, 1, 1))
        best = best if best[2] > 1 else (start, 1, 1)
        runs.append(best)
        start += best[1] * best[2]
    return runs


def _repeats(keys: Sequence[object], endpoints: set[int], start: int, period: int) -> int:
    free = next((k + 1 for k in range(start, len(keys)) if k in endpoints), len(keys))
    count = 1
    while start + (count + 1) * period <= free and _same(keys, start, start + count * period, period):
        count += 1
    return count


def _same(keys: Sequence[object], one: int, other: int, period: int) -> bool:
    return list(keys[one : one + period]) == list(keys[other : other + period])


def _keys(spec: NetworkSpec) -> list[tuple[BlockSpec, int]]:
    return [(block, inputs) for _, block, inputs in spec.walk()][1:-1]


def _endpoints(spec: NetworkSpec) -> set[int]:
    """Indices among `spec.blocks` after which a skip begins or ends."""
    return {end - 1 for skip in spec.skips for end in (skip.source, skip.target)}


def _common_groups(specs: Sequence[NetworkSpec]) -> list[list[RepeatedBlocks]]:
    """The groups of each network; the same for both if they have equally many blocks, so that rows align."""
    if len({len(spec.blocks) for spec in specs}) == 1:
        keys = list(zip(*(_keys(spec) for spec in specs), strict=True))
        return [groups(keys, set().union(*(_endpoints(spec) for spec in specs)))] * len(specs)
    return [groups(_keys(spec), _endpoints(spec)) for spec in specs]


@dataclass(frozen=True)
class NetworkColumn:
    """One network: its caption and its rows from input to output."""

    spec: NetworkSpec
    caption: tuple[str, str]
    rows: tuple[DrawnRow, ...]
    ends: dict[int, int]
    """The row of each block index that a skip may name (0 is the head): the last block of each group."""

    @property
    def half(self) -> float:
        """From the main line to the edge of the widest row."""
        return max(100.0, *(row.width / 2 for row in self.rows))

    @property
    def lanes(self) -> list[tuple[Skip, int]]:
        """Every skip with its lane; shorter skips get lanes nearer to the blocks."""
        placed: list[tuple[Skip, int]] = []
        for skip in sorted(self.spec.skips, key=lambda skip: (skip.target - skip.source, skip.source)):
            taken = {lane for other, lane in placed if _overlap(skip, other)}
            placed.append((skip, next(k for k in range(len(placed) + 1) if k not in taken)))
        return placed

    @property
    def sides(self) -> tuple[float, float]:
        """Pixels left and right of the main line, captions included."""
        lanes = max((lane + 1 for _, lane in self.lanes), default=0)
        left = self.half + (24 if self.spec.residual != "none" else 0)
        right = self.half + (6 + LANE * lanes if lanes else 0)
        name, numbers = svg.text_width(self.caption[0], 17), svg.text_width(self.caption[1], 12)
        text = max(name, numbers) / 2
        return max(left, text), max(right, text)


def _overlap(one: Skip, other: Skip) -> bool:
    return one.source <= other.target and other.source <= one.target


def _column(drawn: NetworkSpec | Model, runs: list[RepeatedBlocks]) -> NetworkColumn:
    spec = drawn.spec if isinstance(drawn, Model) else drawn
    name = drawn.name if isinstance(drawn, Model) else ""
    stages = [_stage(spec, -1, 1, 1), *(_stage(spec, *group) for group in runs)]
    ends = [0, *(start + period * repeat for start, period, repeat in runs)]
    panels = [BlockPanel(*walked) for walked in spec.walk()]
    rows: list[DrawnRow] = [
        Layer(Label("picture", (_picture("input", spec),))),
        *stages,
        DrawnBlocks((panels[-1],)),
    ]
    rows += [Layer(label) for label in _resampling(spec)]
    rows += [ResidualSum(_residual(spec))] if spec.residual != "none" else []
    rows.append(Layer(Label("picture", (_picture("output", spec),))))
    numbers = f"{parameters(spec):,} parameters · {macs(spec):,} MACs per pixel"
    return NetworkColumn(
        spec, (name or _task(spec), numbers), tuple(rows), {e: k + 1 for k, e in enumerate(ends)}
    )


def _picture(what: str, spec: NetworkSpec) -> str:
    return f"{what} {'Y' if spec.colour == 'y' else 'RGB'}"


def _task(spec: NetworkSpec) -> str:
    return spec.task + {"upscale": f" × {spec.scale}", "downscale": f" ÷ {spec.scale}"}.get(spec.task, "")


def _stage(spec: NetworkSpec, start: int, period: int, repeat: int) -> DrawnBlocks:
    """Blocks of `spec.blocks` from `start`; -1 is the head."""
    walked = list(spec.walk())
    last = start + period * repeat
    panels = tuple(
        BlockPanel(_name(start + k, period, repeat), *walked[start + k + 1][1:]) for k in range(period)
    )
    joins = {skip.join for skip in spec.skips if skip.target == last}
    return DrawnBlocks(
        panels,
        repeat,
        any(skip.source == last for skip in spec.skips),
        "add" in joins,
        spec.input_widths[last + 1] if "concatenate" in joins else 0,
    )


def _name(first: int, period: int, repeat: int) -> str:
    if first < 0:
        return "head"
    numbers = range(first, first + period * repeat, period)
    if repeat == 1:
        return f"block {first}"
    if period == 1:
        return f"blocks {numbers[0]}–{numbers[-1]}"
    return (
        f"blocks {', '.join(map(str, numbers))}"
        if repeat < 4
        else f"blocks {first}, {numbers[1]} … {numbers[-1]}"
    )


def _resampling(spec: NetworkSpec) -> list[Label]:
    """The boxes after the tail."""
    inputs, outputs, scale = spec.tail.width, spec.channels, spec.scale
    if spec.task == "upscale":
        return [Label("layer", ("pixel shuffle", f"{inputs} → {outputs}, × {scale}"))]
    if spec.downsampling == "average":
        return [Label("average", (f"{scale}×{scale} average", f"stride {scale}"))]
    if spec.downsampling == "convolution":
        side = scale + 2
        return [Label("convolution", (f"{side}×{side}", f"{inputs} → {outputs}", f"stride {scale}"))]
    if spec.downsampling == "unshuffle":
        inner = inputs * scale**2
        unshuffle = Label("layer", ("pixel unshuffle", f"{inputs} → {inner}, ÷ {scale}"))
        return [unshuffle, Label("convolution", ("3×3", f"{inner} → {outputs}"))]
    return []


def _residual(spec: NetworkSpec) -> Label:
    sign = {"upscale": f"× {spec.scale}", "downscale": f"÷ {spec.scale}"}.get(spec.task)
    return Label("layer" if sign else "", (f"{spec.residual} {sign}" if sign else "input",))


def _tops(columns: Sequence[NetworkColumn], y: float) -> list[list[float]]:
    """Upper edge of every row of every column; rows are aligned if all columns have equally many."""
    if len({len(column.rows) for column in columns}) > 1:
        return [_tops([column], y)[0] for column in columns]
    tops: list[list[float]] = [[] for _ in columns]
    for rows in zip(*(column.rows for column in columns), strict=True):
        tall = max(row.height for row in rows)
        for column_tops, row in zip(tops, rows, strict=True):
            column_tops.append(y + (tall - row.height) / 2)
        y += tall + GAP
    return tops


def _draw_column(column: NetworkColumn, x: float, y: float, tops: list[float]) -> list[str]:
    name, numbers = column.caption
    shapes = [
        svg.write_text(x, y + 16, name, 17, weight=700),
        svg.write_text(x, y + 36, numbers, 12, svg.MUTED),
    ]
    for row, top in zip(column.rows, tops, strict=True):
        shapes += row.draw(x, top)
    for (upper, _), (top, below) in zip(pairwise(column.rows), pairwise(tops), strict=True):
        shapes += connection(x, top + upper.height, below)
    for skip, lane in column.lanes:
        shapes += _skip(column, skip, x, x + column.half + 6 + LANE * (lane + 1), tops)
    return [*shapes, *_residual_line(column, x, tops)]


def _skip(column: NetworkColumn, skip: Skip, x: float, lane: float, tops: list[float]) -> list[str]:
    begin, end = column.ends[skip.source], column.ends[skip.target]
    source, target = column.rows[begin], column.rows[end]
    assert isinstance(source, DrawnBlocks) and isinstance(target, DrawnBlocks)
    start = tops[begin] + source.offsets[0]
    stop = tops[end] + target.offsets[1 if skip.join == "add" else 2]
    label = Label("layer", (f"concatenate to {target.concatenated}",))
    tip = x + (9 if skip.join == "add" else label.width / 2)
    path = (
        f"M {x:g} {start:g} L {lane - 22:g} {start:g} Q {lane:g} {start:g} {lane:g} {start + 22:g}"
        f" L {lane:g} {stop - 22:g} Q {lane:g} {stop:g} {lane - 22:g} {stop:g} L {tip + 3:g} {stop:g}"
    )
    return [svg.wire(path, svg.SKIP), svg.arrow_head(tip, stop, "left", svg.SKIP)]


def _residual_line(column: NetworkColumn, x: float, tops: list[float]) -> list[str]:
    sums = [(row, top) for row, top in zip(column.rows, tops, strict=True) if isinstance(row, ResidualSum)]
    if not sums:
        return []
    (row, top), start, lane = sums[0], tops[0] + column.rows[0].height + 8, x - column.half - 22
    stop, middle = top + 9, (lane + x - 9) / 2
    path = (
        f"M {x:g} {start:g} L {lane + 22:g} {start:g} Q {lane:g} {start:g} {lane:g} {start + 22:g}"
        f" L {lane:g} {stop - 22:g} Q {lane:g} {stop:g} {lane + 22:g} {stop:g} L {x - 12:g} {stop:g}"
    )
    label = row.label if row.label.kind else Label("picture", row.label.lines)
    box = label.draw(middle, stop - label.height / 2, label.width + 8)
    return [svg.wire(path), svg.dot(x, start), svg.arrow_head(x - 9, stop, "right"), *box]


def draw(*networks: NetworkSpec | Model, title: str | None = None) -> str:
    """One network, or two side by side, as SVG text with its own background.

    Repeated blocks are drawn once with their number, unless a skip starts or ends among them. Two networks
    with equally many blocks are aligned. The caption is the model's name (or the task), its parameters and
    its multiply-accumulates per input pixel. Raises OnebranchError unless there are one or two networks.

    >>> from onebranch.spec.shorthand import NetworkShorthand, expand
    >>> draw(expand(NetworkShorthand(task="denoise", width=8, depth=2))).startswith("<svg ")
    True
    """
    if len(networks) not in (1, 2):
        raise OnebranchError(f"a drawing shows one network, or two side by side, not {len(networks)}")
    specs = [network.spec if isinstance(network, Model) else network for network in networks]
    columns = [_column(*pair) for pair in zip(networks, _common_groups(specs), strict=True)]
    top = MARGIN + (40 if title else 0)
    tops = _tops(columns, top + 36 + GAP)
    columns_width = _columns_width(columns)
    width = max(columns_width, svg.text_width(title or "", 22)) + 2 * MARGIN
    shapes = _draw_columns(columns, (width - columns_width) / 2, top, tops)
    bottom = max(each[-1] + column.rows[-1].height for column, each in zip(columns, tops, strict=True))
    heading = [svg.write_text(width / 2, MARGIN + 18, title, 22, weight=700)] if title else []
    description = title or " and ".join(column.caption[0] for column in columns)
    return svg.document(width, bottom + MARGIN, [*heading, *shapes], description)


def _columns_width(columns: Sequence[NetworkColumn]) -> float:
    return sum(sum(column.sides) for column in columns) + 2 * MARGIN * (len(columns) - 1)


def _draw_columns(
    columns: Sequence[NetworkColumn], x: float, top: float, tops: Sequence[list[float]]
) -> list[str]:
    """The columns side by side, the first one's left edge at x. tops: tops of the rows of each column."""
    shapes: list[str] = []
    for column, each in zip(columns, tops, strict=True):
        left, right = column.sides
        shapes += _draw_column(column, x + left, top, each)
        x += left + right + 2 * MARGIN
    return shapes
