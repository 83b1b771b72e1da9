"""A PyTorch module traced into a functional graph by torch.export, for every size that its code allows.

In-place operations are replaced by functional ones. Guards check that the trace holds for its inputs.
"""

import copy
import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import GraphModule, Node
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree

from onebranch.errors import OnebranchError
from onebranch.graph.torch.functional import make_functional
from onebranch.graph.torch.guards import picklable_guards

aten = torch.ops.aten

_CONFIG: Any = torch.fx.experimental._config

END = 1 << 62
"""Ends of slices from this number on mean the end of the axis."""


def trace(module: torch.nn.Module, example_inputs: tuple[Any, ...]) -> GraphModule:
    """The module as a functional graph whose inputs have any batch, height and width that its code allows.

    Raises OnebranchError for a module in training mode (the submodule is named), one whose control flow
    depends on data, one that keeps state between calls, and one that is compiled by TorchScript.
    """
    module = unwrapped(module)
    _check_evaluation(module)
    doubled = _pytree.tree_map(_repeat_to_batch_2, example_inputs)
    try:
        traced = _traced(module, doubled)
    except _Untraceable:
        return _traced_or_refused(module, example_inputs)
    return _for_example(traced, module, example_inputs)


def _traced_or_refused(module: torch.nn.Module, example_inputs: tuple[Any, ...]) -> GraphModule:
    """The trace with a batch of exactly this size, for a module that accepts no other."""
    try:
        return _traced(module, example_inputs)
    except _Untraceable as error:
        raise OnebranchError(str(error)) from None


class _Untraceable(Exception):
    """torch.export cannot trace the module with these inputs."""


def _repeat_to_batch_2(value: Any) -> Any:
    """A batch of one repeated to two, because torch.export treats a batch size of one as a constant."""
    if isinstance(value, torch.Tensor) and value.ndim > 1 and len(value) == 1:
        return torch.cat([value, value])
    return value


def _first_of_batch(value: Any) -> Any:
    return value[:1] if isinstance(value, torch.Tensor) and value.ndim > 1 else value


def _for_example(
    traced: GraphModule, module: torch.nn.Module, example_inputs: tuple[Any, ...]
) -> GraphModule:
    """The trace, or another one, whose guards admit the example and, if possible, a batch of one.

    Broadcasting to the batch (y[:, :, :1] = b) adds a guard against a batch of one, and so does code that
    treats a batch of one differently. A second trace, with a batch of one, distinguishes the two cases.
    """
    alone = _pytree.tree_map(_first_of_batch, example_inputs)
    if _admits(traced, alone):
        return traced
    try:
        other = _traced(module, alone)
    except _Untraceable:
        return traced
    if _same_operations(traced, other):
        traced.get_submodule("_guards_fn").batch_of_one = True  # type: ignore[assignment]
        return traced
    return traced if _admits(traced, example_inputs) else other


def _admits(traced: GraphModule, example_inputs: tuple[Any, ...]) -> bool:
    guards = getattr(traced, "_guards_fn", None)
    return guards is None or guards.admits(_pytree.tree_leaves(example_inputs))


def _same_operations(many: GraphModule, one: GraphModule) -> bool:
    """Return True if two traces have the same operations; a batch size may be the number 1 in the second."""
    first, second = _skeleton(many), _skeleton(one)
    return len(first) == len(second) and all(
        a[0] == b[0] and _same_arguments(a[1], b[1]) for a, b in zip(first, second, strict=True)
    )


def _skeleton(module: GraphModule) -> list[tuple[Any, Any]]:
    """Operations and arguments, with values numbered, and without slices that take everything."""
    numbers: dict[Node, Any] = {}
    operations: list[tuple[Any, Any]] = []
    for node in module.graph.nodes:
        if _is_size(node):
            numbers[node] = "size"
        elif node.target in (aten.slice.Tensor, aten.slice_scatter.default) and _takes_all(node):
            numbers[node] = numbers[node.args[node.target is aten.slice_scatter.default]]
        else:
            given = _numbered((node.args, node.kwargs), numbers)
            numbers[node] = len(operations)
            operations.append(((node.op, node.target), given))
    return operations


def _numbered(value: Any, numbers: Mapping[Node, Any]) -> Any:
    """The arguments with every value replaced by its number."""
    if isinstance(value, Node):
        return _Number(numbers[value])
    if isinstance(value, tuple | list):
        return [_numbered(entry, numbers) for entry in value]
    if isinstance(value, Mapping):
        return {key: _numbered(entry, numbers) for key, entry in value.items()}
    return value


@dataclass(frozen=True)
class _Number:
    """The number of a value in a skeleton, or "size"."""

    number: int | str


def _takes_all(node: Node) -> bool:
    first = 3 if node.target is aten.slice_scatter.default else 2
    start, end, step = arguments(node, *(None,) * first, None, None, 1)[first:]
    return is_all(start, end, step)


def _is_size(node: Node) -> bool:
    """Return True if a node computes with sizes only."""
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
    """The functional trace for inputs like these. Raises _Untraceable."""
    automatic = _by_parameter(module, _pytree.tree_map(_all_open, example_inputs))
    try:
        # 0 and 1 are sizes like others; a module that treats them differently gets a guard.
        sizes = _CONFIG.patch(backed_size_oblivious=True)
        with warnings.catch_warnings(), sizes, picklable_guards(), _GlobalPools(), _quiet():
            warnings.simplefilter("ignore")  # of torch.export, about its own deprecations
            program = torch.export.export(module, example_inputs, dynamic_shapes=automatic)
            traced: Any = program.module()
            if not make_functional(traced):
                program = program.run_decompositions({})
                traced = program.module()
    except Exception as error:  # torch.export raises many kinds, all of them about the module
        raise _Untraceable(_reason(module, example_inputs, error)) from None
    mutated = [*program.graph_signature.buffers_to_mutate.values()]
    if mutated:
        raise OnebranchError(
            f"the module writes to its buffer '{mutated[0]}' while it runs; take that out first"
        )
    assert isinstance(traced, GraphModule), "an unlifted program is one"
    return traced


def exported_program(
    module: torch.nn.Module, example_inputs: tuple[Any, ...]
) -> torch.export.ExportedProgram:
    """The module as torch.export makes it, with the sizes open that its code leaves open.

    Raises OnebranchError for a module that cannot be traced.
    """
    module = unwrapped(module)
    _check_evaluation(module)
    automatic = _by_parameter(module, _pytree.tree_map(_all_open, example_inputs))
    try:
        with warnings.catch_warnings(), _CONFIG.patch(backed_size_oblivious=True), _quiet():
            warnings.simplefilter("ignore")  # of torch.export, about its own deprecations
            return torch.export.export(module, example_inputs, dynamic_shapes=automatic)
    except Exception as error:  # torch.export raises many kinds, all of them about the module
        raise OnebranchError(_reason(module, example_inputs, error)) from None


class _GlobalPools(TorchFunctionMode):
    """While it is active, an average pool over the whole picture is traced as a mean.

    Otherwise torch.export would turn the pool's window, which is the picture's size, into fixed numbers.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the function, or the mean in the place of a pool over the whole picture."""
        if func is torch.nn.functional.avg_pool2d and len(args) == 2 and not kwargs and _is_whole(*args):
            return args[0].mean((-2, -1), keepdim=True)
        return func(*args, **(kwargs or {}))


@contextmanager
def _quiet() -> Iterator[None]:
    """A context without PyTorch's log messages about modules that it cannot trace; the error has them."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _is_whole(value: torch.Tensor, window: Any) -> bool:
    """Return True if the window is the open height and width of the value."""
    if not isinstance(window, tuple | list) or len(window) != 2:
        return False
    sides: list[tuple[Any, Any]] = list(zip(window, value.shape[-2:], strict=True))
    is_open = all(isinstance(side, torch.SymInt) for pair in sides for side in pair)
    return is_open and all(str(a.node.expr) == str(b.node.expr) for a, b in sides)


def _reason(module: torch.nn.Module, example_inputs: tuple[Any, ...], error: Exception) -> str:
    """Why torch.export cannot trace the module, in one line."""
    name = type(module).__name__
    if failure := _error_of_running(module, example_inputs):
        return (
            f"{name} does not run with the example inputs ({_first_line(failure)}); pass inputs that it takes"
        )
    return (
        f"torch.export cannot trace {name} ({_first_line(error)}); control flow that depends on data, and"
        " weights that are written while it runs, must be taken out"
    )


def _error_of_running(module: torch.nn.Module, example_inputs: tuple[Any, ...]) -> Exception | None:
    """The error of the module itself on these inputs; None if it runs, or if it cannot be copied for that."""
    try:
        copied = copy.deepcopy(module)
    except Exception:  # whatever the module's parts raise
        return None
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            copied(*example_inputs)
    except Exception as error:  # whatever the module's code raises
        return error
    return None


def _first_line(error: Exception) -> str:
    """The first line of an error's text that is not empty, else the error's kind."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _by_parameter(module: torch.nn.Module, values: tuple[Any, ...]) -> tuple[Any, ...]:
    """One entry for each parameter of the module's forward; that of `*args` holds all the rest.

    >>> class Total(torch.nn.Module):
    ...     def forward(self, x, *others): ...
    >>> _by_parameter(Total(), (1, 2, 3))
    (1, (2, 3))
    """
    kinds = [parameter.kind for parameter in inspect.signature(module.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        return values
    count = kinds.index(inspect.Parameter.VAR_POSITIONAL)
    return (*values[:count], values[count:])


def _all_open(value: Any) -> Any:
    """Every axis except the channels may be open."""
    if not isinstance(value, torch.Tensor):
        return None
    return {axis: torch.export.Dim.AUTO for axis in range(value.ndim) if axis != 1}


WRAPPERS = {"DataParallel": "module", "DistributedDataParallel": "module", "OptimizedModule": "_orig_mod"}
"""Modules of PyTorch that only wrap another, and the attribute that holds it."""


def unwrapped(module: Any) -> torch.nn.Module:
    """The module inside of DataParallel, DistributedDataParallel, torch.compile and an exported program.

    Raises OnebranchError for a TorchScript module, which cannot be traced.
    """
    if isinstance(module, torch.jit.ScriptModule):
        raise OnebranchError(
            "a TorchScript module cannot be merged: pass the original module from which it was made"
        )
    if isinstance(module, torch.export.ExportedProgram):
        return module.module()
    assert isinstance(module, torch.nn.Module), "a module or an exported program"
    attribute = WRAPPERS.get(type(module).__name__)
    inner = getattr(module, attribute, None) if attribute else None
    return unwrapped(inner) if isinstance(inner, torch.nn.Module) else module


_NO_FORWARD = torch.nn.Module.forward
"""The forward of modules that only hold parameters."""


def _check_evaluation(module: torch.nn.Module) -> None:
    for name, child in module.named_modules():
        # A graph, and the modules in it that only hold parameters, do the same in both modes.
        if isinstance(child, GraphModule) or type(child).forward is _NO_FORWARD or name == "_guards_fn":
            continue
        if child.training:
            called = f"its submodule '{name}'" if name else "the module"
            raise OnebranchError(
                f"{called} ({type(child).__name__}) is in training mode: batch normalization and dropout mean"
                " something else there; call .eval() on the module first"
            )


def arguments(node: Node, *defaults: Any) -> list[Any]:
    """The arguments in the order of the operation's schema, with defaults for those that are missing."""
    given = dict(enumerate(node.args))
    target: Any = node.target
    for index, argument in enumerate(target._schema.arguments):
        if argument.name in node.kwargs:
            given[index] = node.kwargs[argument.name]
    return [given.get(index, default) for index, default in enumerate(defaults)]


def is_all(start: Any, end: Any, step: Any) -> bool:
    """Return True if a slice takes everything."""
    return start in (0, None) and step == 1 and (end is None or (isinstance(end, int) and end >= END))
