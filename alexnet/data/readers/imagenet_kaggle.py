"""Read ImageNet in Kaggle's layout: a folder or zip with the splits in ILSVRC/Data/CLS-LOC.

The classes of the flat val/ are in a table next to ILSVRC/. The test images are ignored: their
classes are unknown. The images get the same names as from the official archives, so preparation
gives the same records.
"""

import csv
import io
import os
from collections.abc import Mapping
from dataclasses import replace

from alexnet.core.errors import AlexNetError
from alexnet.data.readers.imagenet import KAGGLE_CLASSES, NamedImage, source_from_images
from alexnet.data.readers.imagenet_devkit import Devkit
from alexnet.data.readers.listing import Listing
from alexnet.data.readers.source import ImageSource

IMAGE_FOLDER = "ILSVRC/Data/CLS-LOC/"  # above train/, val/ and test/
VAL_CLASSES = "LOC_val_solution.csv"  # next to ILSVRC/, as is KAGGLE_CLASSES


def is_kaggle(listing: Listing) -> bool:
    """Whether a folder or an archive has Kaggle's layout."""
    return any(IMAGE_FOLDER in file.name for file in listing.files)


def kaggle_source(name: str, listing: Listing) -> ImageSource:
    """Return the images of Kaggle's layout; AlexNetError if a table is missing or incomplete."""
    first = next(file.name for file in listing.files if IMAGE_FOLDER in file.name)
    top = first.partition(IMAGE_FOLDER)[0]
    root = top + IMAGE_FOLDER
    files = {
        file.name.removeprefix(root): file for file in listing.files if file.name.startswith(root)
    }
    class_names = _read_class_names(listing, top)
    val_wnids = _read_val_wnids(listing, top) if _any_in_split(files, "val") else {}
    images = [
        NamedImage(_name_with_class(path, val_wnids), listing, file)
        for path, file in files.items()
        if not path.startswith("test/")
    ]
    unlabeled = [(path, "its class is unknown") for path in files if path.startswith("test/")]
    train = f"{root}train/"
    folders = [folder.removeprefix(train) for folder in listing.folders if folder.startswith(train)]
    source = source_from_images(name, "kaggle", images, folders, Devkit(class_names, {}, {}))
    ignored = (*source.ignored, *listing.ignored, *unlabeled)
    return replace(source, ignored=ignored, close=listing.close)


def _any_in_split(paths: Mapping[str, object], split: str) -> bool:
    return any(path.startswith(f"{split}/") for path in paths)


def _name_with_class(path: str, val_wnids: Mapping[str, str]) -> str:
    """Return an image's path, with its class inserted between val/ and its file name."""
    split, *folders, file = path.split("/")
    if split != "val" or folders:
        return path
    wnid = val_wnids.get(os.path.splitext(file)[0])
    if wnid is None:
        raise AlexNetError(
            f"found {path} but no class of it in {VAL_CLASSES}, expected a line for it: "
            "download both again"
        )
    return f"val/{wnid}/{file}"


def _read_class_names(listing: Listing, top: str) -> dict[str, str]:
    """Return the class names by wnid, from lines "WNID WORDS"."""
    names = {}
    for line in _read_text(listing, top + KAGGLE_CLASSES).splitlines():
        wnid, _, words = line.strip().partition(" ")
        if wnid:
            names[wnid] = words
    return names


def _read_val_wnids(listing: Listing, top: str) -> dict[str, str]:
    """Return the wnid of each val image by its name without extension.

    A line's other values are bounding boxes.
    """
    text = _read_text(listing, top + VAL_CLASSES)
    rows = list(csv.reader(io.StringIO(text)))[1:]
    return {row[0]: row[1].split()[0] for row in rows if len(row) == 2 and row[1].split()}


def _read_text(listing: Listing, name: str) -> str:
    file = next((file for file in listing.files if file.name == name), None)
    if file is None:
        raise AlexNetError(
            f"found no {name}, expected it next to ILSVRC/: "
            "download it, or give the folder that holds both"
        )
    return listing.fetch(file).decode("utf-8", "replace")
