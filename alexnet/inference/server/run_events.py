"""A run's metrics.jsonl as a stream of server-sent events, from any byte of it.

The id of an event is the offset after its line, so a browser that comes back with Last-Event-ID
gets exactly what it has not seen. A resumed run cuts its metrics back to its checkpoint: then the
client gets "reset" and all lines from the beginning. "end" says that the run has ended.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from os import SEEK_END
from pathlib import Path
from typing import BinaryIO

POLL_SECONDS = 0.25
STATE_SECONDS = 1.0  # between two looks at whether the run is still running
HEARTBEAT_SECONDS = 15.0
MAX_READ = 1 << 20  # bytes at a time
MAX_DIGITS = 15  # of an offset


@dataclass
class MetricsTail:
    """The lines of a growing file after `offset`; `last` are the bytes that must stand before it.

    They tell a file that was cut and has grown again from one that has only grown.
    """

    path: Path
    offset: int = 0
    last: bytes = b""

    @classmethod
    def after(cls, path: Path, offset: int) -> "MetricsTail":
        """Return the tail after an offset that a client has remembered."""
        return cls(path, offset, b"\n") if offset > 0 else cls(path)

    def read(self) -> tuple[bool, list[tuple[int, bytes]]]:
        """Return whether the file was cut, and new whole lines with the offsets after them.

        After a cut the lines are those from the beginning.
        """
        try:
            with self.path.open("rb") as file:
                is_cut = not self._stands_in(file)
                if is_cut:
                    self.offset = 0
                    self.last = b""
                file.seek(self.offset)
                data = file.read(MAX_READ)
        except FileNotFoundError:
            return False, []
        return is_cut, self._advance(data)

    def _stands_in(self, file: BinaryIO) -> bool:
        """Return whether a file still has what was read of it."""
        if self.offset > file.seek(0, SEEK_END):
            return False
        file.seek(self.offset - len(self.last))
        return file.read(len(self.last)) == self.last

    def _advance(self, data: bytes) -> list[tuple[int, bytes]]:
        """Move past the whole lines of new data and return them with their ends."""
        lines = []
        for line in data.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            self.offset += len(line)
            self.last = line
            lines.append((self.offset, line[:-1]))
        return lines


async def run_events(
    tail: MetricsTail, is_running: Callable[[], bool], stopping: asyncio.Event
) -> AsyncIterator[str]:
    """Yield the events of a run until it has ended or the service stops.

    `is_running` is asked in a thread, before the last lines are read.
    """
    running = True
    checked_at = -STATE_SECONDS
    sent = time.monotonic()
    yield "retry: 1000\n\n"
    while not stopping.is_set():
        if time.monotonic() - checked_at >= STATE_SECONDS:
            running = await asyncio.to_thread(is_running)
            checked_at = time.monotonic()
        is_cut, lines = await asyncio.to_thread(tail.read)
        if is_cut:
            yield event("reset", 0, b"{}")
        for offset, line in lines:
            yield event("record", offset, line)
        if is_cut or lines:
            sent = time.monotonic()
            continue
        if not running:
            yield event("end", tail.offset, b"{}")
            return
        if time.monotonic() - sent >= HEARTBEAT_SECONDS:
            yield ": still there\n\n"
            sent = time.monotonic()
        await _pause(stopping)


async def _pause(stopping: asyncio.Event) -> None:
    """Wait until it is time to look again, or the service stops."""
    try:
        await asyncio.wait_for(stopping.wait(), POLL_SECONDS)
    except TimeoutError:
        pass


def event(kind: str, offset: int, data: bytes) -> str:
    """Return a server-sent event; data is JSON of one line."""
    return f"event: {kind}\nid: {offset}\ndata: {data.decode('utf-8', 'replace')}\n\n"


def offset_of(text: str | None) -> int:
    """Return the offset in a Last-Event-ID; 0 where there is none that can be used."""
    if text is None or len(text) > MAX_DIGITS:
        return 0
    return int(text) if text.isascii() and text.isdecimal() else 0
