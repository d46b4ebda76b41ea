"""DATASET.unfinished: the directory in which a dataset is built, so that a kill loses little.

It holds the plan as JSON, the finished shards, and a file of information with each shard; a part
of a dataset, made on another machine, holds just the same. The process that works there holds a
lock. A finished shard is used again only if its hash is still right. At the very end the
directory is renamed. How the shards are made is not known here: `build` decodes images, `merge`
takes them from parts.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from alexnet.core.atomic_io import atomic_write, fsync_path
from alexnet.core.errors import AlexNetError
from alexnet.core.work_lock import work_lock
from alexnet.data import dataset_writer
from alexnet.data.build_plan import Plan, PrepareSummary, summarize
from alexnet.data.dataset_format import file_hash
from alexnet.data.dataset_writer import ShardInfo
from alexnet.data.statistics import PixelSums

PLAN_FILE = "plan.json"
INFO_SUFFIX = ".part"


def require_absent(path: Path) -> None:
    """Raise AlexNetError if a dataset would overwrite something."""
    if path.exists():
        raise AlexNetError(
            f"{path}: already exists, expected a new name: remove it or choose another"
        )


@contextmanager
def build_directory(path: Path, plan: Plan) -> Iterator[Path]:
    """Yield the directory in which to build a dataset, or a part; rename it to `path` at the end.

    If the block raises, the directory is kept for the next run. Raises AlexNetError if `path`
    exists, another process is building it, or it cannot be written.
    """
    require_absent(path)
    partial_dir = path.with_name(f"{path.name}.unfinished")
    busy = (
        f"{partial_dir}: another run is preparing this dataset: wait for it or choose another name"
    )
    try:
        with work_lock(partial_dir, busy):
            require_absent(path)
            _clear_unless_same_plan(partial_dir, plan)
            yield partial_dir
            partial_dir.rename(path)
            fsync_path(path.parent)
    except OSError as error:
        raise AlexNetError(
            f"{path}: cannot be written ({error.strerror or error}): free space and run again, "
            "which goes on where it stopped, or choose another directory"
        ) from error


def _clear_unless_same_plan(partial_dir: Path, plan: Plan) -> None:
    """Create the directory with the plan; keep its shards only if they are of the same plan."""
    partial_dir.mkdir(parents=True, exist_ok=True)
    file = partial_dir / PLAN_FILE
    text = (json.dumps(plan.to_json(), indent=1) + "\n").encode("ascii")
    if file.exists() and file.read_bytes() == text:
        return
    for old in partial_dir.iterdir():
        old.unlink()
    with atomic_write(file) as temporary:
        temporary.write_bytes(text)


# ---- shards


def info_file(shard: Path) -> Path:
    """Return the path of the file with the information about a shard."""
    return shard.with_suffix(INFO_SUFFIX)


def save_shard_info(shard: Path, info: ShardInfo) -> None:
    """Write the information about a finished shard, which is needed until the dataset is done."""
    values = {
        "bytes": info.bytes,
        "sha256": info.sha256,
        "names": info.names,
        "bad": info.bad,
        "images": info.sums.images,
    }
    with atomic_write(info_file(shard)) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            values=np.array(json.dumps(values)),
            rows=info.rows,
            pixels=info.sums.pixels,
            products=info.sums.products,
        )


def load_shard_info(shard: Path) -> ShardInfo | None:
    """Return the information about a finished shard; None if it is missing or damaged."""
    if not shard.exists() or not info_file(shard).exists():
        return None
    try:
        with np.load(info_file(shard), allow_pickle=False) as arrays:
            values = json.loads(str(arrays["values"]))
            sums = PixelSums(values["images"], arrays["pixels"], arrays["products"])
            rows = arrays["rows"]
    except (ValueError, KeyError, EOFError, BadZipFile):  # damaged: the shard is made again
        return None
    if file_hash(shard) != values["sha256"]:
        return None
    return ShardInfo(
        name=shard.name,
        bytes=values["bytes"],
        sha256=values["sha256"],
        rows=rows,
        names=tuple(values["names"]),
        bad=tuple((name, reason) for name, reason in values["bad"]),
        sums=sums,
    )


# ---- the end


def finish_dataset(
    plan: Plan, partial_dir: Path, shards: dict[str, list[ShardInfo]]
) -> PrepareSummary:
    """Write indexes, statistics and description; remove what only the preparation needed."""
    splits = {
        split: dataset_writer.write_split(partial_dir, split, infos)
        for split, infos in shards.items()
    }
    train = sum((info.sums for info in shards["train"]), PixelSums.zeros(plan.decode_config))
    if not train.images:
        raise AlexNetError(
            "no train image could be read, so there is no mean image: repair the images"
        )
    warnings = (*plan.warnings, *_untrained_warnings(plan, shards["train"]))
    description = {
        "classes": plan.classes,
        "decode_config": plan.decode_config.to_json(),
        "source": plan.source,
        "splits": splits,
        **dataset_writer.write_statistics(partial_dir, train),
        "bad": [pair for infos in shards.values() for info in infos for pair in info.bad],
        "warnings": warnings,
        "ignored": plan.ignored,
    }
    dataset_writer.write_description(partial_dir, description)
    _make_durable(partial_dir)
    return summarize(plan, shards, warnings)


def _make_durable(partial_dir: Path) -> None:
    """Flush all files to the disk, and only then remove the plan and the shards' information."""
    for file in partial_dir.iterdir():
        fsync_path(file)
    for file in [*partial_dir.glob(f"*{INFO_SUFFIX}"), partial_dir / PLAN_FILE]:
        file.unlink()
    fsync_path(partial_dir)


def _untrained_warnings(plan: Plan, train: list[ShardInfo]) -> list[str]:
    """Return a warning for each class that has images, but none of them in train."""
    trained = set(np.concatenate([info.rows["label"] for info in train]).tolist())
    return [
        f"class {plan.classes[label]} has no train images"
        for label in plan.present_labels
        if label not in trained
    ]
