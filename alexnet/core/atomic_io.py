"""Files that are either complete or absent: written under another name, flushed to disk, renamed.

After a kill or a power cut either the old file is there or the new one, never a part of one. The
systems differ in what can be flushed (folders only on Linux and macOS) and in when a file can be
replaced (not while it is open, on Windows); only this module knows of that.
"""

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alexnet.core.errors import AlexNetError

WINDOWS = os.name == "nt"
REPLACE_ATTEMPTS = 10  # on Windows, where a virus scanner or a reader may have the file open
SECONDS_BETWEEN_ATTEMPTS = 0.1


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Atomically replace `path`: yield a temporary name, fsync, rename; remove it on error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_name(path)
    try:
        yield temporary
        fsync_path(temporary)
        replace_file(temporary, path)
        fsync_path(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def fsync_path(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk.

    On Windows, which can flush neither a folder nor a file opened for reading alone, a folder is
    left to the system and a file is opened for writing.
    """
    if WINDOWS and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if WINDOWS else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(source: Path, target: Path) -> None:
    """Rename `source` to `target`, replacing what is there.

    Windows refuses as long as anyone has the target open or mapped, so there it is tried for about
    a second before the PermissionError is raised.
    """
    attempts = REPLACE_ATTEMPTS if WINDOWS else 1
    for _ in range(attempts - 1):
        try:
            os.replace(source, target)
            return
        except PermissionError:
            time.sleep(SECONDS_BETWEEN_ATTEMPTS)
    os.replace(source, target)


def write_bytes(path: Path, data: bytes) -> None:
    """Atomically write `data` to `path`; AlexNetError, with the old file untouched, if it fails."""
    try:
        with atomic_write(path) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise write_error(path, error) from error


def require_writable(path: Path) -> None:
    """AlexNetError, before hours of work, if a file could not be written at `path` afterwards."""
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary_name(path)
        temporary.touch()
        temporary.unlink()
    except OSError as error:
        raise write_error(path, error) from error


def write_error(path: Path, error: Exception) -> AlexNetError:
    """Return the error to raise when the file `path` could not be written."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return AlexNetError(
        f"{path}: could not be written ({reason}); "
        "the old content is untouched; free some space or choose another path"
    )


def _temporary_name(path: Path) -> Path:
    return path.with_name(f"{path.name}.writing")
