"""Padding has one order; conversions to other orders are explicit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onebranch.algebra.padding import Padding
from onebranch.errors import OnebranchError

SIDES = st.builds(Padding, *[st.integers(0, 5)] * 4)


@given(SIDES)
def test_the_onnx_order_makes_the_round_trip(padding: Padding) -> None:
    top, left, bottom, right = padding.to_onnx()
    assert (padding.top, padding.bottom, padding.left, padding.right) == (top, bottom, left, right)
    assert Padding.from_onnx(padding.to_onnx()) == padding


@given(SIDES, SIDES)
def test_paddings_add_up_as_padding_twice_does(first: Padding, second: Padding) -> None:
    def padded(picture: np.ndarray, padding: Padding) -> np.ndarray:
        return np.pad(picture, ((padding.top, padding.bottom), (padding.left, padding.right)))

    picture = np.ones((2, 3))
    assert np.array_equal(padded(padded(picture, first), second), padded(picture, first + second))
    assert padded(picture, first).shape == (2 + first.height, 3 + first.width)


def test_a_padding_is_true_where_a_side_is_not_zero() -> None:
    assert not Padding()
    assert all(Padding(**{side: 1}) for side in ("top", "bottom", "left", "right"))
    assert Padding.uniform(2) == Padding(2, 2, 2, 2)
    assert Padding(1, 2, 3, 4).largest == 4


def test_other_than_four_numbers_are_refused() -> None:
    with pytest.raises(OnebranchError, match=r"pads \[1, 1\] hold 2 numbers"):
        Padding.from_onnx([1, 1])
