"""The command line, run inside the test's process, and code run on a terminal."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import onebranch
from onebranch import cli

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(onebranch.__file__).parent.parent)}
"""The environment of a process that imports this tree's package."""


class Outcome:
    """What a command printed and its exit code."""

    def __init__(self, code: int, output: str, errors: str) -> None:
        self.code, self.output, self.errors = code, output, errors


class CommandLine:
    """`run("enhance", ...)` as if it were typed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(self, *words: object) -> Outcome:
        """Run it; a traceback is a failing test."""
        self.monkeypatch.setattr(sys, "argv", ["onebranch", *(str(word) for word in words)])
        self.capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = self.capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    def refused(self, *words: object) -> str:
        """Run it and return its one line of error; exit code 2."""
        outcome = self(*words)
        assert outcome.code == 2, outcome.output
        assert outcome.errors.startswith("onebranch: ")
        assert outcome.errors.count("\n") == 1, outcome.errors
        return outcome.errors


def terminal_output(code: str, *arguments: str, columns: int, folder: Path | None = None) -> bytes:
    """The bytes that Python code writes to a pseudo-terminal, by stdout and stderr; exit code 0.

    folder: the working directory.
    """
    import pty  # of POSIX systems only

    reader, writer = pty.openpty()
    environment = {**ENVIRONMENT, "TERM": "xterm", "COLUMNS": str(columns)}
    words = [sys.executable, "-c", code, *arguments]
    with os.fdopen(reader, "rb", buffering=0) as terminal:
        process = subprocess.Popen(words, stdout=writer, stderr=writer, env=environment, cwd=folder)
        os.close(writer)
        output = b""
        with contextlib.suppress(OSError):  # reading fails once the process has closed the terminal
            while part := terminal.read(4096):
                output += part
    assert process.wait() == 0
    return output
