"""The merge plan: selection of branches, schedule (how many are merged per block), grouping."""

import hashlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from onebranch.errors import OnebranchError, nearest
from onebranch.spec.branch import Branch, Convolution, Identity, parse
from onebranch.spec.network import NetworkSpec, convert

Groups = list[list[int]]
"""Groups of a block's branches, by index; each group becomes one branch."""

SELECTIONS = ("all", "random:M:SEED", "kernel:KxL", "convs:N", "name:BRANCH,...")
SCHEDULES = ("all", "same:M", "growing:M", "shrinking:M", "kernel:KxL", "convs:N")
GROUPINGS = ("one", "every:J", "size", "type")


class MergePlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which branches of each block are merged, and in which groups; by default, all branches of a block
    become one convolution.

    select: gives an ordered list of branches. "all"; "random:M:SEED": M random ones; "kernel:3x3": those that
    contain a convolution of this size; "convs:2": those with this number of convolutions; "name:0,identity":
    by index or by text. identity: whether identity branches may be selected.

    schedule: the number M_p of branches that are taken from the list in block p of P. "all"; "same:M";
    "growing:M": round(M p / P); "shrinking:M": round(M P / p); in both, M is the number in the last block, p
    counts from 1 to P, and halves are rounded up. "kernel:3x3" or "convs:2": the number of the block's
    branches with this kernel size or number of convolutions. If M_p is larger than the list, the whole list
    is taken.

    group: the branches that become one. "one": all; "every:J": each J in turn; "size": those of equal merged
    kernel size; "type": identity branches become one, and all others become one.

    head_and_tail: whether head and tail are merged too. The schedule counts only the P blocks between them;
    in head and tail, all selected branches are taken.

    Raises OnebranchError for any other text; for an unknown word, the message names the most similar one.

    Source: US 2025/0259275 A1, claims 7 and 15, paragraphs 104, 105, 122-124, 132, 137.

    >>> MergePlan(select="kernel:3x3", group="every:2").schedule
    'all'
    """

    select: str = "all"
    identity: bool = True
    schedule: str = "all"
    group: str = "one"
    head_and_tail: bool = True

    def __post_init__(self) -> None:
        """Check the texts."""
        _check("select", self.select, SELECTIONS)
        _check("schedule", self.schedule, SCHEDULES)
        _check("group", self.group, GROUPINGS)
        _selected_names(self.select)


_ARGUMENT_PATTERNS = {
    **dict.fromkeys(("all", "one", "size", "type"), ""),
    **dict.fromkeys(("same", "growing", "shrinking", "every"), r":[1-9]\d{0,8}"),
    "random": r":[1-9]\d{0,8}:\d{1,18}",
    "kernel": r":\d{0,3}[13579]x\d{0,3}[13579]",
    "convs": r":\d{1,9}",
    "name": r":.+",
}
"""The pattern of the rest of a text, by its first word. Kernel sides are odd; M and J begin at 1, N at 0."""


def _check(key: str, text: str, syntaxes: Sequence[str]) -> None:
    words = [syntax.partition(":")[0] for syntax in syntaxes]
    word = text.partition(":")[0]
    if word not in words:
        raise OnebranchError(f"plan: unknown {key} '{text}' ({' | '.join(syntaxes)}); {nearest(word, words)}")
    if not re.fullmatch(word + _ARGUMENT_PATTERNS[word], text):
        syntax = syntaxes[words.index(word)]
        raise OnebranchError(f"plan: {key} '{text}' is not of the form '{syntax}'")


def read(path: Path) -> MergePlan:
    """The plan in a TOML file.

    Raises OnebranchError for a file that cannot be read, and for an unknown key (it names the most similar
    one).
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise OnebranchError(f"{path}: cannot read this plan: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OnebranchError(f"{path}: not valid TOML: {error}") from None
    for old, new in RENAMED_KEYS.items():
        if old in table:
            raise OnebranchError(f"{path}: the key '{old}' is now called '{new}'")
    plan: MergePlan = convert(table, MergePlan, str(path))
    return plan


RENAMED_KEYS = {"ends": "head_and_tail"}
"""Keys of version 0.1 and their names today."""


def current_keys(plan: Mapping[str, Any]) -> dict[str, Any]:
    """The table of a plan from a model file, with the keys of version 0.1 renamed.

    >>> current_keys({"group": "size", "ends": False})
    {'group': 'size', 'head_and_tail': False}
    """
    return {RENAMED_KEYS.get(key, key): value for key, value in plan.items()}


def groups_by_block(plan: MergePlan, spec: NetworkSpec) -> dict[str, Groups]:
    """The groups that the plan merges in every block, by the block's name.

    A group that consists of a single convolution or a single identity is omitted, because merging would not
    change it. Raises OnebranchError if a branch that the plan names is in no block.
    """
    _check_names(plan, spec)
    result: dict[str, Groups] = {}
    for position, (name, block, _) in enumerate(spec.walk()):
        branches = block.parsed
        scheduled_branches = scheduled(plan, branches, position, len(spec.blocks))
        groups = grouped(plan, branches, scheduled_branches)
        result[name] = [group for group in groups if not _is_single([branches[n] for n in group])]
    return result


def _is_single(group: Sequence[Branch]) -> bool:
    """True if the group is one convolution or one identity, which merging would not change."""
    steps = [step for branch in group for step in branch.steps]
    return len(steps) == 1 and isinstance(steps[0], Convolution | Identity)


def selected(plan: MergePlan, branches: Sequence[Branch], position: int) -> list[int]:
    """Indices of the selected branches of the block at `position` (0 is the head).

    They are in the order in which the schedule takes them: that of the block; a random one for "random"; that
    of the list for "name".

    >>> from onebranch.spec.branch import parse
    >>> block = [parse(text) for text in ("3x3", "1x1 3x3", "identity", "5x5")]
    >>> selected(MergePlan(select="kernel:3x3"), block, 1), selected(MergePlan(identity=False), block, 1)
    ([0, 1], [0, 1, 3])
    """
    allowed = [n for n, branch in enumerate(branches) if plan.identity or not branch.is_identity]
    word, _, rest = plan.select.partition(":")
    if word == "all":
        return allowed
    if word == "random":
        count, seed = (int(number) for number in rest.split(":"))
        return sorted(allowed, key=lambda n: _random_sort_key(seed, position, n))[:count]
    if word == "name":
        return _selected_by_name(plan, branches, allowed)
    return [n for n in allowed if _matches(word, rest, branches[n])]


def _selected_by_name(plan: MergePlan, branches: Sequence[Branch], allowed: Sequence[int]) -> list[int]:
    """The allowed branches that a selection by name contains, in its order, without duplicates."""
    indices = [
        n for name in _selected_names(plan.select) for n in allowed if name in (str(n), str(branches[n]))
    ]
    return list(dict.fromkeys(indices))


def _random_sort_key(seed: int, position: int, index: int) -> bytes:
    """A deterministic random sort key for one branch of the block at `position`.

    It is a hash, because the numbers of a random generator may change with the version of its library.
    """
    return hashlib.sha256(f"{seed}/{position}/{index}".encode()).digest()


def _selected_names(select: str) -> list[str]:
    """The names in a selection by name: indices, and branches in the grammar's spelling; otherwise none."""
    word, _, rest = select.partition(":")
    parts = [part.strip() for part in rest.split(",")] if word == "name" else []
    return [str(int(part)) if part.isdecimal() else str(parse(part)) for part in parts]


def _check_names(plan: MergePlan, spec: NetworkSpec) -> None:
    blocks = [block.parsed for block in spec.all_blocks]
    texts = dict.fromkeys(str(branch) for branches in blocks for branch in branches)
    branch_count = max(len(branches) for branches in blocks)
    for name in _selected_names(plan.select):
        if name not in texts and not (name.isdecimal() and int(name) < branch_count):
            raise OnebranchError(f"plan: no block has a branch '{name}'; {nearest(name, texts)}")


def _matches(word: str, rest: str, branch: Branch) -> bool:
    if word == "convs":
        return not branch.is_identity and len(branch.kernels) == int(rest)
    return _kernel(rest) in branch.kernels


def _kernel(text: str) -> tuple[int, int]:
    rows, _, columns = text.partition("x")
    return int(rows), int(columns)


def scheduled(plan: MergePlan, branches: Sequence[Branch], position: int, blocks: int) -> list[int]:
    """Indices of the branches that the schedule merges in the block at a position.

    position: 0 for the head, 1 to `blocks` (the number of blocks), `blocks` + 1 for the tail.

    >>> from onebranch.spec.branch import parse
    >>> block = [parse("3x3")] * 4
    >>> [len(scheduled(MergePlan(schedule="growing:4"), block, p, 4)) for p in (1, 2, 3, 4)]
    [1, 2, 3, 4]
    """
    selection = selected(plan, branches, position)
    if not 1 <= position <= blocks:
        return selection if plan.head_and_tail else []
    word, _, rest = plan.schedule.partition(":")
    if word == "all":
        return selection
    # All branches of the block are counted, including those that are not selected.
    if word in ("kernel", "convs"):
        return selection[: sum(_matches(word, rest, branch) for branch in branches)]
    numerator, denominator = {
        "same": (1, 1),
        "growing": (position, blocks),
        "shrinking": (blocks, position),
    }[word]
    # Rounded half up, in integers. Example: growing:3 in block 5 of 6: 3 * 5 / 6 = 2.5, and (2 * 3 * 5 + 6)
    # // (2 * 6) = 3.
    return selection[: (2 * int(rest) * numerator + denominator) // (2 * denominator)]


def grouped(plan: MergePlan, branches: Sequence[Branch], indices: Sequence[int]) -> Groups:
    """The branches of these indices in groups, each of which becomes one branch.

    >>> from onebranch.spec.branch import parse
    >>> block = [parse(text) for text in ("3x3", "1x1 3x3", "identity", "5x5")]
    >>> grouped(MergePlan(group="size"), block, [0, 1, 2, 3])
    [[0, 1], [2], [3]]
    >>> grouped(MergePlan(group="every:3"), block, [0, 1, 2, 3])
    [[0, 1, 2], [3]]
    """
    word, _, rest = plan.group.partition(":")
    if word == "one":
        return [list(indices)] if indices else []
    if word == "every":
        return [list(indices[k : k + int(rest)]) for k in range(0, len(indices), int(rest))]
    by_key: dict[object, list[int]] = {}
    for n in indices:
        key = branches[n].merged_kernel if word == "size" else branches[n].is_identity
        by_key.setdefault(key, []).append(n)
    return list(by_key.values())
