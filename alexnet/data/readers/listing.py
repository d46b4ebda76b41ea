"""A list of all files in a folder or an archive, and how to read them.

`folder`, `tar` and `zip` make listings; `layout` and `imagenet_kaggle` make sources of them. A
listing does not know which files are images or what the folders mean.
"""

import os
import threading
from collections.abc import Callable
from typing import NamedTuple

from alexnet.core.errors import AlexNetError


class FileEntry(NamedTuple):
    """A file in a folder or an archive."""

    name: str
    size: int  # bytes
    offset: int  # of its data (tar) or its header (zip) in the archive; 0 in a folder


class Listing(NamedTuple):
    """All that a folder or an archive holds."""

    kind: str  # "folder", "tar" or "zip"
    files: list[FileEntry]
    folders: list[str]  # those with an entry of their own; parents of files need not be listed
    ignored: list[tuple[str, str]]  # (name, reason)
    fetch: Callable[[FileEntry], bytes]
    close: Callable[[], None]


class PositionedFile:
    """A file that several threads read at offsets of their own."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "rb", buffering=0)
        self._lock = threading.Lock()

    def read_up_to(self, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset`, fewer at the end of the file."""
        if hasattr(os, "pread"):
            return os.pread(self._file.fileno(), size, offset)
        with self._lock:  # Windows has no pread
            self._file.seek(offset)
            return self._file.read(size)

    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset`; AlexNetError if the file ends before."""
        data = self.read_up_to(offset, size)
        if len(data) != size:
            raise AlexNetError(f"cut short at byte {offset + len(data)}")
        return data

    def close(self) -> None:
        """Close the file."""
        self._file.close()
