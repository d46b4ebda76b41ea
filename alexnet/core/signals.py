"""Requests to stop, by Ctrl-C, SIGTERM and others, are noted so that the state can be saved first.

Which signals there are depends on the system: Windows has SIGBREAK (Ctrl-Break, and how a console
that closes ends its processes), Linux and macOS have SIGHUP (a terminal that closes).
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from alexnet.distributed.process_group import SINGLE_PROCESS, Ranks


def stop_signals() -> tuple[signal.Signals, ...]:
    """Return the signals of this system that ask a process to end.

    SIGHUP is left out where it is ignored: then the command was started with nohup, to outlive its
    terminal.
    """
    names = ["SIGINT", "SIGTERM", "SIGBREAK"]
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is not None and signal.getsignal(hangup) != signal.SIG_IGN:
        names.append("SIGHUP")
    return tuple(getattr(signal, name) for name in names if hasattr(signal, name))


@contextmanager
def stop_requests(ranks: Ranks = SINGLE_PROCESS) -> Iterator[Callable[[], int]]:
    """Note the first stop signal instead of ending; a second one ends the process at once.

    Yields a function that returns the number of the signal, 0 as long as there was none. With
    several ranks a second signal is only noted: torchrun repeats that of a terminal, and ends by
    itself, after half a minute, a rank that does not stop.
    """
    requested = 0

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal requested
        requested = number
        if ranks.world_size == 1:
            _restore(previous)

    previous = {each: signal.signal(each, note) for each in stop_signals()}
    try:
        yield lambda: requested
    finally:
        _restore(previous)


def _restore(handlers: dict[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
