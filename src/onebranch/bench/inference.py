"""Unmerged against merged: time and parameters of the same network, in every runtime at hand."""

import importlib.util
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from onebranch.bench.interleaved import interleaved, ratio
from onebranch.merging.own import merge_model
from onebranch.model import catalogue
from onebranch.model.file import Model, expected_tensors, read
from onebranch.runtime.selection import open_runtime
from onebranch.spec.network import NetworkSpec, macs, parameters
from onebranch.spec.shorthand import NetworkShorthand, expand

HEIGHT, WIDTH = 540, 960
"""Size of the input, a quarter of a full-HD frame, in pixels."""


@dataclass(frozen=True)
class Row:
    """One network in one runtime: medians in milliseconds, and the median ratio of a round."""

    network: str
    runtime: str
    unmerged_ms: float
    merged_ms: float
    faster: float
    parameters: tuple[int, int]
    macs: tuple[int, int]


def compare(networks: list[str], rounds: int, threads: int | None) -> list[Row]:
    """Every network, unmerged and merged, in every runtime that is installed, in one interleaved run."""
    rows = []
    for network in networks:
        original = branch_form(network)
        merged, _ = merge_model(original)
        rows += _rows(network, original, merged, rounds, threads)
    return rows


def _rows(network: str, original: Model, merged: Model, rounds: int, threads: int | None) -> list[Row]:
    picture = np.random.default_rng(0).random((1, original.spec.channels, HEIGHT, WIDTH), np.float32)
    names = ["onnxruntime"] + ["torch"] * (importlib.util.find_spec("torch") is not None)
    forms = {"unmerged": original, "merged": merged}
    opened = {(n, f): open_runtime(m, n, threads) for n in names for f, m in forms.items()}
    runs = {f"{n} {f}": lambda r=runtime: r.run(picture) for (n, f), runtime in opened.items()}
    seconds = interleaved(runs, rounds)
    sizes = parameters(original.spec), parameters(merged.spec)
    work = macs(original.spec), macs(merged.spec)
    return [
        Row(
            network,
            name,
            1e3 * median(seconds[f"{name} unmerged"]),
            1e3 * median(seconds[f"{name} merged"]),
            ratio(seconds[f"{name} unmerged"], seconds[f"{name} merged"]),
            sizes,
            work,
        )
        for name in names
    ]


def branch_form(network: str) -> Model:
    """A shipped model as it was trained, or a preset's 4 x 16 network for x2 with random weights."""
    if network in catalogue.CATALOGUE:
        return read(catalogue.find(f"{network}-branches"))
    return random_model(expand(NetworkShorthand(task="upscale", branches=network)), np.random.default_rng(0))


def random_model(spec: NetworkSpec, rng: np.random.Generator) -> Model:
    """A model with random weights of sensible size and random BN statistics."""
    weights: dict[str, Any] = {}
    for name, shape in expected_tensors(spec).items():
        if name.endswith("running_var"):
            values = rng.uniform(0.5, 2, shape)
        elif len(shape) == 4:
            values = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        else:
            values = rng.uniform(0.1, 0.5, shape)
        weights[name] = values.astype(np.float32)
    return Model(spec=spec, weights=weights)
