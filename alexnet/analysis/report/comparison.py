"""Write a page that compares several runs: scores, curves, and how their recipes differ.

Each run is evaluated as its own report does, on the split asked for, so a number here is the number
there. Recipes are compared setting by setting, by dotted name; settings on which all runs agree are
left out. The page refers to nothing outside itself.
"""

from collections.abc import Sequence
from dataclasses import Field, dataclass, fields
from pathlib import Path
from typing import Any

from alexnet.analysis.format import (
    format_percent,
    format_size,
    format_time,
    layer_name,
)
from alexnet.analysis.plots.curves import compute_curves, plot_curves
from alexnet.analysis.report.images import embed_svg
from alexnet.analysis.report.render import render_page
from alexnet.analysis.report.scoring import SplitPredictions, predict_run
from alexnet.analysis.report.summary import images_per_second, training_length
from alexnet.analysis.report.values import EmbeddedImage, Table
from alexnet.core.atomic_io import write_bytes
from alexnet.core.device import Runtime
from alexnet.evaluation.evaluate import ProgressFn, Scores
from alexnet.recipes.describe import (
    describe_schedule,
)
from alexnet.recipes.recipe import Recipe
from alexnet.recipes.schedules import PiecewiseConstant, PiecewiseLinear, ReduceOnPlateau
from alexnet.training.run_dir import Run, display_names, read_run

SCORE_COLUMNS = (
    "Run",
    "Recipe",
    "Top-1 error",
    "Top-5 error",
    "Loss",
    "Evaluated on",
    "Best on val",
    "Epochs",
    "Time",
    "Speed",
    "Precision",
    "Seed",
)
NONE = "\N{EN DASH}"  # a setting that a recipe does not have


@dataclass(frozen=True)
class ComparisonPage:
    """All values of the page; a part that is None or empty is left out."""

    title: str
    heading: str
    warnings: Sequence[str]
    scores: Table
    curves: EmbeddedImage | None
    differences: Table | None


def write_comparison(
    folders: Sequence[Path],
    out: Path,
    split: str | None,
    crops: int | None,
    runtime: Runtime,
    progress: ProgressFn,
    dataset: str | Path | None,
) -> list[tuple[str, Scores]]:
    """Write the page of several runs; return each run's name and scores.

    Arguments and errors are those of `write_report`.
    """
    runs = [read_run(folder, dataset) for folder in folders]
    predicted = [predict_run(run, split, crops, runtime, progress) for run in runs]
    write_bytes(out, render_page("comparison.html.j2", comparison_page(runs, predicted)))
    return [(name, one.scores) for name, one in zip(display_names(runs), predicted, strict=True)]


def comparison_page(runs: Sequence[Run], predicted: Sequence[SplitPredictions]) -> ComparisonPage:
    """Gather all values of the page."""
    run_names = display_names(runs)
    heading = f"{len(runs)} runs compared"
    rows = recipe_differences([run.model.recipe for run in runs])
    return ComparisonPage(
        title=f"{heading}: {', '.join(run_names)}",
        heading=heading,
        warnings=_dataset_warnings(runs),
        scores=_score_table(runs, run_names, predicted),
        curves=_curves(runs),
        differences=Table(("Setting", *run_names), rows) if rows else None,
    )


def _dataset_warnings(runs: Sequence[Run]) -> list[str]:
    """Warn where the runs were not trained, or are not evaluated, on the same images."""
    warnings = []
    if len({run.dataset.digest for run in runs}) > 1:
        warnings.append("These runs have different datasets: their errors are of different images.")
    if len({run.description.get("dataset_digest", run.dataset.digest) for run in runs}) > 1:
        warnings.append("These runs were not trained on the same images.")
    return warnings


def _score_table(
    runs: Sequence[Run], run_names: Sequence[str], predicted: Sequence[SplitPredictions]
) -> Table:
    """Return scores, times and conditions, a run a row, the smallest error first."""
    entries = list(zip(runs, run_names, predicted, strict=True))
    entries.sort(key=lambda entry: entry[2].scores.top1_error)
    return Table(SCORE_COLUMNS, [_score_row(run, name, one) for run, name, one in entries])


def _score_row(run: Run, name: str, predicted: SplitPredictions) -> tuple[str, ...]:
    scores = predicted.scores
    epochs, seconds = training_length(run)
    speed = images_per_second(run)
    best = run.best
    return (
        name,
        run.model.recipe.name,
        format_percent(scores.top1_error, 2),
        format_percent(scores.top5_error, 2),
        f"{scores.loss:.3f}",
        f"{predicted.split.name}, {scores.images:,} × {predicted.crops}",
        format_percent(best["val_top1_error"], 2) if best else NONE,
        f"{epochs} of {run.model.recipe.training.epochs}",
        format_time(seconds) if epochs else NONE,
        f"{speed:,.0f}/s" if speed else NONE,
        str(run.description.get("precision", NONE)),
        str(run.description.get("seed", NONE)),
    )


def _curves(runs: Sequence[Run]) -> EmbeddedImage | None:
    """Plot the curves of the runs that have recorded something; None where none has."""
    started = [run for run in runs if run.of("step")]
    if not started:
        return None
    names = ", ".join(display_names(started))
    alt = f"Loss, validation error and learning rate of {names} over epochs."
    return embed_svg(plot_curves(compute_curves(started)), alt)


# ---- how recipes differ


def recipe_differences(recipes: Sequence[Recipe]) -> list[tuple[str, ...]]:
    """Return (setting, value in each recipe, ...) of the settings in which recipes differ."""
    flattened = [flatten_settings(recipe) for recipe in recipes]
    all_names = dict.fromkeys(name for settings in flattened for name in settings)
    rows = [(name, *(settings.get(name, NONE) for settings in flattened)) for name in all_names]
    return [row for row in rows if len(set(row[1:])) > 1]


def flatten_settings(recipe: Recipe) -> dict[str, str]:
    """Return every setting of a recipe, in words, by its dotted name."""
    network = recipe.network
    settings = {"recipe": recipe.name}
    settings |= _flatten("network", network, skip="layers")
    settings["network.layers"] = ", ".join(layer_name(layer) for layer in network.layers)
    for layer in network.layers:
        if hasattr(layer, "name"):
            settings |= _flatten(layer.name, layer, skip="name")
    settings |= _flatten("augmentation", recipe.augmentation)
    settings |= _flatten("training", recipe.training, skip="param_groups")
    for group in recipe.training.param_groups:
        if group.lr is not None:
            settings[f"training.lr of {group.suffix}"] = _format_setting(group.lr)
        if group.weight_decay is not None:
            name = f"training.weight_decay of {group.suffix}"
            settings[name] = _format_setting(group.weight_decay)
    return settings


def _flatten(prefix: str, value: Any, skip: str = "") -> dict[str, str]:
    """Return the fields of a dataclass, in words, by dotted name."""
    members: tuple[Field[Any], ...] = fields(value)
    return {
        f"{prefix}.{member.name}": _format_setting(getattr(value, member.name))
        for member in members
        if member.name != skip
    }


def _format_setting(value: Any) -> str:
    """Format a setting's value for readers."""
    match value:
        case None:
            return NONE
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case tuple():
            return format_size(*value)
        case PiecewiseConstant() | PiecewiseLinear() | ReduceOnPlateau():
            return describe_schedule(value)
        case _:
            return str(value)
