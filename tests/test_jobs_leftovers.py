"""Files in the making: only those that nobody makes any more are removed."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from onebranch.images.files import placed
from onebranch.images.leftovers import DAY, name_in_the_making, remove_leftovers


def name_of(process: int) -> str:
    """A name as that process of this machine would give it."""
    first, machine, _, last = name_in_the_making().split("-")
    return "-".join((first, machine, str(process), last))


@pytest.mark.fast
def test_leftovers_of_ended_processes_are_removed_and_files_in_use_are_not(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead, alive = tmp_path / name_of(ended.pid), tmp_path / name_of(os.getppid())
    elsewhere, theirs = tmp_path / ".onebranch-00000000-1-00.part", tmp_path / ".onebranchless.part"
    for path in (dead, alive, elsewhere, theirs):
        path.write_bytes(b"half")
    with placed(tmp_path / "whole") as mine:
        mine.write_bytes(b"whole")
        assert remove_leftovers(tmp_path) == [dead]
        assert mine.exists()
    assert remove_leftovers(tmp_path, time.time() + DAY + 1) == [elsewhere]
    assert sorted(tmp_path.iterdir()) == sorted([alive, theirs, tmp_path / "whole"])
    assert remove_leftovers(tmp_path / "none") == []
