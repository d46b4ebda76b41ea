"""Batches of images for prediction, retrieval and plots, read ahead: image files, or records.

One bad image among many ends nothing: the reason takes its place, and the caller decides what
becomes of it. Training and evaluation do not use this module; their images all come from a prepared
dataset and must all be readable (`loader`).
"""

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from alexnet.core.errors import AlexNetError
from alexnet.data.dataset_format import DESCRIPTION
from alexnet.data.images import BadImage
from alexnet.data.prefetch import prefetch
from alexnet.data.prepared import Split
from alexnet.data.readers.names import hidden_reason, is_image_name
from alexnet.data.remote import is_address
from alexnet.data.transforms import Preprocessor

BATCH_SIZE = 128

T = TypeVar("T")
ImageOrError = np.ndarray | str  # a record's pixels uint8 (S, S, C), or why it cannot be read


class ImageBatch(NamedTuple):
    """Some images: names, pixels or why they cannot be read, and labels where they are known."""

    names: Sequence[str]
    images: Sequence[ImageOrError]
    labels: Sequence[int | None]

    @property
    def readable_only(self) -> "ImageBatch":
        """The batch without the images that could not be read."""
        indices = [i for i, image in enumerate(self.images) if not isinstance(image, str)]
        return ImageBatch(
            [self.names[i] for i in indices],
            [self.images[i] for i in indices],
            [self.labels[i] for i in indices],
        )

    @property
    def readable(self) -> list[np.ndarray]:
        """The pixels of the images that could be read."""
        return [image for image in self.images if isinstance(image, np.ndarray)]

    @property
    def unreadable(self) -> list[tuple[str, str]]:
        """(name, reason) of the images that could not be read."""
        pairs = zip(self.names, self.images, strict=True)
        return [(name, image) for name, image in pairs if isinstance(image, str)]


def is_dataset(path: str) -> bool:
    """Return whether a path is a prepared dataset or an address, rather than images."""
    return is_address(path) or (Path(path) / DESCRIPTION).is_file()


def find_images(paths: Sequence[str]) -> list[Path]:
    """Return the image files of files, directories (with all below them) and patterns, in order.

    AlexNetError where one of them has no images.
    """
    return list(iterate_images(paths))


def iterate_images(paths: Sequence[str]) -> Iterator[Path]:
    """Yield the image files that `find_images` returns, listing one directory at a time.

    AlexNetError where one of the paths has no images, when its turn comes.
    """
    for path in paths:
        images = _matching_images(path)
        first = next(images, None)
        if first is None:
            raise AlexNetError(
                f"{path}: found {_describe_path(path)}, expected image files, directories of them "
                "or a pattern"
            )
        yield first
        yield from images


def _matching_images(text: str) -> Iterator[Path]:
    """Yield the image files that one path or pattern stands for."""
    exists = Path(text).exists()
    for match in [text] if exists else sorted(glob.glob(text, recursive=True)):
        path = Path(match)
        if path.is_dir():
            yield from _images_below(path)
        else:
            yield path


def _images_below(folder: Path) -> Iterator[Path]:
    """Yield the images below a directory, sorted by the parts of their paths."""
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise AlexNetError(
            f"{folder}: cannot be listed ({error.strerror}); expected a readable folder"
        ) from error
    for name in sorted(name for name in names if hidden_reason(name) is None):
        path = folder / name
        if path.is_dir():
            if not path.is_symlink():
                yield from _images_below(path)
        elif is_image_name(name) and path.is_file():
            yield path


def _describe_path(path: str) -> str:
    if is_dataset(path):
        return "a prepared dataset"
    return "no images in it" if Path(path).is_dir() else "no such file"


def from_files(
    preprocessor: Preprocessor,
    files: Iterable[Path],
    workers: int,
    batch_size: int = BATCH_SIZE,
) -> Iterator[ImageBatch]:
    """Yield image files in order, decoded as the model's preprocessing decodes them.

    No more of them are taken than the `workers` + 2 batches that are read ahead.
    """
    return _read_batches(files, partial(_read_files, preprocessor), workers, batch_size)


def from_split(
    split: Split, indices: Sequence[int], workers: int, batch_size: int = BATCH_SIZE
) -> Iterator[ImageBatch]:
    """Yield some records of a split, in the order of `indices`."""
    return _read_batches(indices, partial(_read_records, split), workers, batch_size)


def _read_batches(
    items: Iterable[T], read: Callable[[Sequence[T]], ImageBatch], workers: int, batch_size: int
) -> Iterator[ImageBatch]:
    """Read the items in threads, `batch_size` at a time."""
    return prefetch((partial(read, batch) for batch in _batches(items, batch_size)), workers)


def _batches(items: Iterable[T], batch_size: int) -> Iterator[list[T]]:
    """Yield the items in lists of `batch_size`; the last may be shorter."""
    remaining = iter(items)
    while batch := list(islice(remaining, batch_size)):
        yield batch


def _read_files(preprocessor: Preprocessor, files: Sequence[Path]) -> ImageBatch:
    names = [str(file) for file in files]
    return ImageBatch(names, [_decode(preprocessor, file) for file in files], [None] * len(files))


def _read_records(split: Split, indices: Sequence[int]) -> ImageBatch:
    return ImageBatch(
        [split.names[i] for i in indices],
        [split.pixels(i) for i in indices],
        [int(split.labels[i]) for i in indices],
    )


def _decode(preprocessor: Preprocessor, file: Path) -> ImageOrError:
    """Return the pixels of an image file, or why it cannot be read."""
    try:
        return preprocessor.decode_square(file)
    except BadImage as error:
        return f"cannot be read: {error}"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
