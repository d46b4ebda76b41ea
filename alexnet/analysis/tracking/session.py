"""Log a run while it trains: the callbacks that hand its records and filters to its trackers.

They begin with the first record, so nothing is logged of a run that cannot start. A tracker that
fails later must not end the training: it is dropped with a warning. The run's directory remembers
the trackers and their ids (trackers.json), so a resumed run continues the same logs.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

from alexnet.analysis.tracking.tracker import (
    TrackedRun,
    Tracker,
    TrackerName,
    hyperparameters,
    logged_values,
)
from alexnet.core.atomic_io import write_bytes
from alexnet.core.errors import AlexNetError, UsageError
from alexnet.models.alexnet import AlexNet
from alexnet.training.run_config import RunConfig
from alexnet.training.run_dir import TRACKERS_FILE
from alexnet.training.trainer import Record, RunCallback

OPENING = ("begin", "step", "epoch")  # kinds of records that a log can begin with


def require_trackers(names: Iterable[str]) -> None:
    """Raise UsageError for an unknown tracker, AlexNetError for one that is not installed."""
    known = get_args(TrackerName)
    for name in names:
        if name not in known:
            raise UsageError(f"log {name}: unknown; expected {', '.join(known)}")
        spec = find_spec(name)
        if spec is None or spec.origin is None:  # a folder of that name is no library
            raise AlexNetError(f'--log {name}: not installed; pip install "alexnet[{name}]"')


def read_tracker_ids(folder: Path) -> dict[str, str]:
    """Return the trackers of the run in a directory and their ids; none for a new run."""
    path = folder / TRACKERS_FILE
    try:
        ids: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise AlexNetError(f"{path}: no JSON ({error}); remove it to begin new logs") from error
    return ids


@dataclass
class TrackingSession:
    """The trackers of a run under way; `callback` gets every record, and our warnings."""

    names: Sequence[str]
    config: RunConfig
    folder: Path
    callback: RunCallback
    trackers: dict[str, Tracker] = field(default_factory=dict)
    is_open: bool = False

    def log(self, record: Record) -> None:
        """Hand a record to the callback and its values to the trackers."""
        self.callback(record)
        if not self.is_open and record["kind"] in OPENING:
            self.is_open = True
            self._open(record.get("step", 0))
        if record["kind"] in ("step", "epoch"):
            values = logged_values(record)
            self._each(lambda tracker: tracker.log(record["step"], values))

    def log_filters(self, step: int, model: AlexNet) -> None:
        """Hand the filters of the first convolution to the trackers, as one image."""
        if not self.trackers:
            return
        from alexnet.analysis.plots.filters import find_filters, tile_filters

        filters = find_filters(model)
        if filters is not None:
            name = f"filters/{filters.layer}"
            image = tile_filters(filters.weight, filters.towers)
            self._each(lambda tracker: tracker.log_image(step, name, image))

    def close(self, is_finished: bool) -> None:
        """Close the trackers."""
        self._each(lambda tracker: tracker.close(is_finished))

    def _open(self, first_step: int) -> None:
        """Open the trackers; AlexNetError where one cannot be."""
        ids = read_tracker_ids(self.folder)
        values = hyperparameters(self.config)
        for name in self.names:
            run = TrackedRun(self.folder, values, first_step, ids.get(name))
            try:
                self.trackers[name] = _open_tracker(name, run)
            except Exception as error:  # of any kind: it is the library's
                raise AlexNetError(
                    f"--log {name}: cannot begin ({_one_line(error)}); "
                    "see docs/tracking.md, or leave it out"
                ) from error
        ids |= {name: tracker.run_id for name, tracker in self.trackers.items()}
        if ids:
            write_bytes(self.folder / TRACKERS_FILE, json.dumps(ids, indent=1).encode())

    def _each(self, use: Callable[[Tracker], None]) -> None:
        """Use every tracker; drop one that fails, with a warning."""
        for name, tracker in list(self.trackers.items()):
            try:
                use(tracker)
            except Exception as error:  # of any kind: the training goes on without it
                del self.trackers[name]
                text = f"{name} failed ({_one_line(error)}); nothing more is logged to it"
                self.callback({"kind": "warning", "text": text})


def _open_tracker(name: str, run: TrackedRun) -> Tracker:
    """Import a tracker's library and begin or continue its log of a run."""
    match name:
        case "tensorboard":
            from alexnet.analysis.tracking.tensorboard import TensorBoardTracker

            return TensorBoardTracker(run)
        case "wandb":
            from alexnet.analysis.tracking.wandb import WandbTracker

            return WandbTracker(run)
        case _:
            from alexnet.analysis.tracking.mlflow import MlflowTracker

            return MlflowTracker(run)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def tracked(
    names: Sequence[str], config: RunConfig, folder: Path, callback: RunCallback
) -> Iterator[TrackingSession]:
    """Yield the session of the trackers named and of those the run had before; close it at the end.

    Its `log` and `log_filters` are callbacks of `trainer.train`; on ranks that are not the main one
    they are not called.
    """
    every = tuple(dict.fromkeys([*read_tracker_ids(folder), *names]))
    require_trackers(every)
    session = TrackingSession(every, config, folder, callback)
    is_finished = False
    try:
        yield session
        is_finished = True
    finally:
        session.close(is_finished)
