"""Mutants of traced PyTorch modules: tracing takes a second, so that many mutants share one trace.

A mutant is a traced module in which one to three things are changed: a weight, an argument, an operation, a
connection. PyTorch computes the types and shapes of all its values again, as tracing would. A mutant that
PyTorch refuses there would have been refused by torch.export, and is counted as such.
"""

import copy
import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch.fx import GraphModule, Node
from torch.fx.passes.fake_tensor_prop import FakeTensorProp

import torch_mutations
from mutations import relative_error
from onebranch.errors import OnebranchError
from onebranch.graph.merge.rewriting import Rules
from onebranch.graph.torch.tracing import trace
from onebranch.merging.torch import merge_traced

aten = torch.ops.aten

MUTANT_TOLERANCE = 2e-3
"""Largest relative difference of a merged mutant: some of its weights are float16."""

MAX_TOLERANCE = 3e-2
"""The same where weights are bfloat16."""

NUMBERS = (-1, 0, 1, 2, 3, 4, 7, 12)
"""Numbers that replace integers."""

OPERATIONS = (
    *(aten.relu.default, aten.sigmoid.default, aten.neg.default, aten.clone.default, aten.detach.default),
    *(aten.abs.default, aten.exp.default, aten.tanh.default, aten.contiguous.default),
)
"""Operations of one argument that replace others or are put between them."""

PAIRS = aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor, aten.maximum.default
"""Operations of two arguments that replace each other."""


@contextmanager
def quiet() -> Iterator[None]:
    """A context without PyTorch's log messages about values that do not fit."""
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


Change = Callable[[GraphModule, np.random.Generator], None]


@dataclass(frozen=True)
class Traced:
    """A traced module and its example input."""

    module: GraphModule
    example: torch.Tensor


def originals(count: int) -> list[Traced]:
    """Traced networks of different structures, at most `count`."""
    example = torch.rand(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    names = list(torch_mutations.NETWORKS)[:count]
    torch.manual_seed(0)
    traced = []
    for name in names:
        function, _, parts = torch_mutations.NETWORKS[name]
        module = torch_mutations.Net(function, **parts()).eval()
        traced.append(Traced(trace(module, (example,)), example))
    return traced


def mutant(original: Traced, random: np.random.Generator) -> GraphModule:
    """A copy with one to three changes. Raises what PyTorch raises for values that do not fit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = copy.deepcopy(original.module)
    for _ in range(int(random.integers(1, 4))):
        CHANGES[int(random.integers(len(CHANGES)))](module, random)
    module.graph.lint()
    module.recompile()
    with torch.no_grad():
        module(original.example)  # this is faster than computing shapes, and many mutants fail here
    placeholders = [node for node in module.graph.nodes if node.op == "placeholder"]
    mode = placeholders[0].meta["val"].fake_mode
    for node in module.graph.nodes:
        if node.op != "placeholder":
            node.meta.pop("val", None)
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        FakeTensorProp(module, mode).propagate_dont_convert_inputs(*(p.meta["val"] for p in placeholders))
    return module


def outcome(module: GraphModule, example: torch.Tensor) -> str:
    """The outcome of a merge: merged, unmerged, or refused. A wrong result fails."""
    with torch.no_grad():
        expected = module(example)
    try:
        merged, report = merge_traced(module, module, (example,), Rules())
    except OnebranchError as error:
        return "refused" if "\n" not in str(error) else "refused in several lines"
    with torch.no_grad():
        given = merged(example)
    for first, second in zip(_arrays(given), _arrays(expected), strict=True):
        assert first.shape == second.shape
        assert relative_error(first, second) <= _tolerance(module)
    return "merged" if report.changed else "unmerged"


def _tolerance(module: GraphModule) -> float:
    types = {tensor.dtype for tensor in (*module.parameters(), *module.buffers())}
    return MAX_TOLERANCE if torch.bfloat16 in types else MUTANT_TOLERANCE


def _arrays(outputs: object) -> list[np.ndarray]:
    values = outputs if isinstance(outputs, tuple | list) else (outputs,)
    return [value.detach().double().numpy() for value in values if isinstance(value, torch.Tensor)]


def outcomes(originals: Sequence[Traced], seeds: Iterator[int]) -> Counter[str]:
    """The number of mutants of each outcome. Any error but an OnebranchError of one line fails.

    The message names the seed.
    """
    counts: Counter[str] = Counter()
    for seed in seeds:
        random = np.random.default_rng(seed)
        original = originals[int(random.integers(len(originals)))]
        try:
            module = mutant(original, random)
        except Exception:  # of PyTorch: the mutant does not run
            counts["does not run"] += 1
            continue
        try:
            counts[outcome(module, original.example)] += 1
        except Exception as error:
            raise AssertionError(f"mutant of seed {seed}: {type(error).__name__}: {error}") from error
    assert "refused in several lines" not in counts
    print(f"\n{counts.total()} mutated modules: {dict(counts)}")
    return counts


# What is changed.


def pick(entries: Sequence, random: np.random.Generator):
    """One of the entries. Raises ValueError where there are none."""
    return entries[int(random.integers(len(entries)))]


def _calls(module: GraphModule) -> list[Node]:
    return [node for node in module.graph.nodes if node.op == "call_function"]


def _weights(module: GraphModule) -> list[str]:
    """The names of parameters and buffers that the graph reads."""
    return sorted({str(node.target) for node in module.graph.nodes if node.op == "get_attr"})


def _set(module: GraphModule, name: str, value: torch.Tensor, old: torch.Tensor) -> None:
    parent, _, leaf = name.rpartition(".")
    owner = module.get_submodule(parent)
    if isinstance(old, torch.nn.Parameter):
        owner._parameters[leaf] = torch.nn.Parameter(value, requires_grad=old.requires_grad)
    else:
        owner._buffers[leaf] = value


def _get(module: GraphModule, name: str) -> torch.Tensor:
    parent, _, leaf = name.rpartition(".")
    return getattr(module.get_submodule(parent), leaf)


def change_weight(module: GraphModule, random: np.random.Generator) -> None:
    """Other numbers, another memory layout, another type, or another shape."""
    name = pick(_weights(module), random)
    old = _get(module, name)
    plain = old.detach().clone()
    changed = WEIGHTS[int(random.integers(len(WEIGHTS)))](plain, random)
    _set(module, name, changed, old)


def _with_number(number: float) -> Callable[[torch.Tensor, np.random.Generator], torch.Tensor]:
    def change(weight: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
        flat = weight.contiguous().view(-1)
        if len(flat):
            flat[int(random.integers(len(flat)))] = number
        return flat.view(weight.shape)

    return change


WEIGHTS: tuple[Callable[[torch.Tensor, np.random.Generator], torch.Tensor], ...] = (
    *(_with_number(number) for number in (float("nan"), float("inf"), 1e30, -5.0, 1e-30)),
    lambda weight, random: torch.zeros_like(weight),
    lambda weight, random: weight.transpose(0, -1).contiguous().transpose(0, -1),
    lambda weight, random: weight[:1].expand(weight.shape),
    lambda weight, random: weight.flip(0),
    lambda weight, random: weight.to((torch.float64, torch.float16, torch.bfloat16)[int(random.integers(3))]),
    lambda weight, random: weight[:-1],
    lambda weight, random: torch.cat([weight, weight]),
    lambda weight, random: weight.unsqueeze(0),
)


def share_weight(module: GraphModule, random: np.random.Generator) -> None:
    """Two places read one weight."""
    nodes = [node for node in module.graph.nodes if node.op == "get_attr"]
    pick(nodes, random).target = pick(nodes, random).target


def change_argument(module: GraphModule, random: np.random.Generator) -> None:
    """Another stride, padding, dilation, number of groups, axis, or size."""
    nodes = [node for node in _calls(module) if any(_numbers(value) for value in node.args)]
    node = pick(nodes, random)
    index = pick([k for k, value in enumerate(node.args) if _numbers(value)], random)
    number = pick(NUMBERS, random)
    old = node.args[index]
    if isinstance(old, list | tuple):
        values = list(old)
        values[int(random.integers(len(values)))] = number
        node.update_arg(index, values)
    else:
        node.update_arg(index, number if not isinstance(old, bool) else not old)


def _numbers(value: object) -> bool:
    if isinstance(value, list | tuple):
        return bool(value) and all(isinstance(entry, int) for entry in value)
    return isinstance(value, int)


def change_operation(module: GraphModule, random: np.random.Generator) -> None:
    """Another operation with as many arguments."""
    groups = [(OPERATIONS, node) for node in _calls(module) if node.target in OPERATIONS]
    groups += [(PAIRS, node) for node in _calls(module) if node.target in PAIRS]
    others, node = pick(groups, random)
    node.target = pick(others, random)


def put_between(module: GraphModule, random: np.random.Generator) -> None:
    """One more operation after a value."""
    node = pick(_calls(module), random)
    with module.graph.inserting_after(node):
        more = module.graph.call_function(pick(OPERATIONS, random), (node,))
    node.replace_all_uses_with(more, delete_user_cb=lambda user: user is not more)


def remove(module: GraphModule, random: np.random.Generator) -> None:
    """One operation less: its first input takes its place."""
    node = pick([n for n in _calls(module) if n.args and isinstance(n.args[0], Node)], random)
    node.replace_all_uses_with(node.args[0])
    module.graph.erase_node(node)


def reconnect(module: GraphModule, random: np.random.Generator) -> None:
    """An input of an operation becomes another earlier value."""
    nodes = list(module.graph.nodes)
    node = pick([n for n in nodes if n.op == "call_function" and n.all_input_nodes], random)
    earlier = [n for n in nodes[: nodes.index(node)] if n.op in ("call_function", "placeholder")]
    node.replace_input_with(pick(node.all_input_nodes, random), pick(earlier, random))


CHANGES: tuple[Change, ...] = (
    change_weight,
    change_weight,
    share_weight,
    change_argument,
    change_argument,
    change_operation,
    put_between,
    remove,
    reconnect,
)
