"""How much memory a graph takes for a picture, how much the machine has, and sizes as people write them."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from onebranch.errors import OnebranchError
from onebranch.graph.operations import Graph
from onebranch.graph.sight import Sight

BYTES = 4
"""Of a number in float32; float16 is computed in float32 on the CPU."""

MARGIN = 1.3
"""What ONNX Runtime takes over the values that are alive together: alignment, packed weights, workspaces."""

SHARE = 0.5
"""Part of the free memory that a network takes unless more is allowed."""

UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def bytes_of(text: str) -> int:
    """A size of memory in bytes: digits and K, M, G or T, powers of 1024. Raises OnebranchError for others.

    >>> bytes_of("2G"), bytes_of("1.5m"), bytes_of("4096")
    (2147483648, 1572864, 4096)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if found is None or float(found[1]) == 0:
        raise OnebranchError(f"'{text}' is no size of memory; write it like 500M or 2G")
    return int(float(found[1]) * 1024 ** UNITS[found[2].upper()])


def in_words(size: float) -> str:
    """Bytes in words.

    >>> in_words(3 * 1024**3), in_words(1500)
    ('3.0 GB', '0.001 MB')
    """
    return f"{size / 1024**3:.1f} GB" if size >= 1024**3 else f"{size / 1024**2:.3g} MB"


def needed(graph: Graph, sight: Sight, height: int, width: int) -> int:
    """Bytes that a graph takes for a picture of that size, about: the most that is alive at one time."""
    last = {name: index for index, node in enumerate(graph.nodes) for name in node.inputs}
    alive = {name: int(sight.elements[name].at(height, width)) for name in graph.inputs}
    total = most = sum(alive.values())
    for index, node in enumerate(graph.nodes):
        for name in node.outputs:
            alive[name] = int(sight.elements[name].at(height, width)) if name in sight.elements else 0
            total += alive[name]
        most = max(most, total)
        for name in {*node.inputs, *node.outputs}:
            if name in alive and last.get(name, index) == index and name not in graph.outputs:
                total -= alive.pop(name)
    return int(MARGIN * BYTES * most)


def allowed(limit: int | None) -> int:
    """Bytes that a network may take: the limit, or half of what is free now."""
    return int(SHARE * min(_free())) if limit is None else limit


def _free() -> Iterator[int]:
    """Bytes that are free, by everything that limits them."""
    with suppress(OSError, ValueError, AttributeError):
        yield os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):
        text = Path("/proc/meminfo").read_text()
        yield 1024 * int(re.findall(r"MemAvailable:\s+(\d+)", text)[0])
    with suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        yield int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())
    yield 1 << 34
