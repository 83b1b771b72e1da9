"""What a way costs a process that does nothing else: memory beyond what it had, time to the first result.

The parent writes the model to a file and asks a new interpreter, which has imported its packages before it
measures. Linux only: the kernel keeps the peak of each process (VmHWM), which a child does not inherit.
"""

import importlib
import json
import re
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onebranch.bench.ways import WAYS, Way
from onebranch.model.file import Model, read, write

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Cost:
    """megabytes: of 10^6 bytes, at the most. milliseconds: opening and the first run. None: not known."""

    megabytes: float | None
    milliseconds: float | None


def alone(way: Way, model: Model, size: tuple[int, int], threads: int) -> Cost:
    """The cost in a process of its own; unknown where that fails, for lack of memory or otherwise."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        write(model, path)
        return Cost(**(asked("way", way=way.label, path=str(path), size=size, threads=threads) or _UNKNOWN))


_UNKNOWN = {"megabytes": None, "milliseconds": None}


def asked(what: str, **facts: Any) -> dict[str, Any] | None:
    """What a new interpreter answers to a question of `QUESTIONS`; None where it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "onebranch.bench.alone", what],
        input=json.dumps(facts),
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        return None
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _way(way: str, path: str, size: list[int], threads: int) -> dict[str, Any]:
    """A way's cost; see `Cost`."""
    found = WAYS[way]
    model = read(path)
    for module in found.modules:
        importlib.import_module(module)
    picture = np.random.default_rng(0).random((1, model.spec.channels, *size), np.float32)
    before = reset_peak()
    start = time.perf_counter()
    result = found.opened(model, threads)(picture)
    seconds = time.perf_counter() - start
    megabytes = megabytes_since(before)
    del result
    return {"megabytes": megabytes, "milliseconds": 1e3 * seconds}


def _rows(
    path: str, precision: str, rows: int, width: int, chunk: int, threads: int
) -> dict[str, float | None]:
    """Megabytes beyond the interpreter for a picture of RGB bytes that is streamed through the engine."""
    before = reset_peak()
    from onebranch.bench.streaming import random_rows, streamed
    from onebranch.enhancer.engine_stage import EngineStage

    stage = EngineStage(read(path), threads=threads, precision=precision)
    streamed(stage, rows, random_rows(chunk, width))
    return {"megabytes": megabytes_since(before)}


QUESTIONS: dict[str, Any] = {"way": _way, "rows": _rows}


def reset_peak() -> int | None:
    """Bytes that this process holds, its peak set back to them where the kernel allows that."""
    with suppress(OSError):
        RESET.write_text("5")
    return peak_bytes()


def megabytes_since(before: int | None) -> float | None:
    """What the peak has risen by."""
    after = peak_bytes()
    return None if before is None or after is None else (after - before) / 1e6


def peak_bytes() -> int | None:
    """The most that this process has held, in bytes; None where the system does not say."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())
    except OSError:
        return None
    return 1024 * int(found[1]) if found else None


if __name__ == "__main__":
    print(json.dumps(QUESTIONS[sys.argv[1]](**json.load(sys.stdin))))
