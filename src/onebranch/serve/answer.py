"""The answer to one picture: the result is sent as it is made, and its process ends with the answer."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from onebranch import strict_json
from onebranch.serve.logs import log
from onebranch.serve.problems import Problem


class ResultAnswer(Response):
    """Sends pieces as they come. A failure ends the answer without its last chunk, and is counted.

    finished: called with the reason of the failure, or "" when the answer was complete. resources: closed at
    the end, whatever happens.
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
        """Send the answer."""
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
        """Send everything but the end; "" or the reason of a failure."""
        try:
            async for piece in self._pieces:
                if piece:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
        except Problem as problem:
            log("answer ended early", reason=problem.reason, detail=problem.detail)
            return problem.reason
        return ""


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def problem_answer(problem: Problem) -> Response:
    """The answer to a refused request."""
    content: Any = strict_json.dumps(problem.body())
    return Response(content, problem.status, problem.all_headers(), "application/problem+json")
