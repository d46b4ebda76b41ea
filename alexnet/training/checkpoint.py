"""Checkpoints: all that a run needs to continue as if it had never stopped, one hashed file each.

Because all randomness is counted, that is little: weights, velocities and the `Progress`. The
newest undamaged one is found by reading, not by a pointer that could be wrong; a damaged one is
reported and skipped. The last two are kept. A lock keeps two processes out of one run's directory.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from alexnet.core.errors import AlexNetError
from alexnet.core.locks import exclusive_lock, is_locked
from alexnet.core.safetensors_io import read_tensors, write_tensors
from alexnet.data.loader import LoaderState
from alexnet.recipes.schedules import PlateauState
from alexnet.training.progress import BestErrors, Progress

FORMAT = "alexnet-checkpoint/1"
NUM_KEPT = 2  # checkpoints of a run on the disk
LOCK_FILE = "lock"

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint: progress, weights and velocities of the whole network.

    `errors`: what is wrong with newer ones that were skipped.
    """

    progress: Progress = Progress()
    weights: Tensors = field(default_factory=dict)
    velocities: Tensors = field(default_factory=dict)
    errors: tuple[str, ...] = ()

    def without_tensors(self) -> "Checkpoint":
        """Return the progress and the errors alone."""
        return replace(self, weights={}, velocities={})


def save(
    folder: Path, progress: Progress, weights: Tensors, velocities: Tensors, run_digest: str
) -> Path:
    """Write a checkpoint of the run with this digest, delete all but the newest, return its path.

    AlexNetError where it cannot be written; the older ones stay.
    """
    path = folder / f"step-{progress.steps:09d}.safetensors"
    tensors = {f"weight:{name}": tensor for name, tensor in weights.items()}
    tensors |= {f"velocity:{name}": tensor for name, tensor in velocities.items()}
    write_tensors(path, FORMAT, tensors, {"progress": asdict(progress), "run": run_digest})
    for old in _newest_first(folder)[NUM_KEPT:]:
        old.unlink()
    return path


def load_latest(folder: Path, run_digest: str) -> Checkpoint:
    """Read the newest undamaged checkpoint of a run; without any, return an empty one.

    AlexNetError where all are damaged, or one belongs to a run with another digest.
    """
    errors: list[str] = []
    for path in _newest_first(folder):
        try:
            tensors, metadata = read_tensors(path, FORMAT)
        except AlexNetError as error:
            errors.append(str(error))
            continue
        if metadata["run"] != run_digest:
            raise AlexNetError(
                f"{path} belongs to another run: recipe.json or the dataset has changed; "
                "start a new run in another directory"
            )
        return Checkpoint(
            _progress_from_json(metadata["progress"]),
            _with_prefix(tensors, "weight:"),
            _with_prefix(tensors, "velocity:"),
            tuple(errors),
        )
    if errors:
        raise AlexNetError(
            f"every checkpoint is damaged ({'; '.join(errors)}); "
            "start a new run in another directory"
        )
    return Checkpoint()


def saved_steps(folder: Path) -> int:
    """Return the steps of a run's newest checkpoint as its name says, unread; 0 without any."""
    names = [path.stem.removeprefix("step-") for path in _newest_first(folder)]
    return max((int(name) for name in names if name.isdecimal()), default=0)


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _progress_from_json(data: dict[str, Any]) -> Progress:
    best = data["best"]
    nested = {
        "loader_state": LoaderState(**data["loader_state"]),
        "plateau": PlateauState(**data["plateau"]),
        "best": None if best is None else BestErrors(**best),
    }
    return Progress(**data | nested)


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.safetensors"), reverse=True)


@contextmanager
def lock_run(run: Path) -> Iterator[None]:
    """Hold the run's directory for this process, until it ends, however it ends."""
    busy = f"{run}: another run is at work in this directory; wait for it or choose another --out"
    with exclusive_lock(run / LOCK_FILE, busy):
        yield


def is_running(run: Path) -> bool:
    """Return whether a process, whoever started it, is training in a run's directory now."""
    return is_locked(run / LOCK_FILE)
