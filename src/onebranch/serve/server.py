"""The HTTP server: limits on connections and headers, and a graceful shutdown on SIGTERM."""

import asyncio
from types import FrameType

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from onebranch.serve.app import create_app
from onebranch.serve.limits import ServiceLimits
from onebranch.serve.logs import log, set_up
from onebranch.serve.process import end_processes
from onebranch.serve.service import Service, Settings, client_of_address

KEEP_ALIVE_SECONDS = 5


def serve(settings: Settings, host: str, port: int, trusted_proxy: str | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C, then complete accepted requests. A second signal exits at once.

    trusted_proxy: address of a proxy whose X-Forwarded-For header is trusted.
    """
    set_up()
    app, service = create_app(settings)
    config = uvicorn.Config(
        app,
        host,
        port,
        http=_protocol(settings.limits, trusted_proxy),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=trusted_proxy is not None,
        forwarded_allow_ips=trusted_proxy,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=settings.limits.seconds,
        h11_max_incomplete_event_size=settings.limits.header_bytes,
    )
    log("starting", host=host, port=port, workers=settings.workers, device=settings.device_name)
    try:
        _DrainingServer(config, service).run()
    finally:
        end_processes()
        service.remove_files()
    log("ended")


class _DrainingServer(uvicorn.Server):
    """A server that completes accepted requests before it closes its connections."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._drain: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: "list[object] | None" = None) -> None:  # type: ignore[override]
        """Keep the event loop, in which signals start the shutdown."""
        self._loop = asyncio.get_running_loop()
        await super().startup()
        if self.started:
            addresses = [socket.getsockname() for server in self.servers for socket in server.sockets]
            log("ready", address=addresses[0][0], port=addresses[0][1])

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal starts a graceful shutdown; the second one exits at once."""
        if self._loop is None or self._drain is not None:
            self.should_exit = self.force_exit = True
            return
        log("shutting down: completing accepted requests", signal=sig)
        self._loop.call_soon_threadsafe(self._begin_drain)

    def _begin_drain(self) -> None:
        if self._drain is None:
            self._drain = asyncio.create_task(self._drain_and_exit())

    async def _drain_and_exit(self) -> None:
        await self._service.drain()
        self.should_exit = True


def _protocol(limits: ServiceLimits, trusted_proxy: str | None) -> type[asyncio.Protocol]:
    """HTTP/1.1 with a limit on connections and a time limit for headers.

    trusted_proxy: the address without a limit, because it connects for many clients.
    """

    class LimitedProtocol(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._idle_since = self.loop.time()
            self._timer = self.loop.call_later(limits.header_seconds, self._check_idle)
            if len(self.connections) > limits.connections or self._has_too_many():
                transport.abort()

        def _has_too_many(self) -> bool:
            """True if the client of this connection has too many connections."""
            if self.client is None or self.client[0] == trusted_proxy:
                return False
            client = client_of_address(self.client[0])
            others = (each.client for each in self.connections if isinstance(each, H11Protocol))
            count = sum(other is not None and client_of_address(other[0]) == client for other in others)
            return count > limits.client_connections

        def on_response_complete(self) -> None:
            self._idle_since = self.loop.time()
            super().on_response_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self._timer.cancel()
            super().connection_lost(exc)

        def _check_idle(self) -> None:
            idle = self.cycle is None or self.cycle.response_complete
            if self.transport.is_closing() or (
                idle and self.loop.time() - self._idle_since >= limits.header_seconds
            ):
                self.transport.abort()
            else:
                self._timer = self.loop.call_later(limits.header_seconds / 2, self._check_idle)

    return LimitedProtocol
