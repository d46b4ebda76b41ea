"""Run the service: bind the address, answer until told to stop, then stop gracefully.

On a stop the running requests are answered and event streams end (`Service.stopping`); new
connections are refused at once.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from functools import partial

import uvicorn
from starlette.types import ASGIApp

from alexnet.core.errors import AlexNetError
from alexnet.inference.server.app import make_app
from alexnet.inference.server.protocol import Deadlines, TimedProtocol
from alexnet.inference.server.security import Access
from alexnet.inference.server.service import Service

BACKLOG = 128  # connections that wait to be accepted
GRACE_SECONDS = 60  # for running requests to be answered


class Server(uvicorn.Server):
    """uvicorn's server, which asks `stop` ten times a second whether to stop."""

    def __init__(
        self,
        config: uvicorn.Config,
        service: Service,
        stop: Callable[[], int],
        ready: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._service = service
        self._stop = stop
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer, and tell so."""
        await super().startup(sockets)
        self._ready()

    async def on_tick(self, counter: int) -> bool:
        """Return whether to stop."""
        return await super().on_tick(counter) or self._stop() != 0

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop gracefully; event streams are told to end first."""
        self._service.stopping.set()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the command: `stop` knows of them."""
        yield


def bind(host: str, port: int) -> socket.socket:
    """Return a socket bound to an address; AlexNetError where that cannot be done.

    `port` 0 takes one that is free.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise AlexNetError(
            f"{host} port {port}: {error.strerror or error}; choose others with --host and --port"
        ) from error
    # connections inherit it: otherwise an answer's body waits 40 ms for its head to be acknowledged
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def run(
    service: Service,
    access: Access,
    listener: socket.socket,
    stop: Callable[[], int],
    ready: Callable[[], None],
    deadlines: Deadlines | None = None,
) -> None:
    """Answer requests on a bound socket until `stop` returns another number than 0.

    `ready` is called once requests are answered.
    """
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # of bad forms, it warns
    limits = deadlines or Deadlines()
    config = make_config(make_app(service, access), limits)
    try:
        asyncio.run(Server(config, service, stop, ready).serve(sockets=[listener]))
    finally:
        service.close()


def make_config(app: ASGIApp, deadlines: Deadlines) -> uvicorn.Config:
    """Return uvicorn's configuration: our protocol, no logs but of failures, no banner."""
    return uvicorn.Config(
        app,
        http=partial(TimedProtocol, deadlines),  # type: ignore[arg-type]
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=deadlines.idle,  # type: ignore[arg-type]
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
