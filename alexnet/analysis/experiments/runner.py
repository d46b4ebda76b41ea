"""Run an experiment: train every ablation with every seed, measure the models and compare them.

Experiments share the runs they have in common, first of all the baseline's, and nothing that is
finished is done again: after a stop, the same call continues where it was (`training_runs`). A run
that diverges is a result, too. Models are those that the trainer keeps: the best on val, one crop.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import torch
from torch import Tensor

from alexnet.analysis.experiments.ablations import ENSEMBLE_SIZE, Ablation
from alexnet.analysis.experiments.config import ExperimentConfig, make_result
from alexnet.analysis.experiments.learning_speed import (
    divergence_notes,
    measure_epochs,
    val_convergence,
)
from alexnet.analysis.experiments.results import ExperimentResult, Row, plot_result
from alexnet.analysis.experiments.sparsity import Sparsity, activation_sparsity, relu_inputs
from alexnet.analysis.experiments.training_runs import (
    ExperimentHooks,
    Record,
    TrainedRun,
    train_once,
)
from alexnet.core import atomic_io
from alexnet.core.errors import AlexNetError, require
from alexnet.data.prepared import PreparedDataset
from alexnet.evaluation.evaluate import evaluate, predictions, score, scored_split
from alexnet.models.model_file import load_classifier
from alexnet.training.run_config import check_run

TRAIN_ERROR_NOTE = (
    "training error: that of the last epoch's batches, with dropout, crops and color jitter where "
    "an ablation has them"
)
ENSEMBLE_NOTE = "a value for each choice of that many models"


def run_experiment(config: ExperimentConfig, hooks: ExperimentHooks) -> ExperimentResult:
    """Run an experiment or continue it; writes OUT/NAME-HASH.json and .png.

    Everything is checked before the first run begins: that each change applies, and that each
    network can be built and has images. UsageError, AlexNetError; RunStopped after a stop.
    """
    for ablation in config.experiment.ablations:
        check_run(config.run_config(ablation, config.seeds[0]))
    if config.experiment.measure != "epochs":
        scored_split(config.dataset, config.split)
    result = _measure(config, hooks)
    document = json.dumps(result.to_json(), indent=1)
    atomic_io.write_bytes(config.out / f"{result.file_stem}.json", document.encode())
    atomic_io.write_bytes(config.out / f"{result.file_stem}.png", plot_result(result))
    return result


def _measure(config: ExperimentConfig, hooks: ExperimentHooks) -> ExperimentResult:
    match config.experiment.measure:
        case "errors":
            return measure_errors(config, hooks)
        case "epochs":
            return measure_epochs(config, hooks)
        case "ensemble":
            return measure_ensemble(config, hooks)
        case "sparsity":
            return measure_sparsity(config, hooks)


# ---- the runs of an ablation


def _train_all(
    config: ExperimentConfig, ablation: Ablation, hooks: ExperimentHooks
) -> list[TrainedRun]:
    return [
        train_once(run_config, _title(ablation, run_config.seed), config.out, hooks)
        for run_config in config.run_configs(ablation)
    ]


def _train_baseline(config: ExperimentConfig, hooks: ExperimentHooks) -> list[TrainedRun]:
    """Return the first ablation's runs; AlexNetError where one diverged."""
    runs = _train_all(config, config.experiment.ablations[0], hooks)
    for run in runs:
        if run.diverged:
            raise AlexNetError(f"{run.folder}: {run.diverged}")
    return runs


def _title(ablation: Ablation, seed: int) -> str:
    return f"{ablation.label}, seed {seed}"


def _folder_names(runs: Sequence[TrainedRun]) -> tuple[str, ...]:
    return tuple(run.folder.name for run in runs)


# ---- errors


def measure_errors(config: ExperimentConfig, hooks: ExperimentHooks) -> ExperimentResult:
    """Measure every ablation's errors on the scored split, and its training error at the end."""
    ablations = config.experiment.ablations
    runs = [_train_all(config, ablation, hooks) for ablation in ablations]
    metrics = error_metrics(config.dataset)
    metrics["train_error"] = "training error %"
    rows = [
        _error_row(config, ablation, group, list(metrics), hooks)
        for ablation, group in zip(ablations, runs, strict=True)
    ]
    convergence = val_convergence(config, runs) if config.experiment.convergence else None
    if convergence is not None:
        metrics["epochs_to_val"], epochs = convergence
        rows = [
            replace(row, values={**row.values, "epochs_to_val": values})
            for row, values in zip(rows, epochs, strict=True)
        ]
    notes = [TRAIN_ERROR_NOTE]
    for ablation, group in zip(ablations, runs, strict=True):
        notes += divergence_notes(ablation, group)
    return make_result(config, metrics, rows, notes=notes)


def error_metrics(dataset: PreparedDataset) -> dict[str, str]:
    """Return the metrics with their headings; with fewer than six classes top-5 is no metric."""
    metrics = {"top1_error": "top-1 error %"}
    if len(dataset.classes) > 5:
        metrics["top5_error"] = "top-5 %"
    return metrics


def _error_row(
    config: ExperimentConfig,
    ablation: Ablation,
    runs: Sequence[TrainedRun],
    metrics: list[str],
    hooks: ExperimentHooks,
) -> Row:
    scores = [
        None if run.diverged else _score_run(config, run, _title(ablation, run.config.seed), hooks)
        for run in runs
    ]
    values = {
        metric: tuple(None if record is None else record[metric] for record in scores)
        for metric in metrics
    }
    return Row(ablation.label, values, ablation.published, runs=_folder_names(runs))


def _score_run(
    config: ExperimentConfig, run: TrainedRun, title: str, hooks: ExperimentHooks
) -> Record:
    """Return a run's errors, read from its directory or computed and stored there."""
    path = run.folder / f"{config.split}-{config.crops}-crops.json"
    if not path.exists():
        classifier = load_classifier(run.model_path, config.runtime)
        with hooks.scoring(f"scoring {title}") as progress:
            scores = evaluate(
                [config.with_dataset_preprocessing(classifier)],
                config.scored_split,
                config.crops,
                config.runtime,
                hooks.stoppable(progress),
            )
        document = json.dumps({"images": scores.images, **dict(scores)})
        atomic_io.write_bytes(path, document.encode())
    return {**json.loads(path.read_bytes()), "train_error": run.epochs[-1]["train_error"]}


# ---- ensembles


def measure_ensemble(config: ExperimentConfig, hooks: ExperimentHooks) -> ExperimentResult:
    """Measure the errors of one network, two, ... averaged: a value for every choice of runs."""
    require(
        len(config.seeds) > 1,
        f"--seeds {len(config.seeds)}: an ensemble needs two or more",
    )
    runs = _train_baseline(config, hooks)
    probabilities = torch.stack(
        [_predict_split(config, run, hooks) for run in runs]
    )  # (models, N, classes)
    labels = torch.from_numpy(config.scored_split.labels)
    metrics = error_metrics(config.dataset)
    rows = []
    for size in range(1, len(runs) + 1):
        scores = []
        for chosen in combinations(range(len(runs)), size):
            averaged = (probabilities[list(chosen)] * (1 / size)).sum(0)  # as `evaluate` rounds
            scores.append(dict(score(averaged, labels)))
        values = {metric: tuple(record[metric] for record in scores) for metric in metrics}
        published = config.experiment.ablations[0].published if size == ENSEMBLE_SIZE else ()
        label = f"{size} model{'s' if size > 1 else ''}"
        rows.append(Row(label, values, published, runs=_folder_names(runs)))
    return make_result(config, metrics, rows, notes=[ENSEMBLE_NOTE])


def _predict_split(config: ExperimentConfig, run: TrainedRun, hooks: ExperimentHooks) -> Tensor:
    """Return a run's probabilities (N, classes) on the scored split."""
    classifier = load_classifier(run.model_path, config.runtime)
    with hooks.scoring(f"seed {run.config.seed}") as progress:
        batches = predictions(
            [config.with_dataset_preprocessing(classifier)],
            config.scored_split,
            config.crops,
            config.runtime,
            hooks.stoppable(progress),
        )
        return torch.cat([probability for probability, _ in batches])


# ---- sparsity


def measure_sparsity(config: ExperimentConfig, hooks: ExperimentHooks) -> ExperimentResult:
    """Measure the percentages of zeros and of dead units after each relu of trained networks."""
    layers = relu_inputs(config.recipe.network)
    runs = _train_baseline(config, hooks)
    sparsities = [_run_sparsity(config, run, hooks) for run in runs]
    rows = []
    for layer in layers:
        values = {
            "zeros": tuple(sparsity[layer].zeros for sparsity in sparsities),
            "dead_units": tuple(sparsity[layer].dead_units for sparsity in sparsities),
        }
        rows.append(Row(layer, values, runs=_folder_names(runs)))
    return make_result(config, {"zeros": "zeros %", "dead_units": "dead units %"}, rows, "none")


def _run_sparsity(
    config: ExperimentConfig, run: TrainedRun, hooks: ExperimentHooks
) -> dict[str, Sparsity]:
    classifier = load_classifier(run.model_path, config.runtime)
    with hooks.scoring(f"seed {run.config.seed}") as progress:
        return activation_sparsity(
            config.with_dataset_preprocessing(classifier),
            config.scored_split,
            config.runtime,
            hooks.stoppable(progress),
        )
