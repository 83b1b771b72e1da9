# LEAD: written by the lead while waiting; helper: please keep these files, adapt or add to them, do not replace
"""The plan: selection (which branches), schedule (how many in which block), grouping (into how many)."""

import math
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from onebranch.errors import OnebranchError, nearest
from onebranch.spec.branch import Branch
from onebranch.spec.network import convert

SELECTIONS = ("all", "random:M:SEED", "kernel:KxL", "convs:N", "name:TEXT,...")
SCHEDULES = ("all", "same:M", "growing:M", "shrinking:M", "kernel:KxL", "convs:N")
GROUPINGS = ("one", "every:J", "size", "type")


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which branches of which block are merged into what; by default each block into one convolution.

    select: an ordered list of branches. "all"; "random:M:SEED", M at random; "kernel:3x3", those with a
    kernel of that size anywhere in the chain; "convs:2", those with that many convolutions; "name:0,identity", by
    index or by text. identity: whether identity branches are among them.
    schedule: how many of the list are taken, M_p, in block p of P. "all"; "same:M"; "growing:M",
    round(M p / P); "shrinking:M", round(M P / p); "kernel:3x3" or "convs:2", as many as the block has
    branches with such a kernel or so many convolutions. Clipped to the list.
    group: what is taken together. "one"; "every:J"; "size", by merged kernel size; "type", conv branches into
    one and identity branches into another.
    ends: whether head and tail are merged too; they have no place in the schedule, so all that is selected
    in them is taken.

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


_FORMS = {
    "all": "",
    "one": "",
    "size": "",
    "type": "",
    "random": r":[1-9]\d*:\d+",
    "kernel": r":\d+x\d+",
    "convs": r":\d+",
    "name": r":.+",
    "same": r":\d+",
    "growing": r":\d+",
    "shrinking": r":\d+",
    "every": r":[1-9]\d*",
}
"""What follows the first word of every form."""


def _check(key: str, text: str, forms: Sequence[str]) -> None:
    words = [form.partition(":")[0] for form in forms]
    word = text.partition(":")[0]
    if word not in words:
        raise OnebranchError(f"plan: unknown {key} '{text}'; {nearest(word, words)}")
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
        shuffled = np.random.default_rng((seed, position)).permutation(len(allowed))
        return [allowed[k] for k in shuffled[:count]]
    if word == "name":
        return _named([part.strip() for part in rest.split(",")], branches, allowed)
    return [n for n in allowed if word == "all" or _matches(word, rest, branches[n])]


def _named(names: list[str], branches: Sequence[Branch], allowed: list[int]) -> list[int]:
    """In the order of the names; a name may stand for several branches of the same text."""
    found = [n for name in names for n in allowed if name in (str(n), str(branches[n]))]
    return list(dict.fromkeys(found))


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
    share = {"same": 1.0, "growing": position / blocks, "shrinking": blocks / position}[word]
    return listed[: math.floor(int(rest) * share + 0.5)]


def groups(plan: Plan, branches: Sequence[Branch], chosen: Sequence[int]) -> list[list[int]]:
    """The chosen branches in groups, each of which becomes one convolution.

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
