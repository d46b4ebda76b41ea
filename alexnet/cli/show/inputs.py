"""What the figures of a model are about: images of a dataset or from files, and classes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from alexnet.core.errors import AlexNetError, UsageError

if TYPE_CHECKING:
    from alexnet.data.image_batches import ImageBatch
    from alexnet.data.prepared import Split
    from alexnet.data.transforms import Preprocessor

RECORD = click.option(
    "--record",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Index of the dataset's first record to show.",
)


def open_split(preprocessor: "Preprocessor", paths: Sequence[str], split: str | None) -> "Split":
    """Return the split of the single dataset at `paths`, which must fit the model.

    Raises UsageError unless there is one dataset, AlexNetError where it does not fit.
    """
    from alexnet.data.image_batches import is_dataset
    from alexnet.data.prepared import open_dataset
    from alexnet.evaluation.evaluate import require_same_classes, scored_split

    if len(paths) != 1 or not is_dataset(paths[0]):
        raise UsageError(
            f"{', '.join(paths)}: expected a single dataset, made by `alexnet prepare`,"
            " because only there the true classes are known"
        )
    dataset = open_dataset(paths[0])
    require_same_classes(preprocessor, dataset)
    return scored_split(dataset, split)


def read_images(
    preprocessor: "Preprocessor",
    paths: Sequence[str],
    split: str | None,
    count: int,
    workers: int,
    record: int = 0,
) -> "tuple[ImageBatch, list[tuple[str, str]]]":
    """Return at most `count` readable images, and (name, reason) of the unreadable ones.

    They are records of a dataset's split, spread over it from `record` on, or the first of the
    files. Raises AlexNetError, with the first reason, where no image can be read.
    """
    from alexnet.data.image_batches import find_images, from_files, is_dataset

    if len(paths) == 1 and is_dataset(paths[0]):
        images = _records(open_split(preprocessor, paths, split), count, workers, record)
    else:
        _require_only_files(paths, split, record)
        images = next(from_files(preprocessor, find_images(paths)[:count], workers))
    if not images.readable:
        name, reason = images.unreadable[0]
        raise AlexNetError(f"{name}: {reason}")
    return images.readable_only, images.unreadable


def _records(split: "Split", count: int, workers: int, record: int) -> "ImageBatch":
    """Return `count` records spread over a split, the first at index `record`."""
    from alexnet.analysis.plots.sampling import evenly_spaced
    from alexnet.data.image_batches import from_split

    size = len(split)
    if record >= size:
        raise UsageError(f"--record {record}: {split.name} has {size:,} images, numbered from 0")
    indices = [(record + step) % size for step in evenly_spaced(count, size)]
    return next(from_split(split, indices, workers))


def _require_only_files(paths: Sequence[str], split: str | None, record: int) -> None:
    """Raise UsageError for datasets among several paths, or options that only a dataset has."""
    from alexnet.data.image_batches import is_dataset

    datasets = [path for path in paths if is_dataset(path)]
    if datasets:
        raise UsageError(
            f"{datasets[0]}: a dataset among other paths; expected a single dataset or only images"
        )
    if split is not None or record:
        raise UsageError(
            "--split, --record: only a dataset has splits and records; expected a single dataset"
        )


def class_index(preprocessor: "Preprocessor", name: str) -> int:
    """Return the index of a class; UsageError names the nearest."""
    from difflib import get_close_matches

    classes = preprocessor.classes
    if name not in classes:
        nearest = get_close_matches(name, classes, n=3) or classes[:3]
        raise UsageError(
            f"--class {name}: the model has no such class; nearest: {', '.join(nearest)}"
        )
    return classes.index(name)
