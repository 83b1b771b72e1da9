"""The process of one picture as the service uses it: started, read without blocking, and killed.

Processes are forked from one that has imported everything (`multiprocessing`'s forkserver), which takes about
ten milliseconds. Each has its own limits and ends with its picture, so a crash costs only that picture.
"""

import asyncio
import contextlib
import json
import multiprocessing
import os
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from onebranch.images.formats import FORMATS
from onebranch.serve.problems import Problem
from onebranch.serve.worker import HEADER, PROGRESS, REFUSED, RESULT_DATA, RESULT_END, PictureTask, work

MAX_MESSAGE_BYTES = 1 << 20
"""Largest message that is accepted: a process that decodes hostile pictures is not trusted."""

LENGTH_BYTES = 4
"""`Connection.send_bytes` sends the length of a message first."""

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["onebranch.serve.preload"])

_starting = threading.Lock()


@dataclass(frozen=True)
class Facts:
    """What a process reports of its result."""

    format: str
    width: int
    height: int
    frames: int
    models: list[str]
    notes: list[str]

    def checked(self) -> "Facts":
        """These facts; raises ValueError if they are not of the right kinds."""
        numbers = (self.width, self.height, self.frames)
        texts = [self.format, *self.models, *self.notes]
        if self.format not in FORMATS or not all(type(number) is int for number in numbers):
            raise ValueError("no such format, or sizes that are not integers")
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("a text is not a text")
        return self

    @property
    def pixels(self) -> int:
        """Pixels of all frames."""
        return self.width * self.height * self.frames


class WorkerProcess:
    """A running process. Use `started`, then `header`, then iterate over `data`."""

    def __init__(self, process: Any, stream: asyncio.StreamReader, seconds: int) -> None:
        self._process, self._stream = process, stream
        self._reason = ""
        self._seconds = seconds
        self.progress = 0.0
        self._timer = asyncio.get_running_loop().call_later(seconds, self._kill_because, "seconds")

    @property
    def pid(self) -> int:
        """The number of the process."""
        return int(self._process.pid)

    async def header(self) -> "Facts":
        """What the process will send; raises `Problem` if it refuses the picture, or has ended."""
        kind, content = await self._message()
        if kind != HEADER:
            raise self._broken()
        try:
            return Facts(**json.loads(content)).checked()
        except (ValueError, TypeError):
            raise self._broken() from None

    async def data(self) -> AsyncIterator[bytes]:
        """The pieces of the result, and b"" for each report of progress. Raises `Problem` if it fails."""
        while True:
            kind, content = await self._message()
            if kind == RESULT_END:
                return
            if kind == PROGRESS:
                self._note_progress(content)
                yield b""
            elif kind == RESULT_DATA:
                yield content
            else:
                raise self._broken()

    def _note_progress(self, content: bytes) -> None:
        with contextlib.suppress(ValueError):
            self.progress = min(1.0, max(self.progress, float(content)))

    async def _message(self) -> tuple[bytes, bytes]:
        try:
            length = int.from_bytes(await self._stream.readexactly(LENGTH_BYTES), "big")
            if not 1 <= length <= MAX_MESSAGE_BYTES:
                raise self._broken()
            message = await self._stream.readexactly(length)
        except asyncio.IncompleteReadError:
            raise await self._ended() from None
        kind, content = message[:1], message[1:]
        if kind == REFUSED:
            raise self._refusal(content)
        return kind, content

    def _refusal(self, content: bytes) -> Problem:
        try:
            status, reason, detail = json.loads(content)
            return Problem(int(status), str(reason)[:50], str(detail)[:2000])
        except (ValueError, TypeError):
            return self._broken()

    def _broken(self) -> Problem:
        self.kill()
        return Problem(422, "worker_broken", "the process of the picture sent something that is not expected")

    async def _ended(self) -> Problem:
        """Why the process ended before its result was complete."""
        await asyncio.to_thread(self._process.join, 5)
        if self._reason == "seconds" or self._process.exitcode == -24:  # SIGXCPU
            return Problem(
                503, "seconds", f"the picture took longer than {self._seconds} seconds; use a smaller one"
            )
        return Problem(
            503, "worker_ended", "the process of the picture has ended; other pictures are not affected"
        )

    def _kill_because(self, reason: str) -> None:
        self._reason = reason
        self.kill()

    def kill(self) -> None:
        """End the process at once; nothing happens if it has ended."""
        self._timer.cancel()
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._process.kill()

    async def close(self) -> None:
        """End the process, and wait until it has ended."""
        self.kill()
        await asyncio.to_thread(self._process.join, 5)


@contextlib.asynccontextmanager
async def started(task: PictureTask) -> AsyncIterator[WorkerProcess]:
    """The process of that picture; it has ended when the context ends."""
    receiving, sending = CONTEXT.Pipe(duplex=False)
    try:
        process = await asyncio.to_thread(_start, task, sending)
    finally:
        sending.close()
    stream, transport = await _stream_of(receiving)
    worker = WorkerProcess(process, stream, task.limits.seconds)
    try:
        yield worker
    finally:
        transport.close()
        await asyncio.shield(worker.close())


def start_fork_server() -> None:
    """Start the process from which others are forked, so that the first picture need not wait for it."""
    process = CONTEXT.Process(target=os.getpid)
    process.start()
    process.join()


def end_processes() -> None:
    """End the processes of all pictures at once, when nothing waits for their results any more."""
    for process in multiprocessing.active_children():
        process.kill()
        process.join(5)


def _start(task: PictureTask, sending: Connection) -> Any:
    process = CONTEXT.Process(target=work, args=(task, sending), daemon=True)
    with _starting:
        process.start()
    return process


async def _stream_of(receiving: Connection) -> tuple[asyncio.StreamReader, asyncio.BaseTransport]:
    """The messages as a stream. Its buffer is small, so that the process waits for a slow client."""
    stream = asyncio.StreamReader(limit=1 << 16)
    file = os.fdopen(os.dup(receiving.fileno()), "rb", buffering=0)
    receiving.close()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), file)
    return stream, transport
