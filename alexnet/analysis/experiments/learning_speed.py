"""How fast an ablation learns: the epochs until its error has come down to a target.

The training error of the paper's figure 1 is measured at each ablation's best learning rate, and
runs end when they reach it. For other experiments the error on val is used: an ablation without
dropout or color jitter has a lower training error by the way it is measured.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from alexnet.analysis.experiments.ablations import Ablation
from alexnet.analysis.experiments.config import ExperimentConfig, make_result
from alexnet.analysis.experiments.results import (
    ExperimentResult,
    Row,
    Values,
    epochs_to_reach,
)
from alexnet.analysis.experiments.training_runs import (
    ExperimentHooks,
    Record,
    TrainedRun,
    train_once,
)
from alexnet.core.errors import AlexNetError
from alexnet.data.prepared import PreparedDataset
from alexnet.recipes.recipe import Recipe, with_lr

TARGET_ERROR = 25.0  # % of training error, that of the paper's figure 1
LRS = (0.002, 0.005, 0.01, 0.02, 0.05)  # tried for each ablation if none is given
TRIAL_EPOCHS = 5  # of a learning rate: after three, rates that are too high still lead
EPOCH_NOTE = "an epoch's training error is its mean and counts for the middle of the epoch"
VAL_ERROR = "val_top1_error"


def measure_epochs(config: ExperimentConfig, hooks: ExperimentHooks) -> ExperimentResult:
    """Measure the epochs of every ablation until the training error is down to TARGET_ERROR."""
    rows = []
    notes = [EPOCH_NOTE]
    for ablation in config.experiment.ablations:
        lr = config.lr or best_lr(config, ablation, hooks)
        row, row_notes = _measure_ablation(config, with_given_lr(ablation, lr), lr, hooks)
        rows.append(row)
        notes += row_notes
        if config.lr is None and lr in (LRS[0], LRS[-1]):
            notes.append(
                f"{ablation.label}: its best learning rate is at the end of those tried, {LRS}; "
                "--lr sets another"
            )
    metrics = {"epochs": f"epochs to {TARGET_ERROR:g} %"}
    return make_result(config, metrics, rows, "ratio", TARGET_ERROR, notes)


def _measure_ablation(
    config: ExperimentConfig, ablation: Ablation, lr: float, hooks: ExperimentHooks
) -> tuple[Row, list[str]]:
    """Return an ablation's epochs and training curves, and notes on them."""

    def reached(record: Record) -> bool:
        return record["train_error"] <= TARGET_ERROR

    runs = [
        train_once(
            run_config, f"{ablation.label}, seed {run_config.seed}", config.out, hooks, reached
        )
        for run_config in config.run_configs(ablation)
    ]
    curves = tuple(run.curve("train_error") for run in runs)
    initial = prior_error(config.dataset)
    epochs = tuple(
        None if run.diverged else epochs_to_reach(curve, TARGET_ERROR, initial, first_epoch=0.5)
        for run, curve in zip(runs, curves, strict=True)
    )
    notes = divergence_notes(ablation, runs)
    unreached = [
        str(run.config.seed)
        for run, epoch in zip(runs, epochs, strict=True)
        if epoch is None and not run.diverged
    ]
    if unreached:
        seeds = ", ".join(unreached)
        notes.append(
            f"{ablation.label}: not down to {TARGET_ERROR:g} % with seed {seeds}; "
            "give it more --epochs"
        )
    values = {"epochs": epochs, "lr": (lr,) * len(runs)}
    folders = tuple(run.folder.name for run in runs)
    return Row(ablation.label, values, ablation.published, curves, folders), notes


def best_lr(config: ExperimentConfig, ablation: Ablation, hooks: ExperimentHooks) -> float:
    """Return the learning rate with the lowest training error after TRIAL_EPOCHS, first seed.

    A trial is the beginning of the whole run at that rate: the best one's run continues from it.
    AlexNetError where all of them diverge.
    """
    trial_epochs = min(TRIAL_EPOCHS, config.recipe.training.epochs)

    def trial_done(record: Record) -> bool:
        return record["epoch"] >= trial_epochs

    trials = {}
    for lr in LRS:
        run_config = config.run_config(with_given_lr(ablation, lr), config.seeds[0])
        title = f"{ablation.label}, trial of lr {lr:g}"
        trials[lr] = train_once(run_config, title, config.out, hooks, trial_done)
    errors = {
        lr: run.epochs[trial_epochs - 1]["train_error"]
        for lr, run in trials.items()
        if not run.diverged
    }
    if not errors:
        raise AlexNetError(
            f"{ablation.label}: every learning rate of {LRS} diverged; give a lower one with --lr"
        )
    best = min(errors, key=lambda lr: errors[lr])
    for lr in set(LRS) - {best}:
        trials[lr].delete_checkpoints()
    return best


def with_given_lr(ablation: Ablation, lr: float) -> Ablation:
    """Return the ablation with a learning rate."""

    def change(recipe: Recipe) -> Recipe:
        return with_lr(ablation.change(recipe), lr)

    return replace(ablation, label=f"{ablation.label}, lr {lr:g}", change=change)


def val_convergence(
    config: ExperimentConfig, runs: Sequence[Sequence[TrainedRun]]
) -> tuple[str, list[Values]] | None:
    """Return the epochs to the lowest val error that all runs reached, by ablation and seed.

    With a heading; None where there is no val split or all runs diverged.
    """
    converged = [run for group in runs for run in group if not run.diverged]
    if not converged or not all(VAL_ERROR in run.epochs[0] for run in converged):
        return None
    target = max(min(run.curve(VAL_ERROR)) for run in converged)
    initial = prior_error(config.dataset)
    epochs = [
        tuple(
            None if run.diverged else epochs_to_reach(run.curve(VAL_ERROR), target, initial)
            for run in group
        )
        for group in runs
    ]
    return f"epochs to val {target:.1f} %", epochs


def prior_error(dataset: PreparedDataset) -> float:
    """Return the training error in percent of always predicting the most frequent class.

    Curves start from it before the first epoch.
    """
    labels = dataset.splits["train"].labels
    return 100 * (1 - float(np.bincount(labels).max()) / len(labels))


def divergence_notes(ablation: Ablation, runs: Sequence[TrainedRun]) -> list[str]:
    """Return a note for every run that diverged."""
    return [
        f"{ablation.label}, seed {run.config.seed}: {run.diverged}" for run in runs if run.diverged
    ]
