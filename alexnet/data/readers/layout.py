"""What the folders of a listing mean: classes, and train/, val/ and test/ above them.

One folder that holds everything else is skipped. Every file that is left out is listed with the
reason, and what cannot be understood is an error that states the expected layout.
"""

from collections.abc import Iterable
from functools import partial

from alexnet.core.errors import AlexNetError
from alexnet.data.readers.listing import FileEntry, Listing
from alexnet.data.readers.names import hidden_reason, name_bytes, skip_reason
from alexnet.data.readers.source import SPLITS, ImageSource, Sample, describe_source

MAX_FILE_SIZE = 64 << 20  # bytes; a larger file is no image
EXPECTED_LAYOUT = (
    "expected a folder for each class with its images, or train, val and test over such folders"
)


def source_from_listing(name: str, listing: Listing) -> ImageSource:
    """Return a source with the classes and splits that the folder names of a listing say.

    Raises AlexNetError if they say none.
    """
    images, ignored = _separate_images(listing)
    folders = _all_folders(listing, images)
    top = _single_top_folder(folders, images)
    files = {file.name.removeprefix(top): file for file in images}
    folders = {folder.removeprefix(top) for folder in folders} - {top.strip("/")}
    depth = _class_depth(folders, files)
    in_classes = {path: file for path, file in files.items() if path.count("/") > depth}
    ignored += [(path, "not in a class folder") for path in files.keys() - in_classes.keys()]
    samples = tuple(_sample(path, depth) for path in sorted(in_classes, key=name_bytes))
    classes = {folder.split("/")[depth] for folder in folders if folder.count("/") >= depth}
    _check_classes(classes, samples)
    sizes = [(sample.name, in_classes[sample.name].size) for sample in samples]
    return ImageSource(
        samples=samples,
        classes=tuple(sorted(classes, key=name_bytes)),
        ignored=tuple(sorted(ignored, key=_ignored_order)),
        warnings=_empty_class_warnings(classes, samples),
        provenance=describe_source(listing.kind, name, sizes),
        fetch=partial(_fetch, listing, in_classes),
        close=listing.close,
    )


def _separate_images(listing: Listing) -> tuple[list[FileEntry], list[tuple[str, str]]]:
    """Return the image files, and all other files with the reason why they are ignored."""
    images: dict[str, FileEntry] = {}
    ignored = list(listing.ignored)
    for file in listing.files:
        reason = skip_reason(file.name)
        if reason:
            ignored.append((file.name, reason))
            continue
        first = images.setdefault(file.name, file)
        if first is not file:
            raise AlexNetError(
                f"{file.name}: in it twice, at byte {first.offset} and at byte {file.offset}, "
                "expected once: create the archive again"
            )
    return list(images.values()), ignored


def _all_folders(listing: Listing, files: list[FileEntry]) -> set[str]:
    listed = {folder.strip("/") for folder in listing.folders if not hidden_reason(folder)}
    return listed | {file.name.rsplit("/", 1)[0] for file in files if "/" in file.name}


def _single_top_folder(folders: set[str], files: list[FileEntry]) -> str:
    """Return the one folder, with its slash, that holds everything; "" if there is none."""
    tops = {folder.split("/")[0] for folder in folders}
    has_subfolders = any("/" in folder for folder in folders)
    has_own_files = any(file.name.count("/") < 2 for file in files)
    if len(tops) != 1 or tops <= set(SPLITS) or not has_subfolders or has_own_files:
        return ""
    return tops.pop() + "/"


def _class_depth(folders: set[str], files: Iterable[str]) -> int:
    """Return how many folders are above the class folders: 0, or 1 if there are splits."""
    tops = {folder.split("/")[0] for folder in folders}
    if tops and tops <= set(SPLITS):
        if "train" not in tops:
            raise AlexNetError(
                f"found {', '.join(sorted(tops))} without train, "
                "expected train/CLASS/IMAGE next to them"
            )
        return 1
    train_has_files = any(path.startswith("train/") and path.count("/") == 1 for path in files)
    train_has_folders = any(folder.startswith("train/") for folder in folders)
    if train_has_folders and not train_has_files:
        others = ", ".join(sorted(tops - set(SPLITS), key=name_bytes)[:3])
        raise AlexNetError(
            f"found {others} beside train, expected only train, val and test: rename or move it"
        )
    return 0


def _sample(path: str, depth: int) -> Sample:
    parts = path.split("/")
    return Sample(path, parts[depth], parts[0] if depth else None)


def _check_classes(classes: set[str], samples: tuple[Sample, ...]) -> None:
    if not classes:
        raise AlexNetError(f"found no class folders, {EXPECTED_LAYOUT}")
    if not samples:
        raise AlexNetError(
            f"found {len(classes)} class folders but no images in them, {EXPECTED_LAYOUT}"
        )
    if len(classes) == 1:
        raise AlexNetError(f"found 1 class ({classes.pop()}), needs at least 2: {EXPECTED_LAYOUT}")


def _empty_class_warnings(classes: set[str], samples: tuple[Sample, ...]) -> tuple[str, ...]:
    empty = classes - {sample.label for sample in samples}
    return tuple(f"class {label} has no images" for label in sorted(empty, key=name_bytes))


def _ignored_order(pair: tuple[str, str]) -> bytes:
    return name_bytes(pair[0])


def _fetch(listing: Listing, files: dict[str, FileEntry], name: str) -> bytes:
    file = files[name]
    if file.size > MAX_FILE_SIZE:
        raise AlexNetError(f"it is {file.size} bytes, expected at most {MAX_FILE_SIZE}")
    return listing.fetch(file)
