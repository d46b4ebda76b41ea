"""A source of pictures -> a store, with several threads, surviving a kill, and always the same bytes.

Each shard is a unit of work: written aside in STORE.unfinished, made safe on the disc, then renamed. A run that was killed goes
on behind the shards it finds there, if source, policy, fractions and decoder are still the same; at the very end one rename
gives the store its name. Threads suffice, for Pillow decodes without holding the interpreter's lock. What it does not know:
whether two pictures show the same thing, or a file changed between two runs without changing its size.
"""

import fcntl
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
from PIL import Image, features

from alexnet.data import images, store
from alexnet.data.ahead import prefetched
from alexnet.data.images import Policy
from alexnet.data.sources import SPLITS, Fractions, Picture, Source, assign_splits, name_words
from alexnet.data.store import PER_SHARD, Item, Shard, Sums
from alexnet.durable import sync, whole
from alexnet.errors import AlexNetError, UsageError
from alexnet.randomness import key

PER_JOB = 32  # pictures: enough to make a thread's errand worth its while
PLAN = "plan"
NAMED = 5  # bad pictures in an error's text


@dataclass(frozen=True)
class Summary:
    """What a preparation did."""

    pictures: int
    classes: int
    bad: int
    seconds: float
    splits: dict[str, int]  # pictures in each
    warnings: tuple[str, ...]


class Plan(NamedTuple):
    """All that the store's bytes depend on, and its hash."""

    source: Source
    policy: Policy
    orders: dict[str, tuple[Picture, ...]]  # the splits' pictures in their stored order
    labels: dict[str, int]
    digest: str


class Done(NamedTuple):
    """One job's pictures, ready to be written."""

    items: list[Item]
    bad: list[tuple[str, str]]
    sums: Sums


def choose_encoding(size: int) -> str:
    """The record encoding that serves pictures of a size best: raw where JPEG's blocks would show and save little."""
    return "raw" if size <= 64 else "jpeg"


def prepare(
    source: Source,
    path: str | Path,
    policy: Policy,
    fractions: Fractions,
    *,
    on_bad: str,
    workers: int,
    progress: Callable[[int, int], None],
) -> Summary:
    """Make a store at `path`, which must not exist; `progress` is told (done, all) pictures.

    Pictures that cannot be read end the run with the shard they are in (on_bad="fail") or are listed in the store ("skip").
    AlexNetError says what went wrong; the shards finished until then are kept in STORE.unfinished and used by the next run.
    """
    started = time.monotonic()
    path = Path(path)
    if on_bad not in ("fail", "skip"):
        raise UsageError(f"on_bad is {on_bad!r}, expected fail or skip")
    if workers < 1:
        raise UsageError(f"workers is {workers}, expected 1 or more")
    must_be_free(path)
    plan = _plan(source, policy, fractions)
    try:
        with _unfinished(path, plan.digest) as aside:
            shards = _shards(plan, aside, on_bad, workers, progress)
            summary = _finish(plan, aside, shards)
            aside.rename(path)
            sync(path.parent)
    except OSError as reason:
        what = f"{path}: cannot be written ({reason.strerror or reason})"
        raise AlexNetError(
            f"{what}: make room and run again, which goes on where it stopped, or choose another place"
        ) from reason
    return replace(summary, seconds=time.monotonic() - started)


def must_be_free(path: Path) -> None:
    """AlexNetError where a store would overwrite something."""
    if path.exists():
        raise AlexNetError(f"{path}: already exists, expected a new name: remove it or choose another")


def _plan(source: Source, policy: Policy, fractions: Fractions) -> Plan:
    pictures = assign_splits(source.pictures, fractions)
    # a fixed shuffle, so that neighbours in a shard are of many classes; the sort is stable and names come sorted
    order = np.argsort(key("order", name_words(picture.name for picture in pictures)), kind="stable").tolist()
    orders = {split: tuple(pictures[i] for i in order if pictures[i].split == split) for split in SPLITS}
    if not orders["train"]:
        raise AlexNetError(f"no pictures left to train on of {len(pictures)}: lower the fractions held out or add pictures")
    decoder = [Image.__version__, *(features.version(name) for name in ("libjpeg_turbo", "jpg", "webp", "libtiff", "zlib"))]
    what = [store.FORMAT, source.provenance, source.classes, policy.to_json(), asdict(fractions), decoder]
    digest = hashlib.sha256(json.dumps(what).encode()).hexdigest()
    labels = {label: number for number, label in enumerate(source.classes)}
    return Plan(source, policy, {split: order for split, order in orders.items() if order}, labels, digest)


# ---- shards


def _shards(plan: Plan, aside: Path, on_bad: str, workers: int, progress: Callable[[int, int], None]) -> dict[str, list[Shard]]:
    """Every split's shards: those an earlier run finished, and new ones."""
    advance = _advance(progress, sum(map(len, plan.orders.values())))
    shards: dict[str, list[Shard]] = {}
    for split, order in plan.orders.items():
        shards[split] = []
        for number, first in enumerate(range(0, len(order), PER_SHARD)):
            numbers = range(first, min(first + PER_SHARD, len(order)))
            shard = _kept(aside / store.shard_file(split, number))
            if shard:
                advance(len(numbers))
            else:
                jobs = (partial(_job, plan, split, numbers[at : at + PER_JOB]) for at in range(0, len(numbers), PER_JOB))
                with closing(prefetched(jobs, workers)) as done:
                    shard = _write(aside / store.shard_file(split, number), number, plan.policy, done, advance)
            if shard.bad and on_bad == "fail":
                raise AlexNetError(_bad_text(shard.bad))
            shards[split].append(shard)
    return shards


def _job(plan: Plan, split: str, numbers: range) -> Done:
    """Turn some of a split's pictures into records."""
    items, bad = [], []
    for number in numbers:
        picture = plan.orders[split][number]
        try:
            record = images.record(plan.source.read(picture), plan.policy)
            items.append(Item(number, picture.name, plan.labels[picture.label], record))
        except AlexNetError as reason:
            bad.append((picture.name, str(reason)))
    records = (item.record for item in items if split == "train")
    return Done(items, bad, Sums.of(records, plan.policy))


def _write(file: Path, number: int, policy: Policy, results: Iterator[Done], advance: Callable[[int], None]) -> Shard:
    """Write a shard and, beside it until the store is whole, what is known of it."""
    bad: list[tuple[str, str]] = []
    sums = Sums.nothing(policy)

    def items() -> Iterator[Item]:
        nonlocal sums
        for done in results:
            yield from done.items
            bad.extend(done.bad)
            sums += done.sums
            advance(len(done.items) + len(done.bad))

    with whole(file) as writing:
        rows, names = store.write_shard(writing, number, items(), policy)
    shard = Shard(file.name, file.stat().st_size, store.file_hash(file), rows, names, tuple(bad), sums)
    with whole(_part(file)) as writing:
        _save(writing, shard)
    return shard


def _save(file: Path, shard: Shard) -> None:
    told = {"bytes": shard.bytes, "sha256": shard.sha256, "names": shard.names, "bad": shard.bad, "pictures": shard.sums.pictures}
    with file.open("wb") as opened:
        np.savez(opened, told=np.array(json.dumps(told)), rows=shard.rows, levels=shard.sums.levels, products=shard.sums.products)


def _kept(file: Path) -> Shard | None:
    """A shard that an earlier run finished, if it is there and as it was."""
    if not (file.exists() and _part(file).exists()):
        return None
    try:
        with np.load(_part(file), allow_pickle=False) as part:
            told = json.loads(str(part["told"]))
            sums = Sums(told["pictures"], part["levels"], part["products"])
            rows = part["rows"]
    except (ValueError, KeyError, EOFError, BadZipFile):  # damaged since; the shard is made again
        return None
    if store.file_hash(file) != told["sha256"]:
        return None
    bad = tuple((name, reason) for name, reason in told["bad"])
    return Shard(file.name, told["bytes"], told["sha256"], rows, tuple(told["names"]), bad, sums)


def _part(file: Path) -> Path:
    return file.with_suffix(".part")


def _bad_text(bad: tuple[tuple[str, str], ...]) -> str:
    listed = "; ".join(f"{name}: {reason}" for name, reason in bad[:NAMED])
    more = f"; and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    return f"{len(bad)} bad pictures so far ({listed}{more}): mend or remove them, or choose to skip bad pictures"


# ---- the whole


def _finish(plan: Plan, aside: Path, shards: dict[str, list[Shard]]) -> Summary:
    """Write what belongs to all shards, and take away what only the work needed."""
    entries = {split: store.write_split(aside, split, parts) for split, parts in shards.items()}
    train = sum((shard.sums for shard in shards["train"]), Sums.nothing(plan.policy))
    if not train.pictures:
        raise AlexNetError("no train picture could be read, so there is no mean image: mend the pictures")
    bad = [pair for parts in shards.values() for shard in parts for pair in shard.bad]
    warnings = [*plan.source.warnings, *_untrained(plan, shards["train"])]
    store.write_description(
        aside,
        {
            "classes": plan.source.classes,
            "policy": plan.policy.to_json(),
            "source": plan.source.provenance,
            "splits": entries,
            **store.write_statistics(aside, train),
            "bad": bad,
            "warnings": warnings,
            "ignored": dict(sorted(Counter(reason for _, reason in plan.source.ignored).items())),
        },
    )
    for file in [*aside.glob("*.part"), aside / PLAN]:
        file.unlink()
    for file in aside.iterdir():
        sync(file)
    sync(aside)
    counts = {split: entry["pictures"] for split, entry in entries.items()}
    return Summary(sum(counts.values()), len(plan.source.classes), len(bad), 0.0, counts, tuple(warnings))


def _untrained(plan: Plan, train: list[Shard]) -> list[str]:
    """A warning for each class that has pictures, but none of them in train."""
    present = {plan.labels[picture.label] for picture in plan.source.pictures}
    trained = set(np.concatenate([shard.rows["label"] for shard in train]).tolist())
    return [f"class {plan.source.classes[label]} has no train pictures" for label in sorted(present - trained)]


@contextmanager
def _unfinished(path: Path, digest: str) -> Iterator[Path]:
    """STORE.unfinished, held by this run alone; emptied unless the same plan began it."""
    aside = path.with_name(path.name + ".unfinished")
    aside.mkdir(parents=True, exist_ok=True)
    handle = os.open(aside, os.O_RDONLY)
    try:
        _lock(handle, aside)
        if not (aside / PLAN).exists() or (aside / PLAN).read_text() != digest:
            for file in aside.iterdir():
                file.unlink()
            with whole(aside / PLAN) as writing:
                writing.write_text(digest)
        yield aside
    finally:
        os.close(handle)


def _lock(handle: int, aside: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as reason:
        raise AlexNetError(f"{aside}: another run is preparing this store: wait for it or choose another name") from reason


def _advance(progress: Callable[[int, int], None], total: int) -> Callable[[int], None]:
    """Count pictures done into `progress`."""
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(done, total)

    return advance
