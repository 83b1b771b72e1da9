"""The networks that benchmarks run, each in three forms: with its branches, merged, and in 8-bit integers.

Networks that are not shipped have random weights, which take the same time.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onebranch.algebra.network import activate, within
from onebranch.blocks.merge import merge_network
from onebranch.blocks.plan import MergePlan
from onebranch.errors import OnebranchError, nearest
from onebranch.model import catalogue
from onebranch.model.file import Model, expected_tensors
from onebranch.quantization.layers import convolved, plain_record
from onebranch.spec.network import NetworkSpec
from onebranch.spec.presets import PRESETS
from onebranch.spec.quantization import (
    MAX_LEVEL,
    MAX_WEIGHT_LEVEL,
    Quantization,
    QuantizedLayer,
    QuantParams,
    reason_against,
)
from onebranch.spec.shorthand import NetworkShorthand, expand

CALIBRATION_EDGE = 48
"""Edge in pixels of the random picture from which rough quantization parameters are taken."""

PHOTO_X2_BRANCHES = ("3x3*8 1x1", "1x1*2 3x3", "3x3", "identity")
"""The branches of a block of photo-x2 during training."""


@dataclass(frozen=True)
class Network:
    """A network in its forms.

    unmerged: None if another network costs the same. quantized: None if it cannot be quantized. shipped: True
    if it was trained, so that its scores mean something.
    """

    name: str
    description: str
    unmerged: Model | None
    merged: Model
    quantized: Model | None
    shipped: bool = False


def _random(name: str, description: str, **facts: Any) -> Network:
    """An upscaling network with random weights, truly merged, and quantized with rough parameters."""
    unmerged = random_model(expand(NetworkShorthand(task="upscale", **facts)), np.random.default_rng(0))
    result = merge_network(unmerged.spec, unmerged.weights, MergePlan())
    merged = Model(spec=result.spec, weights=result.weights, name=name)
    quantized = None if reason_against(merged.spec) else roughly_quantized(merged)
    return Network(name, description, replace(unmerged, name=name), merged, quantized)


def _photo_x2() -> Network:
    unmerged, merged, quantized = (
        catalogue.load(name) for name in ("photo-x2-branches", "photo-x2", "photo-x2-int8")
    )
    return Network("photo-x2", "luma, 4 x 16, PReLU", unmerged, merged, quantized, shipped=True)


def _photo_x4() -> Network:
    """A shipped model; its branches, which are not shipped, have random weights."""
    merged, quantized = (catalogue.load(name) for name in ("photo-x4", "photo-x4-int8"))
    short = NetworkShorthand(task="upscale", scale=4, branches=PHOTO_X2_BRANCHES, residual="nearest")
    unmerged = random_model(expand(short), np.random.default_rng(0))
    return Network("photo-x4", "luma, 4 x 16, PReLU", unmerged, merged, quantized, shipped=True)


def _wide(colour: str, depth: int, width: int, scale: int) -> Network:
    words = {"y": "luma", "rgb": "RGB"}[colour]
    facts = {"colour": colour, "depth": depth, "width": width, "scale": scale, "residual": "nearest"}
    name = f"{colour}-{depth}x{width}-x{scale}"
    return _random(name, f"{words}, {depth} x {width}, PReLU, from repvgg", **facts, branches="repvgg")


def _leaky() -> Network:
    facts = {"branches": PHOTO_X2_BRANCHES, "residual": "nearest", "activation": "leaky_relu"}
    return replace(_random("leaky-x2", "photo-x2 with leaky ReLU", **facts), unmerged=None)


def _preset(name: str) -> Network:
    return _random(name, "luma, 4 x 16, PReLU", branches=name)


NETWORKS: dict[str, Callable[[], Network]] = {
    "photo-x2": _photo_x2,
    "leaky-x2": _leaky,
    "photo-x4": _photo_x4,
    "rgb-10x32-x2": lambda: _wide("rgb", 10, 32, 2),
    "rgb-10x32-x4": lambda: _wide("rgb", 10, 32, 4),
    "rgb-8x24-x2": lambda: _wide("rgb", 8, 24, 2),
    "rgb-16x64-x2": lambda: _wide("rgb", 16, 64, 2),
    "rgb-32x64-x2": lambda: _wide("rgb", 32, 64, 2),
    "y-16x64-x2": lambda: _wide("y", 16, 64, 2),
    "y-16x64-x4": lambda: _wide("y", 16, 64, 4),
    "patent": lambda: _preset("patent"),
}
"""Every network by the name that users write; names of presets are accepted too."""

DEFAULT_NETWORKS = ("photo-x2", "leaky-x2", "photo-x4", "rgb-10x32-x2", "y-16x64-x2", "patent")
"""The networks that run when none is named: all except those that repeat another with a larger scale."""


def select_networks(names: tuple[str, ...]) -> list[str]:
    """Names of networks to run: the given ones, the default ones if none is given, every one for `all`.

    Raises OnebranchError, with the nearest name, for an unknown one.

    >>> select_networks(("patent", "photo-x2"))
    ['patent', 'photo-x2']
    """
    known = [*NETWORKS, *(preset for preset in PRESETS if preset not in NETWORKS)]
    for name in names:
        if name not in (*known, "all"):
            raise OnebranchError(f"unknown network '{name}'; {nearest(name, ['all', *known])}")
    if "all" in names:
        return list(NETWORKS)
    return list(dict.fromkeys(names)) or list(DEFAULT_NETWORKS)


def network(name: str) -> Network:
    """The network of that name; for a preset its 4 x 16 network for x2."""
    return NETWORKS[name]() if name in NETWORKS else _preset(name)


def random_model(spec: NetworkSpec, rng: np.random.Generator) -> Model:
    """A model with random weights of realistic magnitude and random BN statistics."""
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


def roughly_quantized(model: Model) -> Model:
    """A merged model without skips in 8 bits, for timing: quantized for the values of one random picture."""
    assert not model.spec.skips, "values before additions are not measured"
    value = np.random.default_rng(0).random(
        (model.spec.channels, CALIBRATION_EDGE, CALIBRATION_EDGE), np.float32
    )
    layers = []
    for name, block, _ in model.spec.walk():
        tensors = within(model.weights, name)
        value = activate(block.activation, convolved(tensors, value), tensors)
        layers.append(
            QuantizedLayer(
                name=name,
                weight_scales=None if name == "head" else _weight_scales(tensors["branches.0.0.weight"]),
                output=None if name == "tail" else _quant_params(value),
            )
        )
    return replace(model, quantization=plain_record(Quantization(version=1, layers=tuple(layers))))


def _weight_scales(weight: np.ndarray) -> tuple[float, ...]:
    peaks = np.maximum(np.abs(weight).max((1, 2, 3)), 1e-6)
    return tuple(float(peak) / MAX_WEIGHT_LEVEL for peak in peaks)


def _quant_params(value: np.ndarray) -> QuantParams:
    low, high = min(float(value.min()), 0.0), max(float(value.max()), 1e-6)
    scale = (high - low) / MAX_LEVEL
    return QuantParams(scale, min(max(round(-low / scale), 0), MAX_LEVEL))
