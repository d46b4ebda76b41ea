"""The run: batches in, updates, a validation after each epoch, and everything kept that lets it be stopped at any moment.

`train` is one call for a new run and a resumed one. A run's directory holds recipe.json (what it is), metrics.jsonl (how it
went), checkpoints/ and model.safetensors (its best model so far by the validation error, or the last where there is no val
split). The test split is never looked at. It prints nothing: what happens is handed to `tell` as plain records, the same that
metrics.jsonl keeps.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from alexnet import durable
from alexnet.data.batches import Batch, Position, Stream
from alexnet.data.store import Split, Store, open_store
from alexnet.data.views import View
from alexnet.errors import AlexNetError, UsageError
from alexnet.evaluate import evaluate
from alexnet.model import view_of, write_model
from alexnet.network.alexnet import AlexNet, start
from alexnet.network.geometry import plan
from alexnet.recipes.recipe import Recipe
from alexnet.recipes.schedules import Plateau, rate_at
from alexnet.recipes.settings import from_json, to_json
from alexnet.runtime import Runtime, choose, machine
from alexnet.training import checkpoint
from alexnet.training.checkpoint import Progress
from alexnet.training.optimizer import Optimizer, rates

RECORDS_PER_EPOCH = 50  # how often the loss goes into metrics.jsonl
METRICS, MODEL = "metrics.jsonl", "model.safetensors"
NOT_LEARNING = 0.98  # share of the loss of blind guessing above which an epoch counts as nothing learnt

Tell = Callable[[dict[str, Any]], None]
Record = dict[str, Any]


class Stopped(AlexNetError):
    """The run was asked to stop by a signal and has saved its state; the status says which signal."""

    def __init__(self, text: str, number: int) -> None:
        super().__init__(text)
        self.status = 128 + number


@dataclass(frozen=True)
class Task:
    """What a run is: store, recipe, seed and the way of computing. Its hash tells whether a checkpoint belongs to it."""

    store: Store
    recipe: Recipe
    seed: int
    runtime: Runtime

    def digest(self) -> str:
        """Changes with whatever changes the weights that come out."""
        parts = to_json(self.recipe), self.seed, self.store.digest, str(self.runtime.dtype)
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass
class Run:
    """A run under way: the task, its network and optimizer, and where it stands."""

    task: Task
    folder: Path
    network: AlexNet
    view: View
    stream: Stream
    optimizer: Optimizer
    progress: Progress
    tell: Tell
    saved_at: float = 0.0  # seconds of training at the last checkpoint

    def record(self, kind: str, **values: Any) -> None:
        """Keep a record in metrics.jsonl and hand it on."""
        record = {"kind": kind, **values}
        with (self.folder / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        self.tell(record)


def train(task: Task, folder: Path, tell: Tell, stop: Callable[[], int] = lambda: 0, save_every: float = 300.0) -> Record:
    """Run or resume the task in its directory; the closing record: epochs, steps, seconds, rate, model, validation errors.

    `stop` is asked after every batch; when it gives a signal's number the state is saved and Stopped raised. Checkpoints are
    `save_every` seconds of training apart, and at the end.
    """
    check(task)
    with checkpoint.locked(folder):
        run = _begin(task, folder, tell)
        began = time.monotonic()
        for position, batch in run.stream.after(run.progress.position):
            loss = _learn(run, position, batch)
            run.progress = replace(run.progress, seconds=run.progress.seconds + time.monotonic() - began)
            if position.batch % max(1, run.stream.batches_per_epoch // RECORDS_PER_EPOCH) == 0:
                _record_step(run, position, loss)
            if run.progress.position.batch == 0:
                _close_epoch(run)
            if number := stop():
                _save(run)
                text = f"stopped after {run.progress.steps} steps, state saved; go on with: alexnet train --resume {folder}"
                raise Stopped(text, number)
            if run.progress.seconds - run.saved_at >= save_every:
                _save(run)
            began = time.monotonic()
        return _finish(run)


def steps(task: Task) -> int:
    """Batches in the whole run."""
    return task.recipe.training.epochs * task.recipe.training.batches(len(task.store.splits["train"]))


def must_be_new(folder: Path) -> None:
    """AlexNetError where another run has left its state."""
    if (folder / "recipe.json").exists():
        raise AlexNetError(f"{folder}: holds a run already; go on with --resume {folder}, or choose another --out")


def check(task: Task) -> None:
    """An AlexNetError where the run could not even begin: nothing to learn from, nothing to decide by, views that do not fit."""
    if not len(task.store.splits["train"]):
        raise AlexNetError(f"{task.store.path}: its train split has no pictures; prepare it again with more")
    if isinstance(task.recipe.training.rate, Plateau) and not _validation(task):
        name = task.recipe.name
        raise UsageError(f"recipe {name} cuts its rate by the validation error, and the store has no val split; prepare with one")
    view_of(task.store, task.recipe)
    plan(task.recipe.network, len(task.store.classes))


def resumed(folder: Path, workers: int, moved: Path | None = None) -> Task:
    """The task of the run in a directory, as its recipe.json describes it; `moved`: where its store is now, if elsewhere."""
    path = folder / "recipe.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        recipe, seed, digest = from_json(found["recipe"]), found["seed"], found["store_digest"]
        runtime = choose(found["device"], found["precision"], workers, found["deterministic"])
        place = moved or Path(found["store"])
    except OSError as error:
        raise AlexNetError(f"{folder}: no recipe.json in it, so no run to resume; start one with: alexnet train STORE") from error
    except (ValueError, KeyError, TypeError, UsageError) as error:
        raise AlexNetError(f"{path}: cannot be used here ({error}); start the run anew in another directory") from error
    if not place.exists():
        raise AlexNetError(f"{place}: the run's store is not there; if it has moved: alexnet train STORE --resume {folder}")
    store = open_store(place)
    if store.digest != digest:
        raise AlexNetError(f"{store.path}: not the store this run began with; prepare that one again, or start a new run")
    return Task(store, recipe, seed, runtime)


def plan_lines(task: Task) -> list[str]:
    """What is about to happen, for people: sizes, precision, and the schedules as they will be."""
    training, views = task.recipe.training, task.recipe.views
    counts = ", ".join(f"{name} {len(split):,}" for name, split in task.store.splits.items())
    return [
        f"recipe {task.recipe.name}, {len(task.store.classes)} classes, {counts}; {training.epochs} epochs of "
        f"{steps(task) // training.epochs} batches of {training.batch}; {task.runtime.device}, {task.runtime.precision}",
        f"rate {training.rate}" + "".join(f"; {apart.suffix} {apart.rate}" for apart in training.apart),
    ] + ([f"side of the views {views.sizes}"] if views.sizes else [])


def _begin(task: Task, folder: Path, tell: Tell) -> Run:
    """A run at its beginning, or where its newest good checkpoint left it."""
    recipe, runtime = task.recipe, task.runtime
    for half_written in folder.rglob("*.writing"):
        half_written.unlink()
    view = view_of(task.store, recipe)
    network = start(AlexNet(recipe.network, len(task.store.classes)), task.seed).to(runtime.device)
    optimizer = Optimizer(network, recipe.training)
    network.to(runtime.dtype)
    stream = Stream(task.store.splits["train"], view, recipe.training, task.seed, runtime.workers)
    progress, complaints = checkpoint.restore_newest(folder / "checkpoints", optimizer, task.digest())
    run = Run(task, folder, network, view, stream, optimizer, progress, tell, progress.seconds)
    _truncate(folder / METRICS, progress.metrics_bytes)
    for complaint in complaints:
        run.record("warning", text=f"{complaint}; an older checkpoint is used")
    if not progress.steps:
        durable.write_bytes(folder / "recipe.json", json.dumps(_description(task), indent=1).encode())
        run.record("begin", steps_per_epoch=stream.batches_per_epoch, **_description(task))
    return run


def _learn(run: Run, position: Position, batch: Batch) -> float:
    """One batch: views, forward, backward, update; its loss. The run then stands behind it."""
    recipe, runtime = run.task.recipe, run.task.runtime
    epoch = position.epoch + position.batch / run.stream.batches_per_epoch
    now = rates(recipe.training, list(run.optimizer.parameters), epoch, run.progress.plateau)
    views = run.view.training_tensor(
        batch.crops, batch.draws, recipe.views.noise.at(epoch), _side(recipe, epoch), runtime.device, runtime.dtype
    )
    keys = torch.from_numpy(batch.draws.dropout).to(runtime.device)
    logits = run.network.train()(views, keys).float()
    loss = F.cross_entropy(logits, batch.labels.to(runtime.device), label_smoothing=recipe.training.smoothing)
    value = loss.item()
    if not math.isfinite(value):
        pictures = ", ".join(map(str, batch.pictures[:4]))
        raise AlexNetError(
            f"the loss became {value} at step {run.progress.steps} (records {pictures}, ...); nothing was updated; "
            f"start again with a lower rate (it was {max(now.values()):g}) or --precision fp32"
        )
    loss.backward()
    run.optimizer.update(now)
    run.progress = _advanced(run, position, value, len(batch.labels))
    return value


def _record_step(run: Run, position: Position, loss: float) -> None:
    """Keep the loss of a step with the epoch it was made at, the rate, and the pictures per second of the run so far."""
    epoch = position.epoch + position.batch / run.stream.batches_per_epoch
    rate = rate_at(run.task.recipe.training.rate, epoch, run.progress.plateau)
    speed = run.progress.pictures / run.progress.seconds
    run.record("step", step=run.progress.steps, epoch=epoch, loss=loss, rate=rate, pictures_per_second=speed)


def _side(recipe: Recipe, epoch: float) -> int:
    """Side of the square that is seen at an epoch, pixels; never more than the network's own input."""
    own = recipe.network.input[1]
    return own if recipe.views.sizes is None else min(own, int(recipe.views.sizes.at(epoch)))


def _advanced(run: Run, position: Position, loss: float, pictures: int) -> Progress:
    """The progress after a batch; the sums start anew with each epoch."""
    last = position.batch + 1 == run.stream.batches_per_epoch
    late = 2 * (position.batch + 1) > run.stream.batches_per_epoch
    old = replace(run.progress, loss_sum=0.0, late_sum=0.0, late_pictures=0) if position.batch == 0 else run.progress
    return replace(
        old,
        position=Position(position.epoch + 1) if last else Position(position.epoch, position.batch + 1),
        steps=old.steps + 1,
        pictures=old.pictures + pictures,
        loss_sum=old.loss_sum + loss * pictures,
        late_sum=old.late_sum + late * loss * pictures,
        late_pictures=old.late_pictures + late * pictures,
    )


def _close_epoch(run: Run) -> None:
    """Validate, move the plateau, keep the model if it is the best so far, and say so when nothing has been learnt."""
    task, progress = run.task, run.progress
    train_split, val = task.store.splits["train"], _validation(task)
    entry: Record = {"epoch": progress.position.epoch, "step": progress.steps, "train_loss": progress.loss_sum / len(train_split)}
    better = True
    if val is not None:
        scores = evaluate([(run.network.eval(), run.view)], val, 1, task.runtime)
        if not math.isfinite(scores.loss):
            raise AlexNetError(
                f"the net's outputs are no numbers after epoch {progress.position.epoch}; start again with a lower rate"
            )
        entry |= {f"val_{name}": value for name, value in scores}
        better = progress.best is None or scores.top1_error < progress.best[0]
        plateau = task.recipe.training.rate
        moved = progress.plateau.after(scores.top1_error, plateau) if isinstance(plateau, Plateau) else progress.plateau
        best = (scores.top1_error, scores.top5_error) if better else progress.best
        run.progress = replace(progress, plateau=moved, best=best)
    run.record("epoch", **entry, seconds=progress.seconds)
    late = progress.late_sum / progress.late_pictures
    if late >= NOT_LEARNING * _blind_loss(task):
        run.record("warning", text=_not_learning(task, late))
    if better:
        made = entry | {"seed": task.seed, "store": task.store.digest, "machine": machine()}
        write_model(run.folder / MODEL, run.optimizer.masters, run.view, task.recipe, made)


def _finish(run: Run) -> Record:
    """Save the end state and sum the run up."""
    _save(run)
    progress, training = run.progress, run.task.recipe.training
    top1, top5 = progress.best or (None, None)
    return {
        "epochs": training.epochs,
        "steps": progress.steps,
        "seconds": progress.seconds,
        "pictures_per_second": progress.pictures / max(progress.seconds, 1e-9),
        "model": str(run.folder / MODEL),
        "top1_error": top1,
        "top5_error": top5,
    }


def _save(run: Run) -> None:
    """Write a checkpoint, after the records that it counts on."""
    metrics = run.folder / METRICS
    durable.sync(metrics)
    run.progress = replace(run.progress, metrics_bytes=metrics.stat().st_size)
    checkpoint.save(run.folder / "checkpoints", run.progress, run.optimizer, run.task.digest())
    run.saved_at = run.progress.seconds


def _validation(task: Task) -> Split | None:
    """The split on which choices are made, if there is one with pictures in it."""
    val = task.store.splits.get("val")
    return val if val is not None and len(val) else None


def _description(task: Task) -> Record:
    """What recipe.json says: enough to resume, and to run it again elsewhere."""
    return {
        "recipe": to_json(task.recipe),
        "seed": task.seed,
        "store": str(task.store.path.resolve()),
        "store_digest": task.store.digest,
        "device": str(task.runtime.device),
        "precision": task.runtime.precision,
        "deterministic": task.runtime.deterministic,
        "machine": machine(),
    }


def _blind_loss(task: Task) -> float:
    """The loss of a net that only knows how frequent each class is: ln(classes) when all are alike."""
    counts = np.bincount(task.store.splits["train"].labels, minlength=len(task.store.classes))
    smoothing = task.recipe.training.smoothing
    target = (1 - smoothing) * counts / counts.sum() + smoothing / len(counts)  # what it would best answer to every picture
    return float(-(target * np.log(np.maximum(target, 1e-30))).sum())


def _not_learning(task: Task, loss: float) -> str:
    blind = f"blind guessing among {len(task.store.classes)} classes gives {_blind_loss(task):.3f}"
    return (
        f"not learning yet: the loss stays at {loss:.3f}, {blind}; remedies: wait some epochs (every start of this net can stall "
        "at first), a lower --lr, more pictures, --recipe modern if it is another, another --seed, or look whether the classes' "
        "folders hold what they should"
    )


def _truncate(metrics: Path, length: int) -> None:
    """Cut metrics.jsonl back to what it was at the checkpoint, so that no record stands in it twice."""
    with metrics.open("ab") as file:
        file.truncate(min(length, file.tell()))
