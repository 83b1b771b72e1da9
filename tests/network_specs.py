"""Random networks of every kind, with demanding weights: statistics far from 0 and 1, biases everywhere."""

import math

import numpy as np
from hypothesis import strategies as st

from onebranch.errors import OnebranchError
from onebranch.model.file import Model, expected_tensors
from onebranch.spec.network import BlockSpec, NetworkSpec, Skip
from onebranch.spec.shorthand import NetworkShorthand, expand

BRANCHES = (
    *("3x3", "1x1", "5x3 nobias", "3x3*2 bn 1x1", "1x1 3x3", "1x1*2 bn 3x3*2 nobias bn 1x1", "3x3 5x5"),
    *(
        "3x3 d2",
        "1x1*2 3x3*2 g2 1x1",
        "1x1*2 3x3*2 dw bn 1x1",
        "1x1 sobel_x",
        "1x1 sobel_y bn",
        "1x1 laplacian",
    ),
    *("1x1 bn avg3x3 bn", "avg3x3 1x1 bn", "1x3 bn 3x1"),
)
"""Branches that fit any input and output width."""

SAME_WIDTH = ("identity", "identity bn", "laplacian", "avg3x1", "3x3 dw nobias bn", "sobel_x bn")
"""Branches that keep the width."""

ACTIVATIONS = ("prelu", "relu", "leaky_relu", "silu", "gelu", "none")


def random_weights(spec: NetworkSpec, seed: int) -> dict[str, np.ndarray]:
    """Weights that keep the values' magnitude; statistics, biases and slopes far from neutral."""
    rng = np.random.default_rng(seed)
    return {name: _random(name, shape, rng) for name, shape in expected_tensors(spec).items()}


def _random(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    if name.endswith("running_var"):
        return rng.uniform(0.3, 3, shape).astype(np.float32)
    spread = 1.4 / math.sqrt(math.prod(shape[1:])) if len(shape) == 4 else 0.5
    return rng.normal(0, spread, shape).astype(np.float32)


def random_model(spec: NetworkSpec, seed: int = 0, name: str = "") -> Model:
    """A model of that spec with random weights."""
    return Model(spec, random_weights(spec, seed), name)


def calm_model(colour: str = "y", **options: object) -> Model:
    """A model whose output is near its input, so that outputs are rounded but not clipped."""
    usual = {"width": 4, "depth": 1, "branches": "plain", "residual": "bicubic"}
    spec = expand(NetworkShorthand(**usual | options, colour=colour))
    weights = {name: value * np.float32(0.3) for name, value in random_weights(spec, 0).items()}
    return Model(spec, weights, "calm")


@st.composite
def blocks(draw: st.DrawFn, inputs: int, width: int, activation: str | None = None) -> BlockSpec:
    """A block of one to three branches from `inputs` to `width` channels."""
    choices = BRANCHES + (SAME_WIDTH if inputs == width else ())
    branches = draw(st.lists(st.sampled_from(choices), min_size=1, max_size=3))
    return BlockSpec(tuple(branches), width, activation or draw(st.sampled_from(ACTIVATIONS)))


@st.composite
def network_specs(draw: st.DrawFn) -> NetworkSpec:
    """Any task, colour, residual and downsampling layer, blocks of varying width, skips."""
    task = draw(st.sampled_from(["upscale", "downscale", "denoise"]))
    scale = 1 if task == "denoise" else draw(st.sampled_from([2, 3, 4]))
    layers = ["convolution", "average", "unshuffle"]
    downsampling = draw(st.sampled_from(layers)) if task == "downscale" else "none"
    channels = draw(st.sampled_from([1, 3]))
    free = downsampling in ("convolution", "unshuffle")
    outputs = 2 if free else channels * (scale**2 if task == "upscale" else 1)
    depth = draw(st.integers(0, 2))
    widths = [draw(st.sampled_from([2, 4])) for _ in range(depth + 1)]
    skips = draw(_skips(widths))
    before = [channels, *(_joined(widths, skips, index) for index in range(depth + 1))]
    body = [draw(blocks(before[k], width)) for k, width in enumerate(widths)]
    try:
        return NetworkSpec(
            task=task,
            colour="y" if channels == 1 else "rgb",
            scale=scale,
            head=body[0],
            blocks=tuple(body[1:]),
            tail=draw(blocks(before[-1], outputs, "none")),
            skips=skips,
            residual=draw(st.sampled_from(["none", "nearest", "bicubic"])),
            downsampling=downsampling,
        )
    except OnebranchError as error:
        raise AssertionError(f"the strategy drew a spec that does not fit: {error}") from error


@st.composite
def _skips(draw: st.DrawFn, widths: list[int]) -> tuple[Skip, ...]:
    pairs = [(i, j) for j in range(len(widths)) for i in range(j)]
    chosen = draw(st.lists(st.sampled_from(pairs), max_size=3)) if pairs else []
    joins = ("add", "concatenate")
    equal = {pair: widths[pair[0]] == widths[pair[1]] for pair in pairs}
    return tuple(
        Skip(i, j, draw(st.sampled_from(joins)) if equal[i, j] else "concatenate") for i, j in chosen
    )


def _joined(widths: list[int], skips: tuple[Skip, ...], index: int) -> int:
    wide = (s for s in skips if s.target == index and s.join == "concatenate")
    return widths[index] + sum(widths[skip.source] for skip in wide)
