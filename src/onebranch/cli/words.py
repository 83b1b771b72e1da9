"""JSON values in words, for tables."""

from collections.abc import Iterator
from typing import Any


def score_words(scores: dict[str, Any]) -> str:
    """Scores on one line each.

    >>> score_words({"set5": {"psnr_y": 37.1234, "ssim_y": 0.95}})
    'set5 psnr_y 37.12\\nset5 ssim_y 0.9500'
    """
    return "\n".join(f"{' '.join(path)} {_number(path, value)}" for path, value in leaves(scores))


def _number(path: tuple[str, ...], value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.4f}" if path[-1].startswith("ssim") else f"{value:.2f}"


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
