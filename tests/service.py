"""A running service for tests, and requests to it over real connections."""

import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

START_SECONDS = 60.0


def png(width: int = 24, height: int = 16, **options: Any) -> bytes:
    """A small PNG of noise."""
    pixels = np.random.default_rng(width).integers(0, 255, (height, width, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", **options)
    return file.getvalue()


def large_header(width: int, height: int) -> bytes:
    """A PNG that announces a size, with almost no image data."""
    import zlib
    from struct import pack

    def chunk(name: bytes, content: bytes) -> bytes:
        return pack(">I", len(content)) + name + content + pack(">I", zlib.crc32(name + content))

    header = pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1 + 3 * min(width, 100)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def gif(frames: int) -> bytes:
    """An animation."""
    pictures = [Image.new("L", (8, 8), 40 * index % 256) for index in range(frames)]
    file = io.BytesIO()
    pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:], duration=50)
    return file.getvalue()


@dataclass(frozen=True)
class Reply:
    """An answer. complete: False if it ended without its last chunk."""

    status: int
    headers: dict[str, str]
    body: bytes
    complete: bool = True

    @property
    def reason(self) -> str:
        """The reason of a refusal, whose body is checked."""
        assert self.headers["content-type"] == "application/problem+json", self.body[:500]
        content = json.loads(self.body)
        assert content["status"] == self.status
        assert {"type", "title", "detail"} <= set(content)
        return str(content["reason"])

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class RunningService:
    """A service in a process of its own. lines: its log."""

    process: "subprocess.Popen[str]"
    port: int
    lines: list[str] = field(default_factory=list)

    def connect(self, timeout: float = 60) -> http.client.HTTPConnection:
        """A new connection."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """One request on a connection of its own; underscores in names of headers become hyphens."""
        connection = self.connect()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            received = {name.lower(): value for name, value in answer.getheaders()}
            try:
                return Reply(answer.status, received, answer.read())
            except http.client.IncompleteRead as error:
                return Reply(answer.status, received, error.partial, complete=False)
        finally:
            connection.close()

    def enhance(self, picture: bytes, query: str = "", **headers: str) -> Reply:
        """Enhance a picture."""
        return self.ask("POST", f"/v1/enhance{query}", picture, **{"content_type": "image/png"} | headers)

    def finished_job(self, name: str, seconds: float = 60) -> Any:
        """The description of a job once it is finished."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            job = self.ask("GET", f"/v1/jobs/{name}").json()
            if job["state"] in ("done", "failed", "cancelled"):
                return job
            time.sleep(0.02)
        raise AssertionError(f"job {name} is not finished: {job}")

    def logged(self, **fields: Any) -> list[dict[str, Any]]:
        """The lines of the log with these fields."""
        records = [json.loads(line) for line in self.lines]
        return [record for record in records if fields.items() <= record.items()]

    def wait_for_workers(self, count: int, seconds: float = 30) -> list[int]:
        """The processes of pictures, once there are so many."""
        end = time.monotonic() + seconds
        while len(self.worker_pids()) != count and time.monotonic() < end:
            time.sleep(0.02)
        pids = self.worker_pids()
        assert len(pids) == count
        return pids

    def worker_pids(self) -> list[int]:
        """The processes of pictures: children of the process from which they are forked."""
        return [child for server in children(self.process.pid) for child in children(server)]


def children(pid: int) -> list[int]:
    """The child processes of a process."""
    identifiers: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*"):
        with suppress(OSError):
            identifiers += map(int, (thread / "children").read_text().split())
    return identifiers


@contextmanager
def running(*options: object, **environment: str) -> Iterator[RunningService]:
    """A service with these options of `onebranch serve`, ended with SIGTERM."""
    command = [sys.executable, "-m", "onebranch", "serve", "--port", "0", *map(str, options)]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=os.environ | environment
    )
    service = RunningService(process, 0)
    thread = threading.Thread(target=lambda: service.lines.extend(process.stderr or ()), daemon=True)
    thread.start()
    try:
        service.port = _port(service)
        yield service
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:  # results that nobody fetches are kept for a while
                process.send_signal(signal.SIGTERM)
                process.wait(20)
        thread.join(5)
        if process.stderr is not None:
            process.stderr.close()


def _port(service: RunningService) -> int:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and service.process.poll() is None:
        for line in list(service.lines):
            if match := re.search(r'"message": "ready".*"port": (\d+)', line):
                return int(match[1])
        time.sleep(0.05)
    raise AssertionError(f"the service did not start: {service.lines}")
