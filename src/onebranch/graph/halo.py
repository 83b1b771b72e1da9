"""How far a graph looks: the exact number of input pixels that an output pixel needs beyond its own place."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import gcd

from onebranch.errors import OnebranchError
from onebranch.graph.operations import EDGE_FILL, Graph, Node


@dataclass(frozen=True)
class Reach:
    """What pixel y of a value needs along one axis: input pixels floor((q y + first) / p) to
    floor((q y + last) / p), where the value has p pixels for every q input pixels.
    """

    p: int = 1
    q: int = 1
    first: int = 0
    last: int = 0


@dataclass(frozen=True)
class Halo:
    """Input pixels needed beyond an output pixel's own cell, per side, and the output's scale.

    A cell is `multiple` input pixels on a side (1, or the factor of a reduction) and becomes
    multiple * scale output pixels.
    """

    top: int
    bottom: int
    left: int
    right: int
    scale: Fraction = Fraction(1)

    @property
    def multiple(self) -> int:
        """Side of a cell in input pixels; pieces of a picture begin at multiples of it."""
        return self.scale.denominator


Axes = tuple[Reach, Reach]
"""Reach along rows and columns."""


def halo(graph: Graph) -> Halo:
    """The halo of a graph with one picture (N, C, H, W) in and one out.

    Raises OnebranchError for an operation whose reach is not known, or which needs the whole picture.
    """
    reaches: dict[str, Axes] = {name: (Reach(), Reach()) for name in graph.inputs}
    for node in graph.nodes:
        pictures = [reaches[name] for name in node.inputs if name in reaches]
        if not pictures:
            continue
        reaches |= dict.fromkeys(node.outputs, _after(node, pictures, graph))
    rows, columns = reaches[next(iter(graph.outputs))]
    if (rows.p, rows.q) != (columns.p, columns.q):
        raise OnebranchError("the graph scales rows and columns differently; such a graph has no halo")
    return Halo(*_beyond(rows), *_beyond(columns), Fraction(rows.p, rows.q))


def _beyond(reach: Reach) -> tuple[int, int]:
    """Pixels needed before and after the cell of q input pixels that makes p pixels."""
    before = -(reach.first // reach.p)
    after = (reach.q * (reach.p - 1) + reach.last) // reach.p - (reach.q - 1)
    return max(0, before), max(0, after)


def _after(node: Node, pictures: list[Axes], graph: Graph) -> Axes:
    if node.kind not in _RULES:
        raise OnebranchError(f"the halo of operation '{node.kind}' ('{node.outputs[0]}') is not known")
    joined = _joined([p[0] for p in pictures], node), _joined([p[1] for p in pictures], node)
    return _RULES[node.kind](node, joined, graph)


def _joined(reaches: list[Reach], node: Node) -> Reach:
    """The reach of a value made from several, pixel by pixel."""
    if len({(reach.p, reach.q) for reach in reaches}) > 1:
        raise OnebranchError(f"{node.kind} '{node.outputs[0]}' joins pictures of different scales")
    first, last = min(reach.first for reach in reaches), max(reach.last for reach in reaches)
    return Reach(reaches[0].p, reaches[0].q, first, last)


def _pointwise(node: Node, axes: Axes, graph: Graph) -> Axes:
    return axes


def _concat(node: Node, axes: Axes, graph: Graph) -> Axes:
    if node.attributes.get("axis") != 1:
        raise OnebranchError(f"Concat '{node.outputs[0]}' does not join along the channels")
    return axes


def _window(node: Node, axes: Axes, graph: Graph) -> Axes:
    """Convolution and pooling: from pixel y * stride - pad on, kernel taps `dilation` apart."""
    kernel = _kernel(node, graph.constants)
    strides, dilations = _ints(node, "strides", (1, 1)), _ints(node, "dilations", (1, 1))
    pads = _ints(node, "pads", (0, 0, 0, 0))
    if node.attributes.get("auto_pad", "NOTSET") != "NOTSET":
        raise OnebranchError(f"{node.kind} '{node.outputs[0]}': write 'auto_pad' as 'pads' first")

    def along(axis: int) -> Reach:
        reach, begin = axes[axis], -pads[axis]
        end = begin + dilations[axis] * (kernel[axis] - 1)
        return _reduced(
            Reach(
                reach.p,
                reach.q * strides[axis],
                reach.first + reach.q * begin,
                reach.last + reach.q * end,
            )
        )

    return along(0), along(1)


def _kernel(node: Node, constants: Mapping[str, object]) -> tuple[int, ...]:
    if "kernel_shape" in node.attributes:
        return _ints(node, "kernel_shape", ())
    weight = constants.get(node.inputs[1])
    if weight is None:
        raise OnebranchError(f"{node.kind} '{node.outputs[0]}': its kernel is not a constant")
    return tuple(weight.shape[2:])  # type: ignore[attr-defined]


def _ints(node: Node, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    value = node.attributes.get(name, default)
    assert isinstance(value, tuple), f"{node.kind}: {name} is a list of integers"
    return tuple(int(number) for number in value)


def _pad(node: Node, axes: Axes, graph: Graph) -> Axes:
    pads = graph.constants.get(node.inputs[1])
    if pads is None or len(pads) != 8 or len(node.inputs) > 3:
        raise OnebranchError(f"Pad '{node.outputs[0]}': the padding must be eight constant numbers")
    if pads[0] or pads[1]:
        raise OnebranchError(f"Pad '{node.outputs[0]}' pads the batch or the channels")
    return _shifted(axes[0], -int(pads[2])), _shifted(axes[1], -int(pads[3]))


def _shifted(reach: Reach, pixels: int) -> Reach:
    return Reach(reach.p, reach.q, reach.first + reach.q * pixels, reach.last + reach.q * pixels)


def _depth_to_space(node: Node, axes: Axes, graph: Graph) -> Axes:
    """Pixel y comes from pixel floor(y / s); exact for q = 1, else never too small."""
    factor = _factor(node)

    def along(reach: Reach) -> Reach:
        slack = (reach.q - 1) * (factor - 1)
        first = factor * reach.first - slack
        return _reduced(Reach(reach.p * factor, reach.q, first, factor * reach.last))

    return along(axes[0]), along(axes[1])


def _space_to_depth(node: Node, axes: Axes, graph: Graph) -> Axes:
    """Pixel y comes from pixels s y to s y + s - 1."""
    factor = _factor(node)

    def along(reach: Reach) -> Reach:
        last = reach.last + reach.q * (factor - 1)
        return _reduced(Reach(reach.p, reach.q * factor, reach.first, last))

    return along(axes[0]), along(axes[1])


def _factor(node: Node) -> int:
    factor = node.attributes["blocksize"]
    assert isinstance(factor, int), f"{node.kind}: blocksize is an integer"
    return factor


def _reduced(reach: Reach) -> Reach:
    """The same reach with p and q in lowest terms; exact, because floors nest."""
    common = gcd(reach.p, reach.q)
    return Reach(reach.p // common, reach.q // common, reach.first // common, reach.last // common)


_POINTWISE = (
    *("Add", "Sub", "Mul", "Div", "Sum", "Max", "Min", "Neg", "Abs", "BatchNormalization", "Clip"),
    *("Relu", "LeakyRelu", "PRelu", "Sigmoid", "Tanh", "Erf", "Gelu", "Identity", "Cast", "Dropout"),
    EDGE_FILL,
)

_RULES: dict[str, Callable[[Node, Axes, Graph], Axes]] = {
    **dict.fromkeys(_POINTWISE, _pointwise),
    **dict.fromkeys(("Conv", "AveragePool", "MaxPool"), _window),
    "Concat": _concat,
    "Pad": _pad,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
}
"""What every known operation does to the reach."""
