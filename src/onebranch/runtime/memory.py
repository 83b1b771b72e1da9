"""Memory estimates of graphs, the memory limit, and sizes in bytes as text."""

import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from onebranch.errors import OnebranchError
from onebranch.graph.analysis.graph_analysis import GraphAnalysis
from onebranch.graph.operations import Graph, Node

FLOAT32_BYTES = 4
"""Bytes of a number; float16 is computed in float32 on the CPU."""

ALLOCATION_FACTOR = 1.6
"""Measured ratio of ONNX Runtime's memory to that of the live values (alignment, packed weights, ...)."""

DEFAULT_SHARE = 0.5
"""The share of the free memory that is the limit by default."""

CHANNELS_PER_BLOCK = 16
"""Channels that ONNX Runtime stores together in convolutions, on processors with the widest vectors."""

IN_PLACE = frozenset(
    (
        *("Add", "Sub", "Mul", "Div", "Relu", "LeakyRelu", "Sigmoid", "Tanh", "Clip", "HardSigmoid"),
        *("BatchNormalization", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Gelu"),
    )
)
"""Operations whose output may overwrite an input that is no longer needed."""

POWERS_OF_1024 = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_bytes(text: str) -> int:
    """A size in bytes from a number and K, M, G or T, powers of 1024. Raises OnebranchError for other text.

    >>> parse_bytes("2G"), parse_bytes("1.5m"), parse_bytes("4096")
    (2147483648, 1572864, 4096)
    """
    parsed = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if parsed is None or float(parsed[1]) == 0:
        raise OnebranchError(f"'{text}' is not a size of memory; write it like 500M or 2G")
    return int(float(parsed[1]) * 1024 ** POWERS_OF_1024[parsed[2].upper()])


def format_bytes(size: float) -> str:
    """A number of bytes as text.

    >>> format_bytes(3 * 1024**3), format_bytes(1500 * 1024)
    ('3.0 GB', '1.46 MB')
    """
    return f"{size / 1024**3:.1f} GB" if size >= 1024**3 else f"{size / 1024**2:.3g} MB"


# Example: x -> Conv a (16 channels) -> Relu b -> Conv c (3 channels), 100 pixels, x of 3 channels. While a is
# computed, x (300 numbers), its copy in blocks (300) and a (1,600) are live: 2,200. Relu overwrites a. While
# c is computed, b (1,600) and c, stored in a full block of 16 channels (1,600), are live: 3,200, the peak.
def memory_estimate(graph: Graph, analysis: GraphAnalysis, height: int, width: int) -> int:
    """Estimated bytes that a graph takes for a picture of that size: the largest total of live values.

    A value of unknown size counts as the largest value of known size.
    """
    sizes = {
        name: int(size.evaluate({"H": height, "W": width})) for name, size in analysis.element_counts.items()
    }
    elements = defaultdict(lambda: max(sizes.values()), sizes)
    blocked = _blocked(graph, elements)
    last_use = _last_uses(graph)
    live = {name: elements[name] for name in graph.inputs}
    peak = 0
    for index, node in enumerate(graph.nodes):
        made = {n: blocked.get(n, elements[n]) for n in node.outputs if n in last_use}
        ending = {name for name in live if last_use.get(name) == index}
        new = 0 if _in_place(node, ending, elements) else sum(made.values())
        peak = max(peak, sum(live.values()) + new + _workspace(node, graph, elements, blocked))
        live = {name: size for name, size in live.items() if name not in ending} | made
    return int(ALLOCATION_FACTOR * FLOAT32_BYTES * peak)


def _last_uses(graph: Graph) -> dict[str, int]:
    """The index of the last node that reads each value; outputs of the graph live beyond the last node."""
    last_use = {name: index for index, node in enumerate(graph.nodes) for name in node.inputs}
    return last_use | {name: len(graph.nodes) for name in graph.outputs}


def _in_place(node: Node, ending: Collection[str], elements: Mapping[str, int]) -> bool:
    """True if the output overwrites an input that nothing reads afterwards."""
    size = elements[node.outputs[0]]
    return node.kind in IN_PLACE and any(elements[n] == size for n in node.inputs if n in ending)


def _blocked(graph: Graph, elements: Mapping[str, int]) -> dict[str, int]:
    """Elements of the outputs of convolutions, and of in-place operations after them, in full blocks."""
    in_blocks: dict[str, int] = {}
    for node in graph.nodes:
        weight = graph.constants.get(node.inputs[1]) if node.kind == "Conv" else None
        size = elements[node.outputs[0]]
        if weight is not None:
            blocks = -(-len(weight) // CHANNELS_PER_BLOCK)
            in_blocks[node.outputs[0]] = size * blocks * CHANNELS_PER_BLOCK // len(weight)
        elif node.kind in IN_PLACE:
            before = [in_blocks[name] for name in node.inputs if name in in_blocks and elements[name] == size]
            in_blocks |= {node.outputs[0]: max(before)} if before else {}
    return in_blocks


def _workspace(node: Node, graph: Graph, elements: Mapping[str, int], blocked: Mapping[str, int]) -> int:
    """Elements of an operation's temporary copies: inputs in another block layout, or one per tap."""
    if node.kind in IN_PLACE or not node.inputs:
        return 0
    picture = node.inputs[0]
    if node.kind == "Conv":
        return 0 if picture in blocked else elements[picture]
    if node.kind == "ConvTranspose" and (weight := graph.constants.get(node.inputs[1])) is not None:
        return elements[picture] * int(weight[0].size) // len(weight)
    return sum(elements[name] for name in node.inputs if name in blocked)


def memory_limit(limit: int | None) -> int:
    """The memory limit of a network in bytes: `limit`, or by default half of the free memory."""
    return int(DEFAULT_SHARE * min(_free())) if limit is None else limit


def _free() -> Iterator[int]:
    """Upper bounds of the free bytes: the machine, the kernel's estimate, the control group, 16 GiB."""
    with suppress(OSError, ValueError, AttributeError):
        yield os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):
        text = Path("/proc/meminfo").read_text()
        yield 1024 * int(re.findall(r"MemAvailable:\s+(\d+)", text)[0])
    with suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        yield int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())
    yield 1 << 34
