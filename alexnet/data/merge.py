"""Merge the parts of a dataset, made here or on other machines, into the dataset.

The result has the same bytes as one run on one machine. A part is the directory that `prepare`
leaves when it makes only every n-th shard: those shards with their information, and the plan. So
no image is read again, and the source is not needed. Shards are hard links to the part's files if
the file system allows it, copies otherwise; the parts stay as they are, and every shard's hash is
checked. A merge that was killed goes on where it stopped.
"""

import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from alexnet.core.atomic_io import atomic_write
from alexnet.core.console import ProgressFn
from alexnet.core.errors import AlexNetError
from alexnet.data.build_dir import (
    PLAN_FILE,
    build_directory,
    finish_dataset,
    info_file,
    load_shard_info,
)
from alexnet.data.build_plan import PLAN_FORMAT, Part, Plan, PrepareSummary
from alexnet.data.dataset_writer import ShardInfo


def merge(
    parts: Sequence[Path], dataset_dir: Path, progress: ProgressFn | None = None
) -> PrepareSummary:
    """Make a dataset at `dataset_dir`, which must not exist, from all its parts in any order.

    `progress` is called with (done, all) shards. Raises AlexNetError if parts are missing, given
    twice, damaged, or not of the same plan.
    """
    started = time.monotonic()
    plan, ordered = _check_parts(parts)
    with build_directory(dataset_dir, plan) as partial_dir:
        shards: dict[str, list[ShardInfo]] = {split: [] for split in plan.shards}
        total = sum(plan.shards.values())
        for index, (split, name) in enumerate(plan.shard_files()):
            part = ordered[index % len(ordered)]
            shards[split].append(_copy_shard(part, name, partial_dir))
            if progress:
                progress(index + 1, total)
        summary = finish_dataset(plan, partial_dir, shards)
    return replace(summary, seconds=time.monotonic() - started)


def _check_parts(parts: Sequence[Path]) -> tuple[Plan, list[Path]]:
    """Return the plan of the whole dataset, and its parts in order; AlexNetError."""
    if not parts:
        raise AlexNetError(
            "found no parts to merge, expected all parts of one dataset, "
            "each made by `alexnet prepare --part`"
        )
    plan, first = _read_part(parts[0])
    paths: dict[int, Path] = {}
    for path in parts:
        other_plan, part = _read_part(path)
        differences = _differences(plan, other_plan)
        if part.total != first.total:
            differences.append("number of parts")
        if differences:
            raise AlexNetError(
                f"{path}: differs from {parts[0]} in {', '.join(differences)}, expected the same "
                "source, options and versions in all: prepare it again"
            )
        if part.number in paths:
            raise AlexNetError(
                f"{path}: is part {part}, and so is {paths[part.number]}; expected each part once"
            )
        paths[part.number] = path
    numbers = range(1, first.total + 1)
    missing = [str(Part(number, first.total)) for number in numbers if number not in paths]
    if missing:
        raise AlexNetError(
            f"found {len(paths)} of {first.total} parts, missing {', '.join(missing)}, "
            "expected all: prepare or add them"
        )
    return plan, [paths[number] for number in numbers]


def _differences(plan: Plan, other: Plan) -> list[str]:
    names = [field.name for field in fields(Plan)]
    return [name for name in names if getattr(plan, name) != getattr(other, name)]


def _read_part(path: Path) -> tuple[Plan, Part]:
    """Return the plan of the whole dataset that a part is of, and which part it is."""
    try:
        value = json.loads((path / PLAN_FILE).read_bytes())
        if value["format"] != PLAN_FORMAT:
            raise AlexNetError(f"its format is {value['format']}, expected {PLAN_FORMAT}")
        plan = Plan.from_json(value)
    except OSError as error:
        raise AlexNetError(
            f"{path}: {PLAN_FILE} cannot be read ({error.strerror}), expected a finished part, "
            "made by `alexnet prepare SOURCE PART --part I/N`"
        ) from error
    except (ValueError, KeyError, TypeError, AlexNetError) as error:
        raise AlexNetError(
            f"{path}: {PLAN_FILE} is not the plan of a part ({error}): prepare the part again"
        ) from error
    if plan.part is None:
        raise AlexNetError(
            f"{path}: is not a part but an unfinished dataset, expected one made with --part I/N"
        )
    return replace(plan, part=None), plan.part


def _copy_shard(part: Path, name: str, partial_dir: Path) -> ShardInfo:
    """Bring one shard from its part; AlexNetError if it is missing or damaged there."""
    info = load_shard_info(partial_dir / name)
    shard = part / name
    if info is None and shard.exists() and info_file(shard).exists():
        for file in (shard, info_file(shard)):
            _link_or_copy(file, partial_dir / file.name)
        info = load_shard_info(partial_dir / name)
    if info is None:
        raise AlexNetError(
            f"{shard}: missing or damaged, expected it as the part's run left it: "
            "prepare this part again"
        )
    return info


def _link_or_copy(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        with atomic_write(target) as temporary:
            shutil.copyfile(source, temporary)
