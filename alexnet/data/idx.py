"""MNIST and Fashion-MNIST: four IDX files in a folder, gzipped or not -> a source of grey pictures.

An IDX file is a magic number, one 32-bit size for each dimension, and bytes. The two sets have the same format and the same
sizes, so the class names are Fashion-MNIST's where the folder, or the one it lies in, says so, and digits elsewhere. The t10k
files are the test split; without them there is only train. It does not know EMNIST, whose letters and turned pictures differ.
"""

import math
import os
import struct
from collections.abc import Iterator

import numpy as np

from alexnet.data.arrays import array_source, checked_labels, contents
from alexnet.data.sources import Source
from alexnet.errors import AlexNetError

DIGITS = tuple("0123456789")
FASHION = ("t-shirt-top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot")
SPLITS = {"train": "train", "test": "t10k"}  # split -> how its files' names begin
BYTES = 0x0800  # the magic number of unsigned bytes, to which the number of dimensions is added


def is_idx(path: str) -> bool:
    """Whether a folder holds any of the four files."""
    return any(_find(path, part, kind) for part in SPLITS.values() for kind in ("images", "labels"))


def idx_source(path: str) -> Source:
    """The pictures of a folder of IDX files, named like train/ankle-boot/00042.pgm; AlexNetError where one is damaged."""
    above, folder = os.path.split(os.path.abspath(path))
    fashion = "fashion" in f"{os.path.basename(above)}/{folder}".lower()
    pictures = [picture for split in SPLITS for picture in _pictures(path, split)]
    return array_source(path, "idx", FASHION if fashion else DIGITS, pictures)


def _pictures(folder: str, split: str) -> Iterator[tuple[str, int, np.ndarray]]:
    images, labels = (_find(folder, SPLITS[split], kind) for kind in ("images", "labels"))
    if not images and not labels and split == "test":
        return
    if not images or not labels:
        missing = f"{SPLITS[split]}-{'labels-idx1' if images else 'images-idx3'}-ubyte.gz"
        raise AlexNetError(f"{folder}: found no {missing}, expected it beside the others: fetch it")
    pixels, classes = _array(images, 3), _array(labels, 1)
    if len(pixels) != len(classes):
        expected = f"{len(pixels)}, one for each picture of {os.path.basename(images)}"
        raise AlexNetError(f"{labels}: {len(classes)} labels, expected {expected}: fetch both again")
    try:
        numbers = checked_labels(classes, len(DIGITS))
    except AlexNetError as reason:
        raise AlexNetError(f"{labels}: {reason}") from reason
    for picture, number in zip(pixels[..., None], numbers, strict=True):
        yield split, number, picture


def _array(path: str, dimensions: int) -> np.ndarray:
    """An IDX file of bytes with so many dimensions -> uint8 of the shape it states, which must be the one its length has."""
    data = contents(path)
    start = 4 + 4 * dimensions
    if len(data) < start:
        raise AlexNetError(f"{path}: {len(data)} bytes, expected a header of {start}: fetch it again")
    magic, *shape = struct.unpack_from(f">{1 + dimensions}I", data)
    if magic != BYTES + dimensions:
        raise AlexNetError(f"{path}: begins with {magic:08x}, expected {BYTES + dimensions:08x}: fetch it again")
    told = " x ".join(map(str, shape))
    if not math.prod(shape) or len(data) != start + math.prod(shape):
        raise AlexNetError(f"{path}: {len(data) - start} bytes after its header, expected the {told} it states: fetch it again")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _find(folder: str, part: str, kind: str) -> str | None:
    """The file of a part, by the name it has in the archives or by the one some unpackers give it."""
    dimensions = {"images": 3, "labels": 1}[kind]
    names = [f"{part}-{kind}{dash}idx{dimensions}-ubyte{suffix}" for dash in "-." for suffix in ("", ".gz")]
    return next((path for path in (os.path.join(folder, name) for name in names) if os.path.isfile(path)), None)
