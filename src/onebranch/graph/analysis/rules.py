"""All analysis rules in one table: they compute an operation's symbolic outputs from its inputs."""

from __future__ import annotations

from collections.abc import Sequence

from onebranch.graph.analysis.axis_rules import AXIS_RULES
from onebranch.graph.analysis.size_rules import evaluate_sizes
from onebranch.graph.analysis.spatial_rules import SPATIAL_RULES
from onebranch.graph.analysis.state import AnalysisState, AnalysisValue, UnsupportedOperationError
from onebranch.graph.operations import Node

_RULES_BY_KIND = {**AXIS_RULES, **SPATIAL_RULES}


def apply_rule(node: Node, state: AnalysisState) -> Sequence[AnalysisValue]:
    """The outputs of an operation. Raises OnebranchError if the analysis does not support it."""
    sizes = evaluate_sizes(node, state)
    if sizes is not None:
        return sizes
    if node.kind not in _RULES_BY_KIND:
        raise UnsupportedOperationError("this operation is not known")
    return _RULES_BY_KIND[node.kind](node, state)
