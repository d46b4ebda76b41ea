"""Download published files, once; check them by their hashes.

An interrupted download goes on where it stopped (HTTP Range), under another name until its hash
is right. Where one address fails, the next one goes on with it. What is in the folder already,
downloaded or put there by hand, is not requested again, so a machine without a network can be
served. What a file is for is not known here.
"""

import hashlib
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError

from alexnet.core.atomic_io import fsync_path, replace_file, write_error
from alexnet.core.console import ProgressFn
from alexnet.core.errors import AlexNetError
from alexnet.core.work_lock import work_lock

CHUNK = 1 << 20  # bytes
HASH_NAMES = {32: "md5", 40: "sha1", 64: "sha256"}  # by the length of the hexadecimal digest
TIMEOUT = 30.0  # seconds without an answer


@dataclass(frozen=True)
class PublishedFile:
    """A published file, how to check it, and where the same bytes are, to be tried in turn."""

    name: str
    size: int | None  # bytes; None where no source states it: the hash alone decides
    digest: str  # hexadecimal; its length says which hash it is
    urls: tuple[str, ...]

    @property
    def hash_text(self) -> str:
        """The hash with its kind: sha256 7be5..."""
        return f"{HASH_NAMES[len(self.digest)]} {self.digest}"


class DownloadError(AlexNetError):
    """No address gave the file; the text says what to do by hand."""


def provide_file(file: PublishedFile, folder: Path, progress: ProgressFn) -> Path:
    """Return the path of a file in a folder: the one that is there, checked, or a downloaded one.

    `progress` is called with (done, all) bytes of a download. DownloadError where no address gives
    it, AlexNetError where another file is in its place or it cannot be written.
    """
    path = folder / file.name
    if path.exists():
        _require_digest(path, file)
    else:
        _download(file, path, progress)
    return path


def has_digest(path: Path, file: PublishedFile) -> bool:
    """Tell whether a file on the disk is the published one, by its hash."""
    return _digest(path, file) == file.digest


def _require_digest(path: Path, file: PublishedFile) -> None:
    digest = _digest(path, file)
    if digest != file.digest:
        raise AlexNetError(
            f"{path}: its hash is {digest}, expected {file.digest}: "
            "remove it, or put the published file there"
        )


def _digest(path: Path, file: PublishedFile) -> str:
    """Return a file's hash, of the same kind as the expected one."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, HASH_NAMES[len(file.digest)]).hexdigest()


def _download(file: PublishedFile, path: Path, progress: ProgressFn) -> None:
    try:
        with work_lock(path, f"{path}: another run is downloading it: wait for it"):
            if path.exists():  # another run has finished it meanwhile
                return
            _download_from_any(file, path, progress)
            fsync_path(path.parent)
    except OSError as error:
        raise write_error(path, error) from error


def _download_from_any(file: PublishedFile, path: Path, progress: ProgressFn) -> None:
    """Download from the first address that works; each goes on where the one before stopped."""
    partial_file = path.with_name(f"{path.name}.partial")
    failures = []
    for url in file.urls:
        try:
            with partial_file.open("ab") as opened:
                _complete(url, file, opened, progress)
            _rename_if_valid(partial_file, file, path)
            return
        except NetworkError as error:
            failures.append(f"{url}: {error}")
    raise DownloadError(
        f"{file.name}: cannot be downloaded ({'; '.join(failures)}){_size_here(partial_file)}: "
        f"run again to go on, or put the file with {file.hash_text} at {path}"
    )


def _size_here(partial_file: Path) -> str:
    size = partial_file.stat().st_size if partial_file.exists() else 0
    return f", {size:,} bytes are here" if size else ""


def _rename_if_valid(partial_file: Path, file: PublishedFile, path: Path) -> None:
    """Rename a complete file if its hash is right; else remove it, for no part can be trusted."""
    digest = _digest(partial_file, file)
    if digest != file.digest:
        partial_file.unlink()
        raise NetworkError(f"what came has the hash {digest} and was removed")
    fsync_path(partial_file)
    replace_file(partial_file, path)


# ---- over the network


class NetworkError(Exception):
    """The network or a server failed, not the disk; the text is the reason."""


def _complete(url: str, file: PublishedFile, opened: BinaryIO, progress: ProgressFn) -> None:
    """Download what is missing of a file, with further requests as long as they bring anything."""
    size = file.size
    while size is None or opened.tell() < size:
        position = opened.tell()
        reason = "the answer ended early"
        try:
            size = _receive(url, file, opened, progress)
        except NetworkError as error:
            reason = str(error)
        if opened.tell() <= position and opened.tell() != size:
            raise NetworkError(reason)
    opened.flush()


def _receive(url: str, file: PublishedFile, opened: BinaryIO, progress: ProgressFn) -> int:
    """Append one answer's bytes to a file; from its start if the server does not know ranges.

    Return the size of the whole file; where nothing states it, all that came is taken for it.
    """
    position = opened.tell()
    answer = _request(url, position)
    if answer is None:
        return position
    with answer:
        is_rest = answer.headers.get("Content-Range", "").startswith(f"bytes {position}-")
        start = position if is_rest else 0
        size = _whole_size(answer, start, file)
        opened.seek(opened.truncate(start))
        while chunk := _read_chunk(answer):
            opened.write(chunk)
            if size is not None and opened.tell() > size:
                raise NetworkError(f"more than the {size:,} bytes expected")
            progress(opened.tell(), size or opened.tell() + 1)  # not known, nor reached
    return size or opened.tell()


def _request(url: str, position: int) -> HTTPResponse | None:
    """Ask for a file from a position on; None where the server says that nothing is left."""
    headers = {"User-Agent": "alexnet", "Range": f"bytes={position}-"}
    with _network_errors():
        request = urllib.request.Request(url, headers=headers)
        try:
            answer: HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT)
            return answer
        except HTTPError as error:
            error.close()
            if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and position:
                return None
            raise


def _whole_size(answer: HTTPResponse, start: int, file: PublishedFile) -> int | None:
    """Return a file's published size, or the announced one; NetworkError where they differ."""
    length = answer.headers.get("Content-Length", "")
    announced = start + int(length) if length.isdigit() else None
    if None not in (file.size, announced) and file.size != announced:
        raise NetworkError(
            f"it has {announced:,} bytes, expected {file.size:,}: the published file has changed"
        )
    return file.size or announced


def _read_chunk(answer: HTTPResponse) -> bytes:
    with _network_errors():
        return answer.read(CHUNK)


@contextmanager
def _network_errors() -> Iterator[None]:
    """Turn what the network's libraries raise into NetworkError."""
    try:
        yield
    except (HTTPException, OSError, ValueError) as error:  # ValueError: of an impossible address
        raise NetworkError(str(error).strip("<>") or type(error).__name__) from error
