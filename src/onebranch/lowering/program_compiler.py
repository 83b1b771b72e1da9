"""From graphs to programs: which graphs the native engine runs as they are, and why not the others.

A graph is compiled if it is made of local operations whose sizes are fixed multiples or fractions of the
picture's.
"""

from onebranch.errors import OnebranchError
from onebranch.graph.analysis.graph_analysis import GraphAnalysis, described
from onebranch.graph.analysis.state import SymbolicValues
from onebranch.graph.operations import Graph, Node
from onebranch.lowering.program import MAX_PICTURE_CHANNELS, Program
from onebranch.lowering.program_axes import AxisFeature
from onebranch.lowering.program_builder import Feature, ProgramBuilder, UnsupportedByProgramError
from onebranch.lowering.program_rules import RULES, Compilation


class NoProgramError(OnebranchError):
    """A graph cannot be compiled into a program; the message names the operation and the reason."""


def compile_graph(graph: Graph, analysis: GraphAnalysis) -> Program:
    """The program of a graph of one picture (1, C, H, W) to one picture. Raises NoProgramError.

    analysis: of this graph. The program gives what the graph gives, up to the rounding of float32.
    """
    _check(graph, analysis)
    ((picture, _),), (output,) = graph.inputs.items(), graph.outputs
    builder = ProgramBuilder(analysis.channels[0])
    compilation = Compilation(graph, analysis, builder, {picture: builder.picture})
    for node in graph.nodes:
        if not _is_of_sizes(node, analysis):
            _compile_node(node, compilation)
    try:
        return builder.program(compilation.feature(output), analysis.multiple)
    except UnsupportedByProgramError as error:
        raise NoProgramError(f"its output '{output}': {error}") from None


def _check(graph: Graph, analysis: GraphAnalysis) -> None:
    """Raise NoProgramError for what no program can be, before any operation is compiled."""
    if analysis.unsupported:
        raise NoProgramError(analysis.unsupported)
    if analysis.whole_picture_reasons:
        raise NoProgramError(analysis.whole_picture_reasons[0])
    if analysis.fixed_size != (None, None):
        raise NoProgramError("it fixes the size of the picture")
    if analysis.scale is None:
        raise NoProgramError("its scale is not known")
    if analysis.scale.denominator != 1:
        raise NoProgramError(f"its scale, {analysis.scale}, is not a whole number")
    taken, returned = analysis.channels
    if taken != returned:
        raise NoProgramError(f"it takes {taken} and returns {returned} channels, and both must be equal")
    if taken > MAX_PICTURE_CHANNELS:
        raise NoProgramError(f"its pictures have {taken} channels, more than {MAX_PICTURE_CHANNELS}")
    for value in (*graph.inputs.values(), *graph.outputs.values()):
        if value.kind != "float32":
            raise NoProgramError(f"it computes in {value.kind}, not in float32")


def _is_of_sizes(node: Node, analysis: GraphAnalysis) -> bool:
    """True if an operation computes sizes, which the analysis knows."""
    return all(isinstance(analysis.values.get(name), SymbolicValues) for name in node.outputs)


def _compile_node(node: Node, compilation: Compilation) -> None:
    rule = RULES.get(node.kind)
    if rule is None:
        raise NoProgramError(f"{described(node)} has no counterpart in the engine")
    try:
        made = rule(node, compilation)
    except UnsupportedByProgramError as error:
        raise NoProgramError(f"{described(node)}: {error}") from None
    if isinstance(made, AxisFeature):
        compilation.on_axes[node.outputs[0]] = made
        return
    features = [made] if isinstance(made, Feature) else made
    compilation.features.update(zip(node.outputs, features, strict=False))
