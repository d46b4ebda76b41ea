"""Files that are whole or not there: written aside, flushed to the disk, renamed.

After a kill or a power cut the old file is there or the new one is, never a part of either. Knows nothing of what is written.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alexnet.errors import AlexNetError


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name to write under; when the block ends well, what was written there gets its real name, safely; else it goes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.writing")
    try:
        yield aside
        sync(aside)
        os.replace(aside, path)
        sync(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until the disk has a file, or a folder's names."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: Path, data: bytes) -> None:
    """Put data under `path`, whole or not at all; a full disk is an AlexNetError and leaves what was there."""
    try:
        with whole(path) as aside:
            aside.write_bytes(data)
    except OSError as error:
        raise unwritten(path, error) from error


def must_be_writable(path: Path) -> None:
    """AlexNetError, before hours of work, if a file could not be put there afterwards."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f"{path.name}.writing")
        aside.touch()
        aside.unlink()
    except OSError as error:
        raise unwritten(path, error) from error


def unwritten(path: Path, error: Exception) -> AlexNetError:
    """What to tell when a file could not be written."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return AlexNetError(
        f"{path}: could not be written ({reason}); what was there is untouched; free space or choose another place"
    )
