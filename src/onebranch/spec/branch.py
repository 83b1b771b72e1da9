"""The branch grammar: one branch of a block as one line of text, parsed into a value.

`"3x3*2 bn 1x1"` is a 3x3 convolution to twice the block's width, batch normalization, a 1x1 convolution.
The block pads its input once by the branch's radius; every step then runs unpadded.
"""

import re
from dataclasses import dataclass, replace

from onebranch.errors import OnebranchError, nearest

EDGES = {
    "sobel_x": ((1.0, 0.0, -1.0), (2.0, 0.0, -2.0), (1.0, 0.0, -1.0)),
    "sobel_y": ((1.0, 2.0, 1.0), (0.0, 0.0, 0.0), (-1.0, -2.0, -1.0)),
    "laplacian": ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0)),
}
"""Edge filters of ECB (Zhang et al., ECBSR, ACM MM 2021, section 3.2): depthwise, learnt scale and bias."""

WORDS = ("KxL", "KxL*E", "dD", "gG", "dw", "nobias", "bn", "avgKxL", *EDGES, "identity")
"""Every word of the grammar; K and L odd, E (expansion), D (dilation) and G (groups) positive integers."""

MAX_WORDS = 1000
"""Largest number of words in a branch: the text of an untrusted file may have any length."""

MAX_NUMBER = 1_000_000
"""Largest number in a branch's text."""

_CONVOLUTION = re.compile(r"(\d+)x(\d+)(?:\*(\d+))?")
_AVERAGE = re.compile(r"avg(\d+)x(\d+)")


@dataclass(frozen=True)
class Convolution:
    """A convolution step: kernel (K, L), output channels = expansion x the block's width.

    `groups` 0 means depthwise: as many groups as the step has input channels.
    """

    kernel: tuple[int, int]
    expansion: int = 1
    dilation: int = 1
    groups: int = 1
    bias: bool = True

    @property
    def radius(self) -> tuple[int, int]:
        """Half of the dilated kernel's extent: rows needed above and below, columns left and right."""
        return self.dilation * (self.kernel[0] // 2), self.dilation * (self.kernel[1] // 2)

    def __str__(self) -> str:
        words = [f"{self.kernel[0]}x{self.kernel[1]}" + (f"*{self.expansion}" if self.expansion > 1 else "")]
        words += [f"d{self.dilation}"] * (self.dilation > 1)
        words += ["dw"] * (self.groups == 0) + [f"g{self.groups}"] * (self.groups > 1)
        return " ".join(words + ["nobias"] * (not self.bias))


@dataclass(frozen=True)
class BatchNorm:
    """Batch normalization of the step before it (or of the input, after `identity`)."""

    radius = (0, 0)

    def __str__(self) -> str:
        return "bn"


@dataclass(frozen=True)
class AveragePool:
    """Average over K x L, stride 1; the padding counts as zeros."""

    kernel: tuple[int, int]

    @property
    def radius(self) -> tuple[int, int]:
        """Half of the window's extent."""
        return self.kernel[0] // 2, self.kernel[1] // 2

    def __str__(self) -> str:
        return f"avg{self.kernel[0]}x{self.kernel[1]}"


@dataclass(frozen=True)
class Edge:
    """A fixed 3x3 edge filter on every channel, times a learnt scale, plus a learnt bias."""

    name: str
    radius = (1, 1)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Identity:
    """Returns its input."""

    radius = (0, 0)

    def __str__(self) -> str:
        return "identity"


BranchStep = Convolution | BatchNorm | AveragePool | Edge | Identity


@dataclass(frozen=True)
class Branch:
    """One parallel path of a block: a chain of steps, whose input is padded once, before the first.

    >>> branch = parse("5x3*2 bn 1x1")
    >>> branch.radius, branch.channels(16, 16), branch.has_batch_norm
    ((2, 1), (32, 32, 16), True)
    """

    steps: tuple[BranchStep, ...]

    def __str__(self) -> str:
        return " ".join(str(step) for step in self.steps)

    @property
    def is_identity(self) -> bool:
        """True if this is an identity branch (with or without BN)."""
        return isinstance(self.steps[0], Identity)

    @property
    def has_batch_norm(self) -> bool:
        """True if any step is batch normalization."""
        return any(isinstance(step, BatchNorm) for step in self.steps)

    @property
    def radius(self) -> tuple[int, int]:
        """Pixels of padding above and below, left and right: the sum of the radii of all steps."""
        return sum(step.radius[0] for step in self.steps), sum(step.radius[1] for step in self.steps)

    @property
    def merged_kernel(self) -> tuple[int, int]:
        """Kernel size (K, L) of the one convolution that this branch becomes."""
        return 2 * self.radius[0] + 1, 2 * self.radius[1] + 1

    @property
    def kernels(self) -> tuple[tuple[int, int], ...]:
        """Kernel sizes of the convolutions in the chain, in order."""
        return tuple(step.kernel for step in self.steps if isinstance(step, Convolution))

    def channels(self, inputs: int, outputs: int) -> tuple[int, ...]:
        """Channels after every step, for a block from `inputs` to `outputs` channels.

        Raises OnebranchError if the groups do not divide the channels, or the chain does not end with
        `outputs` channels.
        """
        widths: list[int] = []
        current = inputs
        for step in self.steps:
            if isinstance(step, Convolution):
                current = _convolved(step, current, outputs, str(self))
            widths.append(current)
        if current != outputs:
            raise OnebranchError(self._wrong_width(inputs, current, outputs))
        return tuple(widths)

    def _wrong_width(self, inputs: int, ends: int, outputs: int) -> str:
        if not self.kernels:
            return (
                f"branch '{self}': it passes {inputs} channels on where the block's width is {outputs};"
                " use it only where input and output widths are equal, or add a convolution"
            )
        return (
            f"branch '{self}': its last convolution gives {ends} channels where the block's width is"
            f" {outputs}; the last convolution takes no '*expansion'"
        )


def _convolved(step: Convolution, inputs: int, width: int, text: str) -> int:
    outputs, groups = step.expansion * width, step.groups or inputs
    if inputs % groups or outputs % groups:
        raise OnebranchError(
            f"branch '{text}': '{step}' from {inputs} to {outputs} channels cannot have {groups} groups;"
            " the groups must divide both"
        )
    return outputs


def parse(text: str) -> Branch:
    """The branch that `text` describes.

    Raises OnebranchError that names the word and the nearest valid one.

    >>> str(parse("3x3*2  d2 nobias bn 1x1"))
    '3x3*2 d2 nobias bn 1x1'
    """
    steps: list[BranchStep] = []
    words = text.split()
    if len(words) > MAX_WORDS:
        raise OnebranchError(f"a branch has {len(words)} words; at most {MAX_WORDS} are allowed")
    for word in words:
        steps = _extended(steps, word, text)
    if not steps:
        raise OnebranchError("a branch is empty; write at least one step, for example '3x3'")
    return Branch(tuple(steps))


def _extended(steps: list[BranchStep], word: str, text: str) -> list[BranchStep]:
    if steps and isinstance(steps[0], Identity) and word != "bn":
        raise OnebranchError(f"branch '{text}': only 'bn' may follow 'identity', not '{word}'")
    # A modifier (d2, dw, ...) replaces the convolution before it; every other word adds a step.
    if match := _CONVOLUTION.fullmatch(word):
        kernel = _odd(match, text)
        return [*steps, Convolution(kernel, _positive(match[3] or "1", word, text))]
    if match := _AVERAGE.fullmatch(word):
        return [*steps, AveragePool(_odd(match, text))]
    if word in EDGES:
        return [*steps, Edge(word)]
    if word == "bn":
        return [*steps, _batch_norm(steps, text)]
    if word == "identity":
        return [_identity(steps, text)]
    return [*steps[:-1], _modified(steps, word, text)]


def _modified(steps: list[BranchStep], word: str, text: str) -> Convolution:
    """The last convolution with a modifier (`dD`, `gG`, `dw`, `nobias`) applied."""
    if not (word in ("dw", "nobias") or re.fullmatch(r"[dg]\d+", word)):
        raise OnebranchError(f"branch '{text}': unknown word '{word}'; {nearest(word, WORDS)}")
    last = steps[-1] if steps else None
    if not isinstance(last, Convolution):
        raise OnebranchError(f"branch '{text}': '{word}' must follow a convolution, as in '3x3 {word}'")
    if word == "nobias":
        return replace(last, bias=False)
    if word == "dw":
        return replace(last, groups=0)
    number = _positive(word[1:], word, text)
    return replace(last, dilation=number) if word[0] == "d" else replace(last, groups=number)


def _batch_norm(steps: list[BranchStep], text: str) -> BatchNorm:
    if not steps or isinstance(steps[-1], BatchNorm):
        raise OnebranchError(f"branch '{text}': 'bn' must follow a convolution, a filter or 'identity'")
    return BatchNorm()


def _identity(steps: list[BranchStep], text: str) -> Identity:
    if steps:
        raise OnebranchError(f"branch '{text}': 'identity' must be the first word")
    return Identity()


def _odd(match: re.Match[str], text: str) -> tuple[int, int]:
    kernel = _positive(match[1], match[0], text), _positive(match[2], match[0], text)
    if kernel[0] % 2 == 0 or kernel[1] % 2 == 0:
        raise OnebranchError(
            f"branch '{text}': kernel {match[1]}x{match[2]} has an even side; both sides must be odd"
        )
    return kernel


def _positive(digits: str, word: str, text: str) -> int:
    if len(digits) > len(str(MAX_NUMBER)) or not 1 <= int(digits) <= MAX_NUMBER:
        rule = "at least 1" if not int(digits[:20]) else f"from 1 to {MAX_NUMBER}"
        raise OnebranchError(f"branch '{text[:60]}': the number in '{word[:60]}' must be {rule}")
    return int(digits)
