"""List a folder's files, following links.

Each folder is listed once, however many links lead to it, so loops of links end.
"""

import os
import stat
from functools import partial

from alexnet.core.errors import AlexNetError
from alexnet.data.readers.listing import FileEntry, Listing
from alexnet.data.readers.names import hidden_reason, name_bytes


def list_folder(path: str) -> Listing:
    """Return the files below a folder, by their POSIX paths relative to it; AlexNetError."""
    listing = Listing("folder", [], [], [], partial(_read, path), _nothing_to_close)
    visited: set[tuple[int, int]] = set()
    pending = [""]
    while pending:
        linked: list[str] = []  # visited last, so that a folder's own name wins over a link to it
        while pending:
            _list_one(path, pending.pop(), listing, visited, pending, linked)
        pending = sorted(linked, key=name_bytes, reverse=True)
    return listing


def _list_one(
    root: str,
    folder: str,
    listing: Listing,
    visited: set[tuple[int, int]],
    pending: list[str],
    linked: list[str],
) -> None:
    """Add one folder's files to the listing, its subfolders to `pending` or `linked`."""
    status = os.stat(os.path.join(root, folder))
    if (status.st_dev, status.st_ino) in visited:
        listing.ignored.append((folder, "link to a folder listed elsewhere"))
        return
    visited.add((status.st_dev, status.st_ino))
    for entry in _scan(os.path.join(root, folder)):
        name = f"{folder}/{entry.name}".lstrip("/")
        if _add_entry(entry, name, listing):
            subfolders = linked if entry.is_symlink() else pending
            subfolders.append(name)


def _scan(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=_entry_order)
    except OSError as error:
        raise AlexNetError(
            f"{folder}: cannot be listed ({error.strerror}), expected a readable folder"
        ) from error


def _entry_order(entry: os.DirEntry[str]) -> bytes:
    return name_bytes(entry.name)


def _add_entry(entry: os.DirEntry[str], name: str, listing: Listing) -> bool:
    """Add a file or folder to the listing; return whether it is a folder to be visited."""
    try:
        status = entry.stat()
    except OSError:
        listing.ignored.append((name, "broken link"))
        return False
    if stat.S_ISREG(status.st_mode):
        listing.files.append(FileEntry(name, status.st_size, 0))
        return False
    if not stat.S_ISDIR(status.st_mode):
        listing.ignored.append((name, "not a regular file"))
        return False
    reason = hidden_reason(name)
    if reason:
        listing.ignored.append((name, reason))
        return False
    listing.folders.append(name)
    return True


def _read(root: str, file: FileEntry) -> bytes:
    with open(os.path.join(root, file.name), "rb") as opened:
        return opened.read()


def _nothing_to_close() -> None:
    """Do nothing: a folder is not kept open."""
