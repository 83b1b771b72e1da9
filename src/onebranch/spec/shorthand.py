"""The shorthand for a network in a config: width, depth and preset, expanded into the full spec."""

import msgspec

from onebranch.errors import OnebranchError
from onebranch.spec.network import (
    MAX_COUNTS,
    Activation,
    BlockSpec,
    Colour,
    Downsampling,
    NetworkSpec,
    Residual,
    Skip,
    Task,
)
from onebranch.spec.presets import PRESETS, preset


class BlockShorthand(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A block that differs from the others; None: as in the network."""

    branches: str | tuple[str, ...] | None = None
    """A preset's name, or a list of branches."""
    width: int | None = None
    """Output channels."""
    activation: Activation | None = None
    """The activation after the block."""
    repeat: int = 1
    """How many such blocks follow each other."""


class NetworkShorthand(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A network in a few keys; see `spec.network.NetworkSpec` for the keys without a shorthand."""

    task: Task
    """What the network does."""
    colour: Colour = "y"
    """Channels of the network: luma, or RGB."""
    scale: int | None = None
    """Scale factor, 2 to 4; None: 1 for denoise, else 2."""
    width: int = 16
    """Output channels of the head and of every block."""
    depth: int = 4
    """How often the preset's blocks (nearly always one) are repeated."""
    branches: str | tuple[str, ...] = "sesr"
    """Branches of every block: a preset's name, or a list of branches."""
    activation: Activation = "prelu"
    """The activation after the head and every block."""
    head: BlockShorthand | None = None
    """The head; None: the preset's branches for head and tail, or the listed ones without identities."""
    blocks: tuple[BlockShorthand, ...] | None = None
    """Blocks that differ from each other, in place of `depth`; None: equal blocks."""
    tail: BlockShorthand | None = None
    """The tail; None: as for the head."""
    skips: tuple[Skip, ...] = ()
    """Connections between the outputs of blocks."""
    residual: Residual = "none"
    """How the input is resized before it is added to the output; none: it is not added."""
    downsampling: Downsampling | None = None
    """Task 'downscale': the layer after the tail; None: a convolution."""


def expand(short: NetworkShorthand) -> NetworkSpec:
    """The full spec. Raises OnebranchError for unknown presets and shapes that do not fit.

    >>> spec = expand(NetworkShorthand(task="upscale", branches="repvgg", depth=2))
    >>> [len(block.branches) for block in spec.all_blocks], spec.tail.width
    ([2, 3, 3, 2], 4)
    """
    scale = short.scale if short.scale is not None else 1 if short.task == "denoise" else 2
    downsampling = short.downsampling or ("convolution" if short.task == "downscale" else "none")
    channels = 1 if short.colour == "y" else 3
    any_width = downsampling in ("convolution", "unshuffle")
    tail_width = short.width if any_width else channels * (scale**2 if short.task == "upscale" else 1)
    return NetworkSpec(
        task=short.task,
        colour=short.colour,
        scale=scale,
        head=_head_or_tail(short, short.head, short.width, short.activation),
        blocks=tuple(block for item in _listed(short) for block in _repeated(short, item)),
        tail=_head_or_tail(short, short.tail, tail_width, "none"),
        skips=short.skips,
        residual=short.residual,
        downsampling=downsampling,
    )


def _listed(short: NetworkShorthand) -> tuple[BlockShorthand, ...]:
    if short.blocks is not None:
        for item in short.blocks:
            _check_count("repeat", item.repeat, 1)
        return short.blocks
    _check_count("depth", short.depth, 0)
    return (BlockShorthand(repeat=short.depth),)


def _check_count(key: str, value: int, minimum: int) -> None:
    if value < minimum:
        raise OnebranchError(f"network: {key} must be at least {minimum}, not {value}")
    if value > MAX_COUNTS["blocks"]:
        raise OnebranchError(f"network: {key} must be at most {MAX_COUNTS['blocks']}, not {value}")


def _repeated(short: NetworkShorthand, item: BlockShorthand) -> tuple[BlockSpec, ...]:
    branches = item.branches if item.branches is not None else short.branches
    width = item.width if item.width is not None else short.width
    blocks = preset(branches).blocks if isinstance(branches, str) else (branches,)
    activation = item.activation or short.activation
    return tuple(BlockSpec(block, width, activation) for block in blocks) * item.repeat


def _head_or_tail(
    short: NetworkShorthand, item: BlockShorthand | None, width: int, activation: Activation
) -> BlockSpec:
    item = item or BlockShorthand()
    if item.repeat != 1:
        raise OnebranchError("head and tail are one block each; leave 'repeat' out")
    branches = item.branches if item.branches is not None else _head_and_tail_branches(short.branches)
    if isinstance(branches, str):
        branches = preset(branches).head_and_tail
    return BlockSpec(
        branches,
        item.width if item.width is not None else width,
        item.activation or activation,
    )


def _head_and_tail_branches(branches: str | tuple[str, ...]) -> tuple[str, ...]:
    if isinstance(branches, str):
        return preset(branches).head_and_tail
    branches_without_identity = tuple(text for text in branches if not text.lstrip().startswith("identity"))
    return branches_without_identity or PRESETS["plain"].head_and_tail
