"""Weights are rounded to 8 bits column by column; the columns that follow are refitted to compensate.

The refit is a least-squares fit on the layer's inputs in the integer network, which contain the rounding
errors of earlier layers. The bias comes last and stays a float, so that it corrects the remaining error.
Frantar and Alistarh, "Optimal Brain Compression", NeurIPS 2022, and "GPTQ", ICLR 2023.
"""

from dataclasses import dataclass

import numpy as np

from onebranch.errors import OnebranchError
from onebranch.spec.quantization import MAX_WEIGHT_LEVEL, MIN_QUANT_SCALE

WEIGHT_CLIP_FACTORS = np.linspace(1, 0.55, 10)
"""Fractions of each output channel's largest weight at which its range may end."""

DAMPING, MAX_DAMPING_STEPS = 1e-4, 8
"""Fraction of the products' mean diagonal that is added to it, and how often it is multiplied by ten at most;
weights of zero inputs stay unchanged."""

MAX_BIAS_UNITS = 2.0**22
"""The largest bias in units of the accumulator, so that accumulators are exact in float32."""


@dataclass(frozen=True)
class Products:
    """Sums over pixels of products.

    inputs: (D, D), of inputs with inputs. outputs: (O, D), of wanted outputs with inputs. Where the layer has
    a bias, the last input is a constant 1.
    """

    inputs: np.ndarray
    outputs: np.ndarray


@dataclass(frozen=True)
class Rounded:
    """Weights (O, D) that are integer multiples, -127 to 127, of `scales` (O,); bias (O,) or None."""

    weight: np.ndarray
    bias: np.ndarray | None
    scales: np.ndarray


def rounded_weights(weight: np.ndarray, bias: np.ndarray | None, products: Products, unit: float) -> Rounded:
    """Rounded weights, with the best of all clip factors for each output channel.

    weight: (O, D). bias: (O,) or None. unit: the scale of the input.
    """
    count = weight.shape[1]
    start = weight if bias is None else np.concatenate([weight, bias[:, None]], 1)
    # The best weights before rounding: start + (wanted - what start gives) / inputs, by least squares. They
    # also compensate for errors of earlier layers, which the inputs contain.
    damped = _damped(products.inputs, count)
    fitted = start + np.linalg.solve(damped, (products.outputs - start @ products.inputs).T).T
    # The bias is stored in units of input scale * weight scale. A weight scale that is too small would need
    # too many units.
    floor = np.maximum(np.abs(fitted[:, count:]).sum(1) / (unit * MAX_BIAS_UNITS), MIN_QUANT_SCALE)
    largest = np.abs(fitted[:, :count]).max(1)
    # Clipping the largest weights makes the step of all others smaller. Which factor is best differs from
    # channel to channel, so all factors are rounded at once, and the best one is taken afterwards.
    scales = np.maximum(WEIGHT_CLIP_FACTORS[:, None] * largest / MAX_WEIGHT_LEVEL, floor)  # (F, O)
    tried = _column_by_column(fitted, count, scales, damped)
    change = tried - fitted
    # The squared error of the outputs for a change d of a channel's weights is d P d, P the inputs' products.
    errors = np.einsum("fod,fod->fo", change @ damped, change)
    best = errors.argmin(0), np.arange(len(fitted))
    chosen = tried[best]
    return Rounded(chosen[:, :count], None if bias is None else chosen[:, count], scales[best])


def _damped(products: np.ndarray, count: int) -> np.ndarray:
    """The products of the inputs with a number added to the diagonal, so that they are positive definite.

    It is 0 for the bias, so that the bias compensates as much error as it can. The products are summed in
    float32; where the inputs are small and nearly dependent, rounding errors exceed the smallest damping,
    which is then multiplied by ten until they do not.
    """
    diagonal = np.diag(products)
    level = DAMPING * float(diagonal[:count].mean()) or 1.0
    for _ in range(MAX_DAMPING_STEPS):
        damped: np.ndarray = products + np.diag(np.where(np.arange(len(diagonal)) < count, level, 0.0))
        if _is_positive_definite(damped):
            return damped
        level *= 10
    raise OnebranchError(
        "the network cannot be quantized: on the calibration pictures the inputs of a layer are not"
        " finite or too large"
    )


def _is_positive_definite(matrix: np.ndarray) -> bool:
    try:
        return bool(np.isfinite(np.linalg.cholesky(matrix)).all())
    except np.linalg.LinAlgError:
        return False


# Worked example: weights (0.6, 0.6), scale 1, products ((1, 0.9), (0.9, 1)): the inputs are correlated. The
# first weight becomes 1, which is 0.4 too much. The second one compensates: 0.6 - 0.9 * 0.4 = 0.24, rounded
# to 0. The result (1, 0) has the squared error 0.088; rounding each weight alone gives (1, 1), error 0.608.
def _column_by_column(fitted: np.ndarray, count: int, scales: np.ndarray, products: np.ndarray) -> np.ndarray:
    """`fitted` (O, D) with its first `count` columns rounded for scales (F, O): (F, O, D).

    Columns with the largest inputs are rounded first.
    """
    order = np.argsort(-np.diag(products)[:count], kind="stable")
    order = np.append(order, np.arange(count, len(products)))  # the bias last
    factor = _inverse_factor(products[np.ix_(order, order)])  # row k: how later columns compensate for k
    values = np.repeat(fitted[None][:, :, order], len(scales), 0)
    for column in range(count):
        levels = np.clip(np.rint(values[:, :, column] / scales), -MAX_WEIGHT_LEVEL, MAX_WEIGHT_LEVEL)
        # What rounding has changed is distributed over this and all later columns; row `column` of the factor
        # says how. The columns before it keep their levels.
        change = (values[:, :, column] - levels * scales) / factor[column, column]
        values[:, :, column:] -= change[:, :, None] * factor[column, column:]
        values[:, :, column] = levels * scales
    result = np.empty_like(values)
    result[:, :, order] = values
    return result


def _inverse_factor(products: np.ndarray) -> np.ndarray:
    """The upper triangular U with U^T U = P^-1, for a symmetric positive definite P (D, D).

    It is the inverse of the upper triangular R with P = R R^T, which is the Cholesky factor of P with rows
    and columns in reverse. The inverse of P itself, where inputs are nearly dependent, may have no Cholesky
    factor in double precision.

    >>> u = _inverse_factor(np.array([[2.0, 1.0], [1.0, 2.0]]))
    >>> bool(np.allclose(u.T @ u, np.array([[2.0, -1.0], [-1.0, 2.0]]) / 3)) and float(u[1, 0])
    0.0
    """
    reverse = slice(None, None, -1)
    triangle = np.linalg.cholesky(products[reverse, reverse])[reverse, reverse]
    return np.triu(np.linalg.inv(triangle))
