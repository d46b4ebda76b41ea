"""What the writer and the reader of a prepared dataset agree on: names, index columns, version.

A prepared dataset is a directory of POSIX tar shards in WebDataset naming, so that any tar tool
reads it, with an index for each split, so that a record is found in constant time, and a JSON
description that holds the hash of every other file.
"""

import hashlib
from pathlib import Path

import numpy as np

FORMAT = "alexnet-dataset/1"
DESCRIPTION = "dataset.json"
MEAN_FILE = "mean.npy"
TAR_BLOCK = 512  # bytes
INDEX_DTYPE = np.dtype(
    [("shard", "<u4"), ("offset", "<u8"), ("length", "<u4"), ("label", "<i4"), ("crc", "<u4")]
)


def shard_file(split: str, number: int) -> str:
    """Return the name of a split's shard."""
    return f"{split}-{number:06d}.tar"


def index_file(split: str) -> str:
    """Return the name of a split's index."""
    return f"{split}.index.npy"


def names_file(split: str) -> str:
    """Return the name of the file with the names of a split's images, one JSON string a line."""
    return f"{split}.names"


def file_hash(path: Path) -> str:
    """Return a file's sha256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
