"""The run: batches in, updates, a validation after each epoch, and everything kept that lets it be stopped at any moment.

`train` is one call for a new run and a resumed one. A run's directory holds recipe.json (what it is), metrics.jsonl (how it
went), checkpoints/ and model.safetensors (its best model so far by the validation error, or the last where there is no val
split). The test split is never looked at. It prints nothing: what happens is handed to `tell` as plain records, the same that
metrics.jsonl keeps.
"""

import json
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from alexnet import durable
from alexnet.data.batches import Batch, Position, Stream
from alexnet.data.views import View
from alexnet.errors import AlexNetError
from alexnet.evaluate import evaluate
from alexnet.model import read_model, view_of, write_model
from alexnet.network.alexnet import AlexNet, adopt, start
from alexnet.parallel.ways import Lesson
from alexnet.ranks import Ranks, from_first, must_agree, numbers
from alexnet.recipes.schedules import Plateau, rate_at
from alexnet.runtime import machine
from alexnet.training import checkpoint
from alexnet.training.checkpoint import Progress, Saved
from alexnet.training.net import Net
from alexnet.training.tasks import DESCRIPTION, Task, check

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


class Diverged(AlexNetError):
    """The loss, or what the net says, is no number any more."""


@dataclass
class Run:
    """A run under way on this rank: the task, the parts of the net that are here and how they learn, and where it stands."""

    task: Task
    folder: Path
    net: Net
    view: View
    stream: Stream
    progress: Progress
    tell: Tell
    saved_at: float = 0.0  # seconds of training at the last checkpoint

    @property
    def leads(self) -> bool:
        """Whether this is the rank that writes."""
        return self.task.runtime.ranks.leads

    def record(self, kind: str, **values: Any) -> None:
        """Keep a record in metrics.jsonl and hand it on; the rank that writes does it for all."""
        if not self.leads:
            return
        record = {"kind": kind, **values}
        with (self.folder / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        self.tell(record)


def train(task: Task, folder: Path, tell: Tell, stop: Callable[[], int] = lambda: 0, save_every: float = 300.0) -> Record:
    """Run or resume the task in its directory; the closing record: epochs, steps, seconds, rate, model, validation errors.

    `stop` is asked with every batch; when it gives a signal's number the state is saved and Stopped raised. Checkpoints are
    `save_every` seconds of training apart, and at the end. Every rank of a run on several calls this; rank 0 writes.
    """
    check(task)
    must_agree(task.runtime.ranks, task.facts())
    with checkpoint.locked(folder) if task.runtime.ranks.leads else nullcontext():
        run = _begin(task, folder, tell)
        began = time.monotonic()
        for position, batch in run.stream.after(run.progress.position):
            told = _learn(run, position, batch, stop(), save_every)
            began = _clocked(run, began)
            if position.batch % max(1, run.stream.batches_per_epoch // RECORDS_PER_EPOCH) == 0:
                _record_step(run, position, told.loss)
                _clocked(run, began)
            if run.progress.position.batch == 0:
                _close_epoch(run)
            if told.stop:
                _save(run)
                text = f"stopped after {run.progress.steps} steps, state saved; go on with: alexnet train --resume {folder}"
                raise Stopped(text, told.stop)
            if told.due:
                _save(run)
            began = time.monotonic()
        return _finish(run)


def _begin(task: Task, folder: Path, tell: Tell) -> Run:
    """A run at its beginning, or where its newest good checkpoint left it."""
    recipe, runtime = task.recipe, task.runtime
    if runtime.ranks.leads:
        for half_written in folder.rglob("*.writing"):
            half_written.unlink()
    view = view_of(task.store, recipe)
    own = checkpoint.newest(folder / "checkpoints", task.digest()) if runtime.ranks.leads else Saved()
    saved = from_first(runtime.ranks, own.without_tensors())
    whole = start(AlexNet(recipe.network, len(task.store.classes)), task.seed)
    if task.init is not None and not saved.progress.steps:
        adopt(whole, read_model(Path(task.init.path)).network)
    net = Net.of(whole, recipe.training, runtime)
    stream = Stream(task.train, view, recipe.training, task.seed, runtime.workers, net.way.rows, runtime.device)
    run = Run(task, folder, net, view, stream, saved.progress, tell, saved.progress.seconds)
    if saved.progress.steps:
        net.restore(own)
    if run.leads:
        _truncate(folder / METRICS, saved.progress.metrics_bytes)
    if traffic := net.traffic(recipe.training.batch):
        run.record("parallel", text=traffic)
    for complaint in saved.complaints:
        run.record("warning", text=f"{complaint}; an older checkpoint is used")
    if not saved.progress.steps and run.leads:
        durable.write_bytes(folder / DESCRIPTION, json.dumps(task.description(), indent=1).encode())
        run.record("begin", steps_per_epoch=stream.batches_per_epoch, **task.description())
    return run


class Told(NamedTuple):
    """What all ranks know after a batch."""

    loss: float  # the mean over the batch
    wrong: int
    stop: int  # the number of the signal by which one of them was asked to stop, or 0
    due: bool  # whether it is time to save


def _learn(run: Run, position: Position, batch: Batch, stop: int, save_every: float) -> Told:
    """One batch: views, forward, backward, update. The run then stands behind it."""
    recipe, runtime = run.task.recipe, run.task.runtime
    epoch = run.stream.epoch(position)
    now = recipe.training.rates(run.net.names, epoch, run.progress.plateau)
    noise, side = recipe.views.noise.at(epoch), run.task.side(epoch)
    views = run.view.training_tensor(batch.crops, batch.draws.of(batch.rows), noise, side, runtime.device, runtime.dtype)
    keys = torch.from_numpy(batch.draws.dropout).to(runtime.device)
    lesson = Lesson(views, keys, batch.labels.to(runtime.device), recipe.training.smoothing)
    loss, wrong = run.net.way.learn(lesson).tolist()
    due = run.leads and run.progress.seconds - run.saved_at >= save_every
    told = _agreed(runtime.ranks, Told(loss, wrong, stop, due))
    if not math.isfinite(told.loss):
        pictures = ", ".join(map(str, batch.pictures[:4]))
        raise Diverged(
            f"the loss became {told.loss} at step {run.progress.steps} (records {pictures}, ...); nothing was updated; "
            f"start again with a lower rate (it was {max(now.values()):g}) or --precision fp32"
        )
    run.net.update(now)
    run.progress = _advanced(run, position, told, len(batch.labels))
    return told


def _agreed(ranks: Ranks, own: Told) -> Told:
    """The same for all ranks: losses and wrong answers added up, and what any of them was told."""
    each = numbers(ranks, own)
    loss, wrong = each[:, :2].sum(0).tolist()
    stop, due = each[:, 2:].amax(0).tolist()
    return Told(loss, int(wrong), int(stop), bool(due))


def _clocked(run: Run, began: float) -> float:
    """Count the seconds since then as training: reading, computing, recording, but not validation; the time now."""
    now = time.monotonic()
    run.progress = replace(run.progress, seconds=run.progress.seconds + now - began)
    return now


def _record_step(run: Run, position: Position, loss: float) -> None:
    """Keep the loss of a step with the epoch it was made at, the rate, and the pictures per second of the run so far."""
    epoch = run.stream.epoch(position)
    rate = rate_at(run.task.recipe.training.rate, epoch, run.progress.plateau)
    speed = run.progress.pictures / run.progress.seconds
    run.record("step", step=run.progress.steps, epoch=epoch, loss=loss, rate=rate, pictures_per_second=speed)


def _advanced(run: Run, position: Position, told: Told, pictures: int) -> Progress:
    """The progress after a batch; the sums start anew with each epoch."""
    last = position.batch + 1 == run.stream.batches_per_epoch
    late = 2 * (position.batch + 1) > run.stream.batches_per_epoch
    old = replace(run.progress, loss_sum=0.0, wrong=0, late_sum=0.0, late_pictures=0) if position.batch == 0 else run.progress
    return replace(
        old,
        position=Position(position.epoch + 1) if last else Position(position.epoch, position.batch + 1),
        steps=old.steps + 1,
        pictures=old.pictures + pictures,
        loss_sum=old.loss_sum + told.loss * pictures,
        wrong=old.wrong + told.wrong,
        late_sum=old.late_sum + late * told.loss * pictures,
        late_pictures=old.late_pictures + late * pictures,
    )


def _close_epoch(run: Run) -> None:
    """Validate, move the plateau, keep the model if it is the best so far, and say so when nothing has been learnt."""
    task, progress = run.task, run.progress
    val = task.val
    means = {"train_loss": progress.loss_sum / len(task.train), "train_error": 100 * progress.wrong / len(task.train)}
    entry: Record = {"epoch": progress.position.epoch, "step": progress.steps, **means}
    better = True
    if val is not None:
        scores = evaluate([(run.net.whole().eval(), run.view)], val, 1, task.runtime)
        if not math.isfinite(scores.loss):
            raise Diverged(
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
    if late >= NOT_LEARNING * task.blind_loss():
        run.record("warning", text=_not_learning(task, late))
    if better:
        made = entry | {"seed": task.seed, "store": task.store.digest, "machine": machine()}
        weights = run.net.masters()
        if run.leads:
            write_model(run.folder / MODEL, weights, run.view, task.recipe, made)


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
        **run.net.shared(),
    }


def _save(run: Run) -> None:
    """Write a checkpoint, after the records that it counts on."""
    weights, velocities = run.net.masters(), run.net.velocities()
    run.saved_at = run.progress.seconds
    if run.leads:
        metrics = run.folder / METRICS
        durable.sync(metrics)
        run.progress = replace(run.progress, metrics_bytes=metrics.stat().st_size)
        checkpoint.save(run.folder / "checkpoints", run.progress, weights, velocities, run.task.digest())


def _not_learning(task: Task, loss: float) -> str:
    blind = f"blind guessing among {len(task.store.classes)} classes gives {task.blind_loss():.3f}"
    return (
        f"not learning yet: the loss stays at {loss:.3f}, {blind}; remedies: wait some epochs (every start of this net can stall "
        "at first), a lower --lr, more pictures, --recipe modern if it is another, another --seed, or look whether the classes' "
        "folders hold what they should"
    )


def _truncate(metrics: Path, length: int) -> None:
    """Cut metrics.jsonl back to what it was at the checkpoint, so that no record stands in it twice."""
    with metrics.open("ab") as file:
        file.truncate(min(length, file.tell()))
