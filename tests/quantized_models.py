"""Random networks in 8-bit integers, of every kind that can be quantized."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from network_specs import random_model
from onebranch.algebra.network import filled, run_layers, within
from onebranch.model.file import Model
from onebranch.spec.network import BlockSpec, NetworkSpec, Skip
from onebranch.spec.quantization import ACTIVATIONS, needs_raw

KERNELS = ("3x3", "1x1", "5x5", "3x3 nobias", "1x3", "5x3", "7x7")


@st.composite
def integer_specs(draw: st.DrawFn, deepest: int = 3) -> NetworkSpec:
    """Merged networks of any task, colour, residual, downsampling layer, kernel and width; skips that add,
    several into one block and one after another among them."""
    task = draw(st.sampled_from(["upscale", "downscale", "denoise"]))
    scale = 1 if task == "denoise" else draw(st.sampled_from([2, 3, 4]))
    downsampling = (
        draw(st.sampled_from(["convolution", "average", "unshuffle"])) if task == "downscale" else "none"
    )
    channels = draw(st.sampled_from([1, 3]))
    free = downsampling in ("convolution", "unshuffle")
    outputs = 5 if free else channels * (scale**2 if task == "upscale" else 1)
    depth = draw(st.integers(0, deepest))
    widths = [draw(st.sampled_from([3, 8])) for _ in range(depth + 1)]
    pairs = [(i, j) for j in range(depth + 1) for i in range(j) if widths[i] == widths[j]]
    skips = draw(st.lists(st.sampled_from(pairs), max_size=4)) if pairs else []
    body = [
        BlockSpec((draw(st.sampled_from(KERNELS)),), width, draw(st.sampled_from(ACTIVATIONS)))
        for width in widths
    ]
    return NetworkSpec(
        task=task,
        colour="y" if channels == 1 else "rgb",
        scale=scale,
        head=body[0],
        blocks=tuple(body[1:]),
        tail=BlockSpec((draw(st.sampled_from(KERNELS)),), outputs, "none"),
        skips=tuple(Skip(*pair) for pair in skips),
        residual=draw(st.sampled_from(["none", "nearest", "bicubic"])),
        downsampling=downsampling,
    )


def random_quantized(spec: NetworkSpec, seed: int = 0) -> Model:
    """A model with random weights, and ranges a little narrower than the values of a random picture need."""
    model = random_model(spec, seed, "quantized")
    return replace(model, quantization=crude_record(model, seed))


def crude_record(model: Model, seed: int = 0, tightness: float = 0.8) -> dict[str, Any]:
    """The record of the ranges of all values for one random picture, narrowed so that some values clip."""
    spec = model.spec
    picture = np.random.default_rng(seed).random((1, spec.channels, 12, 13))
    outputs = run_layers(
        spec, model.weights, filled(picture, spec.scale) if spec.task == "downscale" else picture
    )
    layers: list[dict[str, Any]] = []
    for index, ((raw, joined), name) in enumerate(zip(outputs, spec.names, strict=True)):
        layer: dict[str, Any] = {"name": name}
        if index > 0:
            weight = within(model.weights, name)["branches.0.0.weight"]
            layer["weight_scales"] = [float(v) / 127 for v in np.abs(weight).max((1, 2, 3)) + 1e-3]
        if index < len(spec.names) - 1:
            layer["output"] = _range(joined, tightness)
        if needs_raw(spec, index):
            layer["raw"] = _range(raw, tightness)
        layers.append(layer)
    return {"version": 1, "layers": layers}


def _range(values: np.ndarray, tightness: float) -> dict[str, Any]:
    low, high = min(0.0, float(values.min())) * tightness, max(0.0, float(values.max())) * tightness
    scale = (high - low) / 255 or 1.0
    return {"scale": scale, "zero_point": math.floor(-low / scale + 0.5)}
