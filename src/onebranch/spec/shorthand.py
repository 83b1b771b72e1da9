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
    """A block that differs from the others; omitted keys are taken from the network, `repeat` repeats it."""

    branches: str | tuple[str, ...] | None = None
    width: int | None = None
    activation: Activation | None = None
    repeat: int = 1


class NetworkShorthand(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A network in a few keys. `branches` is a preset's name or a list of branches.

    `depth` counts how often the preset's blocks (nearly always one) are repeated; `blocks` replaces it where
    blocks differ. Head and tail take the preset's `head_and_tail`, or the listed branches without identities.
    """

    task: Task
    colour: Colour = "y"
    scale: int | None = None
    width: int = 16
    depth: int = 4
    branches: str | tuple[str, ...] = "sesr"
    activation: Activation = "prelu"
    head: BlockShorthand | None = None
    blocks: tuple[BlockShorthand, ...] | None = None
    tail: BlockShorthand | None = None
    skips: tuple[Skip, ...] = ()
    residual: Residual = "none"
    downsampling: Downsampling | None = None


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
