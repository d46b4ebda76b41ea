"""Prepare a dataset, or a part of one, from images: resumable, and always the same bytes.

Each shard is a unit of work: written in DATASET.unfinished, flushed to the disk, renamed. A run
that was killed goes on after the shards that are there, if the plan is still the same. To share
the work, each machine makes a part, every n-th shard, for `merge` to put together. Threads
suffice, for Pillow decodes without holding the interpreter's lock. Duplicates are not searched
for, and a file that changes between two runs without changing its size is not noticed.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, features

from alexnet.core.atomic_io import atomic_write
from alexnet.core.console import ProgressFn
from alexnet.core.cpu import available_cores
from alexnet.core.errors import AlexNetError, require
from alexnet.core.rng import key
from alexnet.data import dataset_writer
from alexnet.data.build_dir import (
    build_directory,
    finish_dataset,
    load_shard_info,
    require_absent,
    save_shard_info,
)
from alexnet.data.build_plan import Part, Plan, PrepareSummary, summarize
from alexnet.data.dataset_format import FORMAT, file_hash, shard_file
from alexnet.data.dataset_writer import ShardInfo, ShardItem
from alexnet.data.images import DecodeConfig, make_record
from alexnet.data.prefetch import prefetch
from alexnet.data.readers import (
    ImageSource,
    Sample,
    SplitFractions,
    assign_splits,
    open_source,
)
from alexnet.data.readers.source import SPLITS, hash_names
from alexnet.data.statistics import PixelSums

IMAGES_PER_SHARD = 4096  # of the source, unreadable ones included
IMAGES_PER_JOB = 32  # enough to make a thread's job worth starting
MAX_NAMES_IN_ERROR = 5  # unreadable images
MAX_RAW_SIZE = 64  # pixels
DEFAULT_FRACTIONS = SplitFractions()
DECODER_LIBRARIES = ("libjpeg_turbo", "jpg", "webp", "libtiff", "zlib")


class ShardTask(NamedTuple):
    """The images of one shard."""

    split: str
    number: int  # of the shard in its split
    images: range  # their indices in the split's order


class Build(NamedTuple):
    """A plan with the images that it is about."""

    plan: Plan
    source: ImageSource
    splits: dict[str, tuple[Sample, ...]]  # in the order in which they are stored
    labels: dict[str, int]  # class name -> index
    tasks: list[ShardTask]  # of the whole dataset, or of the part that is made


class JobResult(NamedTuple):
    """A job's images, ready to be written."""

    items: list[ShardItem]
    bad: list[tuple[str, str]]
    sums: PixelSums


def choose_encoding(size: int) -> str:
    """Return the record encoding that suits an image size.

    "raw" for small images, in which JPEG's blocks would show and save little.
    """
    return "raw" if size <= MAX_RAW_SIZE else "jpeg"


def prepare(
    source: ImageSource | str | Path,
    dataset_dir: str | Path,
    decode_config: DecodeConfig | None = None,
    fractions: SplitFractions = DEFAULT_FRACTIONS,
    *,
    on_error: str = "skip",
    workers: int | None = None,
    progress: ProgressFn | None = None,
    part: Part | None = None,
) -> PrepareSummary:
    """Prepare a dataset, or a part of one, at `dataset_dir`, which must not exist.

    `source`: what `open_source` opens, or an opened source, which stays open.
    `decode_config`: None stores 256 x 256 RGB JPEGs, with the camera's rotation applied except for
    ImageNet, as in 2012. `fractions`: of train, for splits that the source does not have.
    `on_error`: "skip" lists images that cannot be decoded in the dataset, "fail" raises
    AlexNetError after the shard they are in. `workers`: threads, None for all cores. `progress` is
    called with (done, all) images. `part`: make only these shards, for `merge`.

    Raises UsageError for a wrong argument, AlexNetError if the dataset cannot be made; the shards
    finished until then are in DATASET.unfinished and are used by the next run with the same
    arguments.
    """
    started = time.monotonic()
    dataset_dir = Path(dataset_dir)
    workers = available_cores() if workers is None else workers
    require(on_error in ("skip", "fail"), f"on_error is {on_error}, expected skip or fail")
    require(workers >= 1, f"workers is {workers}, expected 1 or more")
    if part:
        require(
            part.is_valid(), f"part is {part}, expected 1/{part.total} to {part.total}/{part.total}"
        )
    require_absent(dataset_dir)
    context = nullcontext(source) if isinstance(source, ImageSource) else open_source(source)
    with context as opened:
        if decode_config is None:
            decode_config = DecodeConfig(exif=opened.exif)
        build = _plan_build(opened, decode_config, fractions, part)
        summary = _run_build(build, dataset_dir, on_error, workers, progress)
    return replace(summary, seconds=time.monotonic() - started)


def _run_build(
    build: Build, dataset_dir: Path, on_error: str, workers: int, progress: ProgressFn | None
) -> PrepareSummary:
    with build_directory(dataset_dir, build.plan) as partial_dir:
        shards = _make_shards(build, partial_dir, on_error, workers, progress)
        if build.plan.part:
            return summarize(build.plan, shards, build.plan.warnings)
        return finish_dataset(build.plan, partial_dir, shards)


# ---- planning


def _plan_build(
    source: ImageSource, decode_config: DecodeConfig, fractions: SplitFractions, part: Part | None
) -> Build:
    samples = assign_splits(source.samples, fractions)
    splits = _shuffled_splits(samples)
    labels = {label: index for index, label in enumerate(source.classes)}
    tasks = list(_shard_tasks(splits))
    libraries = (features.version(name) for name in DECODER_LIBRARIES)
    plan = Plan(
        dataset_format=FORMAT,
        classes=source.classes,
        decode_config=decode_config,
        source=source.provenance,
        fractions=asdict(fractions),
        decoder=(Image.__version__, *libraries),
        shards=dict(Counter(task.split for task in tasks)),
        present_labels=tuple(sorted({labels[sample.label] for sample in samples})),
        warnings=source.warnings,
        ignored=dict(sorted(Counter(reason for _, reason in source.ignored).items())),
        part=part,
    )
    if part:
        tasks = [task for index, task in enumerate(tasks) if part.includes(index)]
    return Build(plan, source, splits, labels, tasks)


def _shuffled_splits(samples: tuple[Sample, ...]) -> dict[str, tuple[Sample, ...]]:
    """Return the samples of each split in the order in which they are stored.

    It is a fixed shuffle, so that neighbors in a shard are of many classes: samples come sorted by
    name and are sorted by a hash of the name, with a stable sort.
    """
    hashes = key("order", hash_names(sample.name for sample in samples))
    shuffled = [samples[index] for index in np.argsort(hashes, kind="stable").tolist()]
    splits = {
        split: tuple(sample for sample in shuffled if sample.split == split) for split in SPLITS
    }
    if not splits["train"]:
        raise AlexNetError(
            f"none of {len(samples)} images are left to train on: "
            "lower the fractions held out or add images"
        )
    return {split: members for split, members in splits.items() if members}


def _shard_tasks(splits: dict[str, tuple[Sample, ...]]) -> Iterator[ShardTask]:
    """Divide the splits into shards; the limits depend on nothing but the order of the images."""
    for split, samples in splits.items():
        for number, first in enumerate(range(0, len(samples), IMAGES_PER_SHARD)):
            yield ShardTask(
                split, number, range(first, min(first + IMAGES_PER_SHARD, len(samples)))
            )


# ---- shards


def _make_shards(
    build: Build, partial_dir: Path, on_error: str, workers: int, progress: ProgressFn | None
) -> dict[str, list[ShardInfo]]:
    """Return every split's shards: those that an earlier run finished, and new ones."""
    advance = _make_counter(progress, sum(len(task.images) for task in build.tasks))
    shards: dict[str, list[ShardInfo]] = {split: [] for split in build.splits}
    for task in build.tasks:
        file = partial_dir / shard_file(task.split, task.number)
        info = load_shard_info(file)
        if info:
            advance(len(task.images))
        else:
            info = _make_shard(build, task, file, workers, advance)
        if info.bad and on_error == "fail":
            raise AlexNetError(_bad_images_message(info.bad))
        shards[task.split].append(info)
    return shards


def _make_shard(
    build: Build, task: ShardTask, file: Path, workers: int, advance: Callable[[int], None]
) -> ShardInfo:
    starts = range(0, len(task.images), IMAGES_PER_JOB)
    jobs = (
        partial(_decode_job, build, task.split, task.images[start : start + IMAGES_PER_JOB])
        for start in starts
    )
    with closing(prefetch(jobs, workers)) as results:
        return _write_shard(file, task.number, build.plan.decode_config, results, advance)


def _decode_job(build: Build, split: str, indices: range) -> JobResult:
    """Make the records of some of a split's images."""
    items: list[ShardItem] = []
    bad: list[tuple[str, str]] = []
    decode_config = build.plan.decode_config
    for index in indices:
        sample = build.splits[split][index]
        try:
            record = make_record(build.source.read(sample), decode_config)
            items.append(ShardItem(index, sample.name, build.labels[sample.label], record))
        except AlexNetError as error:
            bad.append((sample.name, str(error)))
    counted = items if split == "train" else []
    sums = PixelSums.from_records((item.record for item in counted), decode_config)
    return JobResult(items, bad, sums)


def _write_shard(
    file: Path,
    number: int,
    decode_config: DecodeConfig,
    results: Iterator[JobResult],
    advance: Callable[[int], None],
) -> ShardInfo:
    """Write a shard and the information about it."""
    bad: list[tuple[str, str]] = []
    sums = PixelSums.zeros(decode_config)

    def items() -> Iterator[ShardItem]:
        nonlocal sums
        for result in results:
            yield from result.items
            bad.extend(result.bad)
            sums += result.sums
            advance(len(result.items) + len(result.bad))

    with atomic_write(file) as temporary:
        rows, names = dataset_writer.write_shard(temporary, number, items(), decode_config)
    size = file.stat().st_size
    info = ShardInfo(file.name, size, file_hash(file), rows, names, tuple(bad), sums)
    save_shard_info(file, info)
    return info


def _bad_images_message(bad: tuple[tuple[str, str], ...]) -> str:
    listed = "; ".join(f"{name}: {reason}" for name, reason in bad[:MAX_NAMES_IN_ERROR])
    rest = len(bad) - MAX_NAMES_IN_ERROR
    more = f"; and {rest} more" if rest > 0 else ""
    return (
        f"{len(bad)} bad image{'' if len(bad) == 1 else 's'} so far ({listed}{more}): "
        "repair or remove them, or skip bad images (on_error)"
    )


def _make_counter(progress: ProgressFn | None, total: int) -> Callable[[int], None]:
    """Return a function that is called with a number of images done, and reports the sum."""
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if progress:
            progress(done, total)

    return advance
