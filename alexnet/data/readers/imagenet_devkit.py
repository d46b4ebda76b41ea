"""Read ImageNet's development kits (2010 and 2012): class names and the validation images' classes.

The devkit numbers the classes by ids of its own; here they only ever lead to a wnid
("n01440764"), the name that the archives use. `meta.mat` is a MATLAB file, read with scipy (the
extra `imagenet`).
"""

import io
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from alexnet.core.errors import AlexNetError
from alexnet.data.readers.small_files import read_small_file

META_FILE = "meta.mat"  # its table `synsets` has a row for each class, and for groups of classes


@dataclass(frozen=True)
class Edition:
    """A year's archives, by their official names."""

    name: str  # how the names of its images and of its id column begin
    devkit: str  # how its devkit's name begins
    archives: Mapping[str, str]  # split -> tar

    def ground_truth_file(self, split: str) -> str:
        """Return the name of the file with the class id of each numbered image, one a line."""
        return f"{self.name}_{'validation' if split == 'val' else split}_ground_truth.txt"


EDITIONS = (
    Edition(
        "ILSVRC2012",
        "ILSVRC2012_devkit_t12",
        {"train": "ILSVRC2012_img_train.tar", "val": "ILSVRC2012_img_val.tar"},
    ),
    Edition(
        "ILSVRC2010",
        "ILSVRC2010_devkit",
        {
            "train": "ILSVRC2010_images_train.tar",
            "val": "ILSVRC2010_images_val.tar",
            "test": "ILSVRC2010_images_test.tar",
        },
    ),
)


class Devkit(NamedTuple):
    """What a devkit says about the images."""

    class_names: dict[str, str]  # by wnid
    train_counts: dict[str, int]  # by wnid; empty if it does not say
    ground_truth: dict[str, list[str]]  # split -> the wnids of its images, by number from 1


class Synsets(NamedTuple):
    """The table in meta.mat."""

    wnids: dict[int, str]  # by the year's own id
    names: dict[str, str]  # by wnid
    train_counts: dict[str, int]  # by wnid; may be empty


def read_devkit(path: str, edition: Edition, splits: list[str]) -> Devkit:
    """Return what the devkit in a folder says about these splits; AlexNetError."""
    files = _read_devkit_files(path, edition)
    if META_FILE not in files:
        raise AlexNetError(
            f"{path}: found no {META_FILE}, expected the devkit ({edition.devkit}*.tar.gz) "
            "with the archives, for it names the classes: download it from where they came from"
        )
    synsets = _read_synsets(path, files[META_FILE], edition)
    ground_truth = {
        split: _read_ground_truth(path, files, edition, split, synsets.wnids) for split in splits
    }
    return Devkit(synsets.names, synsets.train_counts, ground_truth)


def _read_ground_truth(
    path: str, files: dict[str, bytes], edition: Edition, split: str, wnids: dict[int, str]
) -> list[str]:
    """Return the wnids of a split's numbered images; none for train, whose tars are named so."""
    name = edition.ground_truth_file(split)
    if split != "train" and name not in files:
        raise AlexNetError(
            f"{path}: found no {name} for {edition.archives[split]}, "
            "expected it in the devkit or with the archives"
        )
    try:
        return [wnids[int(line)] for line in files.get(name, b"").split()]
    except (KeyError, ValueError) as error:
        raise AlexNetError(
            f"{path}: {name}: {error} is no id of {META_FILE}'s, expected both from one devkit"
        ) from error


def _read_devkit_files(path: str, edition: Edition) -> dict[str, bytes]:
    """Return the devkit's files by name: from its archive, its folder, or next to the archives."""
    names = {META_FILE, *(edition.ground_truth_file(split) for split in edition.archives)}
    files: dict[str, bytes] = {}
    for name in sorted(os.listdir(path)):
        file = os.path.join(path, name)
        if name in names:
            files[name] = read_small_file(file)
        elif name.startswith(edition.devkit) and os.path.isdir(file):
            files |= _read_unpacked(os.path.join(file, "data"), names)
        elif name.startswith(edition.devkit) and name.endswith((".tar", ".tar.gz", ".tgz")):
            files |= _read_archive(file, names)
    return files


def _read_unpacked(folder: str, names: set[str]) -> dict[str, bytes]:
    paths = {name: os.path.join(folder, name) for name in names}
    return {name: read_small_file(path) for name, path in paths.items() if os.path.isfile(path)}


def _read_archive(path: str, names: set[str]) -> dict[str, bytes]:
    """Return the wanted files of a small tar, gzipped or not."""
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(read_small_file(path)), mode="r:") as archive:
            for member in archive:
                name = os.path.basename(member.name)
                file = archive.extractfile(member) if name in names else None
                if file:
                    files[name] = file.read()
    except tarfile.TarError as error:
        raise AlexNetError(
            f"{path}: damaged tar ({error}), expected a devkit: download it again"
        ) from error
    return files


def _read_synsets(path: str, data: bytes, edition: Edition) -> Synsets:
    from scipy.io import loadmat

    try:
        table = np.atleast_1d(loadmat(io.BytesIO(data), squeeze_me=True)["synsets"])
        ids = [int(number) for number in table[f"{edition.name}_ID"]]
        wnids = [str(wnid) for wnid in table["WNID"]]
        names = [str(words) for words in table["words"]]
        train_counts: dict[str, int] = {}
        if "num_train_images" in (table.dtype.names or ()):
            counts = [int(count) for count in table["num_train_images"]]
            train_counts = dict(zip(wnids, counts, strict=True))
        return Synsets(
            dict(zip(ids, wnids, strict=True)),
            dict(zip(wnids, names, strict=True)),
            train_counts,
        )
    except Exception as error:  # a damaged file can raise anything
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise AlexNetError(
            f"{path}: {META_FILE} cannot be read ({reason}), "
            f"expected the synsets of {edition.name}: download its devkit again"
        ) from error
