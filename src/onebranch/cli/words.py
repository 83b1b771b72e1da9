"""JSON values as text, for tables."""

from collections.abc import Iterator
from typing import Any


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
