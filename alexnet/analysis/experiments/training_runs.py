"""The training runs of experiments: each is trained once, resumed after a stop, and reused.

The name of a run's directory holds the hash of everything that decides its weights, so every
experiment that needs the same run finds it there. What is compared with what is not known here.
"""

import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alexnet.core import atomic_io
from alexnet.core.console import ProgressFn
from alexnet.models.model_file import MODEL_FILE
from alexnet.training import trainer
from alexnet.training.run_config import RunConfig
from alexnet.training.run_dir import CHECKPOINTS_DIR, read_metrics
from alexnet.training.trainer import Diverged, RunCallback, RunStopped

FINISHED = "finished.json"  # in the directory of a run with nothing left to do

Record = dict[str, Any]
StopRule = Callable[[Record], bool]  # of an epoch's record: whether to stop the run after it


def never(record: Record) -> bool:
    """The stop rule of a run that is trained to its end."""
    return False


@dataclass(frozen=True)
class ExperimentHooks:
    """How an experiment reports progress, and how it can be stopped.

    `training(title, steps)` and `scoring(title)` open a run's callback and a progress callback;
    `stop()` returns the number of a signal, or 0.
    """

    training: Callable[[str, int], AbstractContextManager[RunCallback]]
    scoring: Callable[[str], AbstractContextManager[ProgressFn]]
    stop: Callable[[], int] = lambda: 0

    def raise_if_stopped(self) -> None:
        """Raise RunStopped if a stop was requested."""
        number = self.stop()
        if number:
            raise RunStopped(
                "stopped, finished runs and checkpoints are kept; the same command continues",
                number,
            )

    def stoppable(self, progress: ProgressFn) -> ProgressFn:
        """Return the progress callback that also raises RunStopped if a stop was requested."""

        def report(done: int, total: int) -> None:
            self.raise_if_stopped()
            progress(done, total)

        return report


@dataclass(frozen=True)
class TrainedRun:
    """A run, its directory, the records of its epochs, and the error if it diverged."""

    config: RunConfig
    folder: Path
    epochs: tuple[Record, ...]
    diverged: str | None

    def curve(self, metric: str) -> tuple[float, ...]:
        """Return a metric after each epoch."""
        return tuple(record[metric] for record in self.epochs)

    @property
    def model_path(self) -> Path:
        """The file of its best model."""
        return self.folder / MODEL_FILE

    def delete_checkpoints(self) -> None:
        """Free the disk of the checkpoints; each is larger than the model."""
        shutil.rmtree(self.folder / CHECKPOINTS_DIR, ignore_errors=True)


def train_once(
    config: RunConfig,
    title: str,
    out: Path,
    hooks: ExperimentHooks,
    stop_rule: StopRule = never,
) -> TrainedRun:
    """Return the run of a configuration below `out`, trained as far as it is not there already.

    It is trained to its end, or until the stop rule holds for an epoch's record.
    """
    epochs = config.recipe.training.epochs
    name = f"{config.recipe.name}-{epochs}-epochs-seed-{config.seed}-{config.digest()[:10]}"
    folder = out / name
    finished = folder / FINISHED
    if not finished.exists() and not any(map(stop_rule, _read_epochs(folder))):
        _train(config, folder, title, hooks, stop_rule)
    if not finished.exists():
        return TrainedRun(config, folder, _read_epochs(folder), None)
    summary = json.loads(finished.read_bytes())
    run = TrainedRun(config, folder, _read_epochs(folder), summary.get("diverged"))
    run.delete_checkpoints()
    return run


def _train(
    config: RunConfig, folder: Path, title: str, hooks: ExperimentHooks, stop_rule: StopRule
) -> None:
    """Train until a stop is requested, the stop rule holds, or the run ends, which is recorded."""
    rule_holds = False
    with hooks.training(title, config.steps) as callback:

        def on_record(record: Record) -> None:
            nonlocal rule_holds
            rule_holds = rule_holds or (record["kind"] == "epoch" and stop_rule(record))
            callback(record)

        try:
            summary = trainer.train(
                config, folder, on_record, lambda: hooks.stop() or int(rule_holds)
            )
        except RunStopped:
            hooks.raise_if_stopped()
            if not rule_holds:
                raise
            return
        except Diverged as error:
            summary = {"diverged": str(error)}
    atomic_io.write_bytes(folder / FINISHED, json.dumps(summary, indent=1).encode())


def _read_epochs(folder: Path) -> tuple[Record, ...]:
    """Return the records of the epochs that a run has done; none where it has not begun."""
    try:
        records = read_metrics(folder)
    except FileNotFoundError:
        return ()
    return tuple(record for record in records if record["kind"] == "epoch")
