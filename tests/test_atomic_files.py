"""Temporary files: only the leftovers of processes that no longer write them are removed."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from onebranch.atomic_files import MAX_AGE_SECONDS, atomic_path, remove_leftovers, temporary_name


def name_of(process: int) -> str:
    """A name as that process of this machine would give it."""
    first, machine, _, last = temporary_name().split("-")
    return "-".join((first, machine, str(process), last))


@pytest.mark.fast
def test_leftovers_of_ended_processes_are_removed_and_files_in_use_are_not(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead, alive = tmp_path / name_of(ended.pid), tmp_path / name_of(os.getppid())
    elsewhere, theirs = tmp_path / ".onebranch-00000000-1-00.part", tmp_path / ".onebranchless.part"
    for path in (dead, alive, elsewhere, theirs):
        path.write_bytes(b"half")
    with atomic_path(tmp_path / "whole") as mine:
        mine.write_bytes(b"whole")
        assert remove_leftovers(tmp_path) == [dead]
        assert mine.exists()
    assert remove_leftovers(tmp_path, time.time() + MAX_AGE_SECONDS + 1) == [elsewhere]
    assert sorted(tmp_path.iterdir()) == sorted([alive, theirs, tmp_path / "whole"])
    assert remove_leftovers(tmp_path / "none") == []
