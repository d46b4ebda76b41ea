"""Read small files whole, gunzipped if they are gzipped.

Sizes are bounded, so a damaged or hostile file can make us allocate only so much.
"""

import gzip
import os
import zlib
from typing import BinaryIO, cast

from alexnet.core.errors import AlexNetError

MAX_SIZE = 512 << 20  # bytes, unpacked; the largest file of MNIST and CIFAR-10 has 184 million
MAX_EXPANSION = 1032  # deflate makes at most this many bytes of one
GZIP_MAGIC = b"\x1f\x8b"


def read_small_file(path: str) -> bytes:
    """Return all bytes of a file, unpacked if it is gzipped.

    Raises AlexNetError if it is damaged or larger than MAX_SIZE.
    """
    try:
        with _open_unpacked(path) as file:
            data = file.read(min(MAX_SIZE, MAX_EXPANSION * os.path.getsize(path)) + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise AlexNetError(
            f"{path}: damaged gzip ({error}), expected a complete one: download it again"
        ) from error
    except OSError as error:
        raise AlexNetError(
            f"{path}: cannot be read ({error.strerror or error}), expected a readable file"
        ) from error
    if len(data) > MAX_SIZE:
        raise AlexNetError(
            f"{path}: more than {MAX_SIZE >> 20} MiB unpacked, expected a set of small images"
        )
    return data


def read_start(path: str, count: int) -> bytes:
    """Return the first bytes of a file, unpacked if it is gzipped; b"" if it cannot be read."""
    try:
        with _open_unpacked(path) as file:
            return file.read(count)
    except (EOFError, zlib.error, OSError):
        return b""


def _open_unpacked(path: str) -> BinaryIO:
    with open(path, "rb") as file:
        is_gzipped = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
    return cast(BinaryIO, gzip.open(path)) if is_gzipped else open(path, "rb")
