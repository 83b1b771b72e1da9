"""The progress line: shown on a terminal once a command takes longer, and nowhere else."""

import os
import subprocess
import sys

import pytest

from command_line import ENVIRONMENT, terminal_output

CODE = """
import sys, time
from onebranch.cli import progress
progress.DELAY_SECONDS = float(sys.argv[1])
with progress.ProgressLine("reading") as line:
    end = time.monotonic() + (20 if sys.stderr.isatty() and progress.DELAY_SECONDS == 0 else 0)
    while line._display is None and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.3)
    line.update("half way", 0.5)
    time.sleep(0.3)
print("result")
"""


@pytest.mark.skipif(os.name != "posix", reason="terminals are made so on POSIX systems only")
def test_a_terminal_shows_the_step_and_the_time_left() -> None:
    shown = terminal_output(CODE, "0", columns=100)
    assert b"reading" in shown and b"half way" in shown and b"left:" in shown
    assert shown.endswith(b"result\r\n")


@pytest.mark.skipif(os.name != "posix", reason="terminals are made so on POSIX systems only")
def test_short_commands_show_nothing() -> None:
    assert terminal_output(CODE, "60", columns=100) == b"result\r\n"


def test_other_outputs_get_nothing() -> None:
    words = [sys.executable, "-c", CODE, "0"]
    done = subprocess.run(words, capture_output=True, env=ENVIRONMENT, check=True)
    assert (done.stdout.strip(), done.stderr) == (b"result", b"")
