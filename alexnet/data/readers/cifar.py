"""Read CIFAR-10's official archives, binary or Python, packed or unpacked: 32 x 32 color images.

The binary batches are records of a label and 3 x 32 x 32 bytes; the Python batches are pickles
(`cifar_pickle`). An archive is read whole, since a compressed tar cannot be read in another
order. CIFAR-100 is not supported.
"""

import io
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from alexnet.core.errors import AlexNetError
from alexnet.data.readers.arrays import array_source, check_labels
from alexnet.data.readers.cifar_pickle import PIXELS, Buffer, read_pickled_batch, read_pickled_names
from alexnet.data.readers.small_files import read_small_file, read_start
from alexnet.data.readers.source import ImageSource

BATCHES = {**{f"data_batch_{number}": "train" for number in range(1, 6)}, "test_batch": "test"}
NUM_CLASSES = 10
FIRST_BYTES = 2048  # of an archive: its first headers


class Edition(NamedTuple):
    """One of the two forms in which the set is published."""

    folder: str
    suffix: str  # of a batch's file
    meta_file: str  # holds the class names
    read_names: Callable[[Buffer], list[str]]
    read_batch: Callable[
        [Buffer], tuple[np.ndarray, np.ndarray]
    ]  # -> labels, uint8 (images, PIXELS)

    def files(self) -> tuple[str, ...]:
        """Return the names of the files that are read."""
        return (self.meta_file, *(batch + self.suffix for batch in BATCHES))


def is_cifar(path: str) -> bool:
    """Whether a folder holds any of the set's files, or an archive begins with its folder."""
    if os.path.isdir(path):
        return _find_folder(path) is not None
    start = read_start(path, FIRST_BYTES)
    return any(f"{edition.folder}/".encode() in start for edition in EDITIONS)


def cifar_source(path: str) -> ImageSource:
    """Return the images of an archive or its folder, with names like train/frog/00000.ppm.

    Raises AlexNetError if a file is missing or damaged.
    """
    files = _read_folder(path) if os.path.isdir(path) else _read_archive(path)
    present = [edition for edition in EDITIONS if edition.meta_file in files]
    edition = present[0] if present else EDITIONS[0]
    missing = [name for name in edition.files() if name not in files]
    if missing:
        raise AlexNetError(
            f"{path}: found no {', '.join(missing)}, expected {edition.folder}/ to hold it: "
            "download the archive again"
        )
    with _errors_name_file(path, edition.meta_file):
        classes = _check_names(edition.read_names(files[edition.meta_file]))
    images = [
        image
        for batch in BATCHES
        for image in _read_images(path, edition, batch, files[batch + edition.suffix])
    ]
    return array_source(path, "cifar10", classes, images)


def _read_images(
    path: str, edition: Edition, batch: str, data: Buffer
) -> Iterator[tuple[str, int, np.ndarray]]:
    with _errors_name_file(path, batch + edition.suffix):
        labels, rows = edition.read_batch(data)
        classes = check_labels(labels, NUM_CLASSES)
    planes = rows.reshape(-1, 3, 32, 32)
    images = planes.transpose(0, 2, 3, 1)  # (images, 32, 32, 3), a view
    for label, image in zip(classes, images, strict=True):
        yield BATCHES[batch], label, image


@contextmanager
def _errors_name_file(path: str, file: str) -> Iterator[None]:
    """Make an AlexNetError raised inside say which file it is about."""
    try:
        yield
    except AlexNetError as error:
        raise AlexNetError(f"{path}: {file}: {error}: download it again") from error


def _check_names(names: list[str]) -> tuple[str, ...]:
    """Return the class names; AlexNetError unless they can be folder names."""
    plain = {
        name
        for name in names
        if name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    }
    if len(plain) != NUM_CLASSES or len(names) != NUM_CLASSES:
        raise AlexNetError(
            f"{len(names)} class names, of which {len(plain)} plain and different, "
            f"expected {NUM_CLASSES}"
        )
    return tuple(names)


# ---- where the files are


def _find_folder(path: str) -> str | None:
    """Return the folder with the files: the given one, or one in it by its official name."""
    for folder in (path, *(os.path.join(path, edition.folder) for edition in EDITIONS)):
        names = (name for edition in EDITIONS for name in edition.files())
        if any(os.path.isfile(os.path.join(folder, name)) for name in names):
            return folder
    return None


def _read_folder(path: str) -> dict[str, Buffer]:
    folder = _find_folder(path) or path
    paths = {name: os.path.join(folder, name) for edition in EDITIONS for name in edition.files()}
    return {name: read_small_file(file) for name, file in paths.items() if os.path.isfile(file)}


def _read_archive(path: str) -> dict[str, Buffer]:
    """Return the set's files in a tar, as views of its bytes."""
    data = read_small_file(path)
    expected_names = {
        f"{edition.folder}/{name}" for edition in EDITIONS for name in edition.files()
    }
    files: dict[str, Buffer] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for member in archive:
                if member.isreg() and member.name.removeprefix("./") in expected_names:
                    files[os.path.basename(member.name)] = _member_data(data, member)
    except (tarfile.TarError, AlexNetError) as error:
        raise AlexNetError(
            f"{path}: damaged tar ({error}), expected a complete one: download it again"
        ) from error
    return files


def _member_data(data: bytes, member: tarfile.TarInfo) -> memoryview:
    content = memoryview(data)[member.offset_data : member.offset_data + member.size]
    if len(content) != member.size:
        raise AlexNetError(f"{member.name} is {len(content)} bytes, expected {member.size}")
    return content


# ---- the binary edition


def _read_binary_names(data: Buffer) -> list[str]:
    return bytes(data).decode("latin1").split()


def _read_binary_batch(data: Buffer) -> tuple[np.ndarray, np.ndarray]:
    if not len(data) or len(data) % (1 + PIXELS):
        raise AlexNetError(f"{len(data)} bytes, expected records of {1 + PIXELS}")
    records = np.frombuffer(data, np.uint8).reshape(-1, 1 + PIXELS)
    return records[:, 0], records[:, 1:]


EDITIONS = (
    Edition(
        folder="cifar-10-batches-bin",
        suffix=".bin",
        meta_file="batches.meta.txt",
        read_names=_read_binary_names,
        read_batch=_read_binary_batch,
    ),
    Edition(
        folder="cifar-10-batches-py",
        suffix="",
        meta_file="batches.meta",
        read_names=read_pickled_names,
        read_batch=read_pickled_batch,
    ),
)
