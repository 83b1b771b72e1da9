"""Benchmarks must not start while the training queue (`make ladder`) uses the processor."""

import os
from pathlib import Path

from onebranch.errors import OnebranchError

VARIABLE = "ONEBRANCH_LADDER"
"""Environment variable that names the queue's folder."""

DEFAULT_FOLDER = Path("~/.cache/onebranch/ladder")

STATE_FILE = "running"
"""Holds the process id of the queue while a training run is active and not paused."""


def refuse_while_training() -> None:
    """Raise OnebranchError while a training run of the queue is active: every timing would be wrong.

    A state file whose process no longer exists was left by a killed run and is ignored.
    """
    path = Path(os.environ.get(VARIABLE) or DEFAULT_FOLDER).expanduser() / STATE_FILE
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        return
    if not text.isdigit() or is_alive(int(text)):
        raise OnebranchError(
            f"a training run is active ({path} names process '{text}'), so that timings would mean nothing;"
            " pause it (make ladder-pause), or wait until it ends"
        )


def is_alive(process: int) -> bool:
    """True if a process of that id exists, even one of another user."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
