"""What every request passes: its number, the host, the token, headers of the answer, one line of log."""

import asyncio
import hmac
import re
import secrets
import time
from collections.abc import Sequence
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from onebranch.serve.answer import problem_answer
from onebranch.serve.limits import ServiceLimits
from onebranch.serve.logs import LOGGER, log
from onebranch.serve.metrics import Metrics
from onebranch.serve.problems import Problem

PUBLIC_PREFIXES = ("/v1/", "/metrics", "/openapi.json")
"""Paths that need the token; the page and the health checks do not."""

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""Numbers of requests that are taken over from the client."""

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}

API_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"
"""Content-Security-Policy of everything but the page: a browser that shows a result runs nothing in it."""

STALL_SECONDS = 30.0
"""Time in which a client must take a piece of an answer."""


class Gate:
    """Wraps the application. hosts: accepted names in the Host header; None accepts all."""

    def __init__(
        self, app: ASGIApp, metrics: Metrics, limits: ServiceLimits, token: str, hosts: Sequence[str] | None
    ) -> None:
        self._app, self._metrics, self._limits = app, metrics, limits
        self._token, self._hosts = token.encode(), hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(scope, send)
        begin = time.perf_counter()
        try:
            await self._checked(scope, receive, answer)
        except Exception as error:
            await self._failed(scope, receive, answer, error)
        finally:
            self._count(scope, answer, time.perf_counter() - begin)

    async def _checked(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        try:
            self._check_size(scope)
            self._check_length(Headers(scope=scope))
            self._check_host(Headers(scope=scope))
            self._check_token(scope["path"], Headers(scope=scope))
            _check_site(scope["method"], Headers(scope=scope))
        except Problem as problem:
            await problem_answer(problem)(scope, receive, answer.send)
            scope["failure"] = problem.reason
            return
        await self._app(scope, receive, answer.send)

    def _check_size(self, scope: Scope) -> None:
        """The server limits headers that arrive in parts; this counts those that arrive at once."""
        size = len(scope["raw_path"]) + len(scope["query_string"])
        size += sum(len(name) + len(value) for name, value in scope["headers"])
        if size > self._limits.header_bytes:
            raise Problem(431, "header_bytes", f"the header is larger than {self._limits.header_bytes} bytes")

    def _check_length(self, headers: Headers) -> None:
        """A proxy might go by the other one of the two, and take a part of the body for a further request."""
        if "content-length" in headers and "transfer-encoding" in headers:
            closing = (("Connection", "close"),)
            raise Problem(400, "two_lengths", "send Content-Length or Transfer-Encoding, not both", closing)

    def _check_host(self, headers: Headers) -> None:
        host = headers.get("host", "").rsplit("@", 1)[-1]
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        if self._hosts is not None and name.lower() not in self._hosts:
            raise Problem(400, "host", "this service does not answer to the name in the Host header")

    def _check_token(self, path: str, headers: Headers) -> None:
        if not self._token or not path.startswith(PUBLIC_PREFIXES):
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self._token):
            challenge = (("WWW-Authenticate", "Bearer"),)
            raise Problem(401, "token", "send the header Authorization: Bearer TOKEN", challenge)

    async def _failed(self, scope: Scope, receive: Receive, answer: "_Answer", error: Exception) -> None:
        """An answer is ended, or a mistake of the service is reported, without details."""
        if isinstance(error, TimeoutError) and answer.status:
            scope["failure"] = "client_slow"
            return
        if isinstance(error.__cause__, Problem) and answer.status:  # found after the answer has begun
            scope["failure"] = error.__cause__.reason
            return
        LOGGER.error("mistake of the service", exc_info=error, extra={"fields": {"request": answer.number}})
        scope["failure"] = "internal"
        if not answer.status:
            problem = Problem(500, "internal", "this is a mistake of the service; its log says more")
            await problem_answer(problem)(scope, receive, answer.send)

    def _count(self, scope: Scope, answer: "_Answer", seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        self._metrics.requests.labels(route, str(answer.status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        reason = scope.get("failure", "")
        if reason:
            counter = self._metrics.refusals if answer.status >= 400 else self._metrics.failures
            counter.labels(reason).inc()
        client = scope.get("client")
        log(
            "request",
            request=answer.number,
            client=client[0] if client else "",
            method=scope["method"],
            path=scope["path"],
            status=answer.status,
            reason=reason,
            bytes=answer.size,
            seconds=round(seconds, 4),
        )


def _check_site(method: str, headers: Headers) -> None:
    """Raise `Problem` if a page of another site makes a browser use the service."""
    if method not in ("GET", "HEAD") and headers.get("sec-fetch-site") == "cross-site":
        raise Problem(403, "cross_site", "pages of other sites may not use this service")


class _Answer:
    """Sends an answer with the headers that all answers have. status: 0 until it has begun."""

    def __init__(self, scope: Scope, send: Send) -> None:
        given = Headers(scope=scope).get("x-request-id", "")
        self.number = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        self.status, self.size = 0, 0
        self._send = send

    async def send(self, message: Message) -> None:
        """Send a message. Raises TimeoutError if the client does not take it."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = self.number
            for name, value in SECURITY_HEADERS.items():
                headers[name] = value
            headers.setdefault("Content-Security-Policy", API_POLICY)
            headers.setdefault("Cache-Control", "no-store")
        body: Any = message.get("body", b"")
        self.size += len(body)
        async with asyncio.timeout(STALL_SECONDS):
            await self._send(message)
