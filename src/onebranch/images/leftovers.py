"""Names of files in the making, and the ones that killed runs have left behind.

Such a name says which process of which machine writes it, so that only what nobody writes is removed.
"""

import os
import time
import zlib
from pathlib import Path

DAY = 24 * 3600.0
"""Seconds without a change after which nobody writes a file, on whatever machine."""

MINE: set[Path] = set()
"""The files that this process is making now."""


def name_in_the_making() -> str:
    """A new hidden name of this process."""
    return f".onebranch-{_machine()}-{os.getpid()}-{os.urandom(8).hex()}.part"


def remove_leftovers(folder: Path, now: float | None = None) -> list[Path]:
    """Remove the files in the making that nobody makes any more; they are returned, sorted.

    These are the ones of a process of this machine that has ended, and those unchanged for a day.
    """
    found = sorted(folder.glob(".onebranch-*.part*")) if folder.is_dir() else []
    left = [path for path in found if _is_left(path, time.time() if now is None else now)]
    removed = []
    for path in left:
        try:
            path.unlink()
            removed.append(path)
        except OSError:  # somebody else was faster, or it is held open
            continue
    return removed


def _is_left(path: Path, now: float) -> bool:
    if path in MINE:
        return False
    _, machine, process, *_ = (*path.name.split("-"), "", "")
    if machine == _machine() and process.isdecimal():
        return int(process) == os.getpid() or not _runs(int(process))
    try:
        return now - path.lstat().st_mtime > DAY
    except OSError:
        return False


def _runs(process: int) -> bool:
    """Whether there is such a process, as far as can be told."""
    if os.name != "posix":  # there, asking can end the process; files in use cannot be removed instead
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _machine() -> str:
    """This machine's name as eight letters that fit into every file name."""
    name = os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")
    return f"{zlib.crc32(name.encode()):08x}"
