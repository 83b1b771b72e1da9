"""Padding: rows and columns added around a picture, in one order everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onebranch.errors import OnebranchError


@dataclass(frozen=True)
class Padding:
    """Rows added at the top and bottom, columns added on the left and right, in pixels.

    It is not a tuple, because libraries order the four numbers differently: `from_onnx` and `to_onnx` convert
    from and to ONNX's order (top, left, bottom, right). Negative numbers crop. A padding is true if any of
    its sides is not zero. Adding two paddings adds each side of one to the same side of the other.

    >>> Padding(top=1, left=2) + Padding(1, 1, 1, 1)
    Padding(top=2, bottom=1, left=3, right=1)
    >>> Padding.from_onnx([1, 2, 3, 4])
    Padding(top=1, bottom=3, left=2, right=4)
    """

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    @classmethod
    def uniform(cls, pixels: int) -> Padding:
        """The same number of pixels on all four sides."""
        return cls(pixels, pixels, pixels, pixels)

    @classmethod
    def from_onnx(cls, pads: Sequence[int]) -> Padding:
        """Padding from ONNX's `pads` of the two spatial axes: top, left, bottom, right.

        Raises OnebranchError unless there are four numbers.
        """
        if len(pads) != 4:
            raise OnebranchError(f"pads {list(pads)} hold {len(pads)} numbers; two spatial axes have four")
        top, left, bottom, right = (int(pixels) for pixels in pads)
        return cls(top, bottom, left, right)

    def to_onnx(self) -> tuple[int, int, int, int]:
        """ONNX's order: (top, left, bottom, right)."""
        return self.top, self.left, self.bottom, self.right

    @property
    def height(self) -> int:
        """Rows added in total."""
        return self.top + self.bottom

    @property
    def width(self) -> int:
        """Columns added in total."""
        return self.left + self.right

    @property
    def largest(self) -> int:
        """The largest of the four sides."""
        return max(self.top, self.bottom, self.left, self.right)

    def __bool__(self) -> bool:
        """True where any side is not zero."""
        return bool(self.top or self.bottom or self.left or self.right)

    def __add__(self, other: Padding) -> Padding:
        """Each side of one padding added to the same side of the other."""
        return Padding(
            self.top + other.top, self.bottom + other.bottom, self.left + other.left, self.right + other.right
        )
