"""The progress line: shown on a terminal once a command takes longer, and nowhere else."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import onebranch

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


def shown_on_a_terminal(*arguments: str) -> bytes:
    """What a terminal gets from the code."""
    import pty

    reader, writer = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(Path(onebranch.__file__).parent.parent), "TERM": "xterm"}
    with os.fdopen(reader, "rb", buffering=0) as terminal:
        words = [sys.executable, "-c", CODE, *arguments]
        running = subprocess.Popen(words, stdout=writer, stderr=writer, env={**environment, "COLUMNS": "100"})
        os.close(writer)
        shown = b""
        with contextlib.suppress(OSError):  # the end of a terminal
            while part := terminal.read(4096):
                shown += part
    assert running.wait() == 0
    return shown


@pytest.mark.skipif(os.name != "posix", reason="terminals are made so on POSIX systems only")
def test_a_terminal_shows_the_step_and_the_time_left() -> None:
    shown = shown_on_a_terminal("0")
    assert b"reading" in shown and b"half way" in shown and b"left:" in shown
    assert shown.endswith(b"result\r\n")


@pytest.mark.skipif(os.name != "posix", reason="terminals are made so on POSIX systems only")
def test_short_commands_show_nothing() -> None:
    assert shown_on_a_terminal("60") == b"result\r\n"


def test_other_outputs_get_nothing() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(onebranch.__file__).parent.parent)}
    words = [sys.executable, "-c", CODE, "0"]
    done = subprocess.run(words, capture_output=True, env=environment, check=True)
    assert (done.stdout.strip(), done.stderr) == (b"result", b"")
