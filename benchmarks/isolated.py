"""Memory and time of the first run of one configuration, in a process that does nothing else.

The parent writes the model to a file and starts a new interpreter, which imports the packages before it
measures. Linux only: the kernel keeps the peak of each process (VmHWM), which a child does not inherit.
"""

import importlib
import json
import os
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

from benchmarks.configurations import CONFIGURATIONS, Configuration
from onebranch.model.file import Model, read, write

ROOT = Path(__file__).resolve().parent.parent
STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class FirstRunCost:
    """megabytes: peak memory in units of 10^6 bytes. milliseconds: opening and first run. None: unknown."""

    megabytes: float | None
    milliseconds: float | None


UNKNOWN_COST = FirstRunCost(None, None)


def measure_first_run(
    configuration: Configuration, model: Model, size: tuple[int, int], threads: int
) -> FirstRunCost:
    """The cost, measured in a separate process; unknown if that process fails (lack of memory, ...)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        write(model, path)
        facts = {"label": configuration.label, "path": str(path), "size": size, "threads": threads}
        answer = run_in_new_process("first_run", **facts)
    return FirstRunCost(**answer) if answer else UNKNOWN_COST


def python_environment() -> dict[str, str]:
    """The environment in which a new interpreter finds this folder."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def run_in_new_process(task: str, **facts: Any) -> dict[str, Any] | None:
    """The result of one of `TASKS` in a new interpreter; None if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.isolated", task],
        input=json.dumps(facts),
        env=python_environment(),
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        return None
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _first_run(label: str, path: str, size: list[int], threads: int) -> dict[str, Any]:
    """Peak megabytes and milliseconds; see `FirstRunCost`."""
    configuration = CONFIGURATIONS[label]
    model = read(path)
    for module in configuration.modules:
        importlib.import_module(module)
    picture = np.random.default_rng(0).random((1, model.spec.channels, *size), np.float32)
    before = reset_peak()
    start = time.perf_counter()
    result = configuration.open(model, threads)(picture)
    seconds = time.perf_counter() - start
    megabytes = megabytes_since(before)
    del result
    return {"megabytes": megabytes, "milliseconds": 1e3 * seconds}


def _streamed_picture(
    path: str, precision: str, rows: int, width: int, chunk: int, threads: int
) -> dict[str, float | None]:
    """Peak megabytes beyond the interpreter when RGB bytes are streamed through the engine."""
    before = reset_peak()
    from benchmarks.streaming import random_rows, stream_picture
    from onebranch.enhancer.engine_stage import EngineStage

    stage = EngineStage(read(path), threads=threads, precision=precision)
    stream_picture(stage, rows, random_rows(chunk, width))
    return {"megabytes": megabytes_since(before)}


def _published_run(runtime: str, path: str, shape: list[int], threads: int) -> dict[str, float | None]:
    """Peak megabytes of opening an ONNX file in one of `published_runtimes.OPEN` and running it once."""
    from benchmarks.published_runtimes import MODULES, OPEN

    for module in MODULES[runtime]:
        importlib.import_module(module)
    picture = np.random.default_rng(0).random(shape, np.float32)
    before = reset_peak()
    result = OPEN[runtime](Path(path), threads)(picture)
    megabytes = megabytes_since(before)
    del result
    return {"megabytes": megabytes}


TASKS: dict[str, Any] = {
    "first_run": _first_run,
    "published_run": _published_run,
    "streamed_picture": _streamed_picture,
}


def reset_peak() -> int | None:
    """Bytes that this process occupies; the kernel's peak is reset to them where that is allowed."""
    with suppress(OSError):
        CLEAR_REFS.write_text("5")
    return peak_bytes()


def megabytes_since(before: int | None) -> float | None:
    """By how much the peak has risen, in units of 10^6 bytes; None if it is unknown."""
    after = peak_bytes()
    return None if before is None or after is None else (after - before) / 1e6


def peak_bytes() -> int | None:
    """Peak memory of this process in bytes; None where the system does not report it."""
    try:
        match = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())
    except OSError:
        return None
    return 1024 * int(match[1]) if match else None


if __name__ == "__main__":
    print(json.dumps(TASKS[sys.argv[1]](**json.load(sys.stdin))))
