"""Public sets by name: fetched once into a cache folder, compared with their published hashes, and left there for `open_any`.

A broken download goes on where it stopped (HTTP Range), under another name until its hash is right. What is in the folder
already, fetched or put there by hand, is not asked for again; so a machine without a network can be served. Compressed tars are
unpacked once beside the original, since they cannot be read in any order. Nothing here is fetched unless it is asked for by name.
"""

import fcntl
import gzip
import hashlib
import os
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

from alexnet.cache import cache_folder
from alexnet.durable import sync, unwritten, whole
from alexnet.errors import AlexNetError, UsageError

CHUNK = 1 << 20  # bytes
HASHES = {32: "md5", 64: "sha256"}
TIMEOUT = 30.0  # seconds without an answer

Progress = Callable[[int, int], None]  # (done, all) bytes


@dataclass(frozen=True)
class File:
    """A published file and how to know it."""

    name: str
    size: int  # bytes
    digest: str  # hexadecimal, of the kind its length tells


@dataclass(frozen=True)
class Collection:
    """A set of pictures as it is published."""

    address: str  # of the folder of its files
    files: tuple[File, ...]
    tar: str = ""  # what the one file is unpacked to, where it cannot be read as it is
    inside: str = ""  # the member of a zip that is the compressed tar

    @property
    def opens(self) -> str:
        """What `open_any` is to be given, below the set's folder: a file, or "" for the folder itself."""
        return self.tar or (self.files[0].name if len(self.files) == 1 else "")


# md5 is CaltechDATA's own; of the others sha256 stands here, as independent projects state it for files of the published md5.
COLLECTIONS = {
    "fashion-mnist": Collection(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        (
            File(
                "train-images-idx3-ubyte.gz",
                26_421_880,
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            ),
            File("train-labels-idx1-ubyte.gz", 29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
            File("t10k-images-idx3-ubyte.gz", 4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
            File("t10k-labels-idx1-ubyte.gz", 5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
        ),
    ),
    "cifar10": Collection(
        "https://www.cs.toronto.edu/~kriz/",
        (File("cifar-10-binary.tar.gz", 170_052_171, "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"),),
    ),
    "caltech101": Collection(
        "https://data.caltech.edu/records/mzrjq-6wc02/files/",
        (File("caltech-101.zip", 137_414_764, "3138e1922a9193bfa496528edbbc45d0"),),
        tar="101_ObjectCategories.tar",
        inside="caltech-101/101_ObjectCategories.tar.gz",
    ),
    "imagenette": Collection(
        "https://s3.amazonaws.com/fast-ai-imageclas/",
        (File("imagenette2-320.tgz", 341_663_724, "569b4497c98db6dd29f335d1f109cf315fe127053cedf69010d047f0188e158c"),),
        tar="imagenette2-320.tar",
    ),
}


def download(name: str, progress: Progress) -> Path:
    """A public set, by its name in COLLECTIONS, in the cache folder -> the path to open; AlexNetError, UsageError."""
    if name not in COLLECTIONS:
        raise UsageError(f"{name}: no set of that name, expected {', '.join(COLLECTIONS)}")
    return fetch(COLLECTIONS[name], cache_folder() / name, progress)


def fetch(collection: Collection, folder: Path, progress: Progress) -> Path:
    """Have all files of a set in a folder, as published -> the path to open; AlexNetError says what to do by hand."""
    ready = folder / collection.opens
    if collection.tar and ready.exists():
        return ready
    total = sum(file.size for file in collection.files)
    before = 0
    for file in collection.files:
        _obtain(collection.address, file, folder, partial(_report, progress, before, total))
        before += file.size
    if not ready.exists():
        _unpack(folder / collection.files[0].name, collection.inside, ready)
    return ready


def _report(progress: Progress, before: int, total: int, count: int) -> None:
    progress(before + count, total)


def _obtain(address: str, file: File, folder: Path, report: Callable[[int], None]) -> None:
    """Have one file under its name: downloaded if it is not there, and compared in any case."""
    path = folder / file.name
    if not path.exists():
        with _partial(path) as opened:
            _complete(address + file.name, file, opened, path, report)
            _adopt(Path(opened.name), file, path)
    elif (found := _digest(path, file)) != file.digest:
        raise AlexNetError(f"{path}: its hash is {found}, expected {file.digest}: remove it, or put the published file there")
    report(file.size)


@contextmanager
def _partial(path: Path) -> Iterator[BinaryIO]:
    """What there is of a file so far, to be added to by this run alone."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_name(f"{path.name}.partial").open("ab") as opened:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield opened
            sync(path.parent)
    except BlockingIOError as reason:
        raise AlexNetError(f"{path}: another run is fetching it: wait for it") from reason
    except OSError as reason:
        raise unwritten(path, reason) from reason


def _adopt(aside: Path, file: File, path: Path) -> None:
    """Give a complete file its name if its hash is right; else it goes, for no other part of it could be trusted."""
    found = _digest(aside, file)
    if found != file.digest:
        aside.unlink()
        what = f"{file.name}: what was fetched has hash {found}, expected {file.digest}"
        raise AlexNetError(f"{what}, and was removed: run again, or put the published file at {path}")
    sync(aside)
    os.replace(aside, path)


def _digest(path: Path, file: File) -> str:
    """A file's hash, of the kind of the expected one."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, HASHES[len(file.digest)]).hexdigest()


# ---- over the network


class Broken(Exception):
    """The network failed, not the disk; the text is the reason."""


def _complete(address: str, file: File, opened: BinaryIO, path: Path, report: Callable[[int], None]) -> None:
    """Fetch what is missing of a file, asking again as long as that brings anything."""
    while (have := opened.tell()) < file.size:
        reason = "the answer ended early"
        try:
            _receive(address, file, opened, report)
        except Broken as broken:
            reason = str(broken)
        if opened.tell() <= have:
            what = f"{address}: cannot be fetched ({reason}), {have:,} of {file.size:,} bytes are here"
            raise AlexNetError(f"{what}: run again to go on, or put the file ({file.digest}) at {path}")
    opened.flush()


def _receive(address: str, file: File, opened: BinaryIO, report: Callable[[int], None]) -> None:
    """Add one answer's bytes to a file; from its start where the server cannot begin in the middle."""
    have = opened.tell()
    asked = urllib.request.Request(address, headers={"User-Agent": "alexnet", "Range": f"bytes={have}-"})
    with _network():
        answer = urllib.request.urlopen(asked, timeout=TIMEOUT)
    with answer:
        if not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            opened.seek(opened.truncate(0))
        while piece := _piece(answer):
            opened.write(piece)
            if opened.tell() > file.size:
                raise AlexNetError(f"{address}: more than the {file.size:,} bytes expected: the published file has changed")
            report(opened.tell())


def _piece(answer: HTTPResponse) -> bytes:
    with _network():
        return answer.read(CHUNK)


@contextmanager
def _network() -> Iterator[None]:
    try:
        yield
    except (HTTPException, OSError) as reason:
        raise Broken(str(reason).strip("<>") or type(reason).__name__) from reason


# ---- unpacking


def _unpack(archive: Path, inside: str, tar: Path) -> None:
    """A compressed tar, alone or inside a zip -> a tar."""
    try:
        with whole(tar) as aside:
            with _packed(archive, inside) as packed, gzip.open(packed) as plain, aside.open("wb") as opened:
                shutil.copyfileobj(plain, opened, CHUNK)
    except (EOFError, KeyError, zlib.error, BadZipFile, gzip.BadGzipFile) as reason:
        raise AlexNetError(f"{archive}: cannot be unpacked ({reason}), expected {inside or 'a compressed tar'}") from reason
    except OSError as reason:
        raise unwritten(tar, reason) from reason


@contextmanager
def _packed(archive: Path, inside: str) -> Iterator[IO[bytes]]:
    if not inside:
        with archive.open("rb") as packed:
            yield packed
    else:
        with ZipFile(archive) as zipped, zipped.open(inside) as packed:
            yield packed
