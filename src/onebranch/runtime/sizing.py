"""Sizes other than multiples of a network's `multiple`: whether it runs on them, and with which halo.

Many networks run on every size, although the analysis is exact only for multiples: networks with a pool
followed by a resize to the original size, or with padding inside. They run on such pictures without padding.
This depends only on the remainder of a height or width modulo `multiple`, so each remainder is analyzed once.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Literal

from onebranch.errors import OnebranchError
from onebranch.graph.analysis.graph_analysis import GraphAnalysis, analyze
from onebranch.graph.analysis.halo import Halo, halo_of, whole_picture_halo
from onebranch.graph.analysis.receptive_field import AxisReceptiveField
from onebranch.graph.analysis.symbolic_tensor import SymbolicTensor
from onebranch.graph.operations import Graph

Support = Literal["none", "whole picture"] | GraphAnalysis
"""How a network runs on a remainder: not at all, on whole pictures only, or in tiles by this analysis."""


class Sizing:
    """Answers for every size whether a network of known halo runs on it without padding."""

    def __init__(self, graph: Graph, analysis: GraphAnalysis) -> None:
        self._graph, self._analysis = graph, analysis
        self._support = cache(self._analyzed)

    def halo(self) -> Halo:
        """The halo for multiples; `Halo.at` gives that of every other size."""
        halo = halo_of(self._analysis)
        is_open = self._analysis.fixed_size == (None, None)
        if halo.needs_whole_picture or halo.multiple == 1 or not is_open:
            return halo
        return replace(halo, resolve=self._resolved)

    def runs_at(self, axis: int, side: int) -> bool:
        """True if the network runs on this height (axis 0) or width (axis 1) without padding."""
        return self._support(axis, side % self._analysis.multiple) != "none"

    def _resolved(self, halo: Halo, height: int, width: int) -> Halo:
        """The halo for a picture of this size, from that for multiples."""
        multiple = self._analysis.multiple
        remainders = height % multiple, width % multiple
        if remainders == (0, 0):
            return replace(halo, resolve=None)
        supports = [self._support(axis, remainder) for axis, remainder in enumerate(remainders)]
        is_small = any(
            side < multiple and support != "none"
            for side, support in zip((height, width), supports, strict=True)
        )
        if "whole picture" in supports or is_small:
            return whole_picture_halo(halo.scale, multiple, halo.minimum_size, (None, None))
        return _largest(halo, [halo_of(s) for s in supports if isinstance(s, GraphAnalysis)], multiple)

    def _analyzed(self, axis: int, remainder: int) -> Support:
        if not remainder:
            return self._analysis
        try:
            analysis = analyze(self._graph, (remainder, 0) if axis == 0 else (0, remainder))
        except OnebranchError:
            return "none"
        if analysis.unsupported or analysis.scale != self._analysis.scale:
            return "none"
        is_exact = self._analysis.multiple % analysis.multiple == 0
        if analysis.halo is None or not is_exact or not _equal_positions(self._analysis, analysis):
            return "whole picture"
        return analysis


def _equal_positions(multiples: GraphAnalysis, remainder: GraphAnalysis) -> bool:
    """True if every pixel of every value depends on the same positions for both kinds of sizes.

    Only then can a picture of the other size be cut into tiles, most of which are multiples. Example: a 3x3
    convolution of stride 2 with `auto_pad` "SAME_UPPER" pads an even height by 0 above and 1 below, so that
    row y depends on rows 2 y to 2 y + 2; it pads an odd height by 1 and 1: rows 2 y - 1 to 2 y + 1.
    """
    for name, value in multiples.values.items():
        other = remainder.values.get(name)
        if isinstance(value, SymbolicTensor) != isinstance(other, SymbolicTensor):
            return False
        if isinstance(value, SymbolicTensor) and isinstance(other, SymbolicTensor):
            fields = list(value.receptive_fields.items()), list(other.receptive_fields.items())
            if len(fields[0]) != len(fields[1]) or not all(map(_equal_fields, *fields)):
                return False
    return True


def _equal_fields(one: tuple[str, AxisReceptiveField], other: tuple[str, AxisReceptiveField]) -> bool:
    (axis, a), (other_axis, b) = one, other
    return (axis, a.p, a.q, a.first, a.last) == (other_axis, b.p, b.q, b.first, b.last)


def _largest(halo: Halo, others: Sequence[Halo], multiple: int) -> Halo:
    """A halo that covers all of these; border tiles may be larger by a remainder."""
    halos = [halo, *others]
    return replace(
        halo,
        top=max(h.top for h in halos),
        bottom=max(h.bottom for h in halos),
        left=max(h.left for h in halos),
        right=max(h.right for h in halos),
        minimum_border_tile=max(h.minimum_border_tile for h in halos) + multiple - 1,
        resolve=None,
    )
