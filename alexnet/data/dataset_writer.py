"""Write the files of a prepared dataset: shards, indexes, statistics, description.

The bytes depend on nothing but the records and their order: tar members have no owner and time 0,
the index is written by numpy, the description is the last file. The caller makes the files
durable (`build_dir`) and decides what goes into which shard (`build`).
"""

import json
import tarfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from alexnet.data.dataset_format import (
    DESCRIPTION,
    FORMAT,
    INDEX_DTYPE,
    MEAN_FILE,
    TAR_BLOCK,
    file_hash,
    index_file,
    names_file,
)
from alexnet.data.images import DecodeConfig
from alexnet.data.statistics import PixelSums, color_basis, mean_image


class ShardItem(NamedTuple):
    """One record to be written into a shard."""

    number: int  # of the image in its split's order; names the tar members
    name: str  # of the image in its source
    label: int
    record: bytes


@dataclass(frozen=True, eq=False)
class ShardInfo:
    """What is known about a finished shard."""

    name: str
    bytes: int
    sha256: str
    rows: np.ndarray  # INDEX_DTYPE (records,)
    names: tuple[str, ...]
    bad: tuple[tuple[str, str], ...]  # (name, reason) of the images that could not be decoded
    sums: PixelSums


def write_shard(
    file: Path, number: int, items: Iterable[ShardItem], decode_config: DecodeConfig
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Write a shard with members NUMBER.jpg (.ppm, .pgm) and NUMBER.cls.

    Return its index rows and the names of its images.
    """
    suffix = _record_suffix(decode_config)
    rows: list[tuple[int, ...]] = []
    names: list[str] = []
    position = 0
    with file.open("wb") as tar:
        for item in items:
            crc = zlib.crc32(item.record)
            rows.append((number, position + TAR_BLOCK, len(item.record), item.label, crc))
            names.append(item.name)
            position += tar.write(_tar_member(f"{item.number:09d}.{suffix}", item.record))
            position += tar.write(_tar_member(f"{item.number:09d}.cls", str(item.label).encode()))
        tar.write(bytes(2 * TAR_BLOCK))
    return np.array(rows, INDEX_DTYPE), tuple(names)


def write_split(folder: Path, split: str, shards: list[ShardInfo]) -> dict[str, Any]:
    """Write a split's index and names; return its entry in the description."""
    rows = np.concatenate([shard.rows for shard in shards])
    np.save(folder / index_file(split), rows)
    lines = [json.dumps(name) + "\n" for shard in shards for name in shard.names]
    (folder / names_file(split)).write_bytes("".join(lines).encode("ascii"))
    return {
        "images": len(rows),
        "shards": [
            {"name": shard.name, "bytes": shard.bytes, "sha256": shard.sha256} for shard in shards
        ],
        "index": _file_entry(folder, index_file(split)),
        "names": _file_entry(folder, names_file(split)),
    }


def write_statistics(folder: Path, train: PixelSums) -> dict[str, Any]:
    """Write the mean image; return the entries `mean` and `color` of the description."""
    np.save(folder / MEAN_FILE, mean_image(train))
    color = color_basis(train)
    return {
        "mean": _file_entry(folder, MEAN_FILE) | {"unit": "levels 0-255"},
        "color": {
            "mean": color.mean.tolist(),
            "eigenvalues": color.eigenvalues.tolist(),
            "eigenvectors": color.eigenvectors.tolist(),
            "unit": "squared levels 0-255",
        },
    }


def write_description(folder: Path, value: dict[str, Any]) -> None:
    """Write dataset.json, the last file of a dataset."""
    text = json.dumps({"format": FORMAT} | value, indent=1) + "\n"
    (folder / DESCRIPTION).write_bytes(text.encode("ascii"))


def _record_suffix(decode_config: DecodeConfig) -> str:
    if decode_config.encoding == "jpeg":
        return "jpg"
    return "ppm" if decode_config.channels == 3 else "pgm"


def _tar_member(name: str, data: bytes) -> bytes:
    """Return a tar member: a header without owner and time, and the data in whole blocks."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    return member.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % TAR_BLOCK)


def _file_entry(folder: Path, name: str) -> dict[str, Any]:
    return {"name": name, "sha256": file_hash(folder / name)}
