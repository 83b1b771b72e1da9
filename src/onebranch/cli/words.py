"""JSON values in words, for tables."""

from collections.abc import Iterator
from typing import Any


def score_words(scores: dict[str, Any], colour: str) -> str:
    """Mean PSNR on one line for each set, on luma or (colour "rgb") on RGB, the baseline's in brackets.

    >>> score_words({"set5": {"psnr_y": 37.1234, "baseline": {"method": "bicubic", "psnr_y": 33.68}}}, "y")
    'set5: 37.12 dB (bicubic 33.68)'
    """
    key = "psnr_rgb" if colour == "rgb" else "psnr_y"
    return "\n".join(f"{name.replace('.0', '')}: {_score(found, key)}" for name, found in scores.items())


def _score(found: dict[str, Any], key: str) -> str:
    baseline = found.get("baseline")
    beside = f" ({baseline['method'].partition(',')[0]} {baseline[key]:.2f})" if baseline else ""
    return f"{found[key]:.2f} dB{beside}"


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value that is no object with its keys; lists of values stay whole.

    >>> list(leaves({"plan": {"select": "all"}, "sizes": [1, 2]}))
    [(('plan', 'select'), 'all'), (('sizes',), [1, 2])]
    """
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    else:
        yield path, value
