"""A PyTorch module as a functional graph, by torch.export: for every size that the module's code allows.

In-place operations have become plain ones. What the trace holds for is guarded, in a user's words.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import GraphModule, Node
from torch.utils import _pytree

from onebranch.errors import OnebranchError

aten = torch.ops.aten

_CONFIG: Any = torch.fx.experimental._config

END = 1 << 62
"""Ends of slices from here on mean all."""


def trace(module: torch.nn.Module, example_inputs: tuple[Any, ...]) -> GraphModule:
    """The module as a functional graph, every input of any batch, height and width that its code allows.

    Raises OnebranchError for a module in training mode (the submodule is named), one whose control flow
    depends on data, or one that keeps something from call to call.
    """
    _check_evaluation(module)
    doubled = _pytree.tree_map(_repeat_to_batch_2, example_inputs)
    try:
        found = _traced(module, doubled)
    except _Untraceable as error:
        return _traced_or_refused(module, example_inputs, str(error))
    return _for_example(found, module, example_inputs)


def _traced_or_refused(module: torch.nn.Module, example_inputs: tuple[Any, ...], reason: str) -> GraphModule:
    """The trace with a batch of exactly this size, for a module that takes no other."""
    try:
        return _guarded(_traced(module, example_inputs), many=False)
    except _Untraceable:
        raise OnebranchError(reason) from None


class _Untraceable(Exception):
    """torch.export refused the module with these inputs."""


def _repeat_to_batch_2(value: Any) -> Any:
    """A batch of one as a batch of two: of one, torch.export would conclude that it is always one."""
    if isinstance(value, torch.Tensor) and value.ndim > 1 and len(value) == 1:
        return torch.cat([value, value])
    return value


def _first_of_batch(value: Any) -> Any:
    return value[:1] if isinstance(value, torch.Tensor) and value.ndim > 1 else value


class _Guards(torch.nn.Module):
    """A trace's guards, refusing in a user's words. `many`: a batch of one is seen as one of two."""

    def __init__(self, guards: torch.nn.Module, many: bool) -> None:
        super().__init__()
        self.guards, self.many = guards, many

    def forward(self, *inputs: Any) -> None:
        """Raise OnebranchError where the trace does not hold for inputs of these sizes."""
        try:
            self.guards(*(_expand_to_batch_2(value) if self.many else value for value in inputs))
        except AssertionError as error:
            reason = str(error).removeprefix("Guard failed: ")
            raise OnebranchError(
                f"the merged module holds for sizes like its example's only ({reason} does not hold); merge"
                " the original again with an example of this size"
            ) from None


def _expand_to_batch_2(value: Any) -> Any:
    """A batch of one seen as one of two, without a copy."""
    if isinstance(value, torch.Tensor) and value.ndim > 1 and len(value) == 1:
        return value.expand(2, *value.shape[1:])
    return value


def _for_example(found: GraphModule, module: torch.nn.Module, example_inputs: tuple[Any, ...]) -> GraphModule:
    """The trace, with guards that let the example through, and a batch of one where that makes no difference.

    Broadcasting to the batch (y[:, :, :1] = b) makes a guard against one, and so does code that treats one
    differently; a second trace tells them apart.
    """
    alone = _pytree.tree_map(_first_of_batch, example_inputs)
    if _admits(found, alone):
        return _guarded(found, many=False)
    try:
        other = _traced(module, alone)
    except _Untraceable:
        return _guarded(found, many=False)
    if _same_operations(found, other):
        return _guarded(found, many=True)
    return _guarded(found if _admits(found, example_inputs) else other, many=False)


def _admits(found: GraphModule, example_inputs: tuple[Any, ...]) -> bool:
    guards = getattr(found, "_guards_fn", None)
    try:
        return guards is None or guards(*_pytree.tree_leaves(example_inputs)) is None
    except AssertionError:
        return False


def _guarded(found: GraphModule, many: bool) -> GraphModule:
    guards = getattr(found, "_guards_fn", None)
    if guards is not None:
        found._guards_fn = _Guards(guards, many)
    return found


def _same_operations(many: GraphModule, one: GraphModule) -> bool:
    """Whether two traces do the same with their values; a batch size may be the number 1 in the second."""
    first, second = _skeleton(many), _skeleton(one)
    return len(first) == len(second) and all(
        a[0] == b[0] and _same_arguments(a[1], b[1]) for a, b in zip(first, second, strict=True)
    )


def _skeleton(module: GraphModule) -> list[tuple[Any, Any]]:
    """Operations and arguments, values by number; slices that take everything are what they are taken of."""
    numbers: dict[Node, Any] = {}
    found: list[tuple[Any, Any]] = []
    for node in module.graph.nodes:
        if _is_size(node):
            numbers[node] = "size"
        elif node.target in (aten.slice.Tensor, aten.slice_scatter.default) and _takes_all(node):
            numbers[node] = numbers[node.args[node.target is aten.slice_scatter.default]]
        else:
            given = _numbered((node.args, node.kwargs), numbers)
            numbers[node] = len(found)
            found.append(((node.op, node.target), given))
    return found


def _numbered(value: Any, numbers: Mapping[Node, Any]) -> Any:
    """Arguments with every value replaced by its number."""
    if isinstance(value, Node):
        return _Number(numbers[value])
    if isinstance(value, tuple | list):
        return [_numbered(entry, numbers) for entry in value]
    if isinstance(value, Mapping):
        return {key: _numbered(entry, numbers) for key, entry in value.items()}
    return value


@dataclass(frozen=True)
class _Number:
    """A value in a skeleton, or "size"."""

    number: int | str


def _takes_all(node: Node) -> bool:
    first = 3 if node.target is aten.slice_scatter.default else 2
    start, end, step = arguments(node, *(None,) * first, None, None, 1)[first:]
    return is_all(start, end, step)


def _is_size(node: Node) -> bool:
    """Whether a node computes with sizes only."""
    return node.op == "call_function" and not isinstance(node.meta.get("val"), torch.Tensor | tuple | list)


def _same_arguments(many: Any, one: Any) -> bool:
    if isinstance(many, tuple | list) and isinstance(one, tuple | list):
        return len(many) == len(one) and all(_same_arguments(a, b) for a, b in zip(many, one, strict=True))
    if isinstance(many, dict) and isinstance(one, dict):
        return many.keys() == one.keys() and all(_same_arguments(many[key], one[key]) for key in many)
    if many == _Number("size"):
        return one in (many, 1)
    return bool(many == one)


def _traced(module: torch.nn.Module, example_inputs: tuple[Any, ...]) -> GraphModule:
    automatic = _pytree.tree_map(_all_open, example_inputs)
    try:
        # 0 and 1 are sizes like others; a module that treats them differently gets a guard.
        with warnings.catch_warnings(), _CONFIG.patch(backed_size_oblivious=True):
            warnings.simplefilter("ignore")  # torch.export warns of its own deprecations
            program = torch.export.export(module, example_inputs, dynamic_shapes=automatic)
            program = program.run_decompositions({})
    except Exception as error:  # torch.export raises many kinds, all of them about the module
        reason = next(
            (line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__
        )
        raise _Untraceable(
            f"torch.export cannot trace {type(module).__name__} ({reason}); control flow that"
            " depends on data, and weights that are written while it runs, must be taken out"
        ) from None
    mutated = [*program.graph_signature.buffers_to_mutate.values()]
    if mutated:
        raise OnebranchError(
            f"the module writes to its buffer '{mutated[0]}' while it runs; take that out first"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: Any = program.module()
    assert isinstance(found, GraphModule), "an unlifted program is one"
    return found


def _all_open(value: Any) -> Any:
    """Every dimension but that of the channels may be open."""
    if not isinstance(value, torch.Tensor):
        return None
    return {axis: torch.export.Dim.AUTO for axis in range(value.ndim) if axis != 1}


def _check_evaluation(module: torch.nn.Module) -> None:
    for name, child in module.named_modules():
        if child.training:
            called = f"its submodule '{name}'" if name else "the module"
            raise OnebranchError(
                f"{called} ({type(child).__name__}) is in training mode: batch normalization and dropout mean"
                " something else there; call .eval() on the module first"
            )


def arguments(node: Node, *defaults: Any) -> list[Any]:
    """Positional arguments, completed by defaults; keywords by the operation's own names."""
    given = dict(enumerate(node.args))
    target: Any = node.target
    for index, argument in enumerate(target._schema.arguments):
        if argument.name in node.kwargs:
            given[index] = node.kwargs[argument.name]
    return [given.get(index, default) for index, default in enumerate(defaults)]


def is_all(start: Any, end: Any, step: Any) -> bool:
    """Whether a slice takes everything."""
    return start in (0, None) and step == 1 and (end is None or (isinstance(end, int) and end >= END))
