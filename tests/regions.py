"""Branches with random tensors: as maps by the definition, and as one convolution by the laws."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onebranch.algebra.branch import collapse, total
from onebranch.algebra.conv import Conv
from onebranch.algebra.definition import run_branch, tensor_names
from onebranch.proof.basis import Map
from onebranch.proof.structure import Structure, structure
from onebranch.spec.branch import Branch, Convolution, parse


@dataclass(frozen=True)
class Region:
    """Valid arguments of `prove`; tests change one of them."""

    branches: tuple[Map, ...]
    merged: Conv
    stored: Conv
    structure: Structure


def region(texts: Sequence[str], inputs: int, width: int, seed: int = 0) -> Region:
    """A region of branches from `inputs` to `width` channels, with statistics far from neutral."""
    rng = np.random.default_rng(seed)
    branches = [parse(text) for text in texts]
    tensors = [random_tensors(branch, inputs, width, rng) for branch in branches]
    pairs = list(zip(branches, tensors, strict=True))
    merged = total([collapse(branch, values, np.zeros(1), inputs, width) for branch, values in pairs])
    maps = tuple(_run(branch, values, width) for branch, values in pairs)
    return Region(maps, merged, rounded(merged), structure(branches))


def rounded(conv: Conv) -> Conv:
    """The convolution in float32."""
    return Conv(conv.weight.astype(np.float32), conv.bias.astype(np.float32), conv.groups)


def random_tensors(
    branch: Branch, inputs: int, width: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Float64 arrays of float32 values, by names such as "0.weight"."""
    tensors = {}
    current = inputs
    for index, (step, outputs) in enumerate(zip(branch.steps, branch.channels(inputs, width), strict=True)):
        for name in tensor_names(step):
            values = rng.normal(0, 0.5, outputs)
            if isinstance(step, Convolution) and name == "weight":
                shape = (outputs, current // (step.groups or current), *step.kernel)
                values = rng.normal(0, 1.4 / math.sqrt(math.prod(shape[1:])), shape)
            elif name == "running_var":
                values = rng.uniform(0.3, 3, outputs)
            tensors[f"{index}.{name}"] = values.astype(np.float32).astype(np.float64)
        current = outputs
    return tensors


def _run(branch: Branch, tensors: dict[str, np.ndarray], width: int) -> Map:
    return lambda pictures: run_branch(branch, tensors, pictures, width)
