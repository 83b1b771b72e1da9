"""The validation PSNR of a run: averaged weights on whole pictures."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from onebranch.spec.network import NetworkSpec
from onebranch.training import ema
from onebranch.training.config import Data
from onebranch.training.crops import channels_first
from onebranch.training.degradation import Degradation, degrade
from onebranch.training.objective import Objective, enlarged_again
from onebranch.training.picture_cache import Pairs, load_pairs, validation_source
from onebranch.training.process import Process
from onebranch.training.state import State

VALIDATION_SIGMA = 25.0
"""Noise level (8-bit grey levels) of the validation PSNR of a denoiser."""


MINIMUM_SIDE = 3
"""Shortest side of a validation picture, in low-resolution pixels: one pixel inside the border."""


def validation_pairs(data: Data, spec: NetworkSpec) -> Pairs | None:
    """The pictures for validation; None if the config names none."""
    if not data.validation:
        return None
    pairs = load_pairs(validation_source(data, spec), spec, Path(data.cache), MINIMUM_SIDE)
    first = slice(data.validation_pictures)
    low = None if pairs.low is None else pairs.low[first]
    return replace(pairs, names=pairs.names[first], high=pairs.high[first], low=low)


@torch.no_grad()
def validated(
    state: State,
    pairs: Pairs,
    objective: Objective,
    spec: NetworkSpec,
    degradation: Degradation | None,
    process: Process,
    inputs: Iterable[Tensor],
) -> float:
    """Mean PSNR in dB of the averaged weights, unrounded, `scale` pixels of border cropped.

    inputs: batches for the averaged network's own population statistics, used until BN is frozen. With a
    restorer, the PSNR is measured after reducing and enlarging again.
    """
    if not state.frozen:
        ema.estimate_statistics(state.average, inputs)
    state.average.eval()
    restorer = objective.restorer_of(state.average)
    scores = []
    for index, high in enumerate(pairs.high):
        low = None if pairs.low is None else pairs.low[index]
        given, expected = (
            process.tensor(half[None]) for half in _whole_pair(spec, high, low, degradation, index)
        )
        outputs = state.average(given)
        if restorer is not None:
            outputs, expected = enlarged_again(restorer, outputs, given.shape), given
        scores.append(_psnr(outputs.clamp(0, 1) - expected, spec))
    return round(float(np.mean(scores)), 4)


def _psnr(difference: Tensor, spec: NetworkSpec) -> float:
    edge = slice(None) if spec.task == "denoise" else slice(spec.scale, -spec.scale)
    error = difference[..., edge, edge].square().mean()
    return float(-10 * torch.log10(error.clamp_min(1e-12)))


def _whole_pair(
    spec: NetworkSpec,
    high: np.ndarray,
    low: np.ndarray | None,
    degradation: Degradation | None,
    index: int,
) -> tuple[np.ndarray, np.ndarray]:
    large = channels_first(high, spec.colour)
    if degradation is not None:
        low = degrade(high, spec.scale, degradation, np.random.default_rng(index))
    if low is not None:
        small = channels_first(low, spec.colour)
        return (large, small) if spec.task == "downscale" else (small, large)
    noise = np.random.default_rng(index).standard_normal(large.shape, np.float32)
    return large + np.float32(VALIDATION_SIGMA / 255) * noise, large
