"""Read MNIST and Fashion-MNIST: four IDX files in a folder, gzipped or not; gray images.

An IDX file is a magic number, a 32-bit size for each dimension, and bytes. Both sets have the
same format and sizes, so the class names are Fashion-MNIST's if the folder or its parent says so,
and digits otherwise. The t10k files are the test split; without them there is only train. EMNIST
is not supported: it has letters and transposed images.
"""

import math
import os
import struct
from collections.abc import Iterator

import numpy as np

from alexnet.core.errors import AlexNetError
from alexnet.data.readers.arrays import array_source, check_labels
from alexnet.data.readers.small_files import read_small_file
from alexnet.data.readers.source import ImageSource

DIGITS = tuple("0123456789")
FASHION = (
    "t-shirt-top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle-boot",
)
FILE_PREFIXES = {"train": "train", "test": "t10k"}  # split -> how its files' names begin
DIMENSIONS = {"images": 3, "labels": 1}
UNSIGNED_BYTES = 0x0800  # the magic number, to which the number of dimensions is added


def is_mnist(path: str) -> bool:
    """Whether a folder holds any of the four files."""
    return any(
        _find_file(path, prefix, kind) for prefix in FILE_PREFIXES.values() for kind in DIMENSIONS
    )


def mnist_source(path: str) -> ImageSource:
    """Return the images of a folder of IDX files, with names like train/ankle-boot/00042.pgm.

    Raises AlexNetError if a file is damaged.
    """
    parent, folder = os.path.split(os.path.abspath(path))
    is_fashion = "fashion" in f"{os.path.basename(parent)}/{folder}".lower()
    images = [image for split in FILE_PREFIXES for image in _read_split(path, split)]
    return array_source(path, "idx", FASHION if is_fashion else DIGITS, images)


def _read_split(folder: str, split: str) -> Iterator[tuple[str, int, np.ndarray]]:
    prefix = FILE_PREFIXES[split]
    image_file = _find_file(folder, prefix, "images")
    label_file = _find_file(folder, prefix, "labels")
    if not image_file and not label_file and split == "test":
        return
    if not image_file or not label_file:
        missing = f"{prefix}-{'labels-idx1' if image_file else 'images-idx3'}-ubyte.gz"
        raise AlexNetError(
            f"{folder}: found no {missing}, expected it with the others: download it"
        )
    pixels = _read_idx(image_file, DIMENSIONS["images"])
    labels = _read_idx(label_file, DIMENSIONS["labels"])
    if len(pixels) != len(labels):
        raise AlexNetError(
            f"{label_file}: {len(labels)} labels, expected {len(pixels)}, "
            f"one for each image of {os.path.basename(image_file)}: download both again"
        )
    try:
        classes = check_labels(labels, len(DIGITS))
    except AlexNetError as error:
        raise AlexNetError(f"{label_file}: {error}") from error
    for image, label in zip(pixels[..., None], classes, strict=True):
        yield split, label, image


def _read_idx(path: str, dimensions: int) -> np.ndarray:
    """Return an IDX file's uint8 array; the shape it states must fit the file's length."""
    data = read_small_file(path)
    start = 4 + 4 * dimensions
    if len(data) < start:
        raise AlexNetError(
            f"{path}: {len(data)} bytes, expected a header of {start}: download it again"
        )
    magic, *shape = struct.unpack_from(f">{1 + dimensions}I", data)
    if magic != UNSIGNED_BYTES + dimensions:
        raise AlexNetError(
            f"{path}: begins with {magic:08x}, expected {UNSIGNED_BYTES + dimensions:08x}: "
            "download it again"
        )
    if not math.prod(shape) or len(data) != start + math.prod(shape):
        raise AlexNetError(
            f"{path}: {len(data) - start} bytes after its header, "
            f"expected the {' x '.join(map(str, shape))} it states: download it again"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _find_file(folder: str, prefix: str, kind: str) -> str | None:
    """Return the path of a file by its published name, or by one that some unpackers give it."""
    for separator in "-.":
        for suffix in ("", ".gz"):
            name = f"{prefix}-{kind}{separator}idx{DIMENSIONS[kind]}-ubyte{suffix}"
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                return path
    return None
