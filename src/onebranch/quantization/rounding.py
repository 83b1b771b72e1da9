"""Weights rounded to 8 bits one column after the other, the rest refitted to make up for what that changed.

Least squares on what the layer really reads, which includes the rounding before it; the bias comes last and
stays a float, so that it takes up what is left (bias correction). Frantar and Alistarh, "Optimal Brain
Compression", NeurIPS 2022, and "GPTQ", ICLR 2023.
"""

from dataclasses import dataclass

import numpy as np

from onebranch.spec.quantization import SMALLEST_SCALE, WEIGHT_LEVELS

NARROWER = np.linspace(1, 0.55, 10)
"""Factors of each output channel's largest weight at which its range may end."""

DAMPING = 1e-4
"""Of the mean diagonal of the products, added to it: columns that were hardly seen stay as they were."""

BIAS_UNITS = 2.0**22
"""A bias is at most so many units of the sums, and the sums exact in float32."""


@dataclass(frozen=True)
class Products:
    """Sums over pixels: inputs (D, D) of what is read with itself; outputs (O, D) of what is wanted with what
    is read. Where the layer has a bias, the last of what is read is a 1."""

    inputs: np.ndarray
    outputs: np.ndarray


@dataclass(frozen=True)
class Rounded:
    """Weights (O, D) that are whole multiples of `scales` (O,) within -127..127; bias (O,) or None."""

    weight: np.ndarray
    bias: np.ndarray | None
    scales: np.ndarray


def rounded_weights(weight: np.ndarray, bias: np.ndarray | None, products: Products, unit: float) -> Rounded:
    """The best found for each channel. weight: (O, D). bias: (O,) or None. unit: scale of the input."""
    count = weight.shape[1]
    start = weight if bias is None else np.concatenate([weight, bias[:, None]], 1)
    damped = products.inputs + np.diag(_damping(np.diag(products.inputs), count))
    fitted = start + np.linalg.solve(damped, (products.outputs - start @ products.inputs).T).T
    floor = np.maximum(np.abs(fitted[:, count:]).sum(1) / (unit * BIAS_UNITS), SMALLEST_SCALE)
    largest = np.abs(fitted[:, :count]).max(1)
    scales = np.maximum(NARROWER[:, None] * largest / WEIGHT_LEVELS, floor)  # (F, O)
    tried = _column_by_column(fitted, count, scales, damped)
    change = tried - fitted
    errors = np.einsum("fod,fod->fo", change @ damped, change)
    best = errors.argmin(0), np.arange(len(fitted))
    chosen = tried[best]
    return Rounded(chosen[:, :count], None if bias is None else chosen[:, count], scales[best])


def _damping(diagonal: np.ndarray, count: int) -> np.ndarray:
    """What is added to the diagonal; nothing for the bias, which is to take up all that it can."""
    level = DAMPING * float(diagonal[:count].mean()) or 1.0
    return np.where(np.arange(len(diagonal)) < count, level, 0.0)


def _column_by_column(fitted: np.ndarray, count: int, scales: np.ndarray, products: np.ndarray) -> np.ndarray:
    """fitted (O, D) with its first `count` columns rounded for scales (F, O), those that are read most first:
    (F, O, D)."""
    order = np.argsort(-np.diag(products)[:count], kind="stable")
    order = np.append(order, np.arange(count, len(products)))  # the bias last
    inverse = np.linalg.inv(products[np.ix_(order, order)])
    factor = np.linalg.cholesky(inverse).T  # upper: how the columns after one make up for its change
    values = np.repeat(fitted[None][:, :, order], len(scales), 0)
    for column in range(count):
        levels = np.clip(np.rint(values[:, :, column] / scales), -WEIGHT_LEVELS, WEIGHT_LEVELS)
        change = (values[:, :, column] - levels * scales) / factor[column, column]
        values[:, :, column:] -= change[:, :, None] * factor[column, column:]
        values[:, :, column] = levels * scales
    result = np.empty_like(values)
    result[:, :, order] = values
    return result
