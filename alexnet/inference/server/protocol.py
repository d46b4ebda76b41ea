"""HTTP/1.1 with deadlines: uvicorn's protocol, which lets a slow client hold a connection for ever.

A request has some seconds to arrive and more only as long as its bytes keep coming fast enough, so
one that sends nothing, only headers, or a byte now and then is closed all the same. A connection
is closed too when it stays idle between requests, when its client does not take the answer, and
when it goes on sending a request that was refused.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


@dataclass(frozen=True)
class Deadlines:
    """The seconds after which a connection is closed, and the largest number of connections."""

    grace: float = 8.0  # for a request to arrive; a longer one must keep its speed up
    bytes_per_second: float = 32_768.0  # of a request that takes longer
    total: float = 120.0  # for a request to arrive, however fast
    idle: float = 10.0  # between requests
    taking: float = 12.0  # for a client to take what was sent
    after_refusal: float = 2.0  # for a request to end that was answered before its end
    at_stop: float = 0.5  # for a request to arrive that is under way when the server stops
    connections: int = 512


class Timer:
    """A call in the future; a new one takes the place of the one before."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._handle: asyncio.TimerHandle | None = None

    @property
    def is_running(self) -> bool:
        """Whether a call is to come."""
        return self._handle is not None

    def start(self, seconds: float, action: Callable[[], None]) -> None:
        """Call `action` after some seconds."""
        self.cancel()
        self._handle = self._loop.call_later(seconds, action)

    def cancel(self) -> None:
        """Call nothing."""
        if self._handle is not None:
            self._handle.cancel()
        self._handle = None


class TimedProtocol(H11Protocol):
    """A connection that is closed at its deadlines."""

    def __init__(self, deadlines: Deadlines, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self.deadlines = deadlines
        self._began = 0.0  # when the request that arrives began
        self._received = 0  # bytes of it
        self._arrival = Timer(self.loop)  # runs while a request arrives
        self._taking = Timer(self.loop)  # runs while a client lets its answer wait

    # ---- a request arrives

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.deadlines.connections:
            transport.abort()
            return
        self._begin_request()

    def data_received(self, data: bytes) -> None:
        if not self._arrival.is_running:
            self._begin_request()
        self._received += len(data)
        super().data_received(data)
        if self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]:
            self._wait_for_next()
        elif self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._arrival.cancel()

    def _begin_request(self) -> None:
        self._began = self.loop.time()
        self._received = 0
        self._arrival.start(self.deadlines.grace, self._check_arrival)

    def _check_arrival(self) -> None:
        """Close the connection at the request's deadline, which its bytes put off."""
        earned = self.deadlines.grace + self._received / self.deadlines.bytes_per_second
        left = self._began + min(self.deadlines.total, earned) - self.loop.time()
        if left <= 0:
            self.transport.abort()
        else:
            self._arrival.start(left, self._check_arrival)

    def _wait_for_next(self) -> None:
        """Begin the idle time after a request that ended later than its answer."""
        self._arrival.cancel()
        self.timeout_keep_alive_task = self.loop.call_later(
            self.deadlines.idle, self.timeout_keep_alive_handler
        )

    # ---- an answer is taken

    def pause_writing(self) -> None:
        super().pause_writing()
        self._taking.start(self.deadlines.taking, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._taking.cancel()

    def on_response_complete(self) -> None:
        arriving = self.conn.their_state is h11.SEND_BODY
        super().on_response_complete()
        if arriving:
            self._arrival.start(self.deadlines.after_refusal, self.transport.abort)
        elif self.conn.their_state is h11.SEND_BODY and not self._arrival.is_running:
            self._begin_request()  # the next one, which came with this one's last bytes
        if self.transport.is_closing():
            self._abort_unless_taken()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._abort_unless_taken()

    def _abort_unless_taken(self) -> None:
        """Wait for the client to take what is left of the answer, but not for ever."""
        self._taking.start(self.deadlines.taking, self.transport.abort)

    # ---- the end

    def shutdown(self) -> None:
        super().shutdown()
        if self._arrival.is_running:
            self._arrival.start(self.deadlines.at_stop, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._arrival.cancel()
        self._taking.cancel()
