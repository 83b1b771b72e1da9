"""Merging a PyTorch module: it is traced, merged by its graph, written as a new module, and compared."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.fx import GraphModule
from torch.utils import _pytree

from onebranch.errors import OnebranchError
from onebranch.graph.merge.cost import cost_of_step
from onebranch.graph.merge.rewriting import Rules, merge_regions
from onebranch.graph.torch.linear import read_linear
from onebranch.graph.torch.rewriting import rewritten
from onebranch.graph.torch.tracing import trace, unwrapped
from onebranch.merging.check import Run, check, check_repeats
from onebranch.merging.report import GraphReport, all_unmerged
from onebranch.progress import StepProgress, never_falling, no_progress, part_of

STRETCHES = (
    *((1, 1), (1, 3), (5, -1), (32, 64), (-32, 32), (64, 0)),
    *((0, 0), (0, 0)),
)
"""Numbers added to the example's open heights and widths, in the order in which these sizes are tried."""


MODULE_STEP_SHARES = 0.5, 0.6, 0.9
"""Shares of a merge that are completed, about, when the module is traced, when its operations are read, and
when the regions are proven."""

TRACING_SECONDS = 2.0
"""Tracing that takes longer is announced on a terminal."""


def merge_module(
    module: torch.nn.Module | torch.export.ExportedProgram,
    example_inputs: Any,
    rules: Rules,
    progress: StepProgress = no_progress,
) -> tuple[torch.nn.Module, GraphReport]:
    """The merged module, a new one, and the report; the given module is not changed.

    Where nothing can be merged, the new module is the traced one. progress: called with the current step and
    the completed share, which ends at 1. Raises OnebranchError where the module cannot be traced, a proof
    fails, or the outputs differ.
    """
    report = never_falling(progress)
    examples = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    name = type(module).__name__
    with _explained(name):
        original = unwrapped(module)
        report(f"tracing {name}", 0)
        with _announced(name, progress):
            traced = trace(original, examples)
        return merge_traced(traced, original, examples, rules, report)


def merge_traced(
    traced: GraphModule,
    original: torch.nn.Module,
    examples: tuple[Any, ...],
    rules: Rules,
    progress: StepProgress = no_progress,
) -> tuple[torch.nn.Module, GraphReport]:
    """The merged module and the report, for a module whose trace is given; see `merge_module`."""
    progress("reading the module's operations", MODULE_STEP_SHARES[0])
    graph = read_linear(traced)
    regions = merge_regions(graph, rules, part_of(progress, *MODULE_STEP_SHARES[1:]))
    merged = rewritten(traced, graph, regions)
    macs = sum(cost_of_step(step, graph.planes).macs for step in graph.steps)
    saved = sum(region.before.macs - region.after.macs for region in regions)
    report = GraphReport(
        regions=regions,
        unmerged=all_unmerged(graph.unmerged, regions),
        convolutions=(_convolutions(traced), _convolutions(merged)),
        parameters=(_parameters(traced), _parameters(merged)),
        macs=(macs, macs - saved),
        check=None,
        size_limits=(*_fixed_sizes(traced), *_guarded_sizes(traced, examples)),
    )
    # Compared even if nothing was merged: numbers that Python code computed are constants in the trace.
    run = _runner(original, examples)
    check_repeats(run, next(_inputs(traced, examples)))
    comparing = part_of(progress, MODULE_STEP_SHARES[2], 1)
    compared = check(run, _runner(merged, examples), _inputs(traced, examples), progress=comparing)
    progress("the module is merged", 1)
    return merged, replace(report, check=compared)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """A context in which every error is an OnebranchError of one line, with the original one as its cause."""
    try:
        yield
    except OnebranchError:
        raise
    except MemoryError as error:
        raise OnebranchError(f"merging {name} needs more memory than there is: {error}") from None
    except Exception as error:
        message = next((line for line in str(error).splitlines() if line.strip()), "")
        raise OnebranchError(
            f"{name} cannot be merged: {type(error).__name__}: {message}; if the module runs on these inputs,"
            " this is a bug of onebranch"
        ) from error


@contextmanager
def _announced(name: str, progress: StepProgress) -> Iterator[None]:
    """A context that writes one line to a terminal if it takes longer than `TRACING_SECONDS`.

    A caller who passes a progress function shows it in another way; then nothing is written.
    """
    if progress is not no_progress or not sys.stderr.isatty():
        yield
        return
    text = f"onebranch: torch.export is tracing {name}; large modules take minutes\n"
    timer = threading.Timer(TRACING_SECONDS, sys.stderr.write, (text,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _convolutions(module: GraphModule) -> int:
    layers = dict(module.named_modules())
    return sum(
        isinstance(layers.get(str(node.target)), torch.nn.Conv2d)
        if node.op == "call_module"
        else "conv" in str(node.target) and node.op == "call_function"
        for node in module.graph.nodes
    )


def _parameters(module: GraphModule) -> int:
    """The number of elements of the floating-point parameters and buffers that the graph reads."""
    read = {str(node.target) for node in module.graph.nodes if node.op in ("get_attr", "call_module")}
    numbers = {}
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if (name in read or name.rpartition(".")[0] in read) and tensor.is_floating_point():
            numbers[tensor.data_ptr() if tensor.numel() else name] = tensor.numel()
    return sum(numbers.values())


def _fixed_sizes(module: GraphModule) -> Iterator[str]:
    """Sentences about inputs whose height or width is fixed by the module's own code."""
    for node in module.graph.nodes:
        value = node.meta.get("val") if node.op == "placeholder" else None
        if isinstance(value, torch.Tensor) and value.ndim == 4:
            fixed = [side for side in value.shape[2:] if isinstance(side, int)]
            if fixed:
                sides = "x".join(str(side) if isinstance(side, int) else "any" for side in value.shape[2:])
                yield f"the module's code fixes the size of its input '{node.name}' to {sides}"


def _guarded_sizes(traced: GraphModule, examples: tuple[Any, ...]) -> list[str]:
    """Sentences about sizes for which the trace does not hold: the module's code reads them as numbers."""
    guards = getattr(traced, "_guards_fn", None)
    if guards is None:
        return []
    larger = [_larger(leaf) for leaf in _pytree.tree_leaves(examples)]
    conditions = [text for text in guards.violated(larger) if ".size()[2]" in text or ".size()[3]" in text]
    return [
        f"the merged module works only for inputs with {text}; its code reads sizes as numbers"
        for text in conditions
    ]


def _larger(leaf: Any) -> Any:
    """A picture of another height and width, without content."""
    if not isinstance(leaf, torch.Tensor) or leaf.ndim != 4:
        return leaf
    n, channels, height, width = leaf.shape
    return torch.empty((max(n, 2), channels, height + 48, width + 96), dtype=leaf.dtype, device="meta")


def _runner(module: torch.nn.Module, examples: tuple[Any, ...]) -> Run:
    """A function that runs the module on arrays in the order of the examples' tensors."""
    leaves, structure = _pytree.tree_flatten(examples)
    positions = [index for index, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]

    def run(values: list[np.ndarray]) -> list[np.ndarray]:
        given = list(leaves)
        for position, value in zip(positions, values, strict=True):
            given[position] = torch.from_numpy(value.copy()).to(
                leaves[position].device, leaves[position].dtype
            )
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            outputs = module(*_pytree.tree_unflatten(given, structure))
        results = _pytree.tree_leaves(outputs)
        return [_array(value) for value in results if isinstance(value, torch.Tensor)]

    return run


def _array(tensor: torch.Tensor) -> np.ndarray:
    """The tensor as an array; bfloat16, which numpy does not have, becomes float32."""
    plain = tensor.detach().cpu()
    return np.asarray((plain.float() if plain.dtype == torch.bfloat16 else plain).numpy())


def _inputs(traced: GraphModule, examples: tuple[Any, ...]) -> Iterator[list[np.ndarray]]:
    """Random inputs of the example's size, and of other sizes where they are open; always the same."""
    values = [node.meta["val"] for node in traced.graph.nodes if node.op == "placeholder"]
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    leaves = [leaf for leaf in _pytree.tree_leaves(examples) if isinstance(leaf, torch.Tensor)]
    random = np.random.default_rng(0)
    for stretch in ((0, 0), *STRETCHES):
        yield [_random(value, leaf, stretch, random) for value, leaf in zip(tensors, leaves, strict=True)]


def _random(
    value: torch.Tensor, leaf: torch.Tensor, stretch: tuple[int, int], random: np.random.Generator
) -> np.ndarray:
    shape = list(leaf.shape)
    if len(shape) == 4:
        for axis, more in zip((2, 3), stretch, strict=True):
            if not isinstance(value.shape[axis], int):
                shape[axis] = max(1, shape[axis] + more)
    if leaf.dtype.is_floating_point:
        return _array(torch.from_numpy(random.random(shape)).to(leaf.dtype))
    return _array(leaf)
