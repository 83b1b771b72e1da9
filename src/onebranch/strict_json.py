"""JSON text that every parser accepts: NaN and infinity, which JSON does not have, become null."""

import json
import math
from typing import Any


def dumps(value: Any, indent: int | None = None, *, sort_keys: bool = False) -> str:
    """The value as JSON text; numbers that are not finite become null.

    >>> dumps({"psnr": float("inf"), "ssim": 1.0, "errors": [float("nan")]})
    '{"psnr": null, "ssim": 1.0, "errors": [null]}'
    """
    return json.dumps(with_finite_numbers(value), indent=indent, sort_keys=sort_keys, allow_nan=False)


def with_finite_numbers(value: Any) -> Any:
    """The value with None in place of every number that is not finite, in nested dicts, lists and tuples."""
    if isinstance(value, dict):
        return {key: with_finite_numbers(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [with_finite_numbers(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
