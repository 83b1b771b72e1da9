"""Blocks of the literature by their names, each written in the branch grammar, with its paper.

A preset is a tuple of blocks (nearly always one), each a tuple of branches. `head_and_tail` are the
branches for the head and the tail, whose input and output widths differ: those of the blocks without
identities and groups.
"""

from dataclasses import dataclass

from onebranch.errors import OnebranchError, nearest


@dataclass(frozen=True)
class Preset:
    """The branches of one or more consecutive blocks, those of head and tail, and their source."""

    blocks: tuple[tuple[str, ...], ...]
    head_and_tail: tuple[str, ...]
    source: str


PRESETS: dict[str, Preset] = {
    "plain": Preset((("3x3",),), ("3x3",), "one convolution: what every merged block becomes"),
    "patent": Preset(
        (("3x3*2 bn 1x1", "3x3*2 bn 1x1", "3x3*2 bn 1x1", "3x3*2 bn 1x1", "identity"),),
        ("3x3*2 bn 1x1", "3x3*2 bn 1x1", "3x3*2 bn 1x1", "3x3*2 bn 1x1"),
        "US 2025/0259275 A1, paragraph 142 and figure 5: four chains of 3x3, BN and 1x1, one identity",
    ),
    "acnet": Preset(
        (("3x3 nobias bn", "1x3 nobias bn", "3x1 nobias bn"),),
        ("3x3 nobias bn", "1x3 nobias bn", "3x1 nobias bn"),
        "Ding et al., ACNet, ICCV 2019, figure 2",
    ),
    "repvgg": Preset(
        (("3x3 nobias bn", "1x1 nobias bn", "identity bn"),),
        ("3x3 nobias bn", "1x1 nobias bn"),
        "Ding et al., RepVGG, CVPR 2021, figure 4",
    ),
    "dbb": Preset(
        (("3x3 nobias bn", "1x1 nobias bn", "1x1 nobias bn 3x3 nobias bn", "1x1 nobias bn avg3x3 bn"),),
        ("3x3 nobias bn", "1x1 nobias bn", "1x1 nobias bn 3x3 nobias bn", "1x1 nobias bn avg3x3 bn"),
        "Ding et al., Diverse Branch Block, CVPR 2021, figure 3",
    ),
    "ecb": Preset(
        (("3x3", "1x1*2 3x3", "1x1 sobel_x", "1x1 sobel_y", "1x1 laplacian"),),
        ("3x3", "1x1*2 3x3", "1x1 sobel_x", "1x1 sobel_y", "1x1 laplacian"),
        "Zhang et al., ECBSR, ACM Multimedia 2021, figure 2 (depth multiplier 2)",
    ),
    "repsr": Preset(
        (("3x3*2 bn 1x1", "3x3*2 bn 1x1", "identity"),),
        ("3x3*2 bn 1x1", "3x3*2 bn 1x1"),
        "Wang et al., RepSR, ACM Multimedia 2022, figure 3: 3x3 first, 1x1 last, BN between them",
    ),
    "sesr": Preset(
        (("3x3*16 nobias 1x1", "identity"),),
        ("5x5*16 nobias 1x1",),
        "Bhardwaj et al., SESR, MLSys 2022, section 3: collapsible linear blocks, 256 inner channels at 16",
    ),
    "conv3xc": Preset(
        (("1x1*2 3x3*2 1x1", "1x1"),),
        ("1x1*2 3x3*2 1x1", "1x1"),
        "Wan et al., SPAN, CVPR workshops 2024: Conv3XC, gain 2, with its 1x1 skip",
    ),
    "mobileone": Preset(
        (
            (*("3x3 dw nobias bn",) * 4, "1x1 dw nobias bn", "identity bn"),
            (*("1x1 nobias bn",) * 4, "identity bn"),
        ),
        (*("3x3 nobias bn",) * 4, "1x1 nobias bn"),
        "Vasu et al., MobileOne, CVPR 2023, figure 3: a depthwise block, then a pointwise one, k = 4",
    ),
}


def preset(name: str) -> Preset:
    """The preset of that name; raises OnebranchError that names the nearest valid one.

    >>> preset("repvgg").blocks[0]
    ('3x3 nobias bn', '1x1 nobias bn', 'identity bn')
    """
    if name not in PRESETS:
        raise OnebranchError(f"unknown preset '{name}'; {nearest(name, PRESETS)}")
    return PRESETS[name]
