"""The network's spec: a frozen, validated value that travels as JSON inside every model file.

`head -> [block] x P -> tail -> resampling layer`, plus skips and the picture residual. It describes trained
and merged networks alike: a merged network has fewer branches in its spec.
"""

import math
import re
from collections.abc import Iterator
from typing import Any, Literal, TypeVar

import msgspec

from onebranch.errors import OnebranchError, nearest
from onebranch.spec.branch import Branch, Convolution, Edge, parse

T = TypeVar("T")

Task = Literal["upscale", "downscale", "denoise"]
Colour = Literal["y", "rgb"]
Downsampling = Literal["none", "convolution", "average", "unshuffle"]
Residual = Literal["none", "nearest", "bicubic"]
SkipJoin = Literal["add", "concatenate"]
Activation = Literal["prelu", "relu", "leaky_relu", "silu", "gelu", "none"]

LEAKY_SLOPE = 0.1
"""Negative slope of `leaky_relu`, as in Real-ESRGAN's Compact."""

MAX_COUNTS = {"blocks": 1000, "skips": 10_000, "branches": 10_000, "parameters": 2**31}
"""Limits far beyond any use, so that hostile files are refused early."""

MAX_WIDTH = 2**16
"""The largest number of channels, inside branches too."""

MAX_RADIUS_PIXELS = 512
"""The largest radius of a branch in rows and columns."""

BATCH_NORM_EPSILON = 1e-5
"""The constant added to the variance by every batch normalization (PyTorch's default)."""


class BlockSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One block: branches of one input, summed, then an activation."""

    branches: tuple[str, ...]
    """The branches, each in the branch grammar."""
    width: int
    """Output channels."""
    activation: Activation = "prelu"
    """The activation after the sum."""

    @property
    def parsed(self) -> tuple[Branch, ...]:
        """The branches as values."""
        return tuple(parse(text) for text in self.branches)

    @property
    def radius(self) -> tuple[int, int]:
        """The largest radius (rows, columns) among the branches."""
        radii = [branch.radius for branch in self.parsed]
        return max(r[0] for r in radii), max(r[1] for r in radii)


class Skip(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Joins the output of block `source` (0 is the head) to that of block `target` > source."""

    source: int
    """Index of the block whose output, after its activation, is joined."""
    target: int
    """Index of the block to whose output it is joined, before the next block or the tail."""
    join: SkipJoin = "add"
    """Addition (equal widths), or concatenation of the channels."""


class NetworkSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole network. Raises OnebranchError at construction if its shapes do not fit.

    Upscale: the tail's width is C * scale^2 (C = 1 for "y", 3 for "rgb"), then pixel shuffle.
    """

    task: Task
    """What the network does; it determines the layer after the tail."""
    colour: Colour
    """Channels of the network: "y" (BT.601 studio luma / 255) or "rgb", both in [0, 1]."""
    scale: int
    """Scale factor of both sides, 2 to 4; 1 for denoise."""
    head: BlockSpec
    """Block 0, which reads the picture."""
    blocks: tuple[BlockSpec, ...]
    """The blocks between head and tail."""
    tail: BlockSpec
    """The last block, without an activation."""
    skips: tuple[Skip, ...] = ()
    """Connections between the outputs of blocks."""
    residual: Residual = "none"
    """How the input is resized before it is added to the output; "none": it is not added."""
    downsampling: Downsampling = "none"
    """The layer after the tail of a downscaling network; with "average" the tail's width is C."""

    def __post_init__(self) -> None:
        """Check the rules that types do not express."""
        _check_task(self)
        counts = {"blocks": len(self.blocks), "skips": len(self.skips)}
        _check_counts(counts | {"branches": sum(len(block.branches) for block in self.all_blocks)})
        _check_skips(self)
        for name, block, inputs in self.walk():
            _check_block(name, block, inputs)
        _check_tail(self)
        _check_counts({"parameters": parameters(self)})

    @property
    def channels(self) -> int:
        """Picture channels: 1 for "y", 3 for "rgb"."""
        return 1 if self.colour == "y" else 3

    @property
    def all_blocks(self) -> tuple[BlockSpec, ...]:
        """Head, blocks and tail, in order."""
        return (self.head, *self.blocks, self.tail)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of `all_blocks`, which prefix their tensors: head, blocks.0, ..., tail."""
        return ("head", *(f"blocks.{p}" for p in range(len(self.blocks))), "tail")

    @property
    def input_widths(self) -> tuple[int, ...]:
        """Input channels of head, every block and tail; concatenating skips widen what follows them."""
        widths = [self.channels]
        for index, block in enumerate((self.head, *self.blocks)):
            joined = (s for s in self.skips if s.target == index and s.join == "concatenate")
            widths.append(block.width + sum((self.head, *self.blocks)[s.source].width for s in joined))
        return tuple(widths)

    def walk(self) -> Iterator[tuple[str, BlockSpec, int]]:
        """Name, spec and input channels of head, every block and tail."""
        return zip(self.names, self.all_blocks, self.input_widths, strict=True)

    def resampling_shape(self) -> tuple[int, int, int, int] | None:
        """(O, I, K, L) of the downsampling layer's weight; None if the layer has no weight.

        Convolution: kernel scale + 2, stride scale, one pixel of zero padding, so that every output pixel
        depends on its scale x scale input pixels and one more on each side. Unshuffle: 3x3 after pixel
        unshuffle.
        """
        if self.downsampling == "convolution":
            return self.channels, self.tail.width, self.scale + 2, self.scale + 2
        if self.downsampling == "unshuffle":
            return self.channels, self.tail.width * self.scale**2, 3, 3
        return None


def from_json(text: str | bytes) -> NetworkSpec:
    """The spec in a JSON text; unknown keys and wrong values raise OnebranchError with their path."""
    return convert(decode_json(text, "the network's spec"), NetworkSpec, "the network's spec")


def to_json(spec: NetworkSpec) -> str:
    """The spec as compact JSON."""
    return msgspec.json.encode(spec).decode()


def decode_json(text: str | bytes, what: str) -> Any:
    """The JSON value in `text`; raises OnebranchError that names `what` when it is not JSON."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise OnebranchError(f"{what} is not valid JSON: {error}") from None


def convert(value: Any, to: type[T], what: str) -> T:
    """`value` (dicts, lists, numbers) as the frozen type `to`, strictly.

    Raises OnebranchError that names the path and, for unknown keys, the nearest valid one.
    """
    try:
        return msgspec.convert(value, to)
    except msgspec.ValidationError as error:
        raise OnebranchError(f"{what}: {_explained(str(error), to)}") from None


def _explained(message: str, to: type) -> str:
    """msgspec's message with a hint for unknown keys and enumeration values."""
    located = re.search(r" - at `\$\.?([^`]*)`", message)
    path = located[1] if located else ""
    if unknown := re.search(r"unknown field `([^`]*)`", message):
        table = f" in '{path}'" if path else ""
        return f"unknown key '{unknown[1]}'{table}; {nearest(unknown[1], _keys(to, path))}"
    if invalid := re.search(r"Invalid enum value '([^']*)'", message):
        choices = _choices(to, path)
        hint = f"; {nearest(invalid[1], choices)}" if choices else ""
        return f"'{invalid[1]}' is not a valid value of '{path or '?'}'{hint}"
    return message.replace("`", "'").replace("$.", "").replace("$", "the top level")


def _keys(to: type, path: str) -> list[str]:
    kind = _at(to, path)
    fields = getattr(kind, "__struct_fields__", None)
    return list(fields) if fields else []


def _choices(to: type, path: str) -> list[str]:
    kind: Any = _at(to, path)
    return [choice for choice in getattr(kind, "__args__", []) if isinstance(choice, str)]


def _at(to: Any, path: str) -> Any:
    """The type found by following a msgspec path such as `blocks[...].width` from `to`."""
    for part in [p for p in re.split(r"\.|(?=\[)", path) if p]:
        to = _struct_within(to)
        if part.startswith("["):
            inner: Any = getattr(to, "__args__", [])
            to = next((a for a in inner if a is not Ellipsis), to)
        else:
            to = next((f.type for f in msgspec.structs.fields(to) if f.encode_name == part), None)
            if to is None:
                return None
    return _struct_within(to)


def _struct_within(kind: Any) -> Any:
    """The struct or sequence inside an optional or union type."""
    arguments = getattr(kind, "__args__", ())
    if getattr(kind, "__origin__", None) in (tuple, list) or not arguments:
        return kind
    inner = [a for a in arguments if hasattr(a, "__struct_fields__") or getattr(a, "__args__", None)]
    return inner[-1] if inner else kind


def _check_task(spec: NetworkSpec) -> None:
    valid = (1,) if spec.task == "denoise" else (2, 3, 4)
    if spec.scale not in valid:
        listed = " or ".join(str(s) for s in valid)
        raise OnebranchError(f"task '{spec.task}' takes scale {listed}, not {spec.scale}")
    if spec.task == "downscale" and spec.downsampling == "none":
        raise OnebranchError("task 'downscale' needs downsampling = 'convolution', 'average' or 'unshuffle'")
    if spec.task != "downscale" and spec.downsampling != "none":
        raise OnebranchError(f"task '{spec.task}' has no downsampling layer; leave 'downsampling' out")


def _check_counts(counts: dict[str, int]) -> None:
    for what, count in counts.items():
        if count > MAX_COUNTS[what]:
            raise OnebranchError(f"a network of {count} {what} is too large; the limit is {MAX_COUNTS[what]}")


def _check_skips(spec: NetworkSpec) -> None:
    blocks, last = (spec.head, *spec.blocks), len(spec.blocks)
    for skip in spec.skips:
        if not 0 <= skip.source < skip.target <= last:
            raise OnebranchError(
                f"skip ({skip.source}, {skip.target}): source and target must satisfy"
                f" 0 <= source < target <= {last} (0 is the head, {last} the last block)"
            )
        widths = blocks[skip.source].width, blocks[skip.target].width
        if skip.join == "add" and widths[0] != widths[1]:
            raise OnebranchError(
                f"skip ({skip.source}, {skip.target}): addition needs equal widths, not {widths[0]} and"
                f" {widths[1]}; use join = 'concatenate'"
            )


def _check_block(name: str, block: BlockSpec, inputs: int) -> None:
    if block.width < 1:
        raise OnebranchError(f"{name}: width must be at least 1, not {block.width}")
    _check_at_most(name, "width", block.width, MAX_WIDTH)
    if not block.branches:
        raise OnebranchError(f"{name}: a block needs at least one branch, for example '3x3'")
    for branch in block.parsed:
        try:
            widest = max(branch.channels(inputs, block.width))
        except OnebranchError as error:
            raise OnebranchError(f"{name} ({inputs} to {block.width} channels): {error}") from None
        _check_at_most(name, f"the width inside '{branch}'", widest, MAX_WIDTH)
        _check_at_most(name, f"the radius of '{branch}'", max(branch.radius), MAX_RADIUS_PIXELS)


def _check_at_most(name: str, what: str, value: int, limit: int) -> None:
    if value > limit:
        raise OnebranchError(f"{name}: {what} must be at most {limit}, not {value}")


def _check_tail(spec: NetworkSpec) -> None:
    if spec.tail.activation != "none":
        raise OnebranchError(f"tail: its activation must be 'none', not '{spec.tail.activation}'")
    factor = spec.scale**2 if spec.task == "upscale" else 1
    any_width = spec.downsampling in ("convolution", "unshuffle")
    if not any_width and spec.tail.width != spec.channels * factor:
        raise OnebranchError(
            f"tail: its width must be {spec.channels * factor} for task '{spec.task}', colour '{spec.colour}'"
            f" and scale {spec.scale}, not {spec.tail.width}"
        )


def _groups(step: Convolution, inputs: int) -> int:
    return step.groups or inputs


def branch_parameters(branch: Branch, inputs: int, width: int) -> int:
    """Learnt parameters of a branch from `inputs` to `width` channels (BN: weight and bias).

    >>> branch_parameters(parse("3x3*2 bn 1x1"), 16, 16)
    5232
    """
    total, current = 0, inputs
    for step, outputs in zip(branch.steps, branch.channels(inputs, width), strict=True):
        if isinstance(step, Convolution):
            total += (
                outputs * (current // _groups(step, current)) * math.prod(step.kernel) + outputs * step.bias
            )
        elif isinstance(step, Edge) or str(step) == "bn":
            total += 2 * outputs
        current = outputs
    return total


def branch_macs(branch: Branch, inputs: int, width: int) -> int:
    """Multiply-accumulates of a branch for one pixel of its output (the padding is not counted).

    Convolutions, average pools and edge filters count; BN and additions do not.

    >>> branch_macs(parse("3x3"), 16, 16)
    2304
    """
    total, current = 0, inputs
    for step, outputs in zip(branch.steps, branch.channels(inputs, width), strict=True):
        if isinstance(step, Convolution):
            total += outputs * (current // _groups(step, current)) * math.prod(step.kernel)
        elif str(step) != "bn" and str(step) != "identity":
            total += outputs * (2 * step.radius[0] + 1) * (2 * step.radius[1] + 1)
        current = outputs
    return total


def block_parameters(block: BlockSpec, inputs: int) -> int:
    """Learnt parameters of a block: its branches and, for PReLU, one slope per channel."""
    branches = sum(branch_parameters(branch, inputs, block.width) for branch in block.parsed)
    return branches + block.width * (block.activation == "prelu")


def block_macs(block: BlockSpec, inputs: int) -> int:
    """Multiply-accumulates of a block's branches for one output pixel."""
    return sum(branch_macs(branch, inputs, block.width) for branch in block.parsed)


def parameters(spec: NetworkSpec) -> int:
    """Learnt parameters of the whole network, the resampling layer included."""
    shape = spec.resampling_shape()
    layer = math.prod(shape) + shape[0] if shape else 0
    return sum(block_parameters(block, inputs) for _, block, inputs in spec.walk()) + layer


def macs(spec: NetworkSpec) -> int:
    """Multiply-accumulates for one input pixel, with the resampling layer and without the residual."""
    shape = spec.resampling_shape()
    layer = math.prod(shape) // spec.scale**2 if shape else 0
    return sum(block_macs(block, inputs) for _, block, inputs in spec.walk()) + layer
