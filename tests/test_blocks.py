"""The block merge: every transform, selection, schedule and grouping keeps the network's function."""

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from network_specs import network_specs, random_model, random_weights
from onebranch.algebra.network import run_block, run_network, within
from onebranch.blocks.evidence import prove_network
from onebranch.blocks.merge import merge_network
from onebranch.blocks.plan import MergePlan, groups_by_block
from onebranch.errors import OnebranchError
from onebranch.model.file import Model
from onebranch.spec.network import BlockSpec, NetworkSpec, block_macs, block_parameters
from onebranch.spec.presets import PRESETS
from onebranch.spec.shorthand import BlockShorthand, NetworkShorthand, expand

pytestmark = pytest.mark.fast

SELECTIONS = (
    *("all", "random:1:3", "random:2:7", "random:4:0", "kernel:3x3", "kernel:1x1", "kernel:5x5"),
    *("convs:1", "convs:2", "name:0", "name:0,2,1"),
)
SCHEDULES = (
    *("all", "same:1", "same:2", "growing:3", "shrinking:1", "shrinking:2", "kernel:3x3", "convs:1"),
)
GROUPINGS = ("one", "every:1", "every:2", "every:3", "size", "type")

MIXED = ("3x3*2 bn 1x1", "1x1 5x5 nobias", "identity", "3x3", "identity bn", "1x1 bn avg3x3", "1x1 sobel_x")


def network(branches=MIXED, width=4, depth=3, **settings) -> NetworkSpec:
    return expand(NetworkShorthand(task="denoise", width=width, depth=depth, branches=branches, **settings))


def single(*branches: str, width: int = 4) -> NetworkSpec:
    """A network with one block under test between a plain head and a plain tail."""
    plain = BlockShorthand("plain")
    return network(branches, width, 1, head=plain, tail=plain)


def merged(spec: NetworkSpec, plan: MergePlan, seed: int = 0) -> tuple[Model, Model]:
    """A model with random weights and statistics, and its merge."""
    original = random_model(spec, seed)
    done = merge_network(spec, original.weights, plan)
    return original, Model(done.spec, done.weights)


def assert_equal(original: Model, other: Model, height: int = 6, width: int = 5) -> None:
    """The two networks' outputs in float64 differ by no more than the rounding of the weights to float32."""
    pictures = np.random.default_rng(1).random((2, original.spec.channels, height, width))
    expected = run_network(original.spec, original.weights, pictures)
    actual = run_network(other.spec, other.weights, pictures)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize(("select", "group"), list(itertools.product(SELECTIONS, GROUPINGS)))
@pytest.mark.parametrize("identity", [True, False])
def test_every_selection_and_grouping_counts_and_keeps_the_function(select, group, identity):
    plan = MergePlan(select=select, group=group, identity=identity)
    spec = network(depth=1)
    original, smaller = merged(spec, plan)
    for name, block, _ in spec.walk():
        groups = groups_by_block(plan, spec)[name]
        after = dict(zip(spec.names, smaller.spec.all_blocks, strict=True))[name]
        assert len(after.branches) == len(block.branches) - sum(len(group) - 1 for group in groups)
        if any(len(group) > 1 for group in groups):
            assert 1 <= len(after.branches) < len(block.branches)
        if not identity:
            assert after.branches.count("identity") == block.branches.count("identity")
    assert_equal(original, smaller)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("select", ["all", "random:5:2", "convs:1"])
@pytest.mark.parametrize("head_and_tail", [True, False])
def test_every_schedule_merges_what_it_says_in_block_p(schedule, select, head_and_tail):
    plan = MergePlan(select=select, schedule=schedule, head_and_tail=head_and_tail)
    spec = network(depth=4)
    original, smaller = merged(spec, plan)
    groups = groups_by_block(plan, spec)
    for name, before, after in zip(spec.names, spec.all_blocks, smaller.spec.all_blocks, strict=True):
        taken = sum(len(group) for group in groups[name])
        assert len(after.branches) == len(before.branches) - max(0, taken - 1)
    assert head_and_tail or (spec.head, spec.tail) == (smaller.spec.head, smaller.spec.tail)
    assert_equal(original, smaller)


def test_growing_and_shrinking_count_the_branches_that_are_left():
    five = ("3x3",) * 5
    counts = {
        schedule: [
            len(b.branches)
            for b in merged(network(five, depth=4), MergePlan(schedule=schedule))[1].spec.blocks
        ]
        for schedule in ("growing:4", "shrinking:1", "same:3", "all")
    }
    assert counts == {
        "growing:4": [5, 4, 3, 2],
        "shrinking:1": [2, 4, 5, 5],
        "same:3": [3, 3, 3, 3],
        "all": [1, 1, 1, 1],
    }


@pytest.mark.parametrize(
    ("branches", "text"),
    [
        (("3x3 bn",), "3x3"),
        (("3x3 nobias bn",), "3x3"),
        (("1x1 nobias 3x3 nobias",), "3x3 nobias"),
        (("3x3 1x1 nobias",), "3x3"),
        (("3x3*2 bn 1x1",), "3x3"),
        (("3x3 5x5",), "7x7"),
        (("5x1", "1x3"), "5x3"),
        (("3x3 d2", "1x1"), "5x5"),
        (("identity bn",), "1x1 dw"),
        (("identity", "identity"), "1x1 dw nobias"),
        (("identity", "avg3x3"), "3x3 dw nobias"),
        (("avg3x3",), "3x3 dw nobias"),
        (("laplacian",), "3x3 dw"),
        (("3x3 dw", "1x1 dw bn", "identity bn"), "3x3 dw"),
        (("3x3 g2", "identity"), "3x3 g2"),
        (("3x3 g2", "1x1 dw nobias"), "3x3 g2"),
        (("3x3 g2 nobias", "identity"), "3x3 g2 nobias"),
        (("3x3 dw", "1x1"), "3x3"),
        (("1x1*2 3x3*2 g2 1x1",), "3x3"),
    ],
    ids=str,
)
def test_what_branches_become(branches, text):
    original, smaller = merged(single(*branches), MergePlan())
    assert smaller.spec.blocks[0].branches == (text,)
    assert_equal(original, smaller)


@pytest.mark.parametrize("branches", ["3x3", "5x5 nobias", "3x3 dw", "3x3 g2", "3x3 d2", "identity"])
def test_a_single_step_alone_is_left_as_it_is(branches):
    original, smaller = merged(single(branches), MergePlan())
    assert smaller.spec == original.spec
    assert all(smaller.weights[name].tobytes() == value.tobytes() for name, value in original.weights.items())


def test_by_type_an_identity_alone_stays_an_identity():
    _, smaller = merged(network("patent", depth=1), MergePlan(group="type"))
    assert smaller.spec.blocks[0].branches == ("3x3", "identity")
    _, smaller = merged(single("3x3", "identity", "1x1", "identity bn"), MergePlan(group="type"))
    assert smaller.spec.blocks[0].branches == ("3x3", "1x1 dw")


def test_a_merged_branch_stands_where_its_first_branch_stood():
    plan = MergePlan(select="name:4,1", head_and_tail=False)
    _, smaller = merged(single("1x1", "3x3", "1x3", "identity", "5x5"), plan)
    assert smaller.spec.blocks[0].branches == ("1x1", "5x5", "1x3", "identity")


def test_untouched_tensors_are_the_same_bit_for_bit():
    spec = network(MIXED, depth=2, head=BlockShorthand("repvgg"))
    original = random_model(spec)
    done = merge_network(spec, original.weights, MergePlan(select="name:0,3", head_and_tail=False))
    kept = {1: 1, 2: 2, 4: 3, 5: 4, 6: 5}
    for block in ("blocks.0", "blocks.1"):
        for old, new in kept.items():
            before = within(original.weights, f"{block}.branches.{old}")
            after = within(done.weights, f"{block}.branches.{new}")
            assert {k: v.tobytes() for k, v in before.items()} == {k: v.tobytes() for k, v in after.items()}
        assert done.weights[f"{block}.activation.weight"] is original.weights[f"{block}.activation.weight"]
    for name, value in original.weights.items():
        if name.startswith(("head", "tail")):
            assert done.weights[name] is value


def test_weights_and_biases_add():
    """W = sum of W_i, B = sum of B_i, smaller kernels in the centre of larger ones."""
    spec = single("5x5", "3x3", "identity", width=2)
    original, smaller = merged(spec, MergePlan(head_and_tail=False))
    one, other = (within(original.weights, f"blocks.0.branches.{n}") for n in (0, 1))
    weight = one["0.weight"].astype(np.float64)
    weight[:, :, 1:4, 1:4] += other["0.weight"]
    weight[[0, 1], [0, 1], 2, 2] += 1
    assert np.array_equal(smaller.weights["blocks.0.branches.0.0.weight"], weight.astype(np.float32))
    bias = one["0.bias"].astype(np.float64) + other["0.bias"]
    assert np.array_equal(smaller.weights["blocks.0.branches.0.0.bias"], bias.astype(np.float32))


def test_sums_are_rounded_once_not_branch_by_branch():
    """1 + 2^-24 + 2^-24 is 1 when every partial sum is rounded to float32."""
    spec = single("1x1", "1x1", "1x1", width=1)
    weights = {name: np.zeros_like(value) for name, value in random_weights(spec, 0).items()}
    for n, value in enumerate((1, 2**-24, 2**-24)):
        weights[f"blocks.0.branches.{n}.0.weight"][...] = value
    done = merge_network(spec, weights, MergePlan(head_and_tail=False))
    assert done.weights["blocks.0.branches.0.0.weight"].item() == np.float32(1 + 2**-23)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_becomes_one_convolution_per_block(preset):
    original, smaller = merged(network(preset, depth=2), MergePlan())
    assert all(len(block.branches) == 1 for block in smaller.spec.all_blocks)
    assert all(len(block.parsed[0].steps) == 1 for block in smaller.spec.all_blocks)
    assert_equal(original, smaller)


@pytest.mark.parametrize(
    "first",
    [
        MergePlan(group="every:2"),
        MergePlan(group="size"),
        MergePlan(group="type"),
        MergePlan(select="random:3:1"),
        MergePlan(schedule="growing:3"),
        MergePlan(identity=False),
        MergePlan(head_and_tail=False),
    ],
    ids=str,
)
def test_merging_twice_equals_merging_once_up_to_rounding(first):
    original, part = merged(network(), first)
    done = merge_network(part.spec, part.weights, MergePlan())
    again = Model(done.spec, done.weights)
    _, once = merged(network(), MergePlan())
    assert again.spec == once.spec
    for name, value in once.weights.items():
        np.testing.assert_allclose(again.weights[name], value, rtol=0, atol=3e-7 * np.abs(value).max())
    assert_equal(original, again)


def test_merging_what_is_merged_changes_nothing():
    _, once = merged(network(), MergePlan())
    again = merge_network(once.spec, once.weights, MergePlan())
    assert again.spec == once.spec
    assert all(again.weights[name].tobytes() == once.weights[name].tobytes() for name in once.weights)


def test_the_order_of_a_selection_does_not_change_a_sum():
    _, one = merged(single(*MIXED), MergePlan(select="name:0,1,3,5,6"))
    _, other = merged(single(*MIXED), MergePlan(select="name:6,3,0,5,1"))
    assert one.spec == other.spec
    assert all(one.weights[name].tobytes() == other.weights[name].tobytes() for name in one.weights)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    network_specs(),
    st.sampled_from(SELECTIONS[:-2]),
    st.sampled_from(SCHEDULES),
    st.sampled_from(GROUPINGS),
    st.booleans(),
    st.integers(0, 99),
)
def test_any_plan_on_any_network_is_proven(spec, select, schedule, group, identity, seed):
    plan = MergePlan(select=select, schedule=schedule, group=group, identity=identity)
    original = random_model(spec, seed)
    done = merge_network(spec, original.weights, plan)
    reports = prove_network(spec, original.weights, done.weights, done.parts)
    assert [report.name for report in reports] == list(spec.names)
    assert sum(len(report.groups) for report in reports) == sum(
        map(len, groups_by_block(plan, spec).values())
    )
    assert all(group.proof.basis.error <= 1e-14 for report in reports for group in report.groups)
    assert_equal(original, Model(done.spec, done.weights), 3, 7)


def test_the_report_counts_branches_parameters_and_macs():
    spec = network("patent", width=16, depth=1)
    original = random_model(spec)
    done = merge_network(spec, original.weights, MergePlan())
    report = prove_network(spec, original.weights, done.weights, done.parts)[1]
    assert report.before == (*("3x3*2 bn 1x1",) * 4, "identity")
    assert report.after == ("3x3",)
    assert report.parameters == (block_parameters(spec.blocks[0], 16), 16 * 16 * 9 + 16 + 16)
    assert report.macs == (block_macs(spec.blocks[0], 16), 16 * 16 * 9)
    assert report.groups[0].branches == report.before
    assert report.groups[0].into == "3x3"
    assert report.groups[0].proof.structure.radius == (1, 1)


@pytest.mark.parametrize("name", ["running_mean", "running_var", "weight", "bias"])
@pytest.mark.parametrize("value", [np.nan, np.inf, None])
def test_unusable_batch_norm_is_refused_by_name(name, value):
    spec = single("1x1", "3x3 bn")
    weights = random_weights(spec, 0)
    key = f"blocks.0.branches.1.1.{name}"
    if value is None:
        del weights[key]
    else:
        weights[key][-1] = value
    with pytest.raises(OnebranchError, match=f"blocks.0, branch '3x3 bn': the {name} of batch normalization"):
        merge_network(spec, weights, MergePlan())
    merge_network(spec, weights, MergePlan(select="name:0"))  # a plan that does not touch it is not refused


def test_negative_variances_are_refused():
    spec = single("3x3 bn", "1x1")
    weights = random_weights(spec, 0)
    weights["blocks.0.branches.0.1.running_var"][0] = -1e-12
    with pytest.raises(OnebranchError, match="running_var of batch normalization holds negative variances"):
        merge_network(spec, weights, MergePlan())


def spoil(weights: dict, name: str) -> dict:
    """The weights with the last value of one tensor moved by one float."""
    value = weights[name].copy()
    value.flat[-1] = np.nextafter(value.flat[-1], np.float32(np.inf))
    return {**weights, name: value}


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (
            "blocks.0.branches.0.0.bias",
            r"merge of blocks.0 \(3x3 bn \+ 1x1\) fails its proof: rounding: .*'bias'",
        ),
        ("blocks.0.branches.0.0.weight", "rounding: .*'weight'"),
        (
            "blocks.0.branches.1.0.weight",
            r"blocks.0, branch 1 \('5x5'\): tensor '0.weight' must not",
        ),
        ("blocks.0.activation.weight", "blocks.0, activation: tensor 'weight' must not change"),
        ("tail.branches.0.0.bias", "tail, branch 0"),
        ("resample.weight", "resampling layer: tensor 'weight'"),
    ],
)
def test_evidence_fails_for_any_tensor_that_is_a_float_off(tensor, message):
    spec = expand(
        NetworkShorthand(
            task="downscale",
            scale=3,
            width=2,
            blocks=(BlockShorthand(("3x3 bn", "5x5", "1x1")),),
            head=BlockShorthand("plain"),
            tail=BlockShorthand("plain"),
        )
    )
    original = random_model(spec)
    done = merge_network(spec, original.weights, MergePlan(select="name:0,2", head_and_tail=False))
    with pytest.raises(OnebranchError, match=message):
        prove_network(spec, original.weights, spoil(done.weights, tensor), done.parts)


def test_the_definition_agrees_with_a_block_of_sums():
    """A block activates the sum of its branches, its merge one convolution."""
    block = BlockSpec(("3x3", "1x1 3x3", "identity"), 3, "prelu")
    spec = network(block.branches, width=3, depth=1)
    original, smaller = merged(spec, MergePlan())
    features = np.random.default_rng(0).normal(size=(1, 3, 4, 7))
    one, other = (
        run_block(model.spec.blocks[0], within(model.weights, "blocks.0"), features)
        for model in (original, smaller)
    )
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
