"""Responses: the result of one picture, sent while it is computed, and problem details."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from onebranch import strict_json
from onebranch.serve.logs import log
from onebranch.serve.problems import Problem


class ResultResponse(Response):
    """Sends the pieces of a result as they arrive; after a failure, the last chunk is not sent.

    finished: called with the reason of the failure, or "" for a complete response. resources: closed at the
    end in either case.
    """

    def __init__(
        self,
        pieces: AsyncIterator[bytes],
        media_type: str,
        headers: dict[str, str],
        resources: contextlib.AsyncExitStack,
        finished: Callable[[str], None],
    ) -> None:
        self._pieces, self._resources, self._finished = pieces, resources, finished
        self.status_code, self.background, self.media_type = 200, None, media_type
        self.init_headers(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        async with self._resources:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            gone = asyncio.create_task(_wait_until_gone(receive))
            sending = asyncio.create_task(self._send_pieces(send))
            try:
                await asyncio.wait({gone, sending}, return_when=asyncio.FIRST_COMPLETED)
                reason = sending.result() if sending.done() else "client_gone"
            finally:
                for task in (gone, sending):
                    task.cancel()
                await asyncio.gather(gone, sending, return_exceptions=True)
            scope["failure"] = reason
            self._finished(reason)
            if not reason:
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_pieces(self, send: Send) -> str:
        """Send all pieces; the reason if that fails, else ""."""
        try:
            async for piece in self._pieces:
                if piece:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
        except Problem as problem:
            log("response ended early", reason=problem.reason, detail=problem.detail)
            return problem.reason
        return ""


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def problem_response(problem: Problem) -> Response:
    """The response to a refused request (RFC 9457)."""
    content: Any = strict_json.dumps(problem.body())
    return Response(content, problem.status, problem.all_headers(), "application/problem+json")
