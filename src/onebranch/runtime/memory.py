"""How much memory a graph takes for a picture, how much the machine has, and sizes as people write them."""

import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from onebranch.errors import OnebranchError
from onebranch.graph.analysis.graph_analysis import GraphAnalysis
from onebranch.graph.operations import Graph, Node

BYTES = 4
"""Of a number in float32; float16 is computed in float32 on the CPU."""

MARGIN = 1.6
"""What ONNX Runtime takes over the values that are alive together: alignment, packed weights, workspaces."""

SHARE = 0.5
"""Part of the free memory that a network takes unless more is allowed."""

BLOCK = 16
"""Channels that ONNX Runtime keeps together in convolutions, on the processors that have the most."""

IN_PLACE = frozenset(
    (
        *("Add", "Sub", "Mul", "Div", "Relu", "LeakyRelu", "Sigmoid", "Tanh", "Clip", "HardSigmoid"),
        *("BatchNormalization", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Gelu"),
    )
)
"""Operations that write over an input that is needed no more."""

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

    >>> in_words(3 * 1024**3), in_words(1500 * 1024)
    ('3.0 GB', '1.46 MB')
    """
    return f"{size / 1024**3:.1f} GB" if size >= 1024**3 else f"{size / 1024**2:.3g} MB"


def needed(graph: Graph, analysis: GraphAnalysis, height: int, width: int) -> int:
    """Bytes that a graph takes for a picture of that size, about: the most that is alive at one time.

    A value of which no size is known counts as the largest of those that are.
    """
    sizes = {name: int(size.at(height, width)) for name, size in analysis.element_counts.items()}
    elements = defaultdict(lambda: max(sizes.values()), sizes)
    last = {name: index for index, node in enumerate(graph.nodes) for name in node.inputs}
    blocked = _blocked(graph, elements)
    alive = {name: elements[name] for name in graph.inputs}
    most = 0
    for index, node in enumerate(graph.nodes):
        made = [name for name in node.outputs if name in last or name in graph.outputs]
        ending = {n for n in alive if last.get(n, -1) == index and n not in graph.outputs}
        new = 0 if _in_place(node, ending, elements) else sum(blocked.get(n, elements[n]) for n in made)
        most = max(most, sum(alive.values()) + new + _workspace(node, graph, elements, blocked))
        alive = {name: size for name, size in alive.items() if name not in ending}
        alive |= {name: blocked.get(name, elements[name]) for name in made}
    return int(MARGIN * BYTES * most)


def _in_place(node: Node, ending: Collection[str], elements: Mapping[str, int]) -> bool:
    """Whether the output takes the place of an input that nothing reads any more."""
    size = elements[node.outputs[0]]
    return node.kind in IN_PLACE and any(elements[n] == size for n in node.inputs if n in ending)


def _blocked(graph: Graph, elements: Mapping[str, int]) -> dict[str, int]:
    """Numbers in the outputs of convolutions, and of what follows in place: channels in whole blocks."""
    found: dict[str, int] = {}
    for node in graph.nodes:
        weight = graph.constants.get(node.inputs[1]) if node.kind == "Conv" else None
        size = elements[node.outputs[0]]
        if weight is not None:
            found[node.outputs[0]] = size * -(-len(weight) // BLOCK) * BLOCK // len(weight)
        elif node.kind in IN_PLACE:
            before = [found[name] for name in node.inputs if name in found and elements[name] == size]
            found |= {node.outputs[0]: max(before)} if before else {}
    return found


def _workspace(node: Node, graph: Graph, elements: Mapping[str, int], blocked: Mapping[str, int]) -> int:
    """Numbers that an operation makes for itself: its inputs in blocks, out of blocks, or times its taps."""
    if node.kind in IN_PLACE or not node.inputs:
        return 0
    picture = node.inputs[0]
    if node.kind == "Conv":
        return 0 if picture in blocked else elements[picture]
    if node.kind == "ConvTranspose" and (weight := graph.constants.get(node.inputs[1])) is not None:
        return elements[picture] * int(weight[0].size) // len(weight)
    return sum(elements[name] for name in node.inputs if name in blocked)


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
