"""Read ImageNet's official archives, ILSVRC-2012 and -2010, as a source with named classes.

Nothing is unpacked: the train archive is a tar of tars, so an image in it is a range of bytes of
the outer one. The images get the names they would have in folders of splits and classes
(train/n01440764/n01440764_10026.JPEG), so all layouts give the same records in the same order.
Classes are in wnid order, as is usual, and named by wnid and words, as in Kaggle's list. EXIF
data is ignored by default, as in 2012. The classes of 2012's test images were never published, so
there is no test split. All validation images are kept, as in the paper, also those that the
devkit would leave out for their boxes.
"""

import os
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import NamedTuple

from alexnet.core.errors import AlexNetError, UsageError
from alexnet.data.readers.imagenet_devkit import EDITIONS, META_FILE, Devkit, Edition, read_devkit
from alexnet.data.readers.layout import MAX_FILE_SIZE, source_from_listing
from alexnet.data.readers.listing import FileEntry, Listing
from alexnet.data.readers.small_files import GZIP_MAGIC
from alexnet.data.readers.source import ImageSource, Sample
from alexnet.data.readers.tar import list_tar, list_tar_of_tars

# of 2010: replacements for images that only show that they are not available
PATCHES = "patch_images.tar"
KAGGLE_CLASSES = "LOC_synset_mapping.txt"


class NamedImage(NamedTuple):
    """An image's file, and the name it would have in folders of splits and classes."""

    name: str
    listing: Listing
    file: FileEntry


def is_imagenet(path: str) -> bool:
    """Whether a folder holds any of the official archives of images."""
    return any(_present_splits(path, edition) for edition in EDITIONS)


def imagenet_source(path: str) -> ImageSource:
    """Return the images of a folder with the official archives and their devkit.

    Raises UsageError without scipy, AlexNetError if something is missing or damaged.
    """
    if find_spec("scipy") is None:
        raise UsageError(
            f"{path}: reading ImageNet's devkit needs scipy: pip install 'alexnet[imagenet]'"
        )
    edition = _find_edition(path)
    devkit = read_devkit(path, edition, _present_splits(path, edition))
    with ExitStack() as archives:
        listings = _list_archives(path, edition, archives)
        name = os.path.basename(os.path.abspath(path))
        images = _all_images(edition, devkit, listings)
        try:
            source = source_from_images(
                name, edition.name.lower(), images, listings["train"].folders, devkit
            )
        except AlexNetError as error:
            raise AlexNetError(f"{path}: {error}") from error
        ignored = [pair for listing in listings.values() for pair in listing.ignored]
        close = archives.pop_all().close
        return replace(source, ignored=(*source.ignored, *ignored), close=close)


def source_from_images(
    name: str,
    kind: str,
    images: Iterable[NamedImage],
    train_folders: Iterable[str],
    devkit: Devkit,
) -> ImageSource:
    """Return a source of named images, its classes named by wnid and words; AlexNetError."""
    by_name = {image.name: image for image in images}
    files = [image.file._replace(name=image.name) for image in by_name.values()]
    folders = [f"train/{folder}" for folder in train_folders]
    listing = Listing(kind, files, folders, [], partial(_fetch, by_name), _closed_by_caller)
    source = source_from_listing(name, listing)
    unknown = [wnid for wnid in source.classes if wnid not in devkit.class_names]
    if unknown:
        raise AlexNetError(
            f"found class {unknown[0]}, expected only those that {META_FILE} or "
            f"{KAGGLE_CLASSES} names: download both again"
        )
    labels = {wnid: f"{wnid} {devkit.class_names[wnid]}" for wnid in source.classes}
    samples = (Sample(sample.name, labels[sample.label], sample.split) for sample in source.samples)
    return replace(
        source,
        samples=tuple(samples),
        classes=tuple(labels.values()),
        warnings=(*source.warnings, *_count_warnings(source, devkit)),
        exif=False,
    )


def _count_warnings(source: ImageSource, devkit: Devkit) -> Iterator[str]:
    """Warn if there are not as many train images as the devkit says."""
    expected = devkit.train_counts
    counts = Counter(sample.label for sample in source.samples if sample.split == "train")
    differ = [wnid for wnid in sorted(expected) if counts[wnid] != expected[wnid]]
    if differ:
        first = differ[0]
        yield (
            f"{counts.total():,} train images, the devkit counts {sum(expected.values()):,}; "
            f"{len(differ)} classes differ, the first {first}: {counts[first]} of {expected[first]}"
        )


def _fetch(images: Mapping[str, NamedImage], file: FileEntry) -> bytes:
    """Return an image file's bytes; some of 2010 are gzipped in their tars."""
    image = images[file.name]
    data = image.listing.fetch(image.file)
    if not data.startswith(GZIP_MAGIC):
        return data
    try:
        return zlib.decompressobj(wbits=31).decompress(data, MAX_FILE_SIZE)
    except zlib.error as error:
        raise AlexNetError(f"damaged gzip ({error})") from error


def _closed_by_caller() -> None:
    """Do nothing: the caller replaces it by what closes its archives."""


# ---- the archives


def _present_splits(path: str, edition: Edition) -> list[str]:
    """Return the splits whose archives a folder holds."""
    return [
        split
        for split, name in edition.archives.items()
        if os.path.isfile(os.path.join(path, name))
    ]


def _find_edition(path: str) -> Edition:
    """Return the one year whose archives a folder holds; its train archive must be there."""
    editions = [edition for edition in EDITIONS if _present_splits(path, edition)]
    if len(editions) > 1:
        names = " and ".join(edition.name for edition in editions)
        raise AlexNetError(
            f"{path}: found archives of {names}, expected one year's: "
            "put each year into a folder of its own"
        )
    edition = editions[0]
    if "train" not in _present_splits(path, edition):
        raise AlexNetError(
            f"{path}: found no {edition.archives['train']}, "
            "expected it with the others: download it"
        )
    return edition


def _list_archives(path: str, edition: Edition, archives: ExitStack) -> dict[str, Listing]:
    """Return the listings of the archives that are there, by split; `archives` closes them."""
    listings = {}
    for split, name in {**edition.archives, PATCHES: PATCHES}.items():
        file = os.path.join(path, name)
        if os.path.isfile(file):
            listings[split] = list_tar_of_tars(file) if split == "train" else list_tar(file)
            archives.callback(listings[split].close)
    return listings


def _all_images(
    edition: Edition, devkit: Devkit, listings: Mapping[str, Listing]
) -> Iterator[NamedImage]:
    """Yield all images, patched ones instead of the originals."""
    patches = listings.get(PATCHES)
    patched = _patched_files(patches)
    for split, listing in listings.items():
        if split == PATCHES:
            continue
        if split == "train":
            images = _train_images(listing)
        else:
            images = _numbered_images(edition, split, listing, devkit.ground_truth[split])
        for image in images:
            patch = patched.get((split, os.path.basename(image.name)))
            if patches and patch:
                yield image._replace(listing=patches, file=patch)
            else:
                yield image


def _patched_files(patches: Listing | None) -> dict[tuple[str, str], FileEntry]:
    """Return the patched files by split and name; each is in a folder of its split."""
    files = patches.files if patches else []
    patched = {}
    for file in files:
        folder, name = os.path.split(file.name)
        patched[os.path.basename(folder), name] = file
    return patched


def _train_images(listing: Listing) -> Iterator[NamedImage]:
    """Yield the images of the train archive, whose inner tars are named by wnid."""
    for file in listing.files:
        yield NamedImage(f"train/{file.name}", listing, file)


def _numbered_images(
    edition: Edition, split: str, listing: Listing, wnids: list[str]
) -> Iterator[NamedImage]:
    """Yield the images of a flat archive; their names end in their line of the ground truth."""
    pattern = re.compile(rf"{edition.name}_{split}_([0-9]{{8}})\.JPEG")
    files: dict[int, FileEntry] = {}
    for file in listing.files:
        match = pattern.fullmatch(os.path.basename(file.name))
        if match:
            files[int(match[1])] = file
    if files.keys() != set(range(1, len(wnids) + 1)) or len(files) != len(listing.files):
        raise AlexNetError(
            f"{edition.archives[split]} holds {len(listing.files)} files with {len(files)} "
            f"numbers, expected 1 to {len(wnids)}, the lines of "
            f"{edition.ground_truth_file(split)}: download both again"
        )
    for number, file in files.items():
        name = f"{split}/{wnids[number - 1]}/{os.path.basename(file.name)}"
        yield NamedImage(name, listing, file)
