"""Read a prepared dataset: open it, check it, and get at any record of a split in constant time.

`dataset_format` says what lies in its directory. The hash of every other file is in dataset.json
and the checksum of every record is in the index, so damage is found and named, never trained on. A
dataset in a local directory is read through memory-mapped shards; one at an address is read from
copies that `remote` fetches when they are needed. Both kinds of location have the same two methods,
`file` and `shard`, and both can be asked to `refresh` what turns out damaged. The files must not
change while the dataset is open: its shards stay mapped, and open, as long as it is in use.
"""

import hashlib
import json
import mmap
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from alexnet.core.errors import AlexNetError
from alexnet.data.dataset_format import (
    DESCRIPTION,
    FORMAT,
    INDEX_DTYPE,
    file_hash,
    index_file,
    names_file,
    shard_file,
)
from alexnet.data.images import DecodeConfig, decode_record
from alexnet.data.remote import CachedShard, RemoteDir, is_address, open_remote
from alexnet.data.statistics import ColorStats

SPARE_FILES = 256  # files that a process may open in addition to its shards


@dataclass(frozen=True, eq=False)
class MmapShard:
    """A memory-mapped shard on this machine."""

    mapped: mmap.mmap = field(repr=False)

    def __len__(self) -> int:
        return len(self.mapped)

    def read(self, record: int, start: int, end: int, refresh: bool = False) -> memoryview:
        """Return bytes [start, end), which hold a record of the split.

        There is no other copy, so `refresh` changes nothing.
        """
        return memoryview(self.mapped)[start:end]


@dataclass(frozen=True, eq=False)
class LocalDir:
    """The location of a dataset on this machine."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def address(self) -> str:
        """What opens the dataset again, from any working directory."""
        return str(self.path.resolve())

    def file(self, name: str, refresh: bool = False) -> Path:
        """Return the path of a small file; there is no other copy, so `refresh` changes nothing."""
        return self.path / name

    def shard(self, name: str, size: int, records: range) -> MmapShard:
        """Map a shard of `size` bytes; AlexNetError where it is missing or has another size."""
        return MmapShard(_map_file(self.path / name, size))


Location = LocalDir | RemoteDir


@dataclass(frozen=True, eq=False)
class Split:
    """The records of one split, in stored order. Several threads may read at once."""

    location: Location
    name: str
    labels: np.ndarray  # int64 (len,)
    index: np.ndarray = field(repr=False)  # INDEX_DTYPE (len,)
    shards: tuple[MmapShard | CachedShard, ...] = field(repr=False)
    checked: bytearray = field(repr=False)  # 1 for each record whose checksum has been compared

    def __len__(self) -> int:
        return len(self.index)

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_split, (self.location.address, self.name)

    def record(self, i: int) -> bytes:
        """Return the encoded bytes of record i; AlexNetError where its checksum differs."""
        return bytes(self._checked_record(i))

    def pixels(self, i: int) -> np.ndarray:
        """Return the image of record i, uint8 (size, size, channels); AlexNetError if damaged.

        The array is read-only; raw records are views of the mapped shard.
        """
        return decode_record(self._checked_record(i))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the images in their source, in stored order."""
        lines = self.location.file(names_file(self.name)).read_bytes().splitlines()
        return tuple(json.loads(line) for line in lines)

    def _checked_record(self, i: int) -> memoryview:
        """Return the bytes of record i, compared with its checksum the first time."""
        i = range(len(self))[i]
        if self.checked[i]:
            return self._read(i)
        crc = self.index[i]["crc"]
        data = self._read(i)
        if zlib.crc32(data) != crc:
            data = self._read(i, refresh=True)
        if zlib.crc32(data) != crc:
            file = f"{self.location}/{shard_file(self.name, int(self.index[i]['shard']))}"
            raise AlexNetError(
                f"{file}: record {i} is damaged (its checksum differs): restore the file or "
                "prepare the dataset again"
            )
        self.checked[i] = 1
        return data

    def _read(self, i: int, refresh: bool = False) -> memoryview:
        row = self.index[i]
        start = int(row["offset"])
        end = start + int(row["length"])
        return self.shards[int(row["shard"])].read(i, start, end, refresh)


@dataclass(frozen=True, eq=False)
class PreparedDataset:
    """An open prepared dataset, as `open_dataset` returns it."""

    location: Location
    classes: tuple[str, ...]
    decode_config: DecodeConfig
    mean: np.ndarray = field(repr=False)  # float32 (size, size, channels), levels 0-255, of train
    color: ColorStats = field(repr=False)
    digest: str  # sha256 of dataset.json, which holds the hash of every other file
    bad: tuple[tuple[str, str], ...] = field(repr=False)  # (name, reason) of images left out
    warnings: tuple[str, ...] = field(repr=False)
    splits: dict[str, Split]

    @property
    def path(self) -> Path:
        """The directory of the small files: the dataset's own, or that of the local copies."""
        return self.location.path

    def __reduce__(self) -> tuple[Any, ...]:
        return open_dataset, (self.location.address,)


def open_dataset(path: str | Path) -> PreparedDataset:
    """Open a prepared dataset and check everything but the contents of its shards.

    `path` is its directory, or an address (http://HOST/DATASET, s3://BUCKET/DATASET) as a string.
    AlexNetError names what is missing or damaged.
    """
    location = _locate(path)
    text, description = _read_description(location)
    with _description_errors(location):
        dataset = _open_described(location, text, description)
    config = dataset.decode_config
    if dataset.mean.shape != (config.size, config.size, config.channels):
        raise AlexNetError(
            f"{location}: the mean image has shape {dataset.mean.shape}, expected "
            f"({config.size}, {config.size}, {config.channels}): prepare the dataset again"
        )
    return dataset


def verify(dataset: PreparedDataset) -> None:
    """Compare every file of a local dataset with its hash; AlexNetError names all that differ."""
    if not isinstance(dataset.location, LocalDir):
        raise AlexNetError(
            f"{dataset.location}: found an address, expected a dataset in a local directory: "
            "verify it on the machine that has it"
        )
    _, description = _read_description(dataset.location)
    entries = [description["mean"]]
    for split in description["splits"].values():
        entries += [split["index"], split["names"], *split["shards"]]
    damaged = [
        entry["name"]
        for entry in entries
        if file_hash(dataset.path / entry["name"]) != entry["sha256"]
    ]
    if damaged:
        raise AlexNetError(
            f"{dataset.path}: damaged files, by their hashes: {', '.join(damaged)}: restore them "
            "or prepare the dataset again"
        )


def _locate(path: str | Path) -> Location:
    if is_address(path):
        return open_remote(str(path), DESCRIPTION)
    return LocalDir(Path(path))


def _read_description(location: Location) -> tuple[bytes, dict[str, Any]]:
    """Return the text of dataset.json and its value, once its format is known to be ours."""
    if not location.path.is_dir():
        actual = "a file" if location.path.exists() else "nothing"
        raise AlexNetError(
            f"{location}: found {actual}, expected a prepared dataset: make one with "
            "`alexnet prepare SOURCE DATASET`"
        )
    try:
        text = (location.path / DESCRIPTION).read_bytes()
        value = json.loads(text)
    except FileNotFoundError as error:
        raise AlexNetError(
            f"{location}: no {DESCRIPTION} in it, expected a prepared dataset: make one with "
            "`alexnet prepare SOURCE DATASET`"
        ) from error
    except ValueError as error:
        raise AlexNetError(
            f"{location}/{DESCRIPTION}: damaged ({error}): prepare the dataset again"
        ) from error
    version = value.get("format") if isinstance(value, dict) else None
    if version != FORMAT:
        raise AlexNetError(
            f"{location}: its format is {version!r}, expected {FORMAT!r}: prepare it again with "
            "this version of alexnet"
        )
    return text, value


@contextmanager
def _description_errors(location: Location) -> Iterator[None]:
    """Turn what a malformed dataset.json raises into an AlexNetError."""
    try:
        yield
    except KeyError as error:
        raise _malformed(location, f"no entry {error}") from error
    except (TypeError, ValueError, EOFError) as error:
        raise _malformed(location, "an entry of the wrong type or size") from error


def _malformed(location: Location, reason: str) -> AlexNetError:
    return AlexNetError(f"{location}/{DESCRIPTION}: malformed ({reason}): prepare it again")


def _open_described(
    location: Location, text: bytes, description: dict[str, Any]
) -> PreparedDataset:
    """Open the files that a description lists."""
    splits = description["splits"]
    classes = tuple(description["classes"])
    mean = np.load(_verified_file(location, description["mean"]), allow_pickle=False)
    _raise_open_file_limit(sum(len(entry["shards"]) for entry in splits.values()))
    return PreparedDataset(
        location,
        classes,
        DecodeConfig.from_json(description["decode_config"]),
        mean,
        _color_stats(description["color"]),
        hashlib.sha256(text).hexdigest(),
        tuple((name, reason) for name, reason in description["bad"]),
        tuple(description["warnings"]),
        {name: _load_split(location, name, entry, len(classes)) for name, entry in splits.items()},
    )


def _color_stats(value: dict[str, Any]) -> ColorStats:
    return ColorStats(
        np.array(value["mean"]),
        np.array(value["eigenvalues"]),
        np.array(value["eigenvectors"]),
    )


def _raise_open_file_limit(shards: int) -> None:
    """Raise this process's limit of open files as far as allowed: a mapped shard is one."""
    if sys.platform == "win32":  # no such limit, and no module `resource`
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = shards + SPARE_FILES
    if hard != resource.RLIM_INFINITY:
        needed = min(hard, needed)
    if soft != resource.RLIM_INFINITY and soft < needed:
        with suppress(OSError, ValueError):  # macOS has a further limit, below an infinite one
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _load_split(location: Location, name: str, entry: dict[str, Any], classes: int) -> Split:
    """Load a split's index and map its shards."""
    index = np.load(_verified_file(location, entry["index"]), allow_pickle=False)
    _verified_file(location, entry["names"])
    if index.dtype != INDEX_DTYPE or len(index) != entry["images"]:
        raise AlexNetError(
            f"{location}/{index_file(name)}: {len(index)} rows, expected {entry['images']}: "
            "prepare the dataset again"
        )
    ends = np.searchsorted(index["shard"], np.arange(len(entry["shards"])), "right").tolist()
    starts = [0, *ends][:-1]
    records = [range(start, end) for start, end in zip(starts, ends, strict=True)]
    shards = tuple(
        location.shard(shard["name"], shard["bytes"], shard_records)
        for shard, shard_records in zip(entry["shards"], records, strict=True)
    )
    _check_index(f"{location}/{index_file(name)}", index, shards, classes)
    labels = index["label"].astype(np.int64)
    return Split(location, name, labels, index, shards, bytearray(len(index)))


def _check_index(
    file: str, index: np.ndarray, shards: tuple[MmapShard | CachedShard, ...], classes: int
) -> None:
    """AlexNetError unless every row points into a shard and a class, in the order of the shards."""
    sizes = np.array([len(shard) for shard in shards], np.uint64)
    inside = (index["shard"] < len(shards)) & (index["label"] >= 0) & (index["label"] < classes)
    if not inside.all() or (index["offset"] + index["length"] > sizes[index["shard"]]).any():
        raise AlexNetError(
            f"{file}: points outside its shards or classes: prepare the dataset again"
        )
    if (index["shard"][1:] < index["shard"][:-1]).any():
        raise AlexNetError(f"{file}: its shards are out of order: prepare the dataset again")


def _open_split(address: str, name: str) -> Split:
    return open_dataset(address).splits[name]


def _verified_file(location: Location, entry: dict[str, Any]) -> Path:
    """Return the path of a small file that has been compared with its hash."""
    for refresh in (False, True):
        file = location.file(entry["name"], refresh)
        if not file.is_file():
            raise AlexNetError(
                f"{file}: missing, expected a file of the dataset: restore it or prepare again"
            )
        if file_hash(file) == entry["sha256"]:
            return file
    raise AlexNetError(
        f"{location}/{entry['name']}: damaged, its hash is not the one in {DESCRIPTION}: restore "
        "it or prepare the dataset again"
    )


def _map_file(file: Path, size: int) -> mmap.mmap:
    """Map a file of `size` bytes into memory, for reading."""
    if not file.is_file():
        raise AlexNetError(
            f"{file}: missing, expected a shard of {size} bytes: restore it or prepare again"
        )
    actual = file.stat().st_size
    if actual != size:
        raise AlexNetError(
            f"{file}: {actual} bytes, expected {size}: restore it or prepare the dataset again"
        )
    with file.open("rb") as opened:
        return mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
