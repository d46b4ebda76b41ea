"""The training loop: batches, updates, a validation after each epoch, checkpoints.

`train` starts a new run or resumes one. It writes the run's directory (`run_dir`): the model file
is that of the epoch with the lowest validation error, or of the last epoch without a val split.
The test split is never used. Nothing is printed: every record goes into metrics.jsonl and to the
caller's callback.
"""

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from alexnet.core.errors import AlexNetError, UsageError
from alexnet.core.system_info import machine_info
from alexnet.data.loader import Batch, LoaderState, TrainLoader
from alexnet.data.transforms import Preprocessor
from alexnet.distributed.process_group import (
    Ranks,
    all_gather_scalars,
    assert_equal_across_ranks,
    broadcast_object,
)
from alexnet.distributed.strategies import StepInput
from alexnet.evaluation.evaluate import Scores, evaluate
from alexnet.models.alexnet import AlexNet, init_weights, load_matching
from alexnet.models.model_file import (
    MODEL_FILE,
    Classifier,
    make_preprocessor,
    read_model_file,
    write_model_file,
)
from alexnet.recipes.presets import RECIPES
from alexnet.recipes.recipe import Recipe
from alexnet.recipes.schedules import PiecewiseLinear, PlateauState, ReduceOnPlateau, value_at
from alexnet.training import checkpoint, run_dir
from alexnet.training.checkpoint import Checkpoint
from alexnet.training.progress import BestErrors, Progress, advance
from alexnet.training.run_config import RunConfig, check_run
from alexnet.training.sharded_model import ShardedModel

RECORDS_PER_EPOCH = 50  # of losses, in metrics.jsonl
NOT_LEARNING = 0.98  # share of the prior's loss above which an epoch has learned nothing
FEW_STEPS = 200  # a run of fewer is warned of
SMALL_BATCH_SIZE = 16  # suggested where a run has few steps
IMAGES_NAMED = 4  # of a batch, in a message

Record = dict[str, Any]
RunCallback = Callable[[Record], None]
EpochCallback = Callable[[int, AlexNet], None]  # (steps so far, the model after an epoch)


class RunStopped(AlexNetError):
    """The run was stopped by a signal and has saved its state; `status` tells the signal."""

    def __init__(self, text: str, signal_number: int) -> None:
        super().__init__(text)
        self.status = 128 + signal_number


class Diverged(AlexNetError):
    """The loss or the logits are not finite."""


@dataclass
class TrainState:
    """A run under way on this rank."""

    config: RunConfig
    folder: Path
    model: ShardedModel
    preprocessor: Preprocessor
    loader: TrainLoader
    progress: Progress
    callback: RunCallback
    epoch_callback: EpochCallback
    saved_at: float = 0.0  # seconds of training at the last checkpoint
    has_warned: bool = False  # that the network is not learning, since this process began

    @property
    def is_main(self) -> bool:
        """Whether this rank writes the run's files."""
        return self.config.runtime.ranks.is_main

    def log(self, kind: str, **values: Any) -> None:
        """Append a record to metrics.jsonl and pass it to the callback; on the main rank only."""
        if not self.is_main:
            return
        record = {"kind": kind, **values}
        run_dir.append_metrics(self.folder, record)
        self.callback(record)

    def add_seconds_since(self, start: float) -> float:
        """Count the time since `start` as training; return the time now."""
        now = time.monotonic()
        self.progress = replace(self.progress, seconds=self.progress.seconds + now - start)
        return now


def never_stop() -> int:
    """Ask for no stop: the default of `train`."""
    return 0


def ignore_model(steps: int, model: AlexNet) -> None:
    """Do nothing with the model after an epoch: the default of `train`."""


def train(
    config: RunConfig,
    folder: Path,
    callback: RunCallback,
    stop: Callable[[], int] = never_stop,
    save_every: float = 300.0,
    epoch_callback: EpochCallback = ignore_model,
) -> Record:
    """Train from the beginning, or from the newest checkpoint in `folder`, to the end.

    Returns a summary: epochs, steps, seconds, images_per_second, model, best_epoch, top1_error,
    top5_error (of the best model on val, in percent). `callback` gets every record,
    `epoch_callback` the whole model after every epoch, to read it; both on the main rank. `stop` is
    called with each batch: once it returns a signal's number, the state is saved and RunStopped
    raised. Checkpoints are `save_every` seconds of training apart, and at the end. With several
    ranks, each calls this, and rank 0 writes. UsageError or AlexNetError where the run cannot work;
    Diverged.
    """
    check_run(config)
    assert_equal_across_ranks(config.runtime.ranks, config.shared_settings())
    with checkpoint.lock_run(folder) if config.runtime.ranks.is_main else nullcontext():
        state = _start(config, folder, callback, epoch_callback)
        start = time.monotonic()
        for loader_state, batch in state.loader.iterate_from(state.progress.loader_state):
            result = train_step(state, loader_state, batch, stop(), save_every)
            start = state.add_seconds_since(start)
            _log_step(state, loader_state, result.loss)
            state.add_seconds_since(start)
            if state.progress.loader_state.batch == 0:
                _end_epoch(state)
            if result.signal or result.save:
                _save(state)
            if result.signal:
                raise RunStopped(
                    f"stopped after {state.progress.steps} steps, state saved; "
                    f"continue with: alexnet train --resume {folder}",
                    result.signal,
                )
            start = time.monotonic()
        return _finish(state)


# ---- the start


def _start(
    config: RunConfig, folder: Path, callback: RunCallback, epoch_callback: EpochCallback
) -> TrainState:
    """Build the state of a new run, or of one that continues from its newest checkpoint."""
    runtime = config.runtime
    own = Checkpoint()
    if runtime.ranks.is_main:
        run_dir.remove_partial_files(folder)
        own = checkpoint.load_latest(folder / run_dir.CHECKPOINTS_DIR, config.digest())
    saved = broadcast_object(runtime.ranks, own.without_tensors())
    is_new = saved.progress.steps == 0
    preprocessor = make_preprocessor(config.dataset, config.recipe)
    initial = _initial_model(config, is_new)
    model = ShardedModel.from_model(initial, config.recipe.training, runtime)
    if not is_new:
        model.restore(own)
    loader = TrainLoader(
        config.train,
        preprocessor,
        config.recipe.training,
        config.seed,
        runtime.workers,
        model.strategy.rows,
        runtime.device,
    )
    state = TrainState(
        config,
        folder,
        model,
        preprocessor,
        loader,
        saved.progress,
        callback,
        epoch_callback,
        saved.progress.seconds,
    )
    _log_start(state, saved.errors, is_new)
    return state


def _initial_model(config: RunConfig, is_new: bool) -> AlexNet:
    """Return the whole model with its first weights; those of a resumed run do not matter."""
    model = AlexNet(config.recipe.network, len(config.dataset.classes))
    init_weights(model, config.seed)
    if config.init is not None and is_new:
        init = read_model_file(Path(config.init.path))
        _require_same_scale(config.recipe, init.recipe)
        load_matching(model, init.model, init.recipe.name)
    return model


def _require_same_scale(recipe: Recipe, init: Recipe) -> None:
    """Raise UsageError where a network would see images on another scale than it has learned."""
    scale = init.augmentation.scale
    if recipe.augmentation.scale != scale:
        own = f"--recipe {init.name}" if init.name in RECIPES else "the model's own recipe"
        raise UsageError(
            f"--init-from: the model has learned on images scaled by {scale:g}, recipe "
            f"{recipe.name} scales by {recipe.augmentation.scale:g}; "
            f"use {own} or --set augmentation.scale={scale}"
        )


def _log_start(state: TrainState, errors: tuple[str, ...], is_new: bool) -> None:
    """Bring metrics.jsonl to the checkpoint's length, write recipe.json, log the beginning."""
    config = state.config
    if state.is_main:
        run_dir.truncate_metrics(state.folder, state.progress.metrics_bytes)
    communication = state.model.describe_comm(config.recipe.training.batch_size)
    if communication:
        state.log("parallel", text=communication)
    for error in errors:
        state.log("warning", text=f"{error}; an older checkpoint is used")
    if is_new and state.is_main:
        description = config.description()
        state.log("begin", steps_per_epoch=state.loader.steps_per_epoch, **description)
        run_dir.write_recipe(state.folder, description)  # last: it makes the directory a run's
        if config.steps < FEW_STEPS:
            state.log("warning", text=_few_steps(config))


def _few_steps(config: RunConfig) -> str:
    options = ["more --epochs"]
    if config.recipe.training.batch_size > SMALL_BATCH_SIZE:
        options.insert(0, f"--batch-size {SMALL_BATCH_SIZE}")
    if config.init is None:
        options.append("--init-from a trained model")
    advice = _join_options(options)
    return f"only {config.steps} updates in all: too few to learn from; try {advice}"


def _join_options(options: list[str]) -> str:
    """Return "a", "a or b", "a, b, or c"."""
    if len(options) < 3:
        return " or ".join(options)
    return f"{', '.join(options[:-1])}, or {options[-1]}"


# ---- a step


class StepResult(NamedTuple):
    """What all ranks know after a batch."""

    loss: float  # mean over the batch
    incorrect: int  # images of the batch that were classified wrongly
    signal: int  # the number of the signal that asks to stop, or 0
    save: bool  # whether a checkpoint is due


def train_step(
    state: TrainState, loader_state: LoaderState, batch: Batch, signal: int, save_every: float
) -> StepResult:
    """Train on one batch and move the progress past it; Diverged where the loss is not finite."""
    epoch = state.loader.epoch(loader_state)
    state.model.set_lr(epoch, state.progress.plateau)
    loss, incorrect = state.model.strategy.forward_backward(
        _step_input(state, epoch, batch)
    ).tolist()
    save = state.is_main and state.progress.seconds - state.saved_at >= save_every
    own = StepResult(loss, incorrect, signal, save)
    result = _reduce(state.config.runtime.ranks, own)
    if not math.isfinite(result.loss):
        raise Diverged(_non_finite_loss(state, batch))
    state.model.step()
    state.progress = advance(
        state.progress,
        loader_state,
        state.loader.steps_per_epoch,
        len(batch.labels),
        result.loss,
        result.incorrect,
    )
    return result


def _step_input(state: TrainState, epoch: float, batch: Batch) -> StepInput:
    """Augment a batch and move it to the device."""
    recipe = state.config.recipe
    runtime = state.config.runtime
    images = state.preprocessor.augment_and_normalize(
        batch.crops,
        batch.params.rows(batch.rows),
        recipe.augmentation.color_jitter.at(epoch),
        state.config.resolution(epoch),
        runtime.device,
        runtime.dtype,
    )
    keys = torch.from_numpy(batch.params.dropout).to(runtime.device)
    labels = batch.labels.to(runtime.device)
    return StepInput(images, keys, labels, recipe.training.label_smoothing)


def _reduce(ranks: Ranks, own: StepResult) -> StepResult:
    """Combine the ranks' results: sums of losses and errors, any request to stop or save."""
    each = all_gather_scalars(ranks, own)
    loss, incorrect = each[:, :2].sum(0).tolist()
    signal, save = each[:, 2:].amax(0).tolist()
    return StepResult(loss, int(incorrect), int(signal), bool(save))


def _non_finite_loss(state: TrainState, batch: Batch) -> str:
    images = ", ".join(map(str, batch.indices[:IMAGES_NAMED]))
    more = ", ..." if len(batch.indices) > IMAGES_NAMED else ""
    return (
        f"non-finite loss at step {state.progress.steps + 1} (images {images}{more}); "
        f"nothing was updated; try a lower --lr (it was {state.model.max_lr:g}) "
        "or --precision fp32"
    )


def _log_step(state: TrainState, loader_state: LoaderState, loss: float) -> None:
    """Log a step and the speed of the run so far, RECORDS_PER_EPOCH times an epoch or so."""
    if loader_state.batch % max(1, state.loader.steps_per_epoch // RECORDS_PER_EPOCH) != 0:
        return
    epoch = state.loader.epoch(loader_state)
    state.log(
        "step",
        step=state.progress.steps,
        epoch=epoch,
        loss=loss,
        lr=value_at(state.config.recipe.training.lr, epoch, state.progress.plateau),
        images_per_second=state.progress.images / state.progress.seconds,
    )


# ---- the end of an epoch


def _end_epoch(state: TrainState) -> None:
    """Validate, move the plateau, write the model if it is the best so far, log the epoch."""
    progress = state.progress
    record: Record = {"epoch": progress.loader_state.epoch, "step": progress.steps}
    record |= progress.train_means(len(state.config.train))
    is_best = True
    model = state.model.full_model()
    if state.config.val is not None:
        scores = _validate(state, model)
        record |= {f"val_{name}": value for name, value in scores}
        is_best = progress.best is None or scores.top1_error < progress.best.top1_error
        best = progress.best
        if is_best:
            best = BestErrors(record["epoch"], scores.top1_error, scores.top5_error)
        state.progress = replace(progress, plateau=_next_plateau(state, scores), best=best)
    state.log("epoch", **record, seconds=progress.seconds)
    if state.is_main:
        state.epoch_callback(progress.steps, model)
    _warn_if_not_learning(state)
    if is_best:
        _write_model(state, record)


def _validate(state: TrainState, model: AlexNet) -> Scores:
    """Return the scores on the val split, one crop an image; Diverged where they are not finite."""
    config = state.config
    assert config.val is not None
    classifier = Classifier(model.eval(), state.preprocessor, config.recipe, {})
    scores = evaluate(classifier, config.val, 1, config.runtime)
    if not math.isfinite(scores.loss):
        epoch = state.progress.loader_state.epoch
        raise Diverged(f"non-finite logits after epoch {epoch}; try a lower --lr")
    return scores


def _next_plateau(state: TrainState, scores: Scores) -> PlateauState:
    schedule = state.config.recipe.training.lr
    if isinstance(schedule, ReduceOnPlateau):
        return state.progress.plateau.after(scores.top1_error, schedule)
    return state.progress.plateau


def _warn_if_not_learning(state: TrainState) -> None:
    """Log a warning where the loss over the epoch's second half is about that of the prior.

    The first says what to try, the later ones only where the run stands. None comes before the
    network has had a whole epoch with its full learning rate.
    """
    epoch = state.progress.loader_state.epoch
    loss = state.progress.second_half_loss
    prior = state.config.prior_loss()
    if loss < NOT_LEARNING * prior or epoch < _warmup_epochs(state.config) + 1:
        return
    if state.has_warned:
        text = f"still not learning: loss {loss:.2f} after epoch {epoch}, prior {prior:.2f}"
    else:
        text = (
            f"not learning yet: loss {loss:.2f} after epoch {epoch}, no better than the class "
            f"prior ({prior:.2f}); try {_join_options(_learning_advice(state.config))}"
        )
    state.has_warned = True
    state.log("warning", text=text)


def _warmup_epochs(config: RunConfig) -> float:
    """Return the epoch at which a learning rate that rises from the start is highest, else 0."""
    schedule = config.recipe.training.lr
    if not isinstance(schedule, PiecewiseLinear):
        return 0.0
    return next(epoch for epoch, value in schedule.points if value == schedule.largest)


def _learning_advice(config: RunConfig) -> list[str]:
    """Return what may help a network that does not learn."""
    options = ["more --epochs"]
    if config.steps < FEW_STEPS and config.recipe.training.batch_size > SMALL_BATCH_SIZE:
        options.append(f"--batch-size {SMALL_BATCH_SIZE}")
    options.append("a lower --lr")
    if config.recipe.name != "modern":
        options.append("--recipe modern")
    return [*options, "another --seed", "more images"]


def _write_model(state: TrainState, record: Record) -> None:
    """Write the model file with the whole model; its provenance begins with the epoch's record."""
    config = state.config
    weights = state.model.masters()
    provenance = record | {
        "seed": config.seed,
        "dataset": config.dataset.digest,
        "dataset_name": Path(config.dataset.location.address).name,
        "train_images": len(config.train),
        "val_images": 0 if config.val is None else len(config.val),
        "machine": machine_info(),
    }
    if state.is_main:
        path = state.folder / MODEL_FILE
        write_model_file(path, weights, state.preprocessor, config.recipe, provenance)


# ---- checkpoints and the end


def _save(state: TrainState) -> None:
    """Write a checkpoint, once the disk has the records that it counts on."""
    weights = state.model.masters()
    velocities = state.model.velocities()
    state.saved_at = state.progress.seconds
    if not state.is_main:
        return
    metrics_bytes = run_dir.fsync_metrics(state.folder)
    state.progress = replace(state.progress, metrics_bytes=metrics_bytes)
    folder = state.folder / run_dir.CHECKPOINTS_DIR
    checkpoint.save(folder, state.progress, weights, velocities, state.config.digest())


def is_finished(config: RunConfig, folder: Path) -> bool:
    """Tell whether the newest checkpoint in a run's directory is that of its last step."""
    return checkpoint.saved_steps(folder / run_dir.CHECKPOINTS_DIR) >= config.steps


def _finish(state: TrainState) -> Record:
    """Save the final state and return the summary."""
    _save(state)
    progress = state.progress
    best = progress.best
    return {
        "epochs": state.config.recipe.training.epochs,
        "steps": progress.steps,
        "seconds": progress.seconds,
        "images_per_second": progress.images / max(progress.seconds, 1e-9),
        "model": str(state.folder / MODEL_FILE),
        "best_epoch": None if best is None else best.epoch,
        "top1_error": None if best is None else best.top1_error,
        "top5_error": None if best is None else best.top5_error,
        **state.model.comm_summary(),
    }
