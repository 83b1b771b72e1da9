"""Thousands of damaged pictures: each is read or refused in one line; no crash, hang or excess memory.

`make slow` reads 10,000 files of fixed seeds, `make soak` as many new ones as ONEBRANCH_FUZZ_SECONDS
allows, at least 10,000. The counts are printed.
"""

import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostile import case, seeds
from onebranch.images.libvips import pyvips
from reading_worker import SECONDS, Worker

CASES = 10_000
"""Damaged files that are always read."""

SOAKS = os.environ.get("HYPOTHESIS_PROFILE") == "soak"


@pytest.mark.fast
def test_the_worker_detects_faults_and_continues(tmp_path):
    path, seen = tmp_path / "it", {}
    with Worker("misbehave") as worker:
        for what in ("crash", "leave", "hang", "bloat", "print", "raise", "ramble", "behave"):
            path.write_text(what)
            seen[what] = worker.ask(path, seconds=2 if what == "hang" else SECONDS).fault
    assert seen.pop("behave") == ""
    words = ["SIGABRT", "exit code 3", "longer than 2 s", "MB", "libtiff: warning", "ValueError", "one line"]
    for fault, word in zip(seen.values(), words, strict=True):
        assert word in fault


@pytest.mark.fast
def test_every_seed_is_a_valid_picture(tmp_path):
    path = tmp_path / "it"
    with Worker("by_rows") as worker:
        for name, content in seeds().items():
            path.write_bytes(content)
            answer = worker.ask(path)
            assert (answer.outcome, answer.fault) == (["read"], ""), name


@pytest.mark.fast
def test_messages_of_libvips_need_not_be_utf_8(caplog):
    """They quote bytes of damaged files, which pyvips cannot decode in the callback for log messages."""
    domain, message = (pyvips.ffi.new("char[]", text) for text in (b"VIPS", b"bad \xf8"))
    caplog.set_level("INFO", "pyvips")
    pyvips._log_handler_callback(domain, 1 << 4, message, pyvips.ffi.NULL)
    assert caplog.messages == ["VIPS: bad \\xf8"]


@pytest.mark.slow
def test_damaged_pictures_are_read_or_refused_in_one_line(tmp_path, fuzz_seconds):
    """`hostile.case(number)` gives the file of a fault that is listed here."""
    faults, outcomes = [], Counter()
    with Worker("by_rows") as worker:
        for number in numbers(fuzz_seconds if SOAKS else 0):
            name, content = case(number)
            path = Path(tmp_path / f"{number}.bin")
            path.write_bytes(content)
            answer = worker.ask(path)
            path.unlink()
            outcomes["fault" if answer.fault else answer.outcome[0]] += 1
            if answer.fault:
                faults.append(f"case {number} ({name}): {answer.fault}")
    print(f"\n{outcomes.total()} damaged pictures: {dict(outcomes)}")
    assert not faults, "\n".join([f"{len(faults)} of {outcomes.total()} cases", *faults[:20]])
    assert min(outcomes["read"], outcomes["refused"]) > CASES / 10, outcomes


def numbers(seconds: float) -> Iterator[int]:
    """At least `CASES` consecutive numbers until the time is up: from 0, or new ones in `make soak`."""
    begin = int(time.time()) * 1000 if SOAKS else 0
    end, number = time.monotonic() + seconds, begin
    while number < begin + CASES or time.monotonic() < end:
        yield number
        number += 1
