"""The command line, run inside the test's process."""

import sys

import pytest

from onebranch import cli


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
