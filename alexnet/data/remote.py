"""Read a prepared dataset over a network, keeping a local copy of each record that was read.

fsspec reads the protocols (http://, s3://, memory://) and is imported only then. Copies are in the
cache folder, under a hash of the address and the description: a changed dataset gets a new copy. A
shard's copy is a sparse file: records at their own offsets, then one byte a record that says it is
there, written after it, so that a kill leaves no false mark; other damage is found by the reader's
checksums and fetched again. Everybody writes the same bytes at the same offset, so threads and
processes share the copies without locks. Copies are never removed.
"""

import hashlib
import mmap
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alexnet.core.atomic_io import write_error
from alexnet.core.cache import cache_folder
from alexnet.core.errors import AlexNetError

RETRY_DELAYS = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds
PRESENT = b"\1"


def is_address(location: str | Path) -> bool:
    """Whether a dataset's location is an address with a protocol, not a path."""
    return "://" in str(location)


@dataclass(frozen=True, eq=False)
class RemoteRoot:
    """A folder of files at an address."""

    address: str
    root: str  # the same, as the protocol's library names it
    filesystem: Any = field(repr=False)  # fsspec's

    def fetch(
        self,
        name: str,
        start: int | None = None,
        end: int | None = None,
        valid_sizes: tuple[int, ...] = (),
    ) -> bytes:
        """Return bytes [start, end) of a file, or all of it; retry after growing delays.

        `valid_sizes`: of the answer, the expected one first; () accepts any. Raises AlexNetError.
        """
        for delay in (0.0, *RETRY_DELAYS):
            time.sleep(delay)
            try:
                data: bytes = self.filesystem.cat_file(f"{self.root}/{name}", start, end)
            except FileNotFoundError:  # a retry would not help
                reason = "nothing is there"
                break
            except PermissionError:
                reason = "access is denied"
                break
            except Exception as error:  # each protocol's library raises its own
                reason = _one_line(error)
            else:
                if not valid_sizes or len(data) in valid_sizes:
                    return data
                reason = f"{len(data)} bytes came, expected {valid_sizes[0]}"
        raise AlexNetError(
            f"{self.address}/{name}: cannot be fetched ({reason}), "
            "expected a file of a prepared dataset: check address and connection"
        )


@dataclass(frozen=True, eq=False)
class CachedShard:
    """A remote shard; the records that were read are in a local file."""

    source: RemoteRoot
    name: str
    size: int  # bytes
    records: range  # indices in the split
    file: Path
    mapped: mmap.mmap = field(repr=False)  # the file: `size` bytes, then one byte for each record

    def __len__(self) -> int:
        return self.size

    def read(self, record: int, start: int, end: int, refresh: bool = False) -> memoryview:
        """Return bytes [start, end), which are a record of the split.

        They are fetched if there is no copy, or with `refresh` in any case. Raises AlexNetError.
        """
        if refresh or not self.mapped[self._mark_offset(record)]:
            self._fetch(record, start, end)
        return memoryview(self.mapped)[start:end]

    def _fetch(self, record: int, start: int, end: int) -> None:
        """Copy a record and then mark it; the whole shard if the server does not know ranges."""
        data = self.source.fetch(self.name, start, end, (end - start, self.size))
        if len(data) == self.size:
            _write_at(self.file, data, 0)
            _write_at(self.file, PRESENT * len(self.records), self.size)
        else:
            _write_at(self.file, data, start)
            _write_at(self.file, PRESENT, self._mark_offset(record))

    def _mark_offset(self, record: int) -> int:
        return self.size + record - self.records.start


@dataclass(frozen=True, eq=False)
class RemoteDir:
    """The location of a prepared dataset at an address."""

    source: RemoteRoot
    path: Path  # the folder of the local copies

    def __str__(self) -> str:
        return self.source.address

    @property
    def address(self) -> str:
        """What opens the dataset again."""
        return self.source.address

    def file(self, name: str, refresh: bool = False) -> Path:
        """Return the path of a small file's copy; AlexNetError.

        It is fetched if there is no copy, or with `refresh` in any case.
        """
        copy = self.path / _require_plain_name(name)
        if refresh or not copy.is_file():
            data = self.source.fetch(name)
            _resize(copy, len(data))
            _write_at(copy, data, 0)
        return copy

    def shard(self, name: str, size: int, records: range) -> CachedShard:
        """Return a shard of `size` bytes with these records of its split; fetch nothing yet."""
        copy = self.path / f"{_require_plain_name(name)}.part"
        _resize(copy, size + len(records))
        with copy.open("rb") as opened:
            mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        return CachedShard(self.source, name, size, records, copy, mapped)


def open_remote(address: str, description: str) -> RemoteDir:
    """Return the dataset at an address; AlexNetError.

    `description`: the name of the file that describes it, which is fetched each time.
    """
    source = _connect(address.rstrip("/"))
    text = source.fetch(description)
    version = hashlib.sha256(f"{source.address}\n".encode() + text).hexdigest()[:32]
    path = cache_folder() / "datasets" / version / Path(source.address).name
    _resize(path / description, len(text))
    _write_at(path / description, text, 0)
    return RemoteDir(source, path)


def _connect(address: str) -> RemoteRoot:
    try:
        from fsspec.core import url_to_fs

        filesystem, root = url_to_fs(address)
    except ImportError as error:
        raise AlexNetError(
            f"{address}: a library is missing ({_one_line(error)}): "
            "pip install 'alexnet[remote]' for http://, and the one it names for other protocols"
        ) from error
    except (ValueError, OSError) as error:
        raise AlexNetError(
            f"{address}: cannot be read ({_one_line(error)}), "
            "expected http://HOST/DATASET or s3://BUCKET/DATASET"
        ) from error
    return RemoteRoot(address, str(root).rstrip("/"), filesystem)


def _require_plain_name(name: str) -> str:
    """Return a file's name; AlexNetError if it could lead out of its folder."""
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise AlexNetError(
            f"{name!r}: found in a dataset's description, expected a plain file name: "
            "do not use this dataset"
        )
    return name


def _resize(file: Path, size: int) -> None:
    """Create or resize a file; what was never written is a hole if the disk has sparse files.

    A file of that size already is left alone: on Windows, one that is mapped cannot be resized.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        if file.stat().st_size != size:
            os.truncate(file, size)
    except OSError as error:
        raise write_error(file, error) from error


def _write_at(file: Path, data: bytes, offset: int) -> None:
    try:
        with file.open("r+b") as opened:
            opened.seek(offset)
            opened.write(data)
    except OSError as error:
        raise write_error(file, error) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
