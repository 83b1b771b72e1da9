"""Random networks of the family that the native engine runs, and their int8 records."""

import numpy as np
from hypothesis import strategies as st

from benchmarks.networks import random_model
from onebranch.model.file import Model
from onebranch.spec.network import BlockSpec, NetworkSpec, Skip
from onebranch.spec.quantization import Quantization, QuantizedLayer, QuantParams, needs_raw

KERNELS = ("3x3", "1x1", "5x5", "7x7", "3x1", "1x5")
ACTIVATIONS = ("prelu", "relu", "leaky_relu", "none")


@st.composite
def specs(draw: st.DrawFn) -> NetworkSpec:
    """Any task, colour, residual, kernel, activation and additive skips; small widths."""
    task = draw(st.sampled_from(("upscale", "downscale", "denoise")))
    colour = draw(st.sampled_from(("y", "rgb")))
    scale = 1 if task == "denoise" else draw(st.integers(2, 4))
    channels = 1 if colour == "y" else 3
    depth = draw(st.integers(0, 4))
    skips = draw(st.booleans()) and depth > 0
    one_width = draw(st.integers(1, 19))
    widths = [one_width if skips else draw(st.integers(1, 19)) for _ in range(depth + 1)]
    head, *blocks = (
        BlockSpec((draw(st.sampled_from(KERNELS)),), width, draw(activations)) for width in widths
    )
    downsampling = draw(st.sampled_from(("convolution", "average", "unshuffle")))
    downsampling = downsampling if task == "downscale" else "none"
    free = downsampling in ("convolution", "unshuffle")
    factor = scale**2 if task == "upscale" else 1
    width = draw(st.integers(1, 9)) if free else channels * factor
    pairs = [(i, j) for j in range(1, depth + 1) for i in range(j)] if skips else []
    chosen = draw(st.lists(st.sampled_from(pairs), max_size=3, unique=True)) if pairs else []
    return NetworkSpec(
        task=task,
        colour=colour,
        scale=scale,
        head=head,
        blocks=tuple(blocks),
        tail=BlockSpec((draw(st.sampled_from(KERNELS)),), width, "none"),
        skips=tuple(Skip(i, j) for i, j in chosen),
        residual=draw(st.sampled_from(("none", "nearest", "bicubic"))),
        downsampling=downsampling,
    )


activations = st.sampled_from(ACTIVATIONS)
sizes = st.tuples(st.integers(1, 40), st.integers(1, 90))
seeds = st.integers(0, 2**32 - 1)


def model_of(spec: NetworkSpec, seed: int) -> Model:
    """The network with random weights."""
    return random_model(spec, np.random.default_rng(seed))


def quantized(model: Model, seed: int) -> Model:
    """The model with a record of plausible, random ranges: their quality does not matter."""
    random = np.random.default_rng(seed)
    layers = []
    for index, (name, _, _) in enumerate(model.spec.walk()):
        is_tail = index == len(model.spec.names) - 1
        weight = np.abs(model.weights[f"{name}.branches.0.0.weight"]).max((1, 2, 3)).astype(np.float64)
        scales = tuple(
            float(w) for w in np.maximum(weight, 1e-6) / 127 * random.uniform(0.7, 1.3, len(weight))
        )
        layers.append(
            QuantizedLayer(
                name=name,
                weight_scales=scales if index else None,
                output=None if is_tail else _range(random),
                raw=_range(random) if needs_raw(model.spec, index) else None,
            )
        )
    record = Quantization(version=1, layers=tuple(layers))
    import msgspec

    return Model(model.spec, model.weights, quantization=msgspec.to_builtins(record))


def _range(random: np.random.Generator) -> QuantParams:
    return QuantParams(scale=float(random.uniform(2, 8) / 255), zero_point=int(random.integers(0, 256)))
