"""What the service tells of the runs below its folder: state, progress, history, time left.

All of it is read from a run's own files (`training.run_dir`), so runs that were started elsewhere
are shown like those started here. A run is running while a process holds its lock, finished when
its last step is in a checkpoint, failed where the service has noted an error of its process, and
stopped otherwise.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from alexnet.core.errors import AlexNetError
from alexnet.inference.server.training_access import is_inside
from alexnet.models.model_file import MODEL_FILE
from alexnet.recipes.recipe import Recipe
from alexnet.training.checkpoint import is_running, saved_steps
from alexnet.training.duration import seconds_left
from alexnet.training.run_dir import (
    CHECKPOINTS_DIR,
    METRICS_FILE,
    RECIPE_FILE,
    Record,
    RunHistory,
    read_history,
)

LOG_FILE = "train.log"  # what the last training process of the service printed
ERROR_FILE = "error.txt"  # why it failed, one line; absent where it did not
MAX_HISTORIES = 64  # in memory
MAX_STEPS_SENT = 1000  # records of losses in a history

State = Literal["running", "stopped", "finished", "failed"]


@dataclass(frozen=True)
class RunStatus:
    """Where a run stands; errors in percent, None where nothing is known yet."""

    name: str
    state: State
    recipe: str | None = None
    dataset: str | None = None  # the name of its directory
    input: tuple[int, int, int] | None = None
    epoch: float = 0.0
    epochs: int | None = None
    step: int = 0
    steps: int | None = None
    loss: float | None = None
    val_top1_error: float | None = None
    best_epoch: int | None = None
    best_top1_error: float | None = None
    images_per_second: float | None = None
    seconds: float = 0.0  # of training
    seconds_left: float | None = None
    warning: str | None = None  # the last one
    error: str | None = None
    has_model: bool = False
    can_stop: bool = False
    can_resume: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the status as a JSON object."""
        return asdict(self)


def list_runs(folder: Path) -> list[Path]:
    """Return the directories of the runs below a folder, by name."""
    marks = (RECIPE_FILE, LOG_FILE)
    runs = {path.parent for mark in marks for path in folder.glob(f"*/{mark}")}
    return sorted(run for run in runs if is_inside(folder, run))


class Histories:
    """The histories of runs, each read again when its metrics have changed."""

    def __init__(self) -> None:
        self._latest: dict[Path, tuple[tuple[int, int], RunHistory]] = {}

    def of(self, run: Path) -> RunHistory | None:
        """Return a run's history; None where it has not begun or cannot be read."""
        try:
            metrics = (run / METRICS_FILE).stat()
            version = metrics.st_size, metrics.st_mtime_ns
            known = self._latest.pop(run, None)
            if known is None or known[0] != version:
                known = version, read_history(run)
                _ = known[1].recipe  # raises where another version wrote it
        except (OSError, AlexNetError):
            return None
        self._latest[run] = known  # the last used one is at the end
        while len(self._latest) > MAX_HISTORIES:
            self._latest.pop(next(iter(self._latest)), None)
        return known[1]


def run_status(
    run: Path, history: RunHistory | None, own: str | None, may_train: bool
) -> RunStatus:
    """Return where a run stands. `own`: the name of the run that this service is training."""
    is_own = own == run.name
    running = is_own or is_running(run)
    values: dict[str, Any] = {} if history is None else _progress(history)
    state, error = _state(run, running, values.get("steps"))
    if state != "running":
        values["seconds_left"] = None
    return RunStatus(
        name=run.name,
        state=state,
        error=error,
        has_model=(run / MODEL_FILE).exists(),
        can_stop=may_train and is_own,
        can_resume=may_train and state in ("stopped", "failed") and history is not None,
        **values,
    )


def _state(run: Path, running: bool, steps: int | None) -> tuple[State, str | None]:
    if running:
        return "running", None
    if steps is not None and saved_steps(run / CHECKPOINTS_DIR) >= steps:
        return "finished", None
    error = read_error(run)
    return ("stopped", None) if error is None else ("failed", error)


def read_error(run: Path) -> str | None:
    """Return the error that the service has noted of a run's process; None without one."""
    try:
        return (run / ERROR_FILE).read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _progress(history: RunHistory) -> dict[str, Any]:
    """Return what a run's recipe and records say of its progress."""
    recipe = history.recipe
    epochs = recipe.training.epochs
    starts = history.of("begin")
    warnings = history.of("warning")
    validated = history.validated
    best = history.best
    values: dict[str, Any] = {
        "recipe": recipe.name,
        "dataset": Path(str(history.description.get("dataset", ""))).name,
        "input": recipe.network.input,
        "epochs": epochs,
        "steps": starts[-1]["steps_per_epoch"] * epochs if starts else None,
        "val_top1_error": validated[-1]["val_top1_error"] if validated else None,
        "best_epoch": best["epoch"] if best else None,
        "best_top1_error": best["val_top1_error"] if best else None,
        "warning": warnings[-1]["text"] if warnings else None,
    }
    return values | _position(history, recipe)


def _position(history: RunHistory, recipe: Recipe) -> dict[str, Any]:
    """Return how far a run has come, by its last record of a step or an epoch, and how fast."""
    counted = [record for record in history.records if record["kind"] in ("step", "epoch")]
    steps = history.of("step")
    if not counted:
        return {}
    values = {"step": counted[-1]["step"], "epoch": counted[-1]["epoch"]}
    if not steps:
        return values
    speed = steps[-1]["images_per_second"]
    images = steps[-1]["step"] * recipe.training.batch_size
    seconds = counted[-1].get("seconds") or images / speed
    return values | {
        "loss": steps[-1]["loss"],
        "images_per_second": speed,
        "seconds": seconds,
        "seconds_left": seconds_left(recipe, values["epoch"], seconds),
    }


# ---- the history, for curves


def history_json(history: RunHistory | None) -> dict[str, Any]:
    """Return the losses, at most MAX_STEPS_SENT, and the epochs of a run as a JSON object."""
    if history is None:
        return {"steps": [], "epochs": []}
    steps = thin(history.of("step"), MAX_STEPS_SENT)
    epochs = ("epoch", "step", "train_loss", "val_top1_error", "val_top5_error")
    return {
        "steps": [_chosen(record, ("step", "epoch", "loss")) for record in steps],
        "epochs": [_chosen(record, epochs) for record in history.of("epoch")],
    }


def thin(records: Sequence[Record], count: int) -> Sequence[Record]:
    """Return at most `count` records, evenly chosen, the last one among them."""
    stride = -(-len(records) // count) or 1
    return records[::-1][::stride][::-1]


def _chosen(record: Record, names: Sequence[str]) -> dict[str, Any]:
    return {name: record.get(name) for name in names}
