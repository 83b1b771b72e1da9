"""The middleware of every request: checks of its headers, response headers, metrics and the access log."""

import asyncio
import hmac
import re
import secrets
import time
from collections.abc import Sequence
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from onebranch.serve.limits import ServiceLimits
from onebranch.serve.logs import LOGGER, log
from onebranch.serve.metrics import Metrics
from onebranch.serve.problems import Problem
from onebranch.serve.response import problem_response

PUBLIC_PREFIXES = ("/v1/", "/metrics", "/openapi.json")
"""Paths that need the token; the page and the health checks do not."""

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""Request IDs of clients that are kept; any other request gets a new ID."""

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}

API_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"
"""Content-Security-Policy of everything but the page: a browser that shows a result runs nothing in it."""

STALL_SECONDS = 30.0
"""Time within which a client must accept a piece of a response."""


class ServiceMiddleware:
    """ASGI middleware around the application. hosts: accepted names in the Host header; None accepts all."""

    def __init__(
        self, app: ASGIApp, metrics: Metrics, limits: ServiceLimits, token: str, hosts: Sequence[str] | None
    ) -> None:
        self._app, self._metrics, self._limits = app, metrics, limits
        self._token, self._hosts = token.encode(), hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        response = _ResponseSender(scope, send)
        begin = time.perf_counter()
        try:
            await self._checked(scope, receive, response)
        except Exception as error:
            await self._failed(scope, receive, response, error)
        finally:
            self._count(scope, response, time.perf_counter() - begin)

    async def _checked(self, scope: Scope, receive: Receive, response: "_ResponseSender") -> None:
        try:
            self._check_size(scope)
            self._check_length(Headers(scope=scope))
            self._check_host(Headers(scope=scope))
            self._check_token(scope["path"], Headers(scope=scope))
            _check_site(scope["method"], Headers(scope=scope))
        except Problem as problem:
            await problem_response(problem)(scope, receive, response.send)
            scope["failure"] = problem.reason
            return
        await self._app(scope, receive, response.send)

    def _check_size(self, scope: Scope) -> None:
        """Check the size of the headers: the server only limits headers that arrive in several packets."""
        size = len(scope["raw_path"]) + len(scope["query_string"])
        size += sum(len(name) + len(value) for name, value in scope["headers"])
        if size > self._limits.header_bytes:
            raise Problem(431, "header_bytes", f"the header is larger than {self._limits.header_bytes} bytes")

    def _check_length(self, headers: Headers) -> None:
        """Refuse a request with both lengths: a proxy might use the other one (request smuggling)."""
        if "content-length" in headers and "transfer-encoding" in headers:
            closing = (("Connection", "close"),)
            raise Problem(400, "two_lengths", "send Content-Length or Transfer-Encoding, not both", closing)

    def _check_host(self, headers: Headers) -> None:
        host = headers.get("host", "").rsplit("@", 1)[-1]
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        if self._hosts is not None and name.lower() not in self._hosts:
            raise Problem(400, "host", "this service does not accept the name in the Host header")

    def _check_token(self, path: str, headers: Headers) -> None:
        if not self._token or not path.startswith(PUBLIC_PREFIXES):
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self._token):
            challenge = (("WWW-Authenticate", "Bearer"),)
            raise Problem(401, "token", "send the header Authorization: Bearer TOKEN", challenge)

    async def _failed(
        self, scope: Scope, receive: Receive, response: "_ResponseSender", error: Exception
    ) -> None:
        """End the response if it has begun; otherwise report an internal error, without details."""
        if isinstance(error, TimeoutError) and response.status:
            scope["failure"] = "client_slow"
            return
        if isinstance(error.__cause__, Problem) and response.status:  # found after the response has begun
            scope["failure"] = error.__cause__.reason
            return
        LOGGER.error("internal error", exc_info=error, extra={"fields": {"request": response.request_id}})
        scope["failure"] = "internal"
        if not response.status:
            problem = Problem(500, "internal", "an internal error; the log of the service has the details")
            await problem_response(problem)(scope, receive, response.send)

    def _count(self, scope: Scope, response: "_ResponseSender", seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        self._metrics.requests.labels(route, str(response.status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        reason = scope.get("failure", "")
        if reason:
            counter = self._metrics.refusals if response.status >= 400 else self._metrics.failures
            counter.labels(reason).inc()
        client = scope.get("client")
        log(
            "request",
            request=response.request_id,
            client=client[0] if client else "",
            method=scope["method"],
            path=scope["path"],
            status=response.status,
            reason=reason,
            bytes=response.size,
            seconds=round(seconds, 4),
        )


def _check_site(method: str, headers: Headers) -> None:
    """Raise `Problem` for a cross-site request of a browser that could change something (CSRF)."""
    if method not in ("GET", "HEAD") and headers.get("sec-fetch-site") == "cross-site":
        raise Problem(403, "cross_site", "pages of other sites may not use this service")


class _ResponseSender:
    """Sends a response with the headers that all responses have. status: 0 until it has begun."""

    def __init__(self, scope: Scope, send: Send) -> None:
        given = Headers(scope=scope).get("x-request-id", "")
        self.request_id = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        self.status, self.size = 0, 0
        self._send = send

    async def send(self, message: Message) -> None:
        """Send a message. Raises TimeoutError if the client does not take it."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = self.request_id
            for name, value in SECURITY_HEADERS.items():
                headers[name] = value
            headers.setdefault("Content-Security-Policy", API_POLICY)
            headers.setdefault("Cache-Control", "no-store")
        body: Any = message.get("body", b"")
        self.size += len(body)
        async with asyncio.timeout(STALL_SECONDS):
            await self._send(message)
