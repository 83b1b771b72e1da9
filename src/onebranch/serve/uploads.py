"""Storing the body of a request in a file, and detecting that the client has disconnected."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

from onebranch.serve.limits import ServiceLimits
from onebranch.serve.problems import Problem

Finished = TypeVar("Finished")

BODY_TYPES = ("image/", "application/octet-stream", "application/x-www-form-urlencoded")
"""Accepted beginnings of the Content-Type (the last one is curl's). The format is recognized by content."""


def check_announced(request: Request, limits: ServiceLimits) -> None:
    """Raise `Problem` if the headers announce a body that is too large, or not a picture."""
    media_type = request.headers.get("content-type", BODY_TYPES[1]).strip().lower()
    if not media_type.startswith(BODY_TYPES):
        raise Problem(415, "content_type", "send the picture itself as the body, with Content-Type image/*")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(415, "content_encoding", "send the picture without Content-Encoding")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limits.body_bytes:
        raise _too_large(limits)


async def store_body(request: Request, path: Path, limits: ServiceLimits) -> int:
    """Write the body to a file. Returns its size. Raises `Problem` if it is too large, slow or empty."""
    size = 0
    try:
        async with asyncio.timeout(limits.body_seconds):
            with path.open("xb") as file:
                async for part in request.stream():
                    size += len(part)
                    if size > limits.body_bytes:
                        raise _too_large(limits)
                    file.write(part)
    except TimeoutError:
        raise Problem(
            408, "body_seconds", f"the body has not arrived within {limits.body_seconds} seconds"
        ) from None
    if not size:
        raise Problem(415, "empty", "the body is empty; send a picture")
    return size


def _too_large(limits: ServiceLimits) -> Problem:
    return Problem(413, "body_bytes", f"the body is larger than the limit of {limits.body_bytes} bytes")


async def unless_disconnected(request: Request, work: Awaitable[Finished]) -> Finished:
    """The result of the work. Raises ClientDisconnect, and cancels it, if the client disconnects first."""
    async with _disconnection(request) as gone:
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise ClientDisconnect
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task


@contextlib.asynccontextmanager
async def _disconnection(request: Request) -> AsyncIterator["asyncio.Task[None]"]:
    """A task that is done once the client has gone. The body must have been read."""

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task = asyncio.create_task(watch())
    try:
        yield task
    finally:
        task.cancel()
