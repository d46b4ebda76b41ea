"""Make a source of image arrays: MNIST and CIFAR-10 come as arrays, not as image files.

Each image gets a name that says its split and class, and is encoded as a PGM or PPM file when it
is read: lossless, and preparation treats it like any image file. The arrays stay in memory.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np

from alexnet.core.errors import AlexNetError
from alexnet.data.images import DecodeConfig, encode_record
from alexnet.data.readers.layout import source_from_listing
from alexnet.data.readers.listing import FileEntry, Listing
from alexnet.data.readers.source import ImageSource

RAW = DecodeConfig(encoding="raw")

# (split, class index, uint8 (height, width, 1 or 3))
LabeledArrays = Iterable[tuple[str, int, np.ndarray]]


def array_source(
    path: str, kind: str, classes: tuple[str, ...], images: LabeledArrays
) -> ImageSource:
    """Return a source of arrays, named SPLIT/CLASS/NUMBER.ppm (.pgm).

    NUMBER counts the images of a split from 0, in the order in which they come.
    """
    arrays = dict(_name_images(images, classes))
    files = [FileEntry(name, len(encode_record(pixels, RAW)), 0) for name, pixels in arrays.items()]
    folders = [f"train/{label}" for label in classes]  # classes without images count too
    listing = Listing(kind, files, folders, [], partial(_encode, arrays), _nothing_to_close)
    return source_from_listing(os.path.basename(os.path.abspath(path)), listing)


def check_labels(labels: np.ndarray, num_classes: int) -> list[int]:
    """Return labels as integers; AlexNetError if one is outside 0 to num_classes - 1."""
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if wrong.size:
        raise AlexNetError(
            f"label {labels[wrong[0]]} of image {wrong[0]}, expected 0 to {num_classes - 1}"
        )
    return labels.tolist()


def _name_images(
    images: LabeledArrays, classes: tuple[str, ...]
) -> Iterator[tuple[str, np.ndarray]]:
    counts: Counter[str] = Counter()
    for split, label, pixels in images:
        suffix = "pgm" if pixels.shape[-1] == 1 else "ppm"
        yield f"{split}/{classes[label]}/{counts[split]:05d}.{suffix}", pixels
        counts[split] += 1


def _encode(arrays: dict[str, np.ndarray], file: FileEntry) -> bytes:
    return encode_record(arrays[file.name], RAW)


def _nothing_to_close() -> None:
    """Do nothing: the arrays are in memory."""
