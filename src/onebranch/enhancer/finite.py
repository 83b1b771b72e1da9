"""Checks for NaN and infinity, which would otherwise become black and white pixels.

A `Model` has finite weights, but its outputs can overflow; a third-party network can compute anything.
"""

from collections.abc import Callable

import numpy as np

from onebranch.errors import OnebranchError
from onebranch.images.samples import Samples
from onebranch.model.file import Model

MAX_COMMON_WEIGHT = 1e4
"""Trained weights are far smaller; with larger ones the sums of a network can exceed float32's range."""


def may_overflow(model: Model) -> bool:
    """Whether weights are so large that outputs have to be checked for infinity."""
    return any(np.abs(weight).max(initial=0) > MAX_COMMON_WEIGHT for weight in model.weights.values())


def checked(function: Callable[[Samples], Samples], name: str) -> Callable[[Samples], Samples]:
    """The function, whose output is then checked by `check_output`. name: of the network, for errors."""

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
