"""What a run is: store, recipe, seed and the way of computing, as a value that can be written down, checked and found again.

recipe.json in a run's directory holds it; its digest in every checkpoint says whether the two belong together. How a run
goes is in `loop`.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alexnet import __version__
from alexnet.data.batches import side_at
from alexnet.data.remote import is_address
from alexnet.data.store import Split, Store, file_hash, open_store
from alexnet.errors import AlexNetError, UsageError
from alexnet.model import view_of
from alexnet.network.geometry import plan
from alexnet.recipes.recipe import Recipe
from alexnet.recipes.schedules import Plateau
from alexnet.recipes.settings import from_json, to_json
from alexnet.runtime import Runtime, choose, machine

DESCRIPTION = "recipe.json"


@dataclass(frozen=True)
class Init:
    """The model file whose layers a run begins with, and its hash."""

    path: str
    sha256: str

    @classmethod
    def of(cls, path: Path) -> "Init":
        """That of a model file; AlexNetError where there is none."""
        if not path.is_file():
            raise AlexNetError(f"{path}: no such file; expected a model file, as `alexnet train` or `alexnet import` writes it")
        return cls(str(path.resolve()), file_hash(path))


@dataclass(frozen=True)
class Task:
    """What a run is: store, recipe, seed, the way of computing, and where its layers come from if they are not drawn.

    Its hash tells whether a checkpoint belongs to it.
    """

    store: Store
    recipe: Recipe
    seed: int
    runtime: Runtime
    init: Init | None = None

    def digest(self) -> str:
        """Changes with whatever changes the weights that come out."""
        parts = to_json(self.recipe), self.seed, self.store.digest, str(self.runtime.dtype), self.init and self.init.sha256
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def facts(self) -> dict[str, str]:
        """What all ranks of a run must have alike."""
        return {
            "store": self.store.digest[:12],
            "recipe": hashlib.sha256(json.dumps(to_json(self.recipe)).encode()).hexdigest()[:12],
            "seed": str(self.seed),
            "precision": self.runtime.precision,
            "parallel": self.runtime.parallel,
            "init": self.init.sha256[:12] if self.init else "none",
            "alexnet": __version__,
            "torch": torch.__version__,
        }

    @property
    def train(self) -> Split:
        """The pictures to learn from."""
        return self.store.splits["train"]

    @property
    def val(self) -> Split | None:
        """The pictures on which choices are made, if there are any."""
        val = self.store.splits.get("val")
        return val if val is not None and len(val) else None

    @property
    def steps(self) -> int:
        """Batches in the whole run."""
        return self.recipe.training.epochs * self.recipe.training.batches(len(self.train))

    def side(self, epoch: float) -> int:
        """Side of the square that is seen at an epoch, pixels; never more than the network's own input."""
        return side_at(self.recipe, epoch)

    def blind_loss(self) -> float:
        """The loss of a net that only knows how frequent each class is: ln(classes) when all are alike."""
        counts = np.bincount(self.train.labels, minlength=len(self.store.classes))
        smoothing = self.recipe.training.smoothing
        target = (1 - smoothing) * counts / counts.sum() + smoothing / len(counts)  # what it would best answer to every picture
        return float(-(target * np.log(np.maximum(target, 1e-30))).sum())

    def description(self) -> dict[str, Any]:
        """What recipe.json says: enough to resume, and to run it again elsewhere."""
        return {
            "recipe": to_json(self.recipe),
            "seed": self.seed,
            "store": self.store.place.address,
            "store_digest": self.store.digest,
            "device": self.runtime.device.type if self.runtime.ranks.world > 1 else str(self.runtime.device),
            "precision": self.runtime.precision,
            "deterministic": self.runtime.deterministic,
            "init": self.init and asdict(self.init),
            "machine": machine(),
        }


def begun(store: str | Path, recipe: Recipe, seed: int, runtime: Runtime, init: Path | None = None) -> Task:
    """A new run's task; `init`: the model file whose layers it begins with."""
    return Task(open_store(store), recipe, seed, runtime, Init.of(init) if init is not None else None)


def must_be_new(folder: Path) -> None:
    """AlexNetError where another run has left its state."""
    if (folder / DESCRIPTION).exists():
        raise AlexNetError(f"{folder}: holds a run already; go on with --resume {folder}, or choose another --out")


def check(task: Task) -> None:
    """An AlexNetError where the run could not even begin: nothing to learn from, nothing to decide by, views that do not fit."""
    if not len(task.train):
        raise AlexNetError(f"{task.store.place}: its train split has no pictures; prepare it again with more")
    if isinstance(task.recipe.training.rate, Plateau) and not task.val:
        name = task.recipe.name
        raise UsageError(f"recipe {name} cuts its rate by the validation error, and the store has no val split; prepare with one")
    view_of(task.store, task.recipe)
    plan(task.recipe.network, len(task.store.classes))


def resumed(folder: Path, workers: int | None = None, moved: str | Path | None = None, device: str | None = None) -> Task:
    """The task of the run in a directory, as its recipe.json describes it.

    `workers`: as `choose` has them. `moved`: where its store is now, if elsewhere; `device`: where it is to go on, if not
    where it began.
    """
    path = folder / DESCRIPTION
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        recipe, seed, digest = from_json(found["recipe"]), found["seed"], found["store_digest"]
        computing = device or found["device"], found["precision"], workers, found["deterministic"]
        init = found["init"] and Init(**found["init"])
        place = str(moved or found["store"])
    except OSError as error:
        raise AlexNetError(f"{folder}: no recipe.json in it, so no run to resume; start one with: alexnet train STORE") from error
    except (ValueError, KeyError, TypeError, UsageError) as error:
        raise AlexNetError(f"{path}: cannot be used here ({error}); start the run anew in another directory") from error
    if not is_address(place) and not Path(place).exists():
        raise AlexNetError(f"{place}: the run's store is not there; if it has moved: alexnet train STORE --resume {folder}")
    store = open_store(place)
    if store.digest != digest:
        raise AlexNetError(f"{store.place}: not the store this run began with; prepare that one again, or start a new run")
    return Task(store, recipe, seed, choose(*computing), init)


def plan_lines(task: Task) -> list[str]:
    """What is about to happen, for people: sizes, precision, and the schedules as they will be."""
    training, views = task.recipe.training, task.recipe.views
    counts = ", ".join(f"{name} {len(split):,}" for name, split in task.store.splits.items())
    return [
        f"recipe {task.recipe.name}, {len(task.store.classes)} classes, {counts}; {training.epochs} epochs of "
        f"{training.batches(len(task.train))} batches of {training.batch}; {task.runtime.device}, {task.runtime.precision}",
        f"rate {training.rate}" + "".join(f"; {apart.suffix} {apart.rate or apart.decay}" for apart in training.apart),
    ] + ([f"side of the views {views.sizes}"] if views.sizes else [])
