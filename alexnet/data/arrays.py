"""Sets that come as arrays of pixels: each picture gets a name that says its split and class, and becomes a picture file.

MNIST, Fashion-MNIST and CIFAR-10 keep no picture files, so a PGM or PPM file is made of the pixels whenever one is asked for:
nothing is lost, and preparing them takes the same way as any folder. The files are read whole, which bounds their size; sizes
that a header states are compared with what was read, never trusted with an allocation. It knows no format: `idx` and `cifar` do.
"""

import gzip
import os
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import BinaryIO, cast

import numpy as np

from alexnet.data.images import Policy, encode
from alexnet.data.sources import Entry, Listing, Source, make_source
from alexnet.errors import AlexNetError

LARGEST = 512 << 20  # bytes, unpacked; the largest file of these sets has 184 million
EXPANSION = 1032  # deflate makes at most this many bytes of one
GZIP = b"\x1f\x8b"
RAW = Policy(encoding="raw")

Pictures = Iterable[tuple[str, int, np.ndarray]]  # (split, class number, uint8 (height, width, 1 or 3))


def array_source(path: str, kind: str, classes: tuple[str, ...], pictures: Pictures) -> Source:
    """Name pictures SPLIT/CLASS/NUMBER, counted in each split from 0 in the order they come; their pixels stay in memory."""
    named = dict(_named(pictures, classes))
    entries = [Entry(name, len(encode(pixels, RAW)), 0) for name, pixels in named.items()]
    folders = [f"train/{label}" for label in classes]  # so that a class without pictures is known
    listing = Listing(kind, entries, folders, [], lambda entry: encode(named[entry.name], RAW), lambda: None)
    return make_source(os.path.basename(os.path.abspath(path)), listing)


def checked_labels(labels: np.ndarray, classes: int) -> list[int]:
    """Labels as class numbers; AlexNetError where one is outside 0 to classes - 1."""
    outside = np.flatnonzero((labels < 0) | (labels >= classes))
    if outside.size:
        raise AlexNetError(f"label {labels[outside[0]]} of picture {outside[0]}, expected 0 to {classes - 1}")
    return labels.tolist()


def contents(path: str) -> bytes:
    """All bytes of a file, unpacked where it is gzip; AlexNetError where it is damaged or too large."""
    try:
        with _opened(path) as file:
            data = file.read(min(LARGEST, EXPANSION * os.path.getsize(path)) + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as reason:
        raise AlexNetError(f"{path}: damaged gzip ({reason}), expected a whole one: fetch it again") from reason
    except OSError as reason:
        raise AlexNetError(f"{path}: cannot be read ({reason.strerror or reason}), expected a readable file") from reason
    if len(data) > LARGEST:
        raise AlexNetError(f"{path}: more than {LARGEST >> 20} MiB unpacked, expected a set of small pictures")
    return data


def beginning(path: str, count: int) -> bytes:
    """The first bytes of a file, unpacked where it is gzip; none where they cannot be had, which opening it will explain."""
    try:
        with _opened(path) as file:
            return file.read(count)
    except (EOFError, zlib.error, OSError):
        return b""


def _opened(path: str) -> BinaryIO:
    with open(path, "rb") as file:
        packed = file.read(len(GZIP)) == GZIP
    return cast(BinaryIO, gzip.open(path)) if packed else open(path, "rb")


def _named(pictures: Pictures, classes: tuple[str, ...]) -> Iterator[tuple[str, np.ndarray]]:
    counts: Counter[str] = Counter()
    for split, label, pixels in pictures:
        suffix = "pgm" if pixels.shape[-1] == 1 else "ppm"
        yield f"{split}/{classes[label]}/{counts[split]:05d}.{suffix}", pixels
        counts[split] += 1
