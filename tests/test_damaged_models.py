"""No model ends in a traceback: damaged ONNX files and damaged PyTorch modules merge, or fail with one line.

A few are tried in the usual tests. `make slow` tries 1,000 files, 600 mutants of ten traced modules, and 60
modules that are traced themselves, all of fixed seeds. `make soak` tries 10,000 files, 10,000 mutants and
2,000 modules of new seeds. The counts are printed.
"""

import itertools
import os
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import onebranch
import traced_mutations
from onebranch.errors import OnebranchError
from onnx_networks import NETWORKS

SOAKS = os.environ.get("HYPOTHESIS_PROFILE") == "soak"

FEW_FILES, FEW_MODULES, FEW_MUTANTS = 150, 4, 12
MANY_FILES, MANY_MODULES = 10_000, (2_000 if SOAKS else 60)
MUTANTS, TRACED_STRUCTURES = (5_000 if SOAKS else 1_000), 10

CONSTANTS = (-1, 0, 1, 2, 3, 7, 1 << 31, -(1 << 40))
"""Numbers that replace attributes and sizes."""


def first_seed() -> int:
    """0, or a new number where the tests soak."""
    return int(time.time()) if SOAKS else 0


def originals() -> list[onnx.ModelProto]:
    """Small networks of every kind."""
    return [network(0) for network in NETWORKS.values()]


def damaged_file(models: list[onnx.ModelProto], seed: int) -> onnx.ModelProto:
    """A copy of one of the models in which one to three things are changed."""
    random = np.random.default_rng(seed)
    model = onnx.ModelProto()
    model.CopyFrom(models[int(random.integers(len(models)))])
    for _ in range(int(random.integers(1, 4))):
        DAMAGES[int(random.integers(len(DAMAGES)))](model.graph, random)
    return model


def pick(entries, random: np.random.Generator):
    """One of the entries, or None where there are none."""
    return entries[int(random.integers(len(entries)))] if len(entries) else None


def change_attribute(graph: onnx.GraphProto, random: np.random.Generator) -> None:
    attribute = pick([a for node in graph.node for a in node.attribute], random)
    if attribute is None:
        return
    value = CONSTANTS[int(random.integers(len(CONSTANTS)))]
    if attribute.ints:
        attribute.ints[int(random.integers(len(attribute.ints)))] = value
    elif attribute.type == onnx.AttributeProto.INT:
        attribute.i = value


def drop_attribute(graph: onnx.GraphProto, random: np.random.Generator) -> None:
    node = pick([node for node in graph.node if node.attribute], random)
    if node is not None:
        del node.attribute[int(random.integers(len(node.attribute)))]


def exchange_inputs(graph: onnx.GraphProto, random: np.random.Generator) -> None:
    node = pick([node for node in graph.node if node.input], random)
    names = [name for other in graph.node for name in (*other.input, *other.output)]
    if node is not None:
        node.input[int(random.integers(len(node.input)))] = pick(names, random)


def drop_input(graph: onnx.GraphProto, random: np.random.Generator) -> None:
    node = pick([node for node in graph.node if node.input], random)
    if node is not None:
        del node.input[int(random.integers(len(node.input)))]


def change_operation(graph: onnx.GraphProto, random: np.random.Generator) -> None:
    node, other = pick(graph.node, random), pick(graph.node, random)
    if node is not None:
        node.op_type = other.op_type


def drop_node(graph: onnx.GraphProto, random: np.random.Generator) -> None:
    if graph.node:
        del graph.node[int(random.integers(len(graph.node)))]


def change_weight_shape(graph: onnx.GraphProto, random: np.random.Generator) -> None:
    tensor = pick([t for t in graph.initializer if t.dims], random)
    if tensor is not None:
        tensor.dims[int(random.integers(len(tensor.dims)))] = int(random.integers(0, 9))


def change_weight_type(graph: onnx.GraphProto, random: np.random.Generator) -> None:
    tensor = pick(graph.initializer, random)
    if tensor is not None:
        tensor.data_type = int(random.integers(0, 20))


def change_input_shape(graph: onnx.GraphProto, random: np.random.Generator) -> None:
    dims = [d for value in graph.input for d in value.type.tensor_type.shape.dim]
    side = pick(dims, random)
    if side is not None:
        side.dim_value = CONSTANTS[int(random.integers(6))]


DAMAGES: tuple[Callable[[onnx.GraphProto, np.random.Generator], None], ...] = (
    change_attribute,
    drop_attribute,
    exchange_inputs,
    drop_input,
    change_operation,
    drop_node,
    change_weight_shape,
    change_weight_type,
    change_input_shape,
)


def outcomes(attempts: Iterator[Callable[[], object]]) -> Counter[str]:
    """The outcomes; any exception other than an OnebranchError of one line fails the test."""
    counts: Counter[str] = Counter()
    for attempt in attempts:
        try:
            _, report = attempt()
            counts["merged" if report.changed else "unmerged"] += 1
        except OnebranchError as error:
            counts["refused" if "\n" not in str(error) else "refused in several lines"] += 1
    assert "refused in several lines" not in counts
    print(f"\n{counts.total()} damaged models: {dict(counts)}")
    return counts


def files(count: int) -> Counter[str]:
    models, seed = originals(), first_seed()

    def attempts() -> Iterator[Callable[[], object]]:
        for number in range(count):
            model = damaged_file(models, seed + number)
            yield lambda model=model: onebranch.merge(model)

    return outcomes(attempts())


class Odd(torch.nn.Module):
    """A small module whose parts are drawn at random, and do not always fit."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.random = random = np.random.default_rng(seed)
        torch.manual_seed(seed)
        self.parts = torch.nn.ModuleList(self._part(random) for _ in range(int(random.integers(2, 5))))
        self.joins = random.integers(0, 9, len(self.parts)).tolist()

    def _part(self, random: np.random.Generator) -> torch.nn.Module:
        width = 4 if random.random() < 0.9 else 3
        kernel, padding, stride = (int(n) for n in (random.integers(1, 4), random.integers(0, 2), 1))
        parts = (
            lambda: torch.nn.Conv2d(4, width, kernel, stride, padding),
            lambda: torch.nn.Conv2d(4, 4, kernel, 1, padding, dilation=2, groups=2),
            lambda: torch.nn.BatchNorm2d(width),
            lambda: torch.nn.ReLU(inplace=True),
            lambda: torch.nn.AvgPool2d(kernel, 1, 0),
            lambda: torch.nn.ConvTranspose2d(4, 4, kernel, 1, 0),
            lambda: torch.nn.Dropout(0.5),
            lambda: torch.nn.Linear(width, 4),
            torch.nn.Identity,
        )
        return parts[int(random.integers(len(parts)))]()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for part, join in zip(self.parts, self.joins, strict=True):
            y = part(x)
            if join == 0:
                x = x + y
            elif join == 1:
                x = torch.cat([x, y], 1)[:, ::2]
            elif join == 2:
                y[:, :, :1] = 0
                x = y
            elif join == 3:
                x = y * torch.nan
            elif join == 4 and float(y.mean()) > 0:
                x = y
            elif join == 5:
                x = y.view(len(y), 2, -1, *y.shape[2:]).transpose(1, 2).reshape(y.shape)
            else:
                x = y
        return x


def modules(count: int) -> Counter[str]:
    seed, example = first_seed(), torch.rand(1, 4, 7, 7)
    return outcomes(
        lambda number=number: onebranch.merge(Odd(seed + number).eval(), example) for number in range(count)
    )


def test_no_damaged_file_ends_in_a_traceback():
    assert len(files(FEW_FILES)) > 1


def test_no_odd_module_ends_in_a_traceback():
    assert modules(FEW_MODULES).total() == FEW_MODULES


def mutants(first: int, count: int, structures: int) -> Counter[str]:
    seeds = itertools.islice(itertools.count(first_seed() + first), count)
    return traced_mutations.outcomes(traced_mutations.originals(structures), seeds)


def test_no_mutant_of_a_traced_module_ends_in_a_traceback():
    assert mutants(0, FEW_MUTANTS, 1).total() == FEW_MUTANTS


@pytest.fixture
def limited_memory() -> Iterator[None]:
    """At most 6 GiB of addresses more: a damaged file may declare a value of any size."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * resource.getpagesize() + (6 << 30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.slow
@pytest.mark.usefixtures("limited_memory")
def test_no_damaged_file_of_many_ends_in_a_traceback():
    assert len(files(MANY_FILES)) == 3


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.usefixtures("limited_memory")
@pytest.mark.parametrize("first", [0, 10_000 if SOAKS else 1_000])
def test_no_mutant_of_many_ends_in_a_traceback(first):
    counts = mutants(first, MUTANTS, TRACED_STRUCTURES)
    assert counts["merged"] > MUTANTS / 5 and counts["unmerged"]


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_no_odd_module_of_many_ends_in_a_traceback():
    assert len(modules(MANY_MODULES)) == 3
