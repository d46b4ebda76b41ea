"""A lock for making something at a path: only one process prepares or downloads it.

The lock is a file of its own next to the path, removed afterwards, so nothing is left over. Whoever
gets it must check again whether the path exists: another process may have finished meanwhile.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from alexnet.core.locks import exclusive_lock


@contextmanager
def work_lock(path: Path, busy_message: str) -> Iterator[None]:
    """Hold `path`.lock for this process; AlexNetError(busy_message) if another one holds it."""
    lock = path.with_name(f"{path.name}.lock")
    try:
        with exclusive_lock(lock, busy_message):
            try:
                yield
            finally:
                if sys.platform != "win32":
                    # while it is held: afterwards it might already be another process's
                    lock.unlink(missing_ok=True)
    finally:
        if sys.platform == "win32":
            with suppress(OSError):  # an open file cannot be removed: another process has it
                lock.unlink()
