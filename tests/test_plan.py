"""Plans: every selection, schedule and grouping takes the branches that it says, and refuses nonsense."""

from pathlib import Path

import pytest

from onebranch.blocks.plan import MergePlan, grouped, groups_by_block, read, scheduled, selected
from onebranch.errors import OnebranchError
from onebranch.spec.branch import parse
from onebranch.spec.shorthand import BlockShorthand, NetworkShorthand, expand

pytestmark = pytest.mark.fast

TEXTS = ("3x3*2 bn 1x1", "1x1 5x5", "identity", "3x3", "identity bn", "1x1 bn avg3x3", "1x1 sobel_x")
BLOCK = [parse(text) for text in TEXTS]


def network(branches=TEXTS, depth=4):
    """Head and tail have the same branches except for the two identities."""
    return expand(NetworkShorthand(task="upscale", width=8, depth=depth, branches=branches))


def chosen(select, position=1):
    return selected(MergePlan(select=select), BLOCK, position)


@pytest.mark.parametrize(
    ("text", "indices"),
    [
        ("all", [0, 1, 2, 3, 4, 5, 6]),
        ("kernel:3x3", [0, 3]),
        ("kernel:1x1", [0, 1, 5, 6]),
        ("kernel:5x5", [1]),
        ("kernel:7x7", []),
        ("convs:0", []),
        ("convs:1", [3, 5, 6]),
        ("convs:2", [0, 1]),
        ("convs:3", []),
        ("name:3,0", [3, 0]),
        ("name:identity", [2]),
        ("name:identity bn, 3x3*2  bn   1x1,4", [4, 0]),
    ],
)
def test_selection_lists_branches_in_order(text, indices):
    assert chosen(text) == indices


def test_random_selection_is_a_function_of_seed_block_and_index():
    picks = [chosen(f"random:3:{seed}") for seed in range(40)]
    assert all(len(set(pick)) == 3 and set(pick) <= set(range(7)) for pick in picks)
    assert {n for pick in picks for n in pick} == set(range(7))
    assert len({tuple(pick) for pick in picks}) > 20
    assert chosen("random:3:7") == picks[7]
    assert [chosen(f"random:3:{seed}", position=2) for seed in range(40)] != picks
    assert sorted(chosen("random:99:1")) == list(range(7))


def test_a_random_selection_stays_the_same_for_ever():
    """A plan in a file must mean the same in every version: this is fixed."""
    assert chosen("random:7:0") == [1, 3, 4, 0, 5, 6, 2]


def test_a_smaller_random_selection_begins_a_larger_one():
    assert chosen("random:2:5") == chosen("random:6:5")[:2]


@pytest.mark.parametrize(
    ("text", "amounts"),
    [
        ("all", [7, 7, 7, 7]),
        ("same:2", [2, 2, 2, 2]),
        ("same:9", [7, 7, 7, 7]),
        ("growing:4", [1, 2, 3, 4]),
        ("growing:2", [1, 1, 2, 2]),
        ("growing:1", [0, 1, 1, 1]),
        ("shrinking:1", [4, 2, 1, 1]),
        ("shrinking:2", [7, 4, 3, 2]),
        ("kernel:3x3", [2, 2, 2, 2]),
        ("kernel:9x9", [0, 0, 0, 0]),
        ("convs:1", [3, 3, 3, 3]),
    ],
)
def test_schedule_says_how_many_are_taken_in_block_p(text, amounts):
    order = "name:6,5,4,3,2,1,0"
    plan = MergePlan(select=order, schedule=text)
    actual = [scheduled(plan, BLOCK, p, 4) for p in (1, 2, 3, 4)]
    assert [len(indices) for indices in actual] == amounts
    assert all(indices == chosen(order)[: len(indices)] for indices in actual)


def test_halves_are_rounded_upwards_exactly():
    """3 * (5 / 6) in floats is a little less or more than 2.5, by chance of the factors."""
    block = [parse("3x3")] * 1000
    for count in range(1, 60):
        for position in range(1, 30):
            exact = (2 * count * position + 29) // 58
            assert len(scheduled(MergePlan(schedule=f"growing:{count}"), block, position, 29)) == exact
    assert len(scheduled(MergePlan(schedule="growing:3"), block, 5, 6)) == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one", [[6, 0, 1, 2, 4]]),
        ("every:2", [[6, 0], [1, 2], [4]]),
        ("every:1", [[6], [0], [1], [2], [4]]),
        ("every:9", [[6, 0, 1, 2, 4]]),
        ("size", [[6, 0], [1], [2, 4]]),
        ("type", [[6, 0, 1], [2, 4]]),
    ],
)
def test_grouping_keeps_the_order(text, expected):
    assert grouped(MergePlan(group=text), BLOCK, [6, 0, 1, 2, 4]) == expected
    assert grouped(MergePlan(group=text), BLOCK, []) == []


def test_head_and_tail_take_all_that_is_selected_or_nothing():
    whole = groups_by_block(MergePlan(schedule="same:2"), network())
    assert whole["head"] == whole["tail"] == [[0, 1, 2, 3, 4]]
    assert whole["blocks.0"] == whole["blocks.3"] == [[0, 1]]
    narrow = groups_by_block(MergePlan(select="convs:2", schedule="same:1"), network())
    assert (narrow["head"], narrow["blocks.0"]) == ([[0, 1]], [[0]])
    without = groups_by_block(MergePlan(schedule="same:2", head_and_tail=False), network())
    assert (without["head"], without["tail"], without["blocks.3"]) == ([], [], [[0, 1]])


def test_without_identity_neither_kind_of_identity_is_taken():
    assert groups_by_block(MergePlan(identity=False), network())["blocks.1"] == [[0, 1, 3, 5, 6]]
    drawn = groups_by_block(MergePlan(identity=False, select="random:5:3"), network())["blocks.1"]
    assert [sorted(group) for group in drawn] == [[0, 1, 3, 5, 6]]
    assert groups_by_block(MergePlan(identity=False, select="name:2,4"), network())["blocks.1"] == []


def test_a_counting_schedule_counts_the_whole_block_not_the_list():
    groups = groups_by_block(MergePlan(select="convs:1", schedule="kernel:1x1"), network())
    assert groups["blocks.0"] == [[3, 5, 6]]  # four have a 1x1, three are listed
    assert groups_by_block(MergePlan(schedule="kernel:3x3"), network())["blocks.0"] == [[0, 1]]


def test_single_steps_alone_have_nothing_to_merge():
    plain = BlockShorthand("plain")
    short = NetworkShorthand(task="denoise", branches=(*TEXTS, "3x3 d2", "avg3x3"), head=plain, tail=plain)
    groups = groups_by_block(MergePlan(group="every:1"), expand(short))
    assert groups["blocks.0"] == [[0], [1], [4], [5], [6], [8]]  # not '3x3', not 'identity', not '3x3 d2'
    assert not any(groups_by_block(MergePlan(), network(branches="plain")).values())


def test_a_network_without_blocks_has_ends():
    groups = groups_by_block(MergePlan(schedule="growing:3"), network(depth=0))
    assert groups == {"head": [[0, 1, 2, 3, 4]], "tail": [[0, 1, 2, 3, 4]]}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"select": "al"}, r"unknown select 'al' \(all \| random:M:SEED \| .*\); did you mean 'all'"),
        ({"select": "random:3"}, "select 'random:3' is not of the form 'random:M:SEED'"),
        ({"select": "random:0:1"}, "random:M:SEED"),
        ({"select": "kernel:2x2"}, "kernel:KxL"),
        ({"select": "kernel:3"}, "kernel:KxL"),
        ({"select": "convs:two"}, "convs:N"),
        ({"select": "name:"}, "name:BRANCH"),
        ({"select": "name:3x4"}, "even side"),
        ({"select": "all:"}, "not of the form 'all'"),
        ({"schedule": "grow:3"}, "unknown schedule 'grow:3'.*did you mean 'growing'"),
        ({"schedule": "same:0"}, "same:M"),
        ({"schedule": "growing:-1"}, "growing:M"),
        ({"group": "every:0"}, "every:J"),
        ({"group": "sizes"}, "did you mean 'size'"),
    ],
    ids=str,
)
def test_nonsense_is_refused_with_the_way_out(settings, message):
    with pytest.raises(OnebranchError, match=message):
        MergePlan(**settings)


def test_a_name_that_no_block_has_is_refused():
    with pytest.raises(OnebranchError, match="no block has a branch '3x3 bn 1x1'; did you mean"):
        groups_by_block(MergePlan(select="name:0,3x3 bn 1x1"), network())
    with pytest.raises(OnebranchError, match="no block has a branch '7'"):
        groups_by_block(MergePlan(select="name:7"), network())
    assert groups_by_block(MergePlan(select="name:2,4"), network())["head"] == [[2, 4]]


def test_a_plan_is_read_from_toml(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(
        'select = "random:3:7"\nidentity = false\nschedule = "same:2"\ngroup = "size"\n'
        "head_and_tail = false\n"
    )
    expected = MergePlan(
        select="random:3:7", identity=False, schedule="same:2", group="size", head_and_tail=False
    )
    assert read(path) == expected
    path.write_text("")
    assert read(path) == MergePlan()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('selection = "all"', "plan.toml: unknown key 'selection'; did you mean 'select'"),
        ('identity = "no"', "Expected `?'?bool"),
        ('group = "ones"', "unknown group 'ones'"),
        ("select = all", "not valid TOML"),
    ],
)
def test_a_bad_plan_file_is_one_line(tmp_path, text, message):
    path = tmp_path / "plan.toml"
    path.write_text(text)
    with pytest.raises(OnebranchError, match=message) as error:
        read(path)
    assert "\n" not in str(error.value)


def test_a_plan_file_that_is_not_there():
    with pytest.raises(OnebranchError, match=r"nowhere\.toml: cannot read this plan: No such file"):
        read(Path("nowhere.toml"))


@pytest.mark.parametrize(
    "text", ["random:" + "9" * 5000 + ":1", "kernel:" + "9" * 5000 + "x3", "convs:" + "9" * 50, ""]
)
def test_numbers_without_measure_and_empty_texts_are_refused(text):
    with pytest.raises(OnebranchError):
        MergePlan(select=text)
