"""Checks for NaN and infinity in outputs, which would otherwise become black and white pixels.

A `Model` has finite weights, but its output can overflow. A third-party network can output anything.
"""

from collections.abc import Callable

import numpy as np

from onebranch.errors import OnebranchError
from onebranch.images.samples import Samples
from onebranch.model.file import Model

MAX_COMMON_WEIGHT = 1e4
"""Trained weights are far smaller. With larger weights, the sums in a network can exceed float32's range."""


def may_overflow(model: Model) -> bool:
    """True if the weights are so large that outputs must be checked for infinity."""
    return any(np.abs(weight).max(initial=0) > MAX_COMMON_WEIGHT for weight in model.weights.values())


def checked(function: Callable[[Samples], Samples], name: str) -> Callable[[Samples], Samples]:
    """The function with a check of its output by `check_output`. name: the network's name, for errors."""

    def run(samples: Samples) -> Samples:
        result = function(samples)
        check_output(result, samples, name)
        return result

    return run


def check_output(output: Samples, pictures: Samples, name: str) -> None:
    """Raise OnebranchError if a network's output is not finite although its input is."""
    if not np.isfinite(output).all() and np.isfinite(pictures).all():
        raise OnebranchError(
            f"the network '{name}' gives NaN or infinity for this picture, so nothing is written; use another"
            " model"
        )
