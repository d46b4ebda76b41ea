"""A lock file that one process at a time can hold: one run to a directory, one download to a file.

The operating system holds the lock (flock, or LockFileEx on Windows, both through filelock), so it
is released when the process ends, however it ends. The file stays afterwards: its presence means
nothing, and removing it while others open it would let two of them in. Lock a file of its own, not
the one that is written: on Windows nobody else can read a locked file, nor replace or remove it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from alexnet.core.errors import AlexNetError

POLL_SECONDS = 0.01
PROBE_SECONDS = 0.05  # another process's `is_locked` has let go of the lock by then


@contextmanager
def exclusive_lock(path: Path, busy_message: str) -> Iterator[None]:
    """Hold the lock file `path` for this process, without waiting for it; create its folder.

    AlexNetError(busy_message) if another process, or another call in this one, holds it. The
    message names the path and says what to do.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _file_lock(path)
    try:
        lock.acquire(poll_interval=POLL_SECONDS)
    except Timeout as error:
        raise AlexNetError(busy_message) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def waiting_lock(path: Path, busy: Callable[[], None]) -> Iterator[None]:
    """Hold the lock file `path` for this process, waiting for its turn; create its folder.

    `busy` is called once if another process, or another call in this one, holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        busy()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock file `path`; False where it cannot be opened.

    To find out, it is held for a moment: `exclusive_lock` waits so long.
    """
    if not path.exists():
        return False
    lock = _file_lock(path)
    try:
        lock.acquire(poll_interval=POLL_SECONDS)
    except Timeout:
        return True
    except OSError:
        return False
    lock.release()
    return False


def _file_lock(path: Path) -> FileLock:
    return FileLock(path, timeout=PROBE_SECONDS, thread_local=False)
