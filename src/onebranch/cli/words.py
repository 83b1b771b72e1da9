"""JSON values as text, for tables."""

from collections.abc import Iterator
from typing import Any


def score_words(scores: dict[str, Any], colour: str) -> str:
    """The mean PSNR of each data set on one line: on luma, or on RGB for colour "rgb"; baseline in brackets.

    >>> score_words({"set5": {"psnr_y": 37.1234, "baseline": {"method": "bicubic", "psnr_y": 33.68}}}, "y")
    'set5: 37.12 dB (bicubic 33.68)'
    """
    key = "psnr_rgb" if colour == "rgb" else "psnr_y"
    return "\n".join(f"{name.replace('.0', '')}: {_score(values, key)}" for name, values in scores.items())


def _score(values: dict[str, Any], key: str) -> str:
    baseline = values.get("baseline")
    reference = f" ({baseline['method'].partition(',')[0]} {baseline[key]:.2f})" if baseline else ""
    return f"{values[key]:.2f} dB{reference}"


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value that is not an object, with the keys that lead to it; lists are not divided.

    >>> list(leaves({"plan": {"select": "all"}, "sizes": [1, 2]}))
    [(('plan', 'select'), 'all'), (('sizes',), [1, 2])]
    """
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    else:
        yield path, value
