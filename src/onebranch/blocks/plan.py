"""The plan: selection (which branches), schedule (how many in which block), grouping (into how many)."""

import hashlib
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from onebranch.errors import OnebranchError, nearest
from onebranch.spec.branch import Branch, Convolution, Identity, parse
from onebranch.spec.network import NetworkSpec, convert

Groups = list[list[int]]
"""Branches of a block, by index: each group becomes one branch."""

SELECTIONS = ("all", "random:M:SEED", "kernel:KxL", "convs:N", "name:BRANCH,...")
SCHEDULES = ("all", "same:M", "growing:M", "shrinking:M", "kernel:KxL", "convs:N")
GROUPINGS = ("one", "every:J", "size", "type")


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which branches of which block are merged into what; by default each block into one convolution.

    select: an ordered list of branches. "all"; "random:M:SEED", M at random; "kernel:3x3", those with a
    convolution of that size anywhere in the chain; "convs:2", those with that many convolutions;
    "name:0,identity", by index or by text. identity: whether identity branches may be among them.

    schedule: how many of that list are taken, M_p, in block p of P. "all"; "same:M"; "growing:M",
    round(M p / P); "shrinking:M", round(M P / p), a half upwards; "kernel:3x3" or "convs:2", as many as the
    block has branches with such a kernel or so many convolutions. Clipped to the list.

    group: what is taken together. "one"; "every:J"; "size", by merged kernel size; "type", conv branches into
    one and identity branches into another.

    ends: whether head and tail are merged too. The schedule counts the P blocks between them; head and tail
    have no place in it, so all that is selected in them is taken.

    Source: US 2025/0259275 A1, claims 7 and 15, paragraphs 104, 105, 122-124, 132, 137.
    """

    select: str = "all"
    identity: bool = True
    schedule: str = "all"
    group: str = "one"
    ends: bool = True

    def __post_init__(self) -> None:
        """Check that every text is one of the forms; OnebranchError names the nearest."""
        _check("select", self.select, SELECTIONS)
        _check("schedule", self.schedule, SCHEDULES)
        _check("group", self.group, GROUPINGS)
        _names(self.select)


_FORMS = {
    **dict.fromkeys(("all", "one", "size", "type"), ""),
    **dict.fromkeys(("same", "growing", "shrinking", "every"), r":[1-9]\d{0,8}"),
    "random": r":[1-9]\d{0,8}:\d{1,18}",
    "kernel": r":\d{0,3}[13579]x\d{0,3}[13579]",
    "convs": r":\d{1,9}",
    "name": r":.+",
}
"""What follows the first word of every form; kernels have odd sides, counts begin at 1."""


def _check(key: str, text: str, forms: Sequence[str]) -> None:
    words = [form.partition(":")[0] for form in forms]
    word = text.partition(":")[0]
    if word not in words:
        raise OnebranchError(f"plan: unknown {key} '{text}' ({' | '.join(forms)}); {nearest(word, words)}")
    if not re.fullmatch(word + _FORMS[word], text):
        form = forms[words.index(word)]
        raise OnebranchError(f"plan: {key} '{text}' is not of the form '{form}'")


def read(path: Path) -> Plan:
    """The plan in a TOML file; unknown keys raise OnebranchError with the nearest valid one."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise OnebranchError(f"{path}: cannot read this plan: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OnebranchError(f"{path}: not valid TOML: {error}") from None
    plan: Plan = convert(table, Plan, str(path))
    return plan


def groups_by_block(plan: Plan, spec: NetworkSpec) -> dict[str, Groups]:
    """What the plan merges in every block, by the block's name; no groups where it has nothing to do.

    A group of one that is a single step already is left out: one convolution is what a chain collapses to,
    and nothing is cheaper than an identity. Raises OnebranchError where a branch that is named is nowhere.
    """
    _check_names(plan, spec)
    result: dict[str, Groups] = {}
    for position, (name, block, _) in enumerate(spec.walk()):
        branches = block.parsed
        found = groups(plan, branches, taken(plan, branches, position, len(spec.blocks)))
        result[name] = [group for group in found if not _settled([branches[n] for n in group])]
    return result


def _settled(group: Sequence[Branch]) -> bool:
    """Whether there is nothing to sum and nothing to collapse."""
    steps = [step for branch in group for step in branch.steps]
    return len(steps) == 1 and isinstance(steps[0], Convolution | Identity)


def selected(plan: Plan, branches: Sequence[Branch], position: int) -> list[int]:
    """Indices of the selected branches of the block at `position` (0 is the head), in order.

    >>> from onebranch.spec.branch import parse
    >>> block = [parse(text) for text in ("3x3", "1x1 3x3", "identity", "5x5")]
    >>> selected(Plan(select="kernel:3x3"), block, 1), selected(Plan(identity=False), block, 1)
    ([0, 1], [0, 1, 3])
    """
    allowed = [n for n, branch in enumerate(branches) if plan.identity or not branch.is_identity]
    word, _, rest = plan.select.partition(":")
    if word == "random":
        count, seed = (int(number) for number in rest.split(":"))
        return sorted(allowed, key=lambda n: _lot(seed, position, n))[:count]
    if word == "name":
        named = [n for name in _names(plan.select) for n in allowed if name in (str(n), str(branches[n]))]
        return list(dict.fromkeys(named))
    return [n for n in allowed if word == "all" or _matches(word, rest, branches[n])]


def _lot(seed: int, position: int, index: int) -> bytes:
    """What a branch draws. A hash, since random generators may change with the versions of their library."""
    return hashlib.sha256(f"{seed}/{position}/{index}".encode()).digest()


def _names(select: str) -> list[str]:
    """The names of a selection by name: indices, and texts as the grammar writes them; else none."""
    word, _, rest = select.partition(":")
    parts = [part.strip() for part in rest.split(",")] if word == "name" else []
    return [str(int(part)) if part.isdecimal() else str(parse(part)) for part in parts]


def _check_names(plan: Plan, spec: NetworkSpec) -> None:
    blocks = [block.parsed for block in spec.all_blocks]
    texts = dict.fromkeys(str(branch) for branches in blocks for branch in branches)
    most = max(len(branches) for branches in blocks)
    for name in _names(plan.select):
        if name not in texts and not (name.isdecimal() and int(name) < most):
            raise OnebranchError(f"plan: no block has a branch '{name}'; {nearest(name, texts)}")


def _matches(word: str, rest: str, branch: Branch) -> bool:
    if word == "convs":
        return not branch.is_identity and len(branch.kernels) == int(rest)
    return _kernel(rest) in branch.kernels


def _kernel(text: str) -> tuple[int, int]:
    rows, _, columns = text.partition("x")
    return int(rows), int(columns)


def taken(plan: Plan, branches: Sequence[Branch], position: int, blocks: int) -> list[int]:
    """Indices of the branches merged in block `position` of 1..`blocks`; 0 and `blocks` + 1 are the ends.

    >>> from onebranch.spec.branch import parse
    >>> block = [parse("3x3")] * 4
    >>> [len(taken(Plan(schedule="growing:4"), block, p, 4)) for p in (1, 2, 3, 4)]
    [1, 2, 3, 4]
    """
    listed = selected(plan, branches, position)
    if not 1 <= position <= blocks:
        return listed if plan.ends else []
    word, _, rest = plan.schedule.partition(":")
    if word == "all":
        return listed
    if word in ("kernel", "convs"):
        return listed[: sum(_matches(word, rest, branch) for branch in branches)]
    numerator, denominator = {
        "same": (1, 1),
        "growing": (position, blocks),
        "shrinking": (blocks, position),
    }[word]
    return listed[: (2 * int(rest) * numerator + denominator) // (2 * denominator)]


def groups(plan: Plan, branches: Sequence[Branch], chosen: Sequence[int]) -> Groups:
    """The chosen branches in groups, each of which becomes one branch.

    >>> from onebranch.spec.branch import parse
    >>> block = [parse(text) for text in ("3x3", "1x1 3x3", "identity", "5x5")]
    >>> groups(Plan(group="size"), block, [0, 1, 2, 3]), groups(Plan(group="every:3"), block, [0, 1, 2, 3])
    ([[0, 1], [2], [3]], [[0, 1, 2], [3]])
    """
    word, _, rest = plan.group.partition(":")
    if word == "one":
        return [list(chosen)] if chosen else []
    if word == "every":
        return [list(chosen[k : k + int(rest)]) for k in range(0, len(chosen), int(rest))]
    found: dict[object, list[int]] = {}
    for n in chosen:
        key = branches[n].merged_kernel if word == "size" else branches[n].is_identity
        found.setdefault(key, []).append(n)
    return list(found.values())
