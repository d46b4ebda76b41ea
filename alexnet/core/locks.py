"""A lock file that one process at a time can hold: one run to a directory, one download to a file.

The operating system holds the lock (flock, or LockFileEx on Windows, both through filelock), so it
is released when the process ends, however it ends. The file stays afterwards: its presence means
nothing, and removing it while others open it would let two of them in. Lock a file of its own, not
the one that is written: on Windows nobody else can read a locked file, nor replace or remove it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from alexnet.core.errors import AlexNetError


@contextmanager
def exclusive_lock(path: Path, busy_message: str) -> Iterator[None]:
    """Hold the lock file `path` for this process, without waiting for it; create its folder.

    AlexNetError(busy_message) if another process, or another call in this one, holds it. The
    message names the path and says what to do.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise AlexNetError(busy_message) from error
    try:
        yield
    finally:
        lock.release()
