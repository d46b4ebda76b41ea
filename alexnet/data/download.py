"""Download public data sets by name, once, into the cache folder; check them by their hashes.

An interrupted download goes on where it stopped (HTTP Range), under another name until its hash
is right. What is in the folder already, downloaded or put there by hand, is not requested again,
so a machine without a network can be served. Compressed tars are unpacked once, since they cannot
be read in any order. Nothing here is downloaded unless it is asked for by name.
"""

import gzip
import hashlib
import shutil
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO, BinaryIO
from zipfile import BadZipFile, ZipFile

from alexnet.core.atomic_io import atomic_write, fsync_path, replace_file, write_error
from alexnet.core.cache import cache_folder
from alexnet.core.console import ProgressFn
from alexnet.core.errors import AlexNetError, UsageError
from alexnet.data.work_lock import work_lock

CHUNK = 1 << 20  # bytes
HASH_NAMES = {32: "md5", 64: "sha256"}  # by the length of the hexadecimal digest
TIMEOUT = 30.0  # seconds without an answer


@dataclass(frozen=True)
class PublishedFile:
    """A published file and how to check it."""

    name: str
    size: int  # bytes
    digest: str  # hexadecimal; its length says which hash it is


@dataclass(frozen=True)
class PublicDataset:
    """A set of images as it is published."""

    url: str  # of the folder of its files
    files: tuple[PublishedFile, ...]
    tar: str = ""  # what the one file is unpacked to, if it cannot be read as it is
    zip_member: str = ""  # the compressed tar in a zip

    @property
    def source_file(self) -> str:
        """What `open_source` opens, in the set's folder: a file, or "" for the folder itself."""
        if self.tar:
            return self.tar
        return self.files[0].name if len(self.files) == 1 else ""


# The md5 is CaltechDATA's own; the sha256 are those that independent projects state for files with
# the published md5.
PUBLIC_DATASETS = {
    "fashion-mnist": PublicDataset(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        (
            PublishedFile(
                "train-images-idx3-ubyte.gz",
                26_421_880,
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            ),
            PublishedFile(
                "train-labels-idx1-ubyte.gz",
                29_515,
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            ),
            PublishedFile(
                "t10k-images-idx3-ubyte.gz",
                4_422_102,
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            ),
            PublishedFile(
                "t10k-labels-idx1-ubyte.gz",
                5_148,
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            ),
        ),
    ),
    "cifar10": PublicDataset(
        "https://www.cs.toronto.edu/~kriz/",
        (
            PublishedFile(
                "cifar-10-binary.tar.gz",
                170_052_171,
                "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            ),
        ),
    ),
    "caltech101": PublicDataset(
        "https://data.caltech.edu/records/mzrjq-6wc02/files/",
        (PublishedFile("caltech-101.zip", 137_414_764, "3138e1922a9193bfa496528edbbc45d0"),),
        tar="101_ObjectCategories.tar",
        zip_member="caltech-101/101_ObjectCategories.tar.gz",
    ),
    "imagenette": PublicDataset(
        "https://s3.amazonaws.com/fast-ai-imageclas/",
        (
            PublishedFile(
                "imagenette2-320.tgz",
                341_663_724,
                "569b4497c98db6dd29f335d1f109cf315fe127053cedf69010d047f0188e158c",
            ),
        ),
        tar="imagenette2-320.tar",
    ),
}


def download(name: str, progress: ProgressFn | None = None) -> Path:
    """Download a public data set of PUBLIC_DATASETS into the cache folder, unless it is there.

    Return the path to open with `open_source`. `progress` is called with (done, all) bytes.
    Raises UsageError for an unknown name, AlexNetError if a file cannot be had.
    """
    if name not in PUBLIC_DATASETS:
        raise UsageError(
            f"{name}: no public data set of that name, expected {', '.join(PUBLIC_DATASETS)}"
        )
    return download_files(PUBLIC_DATASETS[name], cache_folder() / name, progress)


def download_files(
    dataset: PublicDataset, folder: Path, progress: ProgressFn | None = None
) -> Path:
    """Download all files of a data set into a folder; return the path to open.

    Raises AlexNetError that says what to do by hand.
    """
    source = folder / dataset.source_file
    if dataset.tar and source.exists():
        return source
    total = sum(file.size for file in dataset.files)
    finished = 0
    for file in dataset.files:
        _provide_file(dataset.url, file, folder, partial(_report, progress, finished, total))
        finished += file.size
    if not source.exists():
        _unpack(folder / dataset.files[0].name, dataset.zip_member, source)
    return source


def _report(progress: ProgressFn | None, finished: int, total: int, count: int) -> None:
    if progress:
        progress(finished + count, total)


def _provide_file(
    url: str, file: PublishedFile, folder: Path, report: Callable[[int], None]
) -> None:
    """Download one file, or check the hash of the one that is there."""
    path = folder / file.name
    if path.exists():
        _check_digest(path, file)
    else:
        _download_file(url + file.name, file, path, report)
    report(file.size)


def _check_digest(path: Path, file: PublishedFile) -> None:
    digest = _digest(path, file)
    if digest != file.digest:
        raise AlexNetError(
            f"{path}: its hash is {digest}, expected {file.digest}: "
            "remove it, or put the published file there"
        )


def _download_file(
    url: str, file: PublishedFile, path: Path, report: Callable[[int], None]
) -> None:
    partial_file = path.with_name(f"{path.name}.partial")
    try:
        with work_lock(path, f"{path}: another run is downloading it: wait for it"):
            if path.exists():  # another run has finished it meanwhile
                return
            with partial_file.open("ab") as opened:
                _complete(url, file, opened, path, report)
            _rename_if_valid(partial_file, file, path)
            fsync_path(path.parent)
    except OSError as error:
        raise write_error(path, error) from error


def _rename_if_valid(partial_file: Path, file: PublishedFile, path: Path) -> None:
    """Rename a complete file if its hash is right; else remove it, for no part can be trusted."""
    digest = _digest(partial_file, file)
    if digest != file.digest:
        partial_file.unlink()
        raise AlexNetError(
            f"{file.name}: the downloaded file has hash {digest}, expected {file.digest}, "
            f"and was removed: run again, or put the published file at {path}"
        )
    fsync_path(partial_file)
    replace_file(partial_file, path)


def _digest(path: Path, file: PublishedFile) -> str:
    """Return a file's hash, of the same kind as the expected one."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, HASH_NAMES[len(file.digest)]).hexdigest()


# ---- over the network


class NetworkError(Exception):
    """The network failed, not the disk; the text is the reason."""


def _complete(
    url: str,
    file: PublishedFile,
    opened: BinaryIO,
    path: Path,
    report: Callable[[int], None],
) -> None:
    """Download what is missing of a file, with further requests as long as they bring anything."""
    while (position := opened.tell()) < file.size:
        reason = "the answer ended early"
        try:
            _receive(url, file, opened, report)
        except NetworkError as error:
            reason = str(error)
        if opened.tell() <= position:
            raise AlexNetError(
                f"{url}: cannot be downloaded ({reason}), {position:,} of {file.size:,} bytes are "
                f"here: run again to go on, or put the file ({file.digest}) at {path}"
            )
    opened.flush()


def _receive(
    url: str, file: PublishedFile, opened: BinaryIO, report: Callable[[int], None]
) -> None:
    """Append one answer's bytes to a file; from its start if the server does not know ranges."""
    position = opened.tell()
    headers = {"User-Agent": "alexnet", "Range": f"bytes={position}-"}
    request = urllib.request.Request(url, headers=headers)
    with _network_errors():
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    with answer:
        if not answer.headers.get("Content-Range", "").startswith(f"bytes {position}-"):
            opened.seek(opened.truncate(0))
        while chunk := _read_chunk(answer):
            opened.write(chunk)
            if opened.tell() > file.size:
                raise AlexNetError(
                    f"{url}: more than the {file.size:,} bytes expected: "
                    "the published file has changed"
                )
            report(opened.tell())


def _read_chunk(answer: HTTPResponse) -> bytes:
    with _network_errors():
        return answer.read(CHUNK)


@contextmanager
def _network_errors() -> Iterator[None]:
    """Turn what the network's libraries raise into NetworkError."""
    try:
        yield
    except (HTTPException, OSError) as error:
        raise NetworkError(str(error).strip("<>") or type(error).__name__) from error


# ---- unpacking


def _unpack(archive: Path, zip_member: str, tar: Path) -> None:
    """Write the tar that is compressed in a file, alone or as a member of a zip."""
    try:
        with atomic_write(tar) as temporary:
            with (
                _open_compressed_tar(archive, zip_member) as compressed,
                gzip.open(compressed) as unpacked,
                temporary.open("wb") as file,
            ):
                shutil.copyfileobj(unpacked, file, CHUNK)
    except (EOFError, KeyError, zlib.error, BadZipFile, gzip.BadGzipFile) as error:
        raise AlexNetError(
            f"{archive}: cannot be unpacked ({error}), expected {zip_member or 'a compressed tar'}"
        ) from error
    except OSError as error:
        raise write_error(tar, error) from error


@contextmanager
def _open_compressed_tar(archive: Path, zip_member: str) -> Iterator[IO[bytes]]:
    if not zip_member:
        with archive.open("rb") as file:
            yield file
    else:
        with ZipFile(archive) as zip_file, zip_file.open(zip_member) as file:
            yield file
