"""Proofs: honest merges pass with tiny errors; every way of being wrong is found and named."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from onebranch.algebra.conv import Conv, identity, pad
from onebranch.algebra.definition import apply, correlate, zero_pad
from onebranch.errors import OnebranchError
from onebranch.proof.basis import basis, sizes
from onebranch.proof.region import Proof, padded, prove
from onebranch.proof.rounding import rounding
from onebranch.proof.structure import Structure, structure
from onebranch.spec.branch import Branch, parse
from regions import region, rounded

pytestmark = pytest.mark.fast

PATENT = ("3x3*2 bn 1x1",) * 4 + ("identity",)


def proof_of(given) -> Proof:
    return prove(given.branches, given.merged, given.stored, given.structure)


@pytest.mark.parametrize(
    ("texts", "inputs", "width"),
    [
        (PATENT, 4, 4),
        (("3x3 5x5",), 3, 2),
        (("1x1*2 bn 3x3*2 nobias bn 1x1", "1x1 sobel_x bn"), 2, 4),
        (("3x3 dw", "identity bn", "avg3x1"), 5, 5),
        (("1x7", "3x1 g2 d2"), 4, 4),
        (("9x9", "1x1"), 1, 2),
        (("identity",), 3, 3),
    ],
    ids=str,
)
def test_an_honest_merge_is_proven(texts, inputs, width):
    proof = proof_of(region(texts, inputs, width))
    assert 0 <= proof.basis.error < 1e-14
    assert 0 <= proof.rounding.error < 1e-6
    assert proof.basis.largest > 0.3
    area = sum(proof.basis.heights) * sum(proof.basis.widths)
    assert proof.basis.pictures == inputs * area + len(proof.basis.heights) * len(proof.basis.widths)


def test_a_proof_survives_json():
    proof = proof_of(region(PATENT, 2, 2))
    assert msgspec.json.decode(msgspec.json.encode(proof), type=Proof) == proof


def test_sizes_are_all_up_to_the_window_and_the_stride_or_say_so():
    assert sizes(0, 1) == (1, 2)
    assert sizes(3, 1) == (1, 2, 3, 4, 5, 6, 7, 8)
    assert sizes(1, 3) == (1, 2, 3, 4, 5, 6)
    assert sizes(4, 2) == (1, 2, 8, 9, 10, 11)
    proof = proof_of(region(("1x11",), 1, 1))
    assert (proof.basis.heights, proof.basis.widths) == ((1, 2), (1, 2, 10, 11, 12))
    assert not proof.basis.complete
    assert proof_of(region(("7x7",), 1, 1)).basis.complete


def test_errors_are_measured_against_branches_that_cancel():
    """The sum of two large opposite branches is small; its float64 noise is not a fault."""
    given = region(("3x3", "5x5"), 3, 3)
    large = tuple(lambda x, f=f: 1e6 * f(x) for f in given.branches)
    opposite = tuple(lambda x, f=f: -1e6 * (1 - 1e-9) * f(x) for f in given.branches)
    weight, bias = (
        (1e6 - 1e6 * (1 - 1e-9)) * given.merged.weight,
        (1e6 - 1e6 * (1 - 1e-9)) * given.merged.bias,
    )
    merged = Conv(weight, bias)
    proof = prove(large + opposite, merged, rounded(merged), given.structure)
    assert proof.basis.largest > 1e5


def spoiled(conv: Conv, **changes: float) -> Conv:
    """The convolution with one value changed: `weight` or `bias` is what is added to the last one."""
    arrays = {name: getattr(conv, name).copy() for name in ("weight", "bias")}
    for name, amount in changes.items():
        arrays[name].flat[-1] += amount
    return replace(conv, **arrays)


def moved(conv: Conv) -> Conv:
    """One tap of one kernel, moved by a column."""
    weight = conv.weight.copy()
    weight[1, 0] = np.roll(weight[1, 0], 1, axis=1)
    return replace(conv, weight=weight)


WRONG = {
    "a tap moved": moved,
    "rows and columns exchanged": lambda c: replace(c, weight=c.weight.swapaxes(2, 3)),
    "kernel flipped, as in a true convolution": lambda c: replace(c, weight=c.weight[..., ::-1, ::-1]),
    "inputs and outputs exchanged": lambda c: replace(c, weight=c.weight.swapaxes(0, 1)),
    "bias off by 1e-9": lambda c: spoiled(c, bias=1e-9),
    "a weight off by 1e-9": lambda c: spoiled(c, weight=1e-9),
    "a bias forgotten": lambda c: replace(c, bias=c.bias * [1, 1, 0]),
    "not a number": lambda c: spoiled(c, weight=np.nan),
    "two outputs exchanged": lambda c: replace(c, weight=c.weight[[1, 0, 2]], bias=c.bias[[1, 0, 2]]),
    "rounded already": lambda c: replace(c, weight=c.weight.astype(np.float32).astype(np.float64)),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_merge_fails_on_the_basis(what):
    given = region(("3x3*2 bn 1x1", "1x1 3x3", "identity"), 3, 3)
    wrong = WRONG[what](given.merged)
    with pytest.raises(OnebranchError, match=r"^basis: .* picture"):
        prove(given.branches, wrong, rounded(wrong), given.structure)


def test_batch_norm_with_a_forgotten_epsilon_fails():
    given = region(("3x3 bn",), 2, 2)
    factor = np.sqrt(1 + 1e-5)
    wrong = replace(given.merged, weight=given.merged.weight * factor)
    with pytest.raises(OnebranchError, match="basis"):
        prove(given.branches, wrong, rounded(wrong), given.structure)


def test_zero_padding_in_the_middle_of_a_chain_fails_at_the_border():
    """1x1 with a bias, then a 3x3 that pads by itself: the border is off, the middle is not."""
    rng = np.random.default_rng(0)
    inner, outer = rng.normal(size=(4, 2, 1, 1)), rng.normal(size=(2, 4, 3, 3))
    first, second = Conv(inner, rng.normal(size=4)), Conv(outer, rng.normal(size=2))

    def chain(pictures):
        return apply(second, zero_pad(apply(first, pictures), (1, 1)))

    merged = second @ first
    large = rng.normal(size=(1, 2, 9, 9))
    middle = (chain(large) - padded(merged)(large))[..., 1:-1, 1:-1]
    assert np.abs(middle).max() < 1e-13
    with pytest.raises(OnebranchError, match=r"basis: .* picture"):
        prove((chain,), merged, rounded(merged), Structure((1, 1), 1))


def test_two_padded_convolutions_without_biases_fail_too():
    rng = np.random.default_rng(1)
    first, second = (Conv(rng.normal(size=(1, 1, 3, 3)), np.zeros(1)) for _ in range(2))

    def chain(pictures):
        return apply(second, zero_pad(apply(first, zero_pad(pictures, (1, 1))), (1, 1)))

    with pytest.raises(OnebranchError, match=r"basis: .* impulse"):
        prove((chain,), second @ first, rounded(second @ first), Structure((2, 2), 1))


@pytest.mark.parametrize("size", [(1, 7), (7, 1), (8, 8), (1, 1), (2, 8)])
def test_an_error_on_pictures_of_a_single_size_is_found(size):
    """A repair by border classes can be exact on 3x3 and 5x5 pictures and off on 1x7."""
    given = region(("7x7",), 1, 1)
    right = padded(given.merged)

    def repaired(pictures):
        return right(pictures) + 1e-6 * (pictures.shape[2:] == size)

    with pytest.raises(OnebranchError, match=f"{size[0]}x{size[1]} picture"):
        basis(given.branches, repaired, 1, given.structure)


def test_an_error_in_one_channel_at_one_place_is_found_and_named():
    given = region(("3x3",), 3, 2)
    right = padded(given.merged)

    def wrong(pictures):
        result = right(pictures)
        if pictures.shape[2:] == (4, 3):
            result[:, 0, 0, 0] += 1e-3 * pictures[:, 2, 3, 1]
        return result

    with pytest.raises(OnebranchError, match="channel 2, row 3, column 1 of a 4x3 picture"):
        basis(given.branches, wrong, 3, given.structure)


def test_the_place_is_right_beyond_the_first_chunk(monkeypatch):
    monkeypatch.setattr("onebranch.proof.basis.BATCH_PIXELS", 7)
    test_an_error_in_one_channel_at_one_place_is_found_and_named()


def test_a_replacement_of_another_shape_fails():
    given = region(("3x3",), 2, 2)
    with pytest.raises(OnebranchError, match="basis: on a 1x1 picture the original gives"):
        basis(given.branches, lambda x: padded(given.merged)(x)[:, :1], 2, given.structure)


@pytest.mark.parametrize("name", ["weight", "bias"])
@pytest.mark.parametrize("direction", [-np.inf, np.inf])
def test_a_weight_that_is_one_unit_off_its_rounding_fails(name, direction):
    given = region(PATENT, 4, 4)
    values = getattr(given.stored, name).copy()
    largest = int(np.abs(values).argmax())
    values.flat[largest] = np.nextafter(values.flat[largest], np.float32(direction))
    stored = replace(given.stored, **{name: values})
    with pytest.raises(OnebranchError, match=f"rounding: 1 of {values.size} values of '{name}'"):
        prove(given.branches, given.merged, stored, given.structure)


def test_truncation_is_not_rounding():
    given = region(PATENT, 4, 4)
    weight = given.merged.weight
    nearest = weight.astype(np.float32)
    towards_zero = np.where(np.abs(nearest) > np.abs(weight), np.nextafter(nearest, np.float32(0)), nearest)
    with pytest.raises(OnebranchError, match="rounding"):
        prove(given.branches, given.merged, replace(given.stored, weight=towards_zero), given.structure)


def test_a_tie_between_two_floats_may_go_either_way_and_no_further():
    """Another processor's float64 sums differ in the last bits; the middle between two floats is theirs."""
    low = np.float32(0.7)
    high = np.nextafter(low, np.float32(1))
    middle = (np.float64(low) + np.float64(high)) / 2

    def check(stored):
        merged = Conv(np.full((1, 1, 1, 1), middle), np.zeros(1))
        kept = Conv(np.full((1, 1, 1, 1), stored, np.float32), np.zeros(1, np.float32))
        return prove((padded(merged),), merged, kept, Structure((0, 0), 1))

    assert check(low).rounding.weights == check(high).rounding.weights == 2
    for outside in (np.nextafter(low, np.float32(0)), np.nextafter(high, np.float32(1))):
        with pytest.raises(OnebranchError, match="rounding"):
            check(outside)


def test_float64_weights_are_not_stored_weights():
    given = region(("3x3",), 2, 2)
    with pytest.raises(OnebranchError, match="rounding: 'weight' is stored as float64"):
        prove(given.branches, given.merged, given.merged, given.structure)


def test_weights_beyond_float32_fail():
    given = region(("3x3",), 2, 2)
    huge = replace(given.merged, weight=given.merged.weight * 1e39)
    with np.errstate(over="ignore", invalid="ignore"), pytest.raises(OnebranchError, match="rounding"):
        prove((padded(huge),), huge, rounded(huge), given.structure)


def test_float32_outputs_that_are_too_coarse_fail():
    given = region(("3x3",), 2, 2)

    def coarse(pictures):
        return padded(given.stored)(pictures).astype(np.float16).astype(np.float32)

    weights = {"weight": (given.merged.weight, given.stored.weight)}
    with pytest.raises(OnebranchError, match="rounding: float32 outputs are off by"):
        rounding(given.branches, coarse, weights, 2, given.structure)


def test_a_kernel_that_reaches_less_or_farther_than_the_branches_fails():
    given = region(("3x3", "1x1"), 2, 2)
    wider = pad(given.merged, (5, 3))
    with pytest.raises(OnebranchError, match="structure: a kernel"):
        prove(given.branches, wider, rounded(wider), given.structure)
    with pytest.raises(OnebranchError, match="structure: kernel"):
        prove(given.branches, given.merged, rounded(identity(np.zeros(1), 2)), given.structure)


def test_an_unknown_operation_has_no_structure():
    class Clip:
        radius = (0, 0)

        def __str__(self) -> str:
            return "clip"

    with pytest.raises(OnebranchError, match="structure: 'clip' is not known"):
        structure([parse("3x3"), Branch((Clip(),))])  # type: ignore[arg-type]


def test_depthwise_and_grouped_regions_stay_grouped():
    given = region(("3x3 dw", "identity", "5x1 dw nobias bn"), 6, 6)
    assert given.merged.groups == 6
    proof_of(given)
    dense = correlate(np.ones((1, 6, 5, 3)), given.merged.weight, 6, 1)
    assert dense.shape == (1, 6, 1, 1)
