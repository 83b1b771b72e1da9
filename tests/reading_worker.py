"""A process that reads pictures for tests: a crash, hang or excess memory is detected from outside.

As a script (`python reading_worker.py TASK`) it reads one path per line and prints one line of JSON for each.
"""

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

SECONDS = 10.0
"""Seconds that a file may take; longer counts as a hang."""

MEGABYTES = 1000
"""Largest resident memory for a file, including Python and all packages."""

ADDRESS_BYTES = 6 << 30
"""Largest address space of a worker; the libraries' own mappings are included."""

STARTING = 120.0
"""Seconds that a worker may take for its imports, even on a busy machine."""


@dataclass(frozen=True)
class Answer:
    """A worker's report on a file. outcome: the words of the task; None after a fault. fault: its text."""

    outcome: Any
    fault: str
    seconds: float
    megabytes: int


class Worker:
    """Controls the process and restarts it when it dies. A context manager."""

    def __init__(self, task: str) -> None:
        self._task, self._process = task, None
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115 - closed at the end of `with`

    def ask(self, path: Path, seconds: float = SECONDS) -> Answer:
        """The answer of the task for a file; a crash, hang, excess memory or console output is a fault."""
        process = self._running()
        begin = time.monotonic()
        process.stdin.write(os.fsencode(path) + b"\n")
        line = self._line(seconds)
        spent = time.monotonic() - begin
        if line is None:
            self._end()
            return Answer(None, f"it took longer than {seconds} s", spent, 0)
        if not line:
            code = process.wait()
            self._end()
            name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            return Answer(None, f"the process died: {name} {self._words()}", spent, 0)
        answer = json.loads(line)
        faults = [answer["fault"]] if answer["fault"] else []
        if answer["megabytes"] > MEGABYTES:
            faults.append(f"it took {answer['megabytes']} MB")
        if words := self._words():
            faults.append(f"it printed {words}")
        return Answer(answer["outcome"], "; ".join(faults), spent, answer["megabytes"])

    def _running(self) -> Any:
        if self._process is None:
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            self._process = subprocess.Popen(
                [sys.executable, "-X", "faulthandler", __file__, self._task],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._printed,
                bufsize=0,
                env=environment,
            )
            assert self._line(STARTING) == b"ready\n", self._words()
        return self._process

    def _line(self, seconds: float) -> bytes | None:
        """The next line; empty if the process has ended, None after the time limit."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            return self._process.stdout.readline() if selector.select(seconds) else None

    def _words(self) -> str:
        """The output on stderr since the last call, truncated."""
        size = self._printed.seek(0, os.SEEK_END)
        self._printed.seek(0)
        words = self._printed.read(min(size, 2000)).decode(errors="replace")
        self._printed.truncate(0)
        return " | ".join(words.split("\n")).strip()

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdin.close()
            self._process.stdout.close()
            self._process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        self._end()
        self._printed.close()


def limit_memory() -> None:
    """Let allocations fail long before a fault takes all the memory of the machine."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_BYTES, ADDRESS_BYTES))


def forget_peak() -> None:
    """Reset the kernel's peak of resident memory (Linux)."""
    if (clear := Path("/proc/self/clear_refs")).exists():
        clear.write_text("5")


def peak() -> int:
    """The peak of resident memory in MB: since `forget_peak` on Linux, otherwise since the process began."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024 // 10**6
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 10**6  # bytes on macOS


def by_rows(path: str) -> list[str]:
    """Read as the command does: rows as of a large and of a small picture, and all frames."""
    from onebranch.images.decoders import decoding, rotation, temporary_file
    from onebranch.images.probe import probe
    from onebranch.images.reading import open_picture, read_animation

    for held in (0, temporary_file.MAX_IN_MEMORY_BYTES):
        decoding.MAX_IN_MEMORY_BYTES = rotation.MAX_IN_MEMORY_BYTES = held
        with open_picture(path) as reader:
            while len(reader.read(64)):
                pass
    if probe(path).frames > 1:
        read_animation(path)
    return ["read"]


def in_order(path: str) -> list[str]:
    """Read by rows, once."""
    from onebranch.images.reading import open_picture

    with open_picture(path) as reader:
        while len(reader.read(64)):
            pass
    return ["read"]


def whole(path: str) -> list[str]:
    """Read in one piece; the result in the words of the table of odd files."""
    from onebranch.images.reading import read

    decoded = read(path)
    return [
        "read",
        f"{decoded.width}x{decoded.height}",
        "grey" if decoded.channels == 1 else "RGB",
        "-" if decoded.alpha is None else "alpha",
        decoded.conversion.depth or decoded.pixels.dtype.name,
        str(len(decoded.metadata.icc or b"")),
        decoded.conversion.kind or "-",
        "; ".join(decoded.notes) or "-",
    ]


def enhanced(path: str) -> list[str]:
    """Enlarge by 2 into a TIFF beside the file; facts about that TIFF."""
    from onebranch.enhancer.enhancer import Enhancer
    from onebranch.enhancer.options import Options
    from onebranch.enhancer.single_file import FileOptions, enhance_file
    from onebranch.images.reading import open_picture

    target = Path(tempfile.gettempdir()) / f"{os.getpid()}.tif"
    try:
        enhance_file(Path(path), target, Enhancer(Options(threads=1)), FileOptions(overwrite=True))
        with open_picture(target) as reader:
            layout, header = reader.header.layout, reader.header
    finally:
        target.unlink(missing_ok=True)
    depth = header.conversion.depth or layout.depth
    colours = "grey" if layout.channels == 1 else "RGB"
    size = f"{layout.width}x{layout.height}"
    return ["enhanced", size, colours, "alpha" if layout.alpha else "-", depth]


def misbehave(path: str) -> list[str]:
    """Does what the file's text says: faults that must be detected."""
    match Path(path).read_text():
        case "crash":
            os.abort()
        case "leave":
            os._exit(3)
        case "hang":
            time.sleep(3600)
        case "bloat":
            return [str(len(bytearray(b"x") * (MEGABYTES * 1_200_000)))]
        case "print":
            os.write(2, b"libtiff: warning\n")
        case "raise":
            raise ValueError("no refusal")
        case "ramble":
            from onebranch.errors import OnebranchError

            raise OnebranchError("one line\nand another")
    return ["read"]


TASKS: dict[str, Callable[[str], list[str]]] = {
    "by_rows": by_rows,
    "in_order": in_order,
    "whole": whole,
    "enhanced": enhanced,
    "misbehave": misbehave,
}


def outcome_of(task: Callable[[str], list[str]], path: str) -> dict[str, Any]:
    """Run a task on one file: its words or the refusal; any other exception is a fault."""
    from onebranch.errors import OnebranchError

    forget_peak()
    outcome, fault = None, ""
    try:
        outcome = task(path)
    except OnebranchError as error:
        outcome = ["refused", str(error).replace(f"'{path}'", "'FILE'")]
        text = str(error)
        if r"\n" in text or not text.strip() or len(text) > 400 + len(path):  # the message escapes line ends
            fault = f"the refusal is not one line: {str(error)!r}"
    except BaseException as error:
        fault = f"{type(error).__name__}: {error}"
    return {"outcome": outcome, "fault": fault, "megabytes": peak()}


def main() -> None:
    import onebranch.images.decoders.decoding
    import onebranch.images.reading  # noqa: F401 - imported before the first file is timed

    limit_memory()
    print("ready", flush=True)
    task = TASKS[sys.argv[1]]
    for line in sys.stdin.buffer:
        print(json.dumps(outcome_of(task, os.fsdecode(line.rstrip(b"\n")))), flush=True)


if __name__ == "__main__":
    main()
