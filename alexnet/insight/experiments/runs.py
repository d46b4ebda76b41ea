"""The runs that experiments are made of: each is made once, stopped and gone on with, and kept.

A run's directory has a name that holds the hash of all that decides its weights, so whoever asks for the same run finds it there.
The only part of insight that trains. What is compared with what is not known here.
"""

import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alexnet import durable
from alexnet.evaluate import Tick
from alexnet.training import loop
from alexnet.training.loop import METRICS, MODEL, Diverged, Stopped, Tell
from alexnet.training.tasks import Task

ENDED = "ended.json"  # in a run's directory once nothing is left to do in it
CHECKPOINTS = "checkpoints"

Record = dict[str, Any]
Enough = Callable[[Record], bool]


@dataclass(frozen=True)
class Company:
    """Who listens while an experiment is under way, and may stop it: given a title and the steps of a run, something that is
    told its records; given a title, something that is told how many pictures are done; and the number of a signal, or 0."""

    training: Callable[[str, int], AbstractContextManager[Tell]]
    looking: Callable[[str], AbstractContextManager[Tick]]
    stop: Callable[[], int] = lambda: 0


@dataclass(frozen=True)
class Run:
    """A run with nothing left to do: its directory, the records of its epochs, and what it died of, if it diverged."""

    task: Task
    folder: Path
    epochs: tuple[Record, ...]
    died: str | None

    def course(self, name: str) -> tuple[float, ...]:
        """A figure after each epoch."""
        return tuple(record[name] for record in self.epochs)

    @property
    def model(self) -> Path:
        """The file of its best model."""
        return self.folder / MODEL

    def drop_checkpoints(self) -> None:
        """Free the disk of what would be needed to go on; each is larger than the model."""
        shutil.rmtree(self.folder / CHECKPOINTS, ignore_errors=True)


def trained(task: Task, title: str, out: Path, company: Company, enough: Enough = lambda record: False) -> Run:
    """The run of a task, made below `out` as far as it is not there: to its end, or until an epoch's record is enough."""
    folder = out / f"{task.recipe.name}-{task.recipe.training.epochs}-epochs-seed-{task.seed}-{task.digest()[:10]}"
    if not (folder / ENDED).exists() and not any(map(enough, _epochs(folder))):
        _train(task, folder, title, company, enough)
    ending = json.loads((folder / ENDED).read_bytes()) if (folder / ENDED).exists() else None
    run = Run(task, folder, _epochs(folder), ending and ending.get("died"))
    if ending is not None:
        run.drop_checkpoints()
    return run


def _train(task: Task, folder: Path, title: str, company: Company, enough: Enough) -> None:
    """Train until somebody asks to stop, until it is enough, or to the run's own end, which is written down."""
    reached = False
    with company.training(title, task.steps) as tell:

        def listen(record: Record) -> None:
            nonlocal reached
            reached = reached or (record["kind"] == "epoch" and enough(record))
            tell(record)

        try:
            ending = loop.train(task, folder, listen, lambda: company.stop() or int(reached))
        except Stopped as stopped:
            must_go_on(company)
            if not reached:
                raise stopped
            return
        except Diverged as error:
            ending = {"died": str(error)}
    durable.write_bytes(folder / ENDED, json.dumps(ending, indent=1).encode())


def must_go_on(company: Company) -> None:
    """Stopped if somebody has asked for it."""
    if number := company.stop():
        raise Stopped("stopped, everything so far is kept; the same command goes on with it", number)


def _epochs(folder: Path) -> tuple[Record, ...]:
    """The records of the epochs that a run has done; none where it has not begun."""
    try:
        lines = (folder / METRICS).read_text("utf-8").split("\n")[:-1]  # a last one without an end was cut off by a kill
    except FileNotFoundError:
        return ()
    records = map(json.loads, lines)
    return tuple(record for record in records if record["kind"] == "epoch")
