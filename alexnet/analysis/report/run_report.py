"""Write a run's report: one page, report.html, with its scores, figures, errors and recipe.

It reads what a run has left (recipe.json, metrics.jsonl, model.safetensors) and the dataset it
was trained on; training code is not needed. The page refers to nothing outside itself: it can be
mailed, printed and kept. The same run gives the same bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alexnet.analysis.format import format_percent
from alexnet.analysis.report import sections, summary
from alexnet.analysis.report.render import render_page
from alexnet.analysis.report.scoring import RunAnalysis, analyze_run
from alexnet.analysis.report.values import (
    ConfusionSection,
    ExampleSection,
    FigureSection,
    HeadlineNumber,
    RecipeSection,
)
from alexnet.core.atomic_io import write_bytes
from alexnet.core.device import Runtime
from alexnet.evaluation.evaluate import ProgressFn, Scores
from alexnet.models.model_file import MODEL_FILE
from alexnet.training.run_dir import REPORT_FILE, Run, read_run


@dataclass(frozen=True)
class RunPage:
    """All values of the page, in their order; a section that is None is left out."""

    title: str
    heading: str
    dataset: str
    headline: Sequence[HeadlineNumber]
    conditions: Sequence[tuple[str, str]]
    warnings: Sequence[str]
    curves: FigureSection | None
    filters: FigureSection | None
    examples: ExampleSection
    errors: ExampleSection
    confusion: ConfusionSection
    inside: FigureSection
    recipe: RecipeSection
    provenance: Sequence[tuple[str, str]]
    model_file: str
    commands: Sequence[str]


def write_report(
    folder: Path,
    split: str | None,
    crops: int | None,
    runtime: Runtime,
    progress: ProgressFn,
    dataset: str | Path | None = None,
) -> tuple[Path, Scores]:
    """Write report.html into a run's directory; return its path and the scores in it.

    `split` None: test where it has images, else val. `crops`: 1, 9, 10, or None for the recipe's
    own number. `progress` is called with (done, total) images. `dataset`: where the run's dataset
    is now, if it has moved. Raises AlexNetError where the run, its model or its dataset is
    missing or damaged, and UsageError for another number of crops.
    """
    run = read_run(folder, dataset)
    analysis = analyze_run(run, split, crops, runtime, progress)
    path = folder / REPORT_FILE
    write_bytes(path, render_run(run, analysis))
    return path, analysis.predictions.scores


def render_run(run: Run, analysis: RunAnalysis) -> bytes:
    """Render the page of a run."""
    return render_page("run.html.j2", run_page(run, analysis))


def run_page(run: Run, analysis: RunAnalysis) -> RunPage:
    """Gather all values of the page."""
    classes = run.dataset.classes
    predicted = analysis.predictions
    scores = predicted.scores
    heading = f"{run.model.recipe.name} on {run.dataset.path.name}"
    return RunPage(
        title=f"{heading}: {format_percent(scores.top1_error)} top-1 error",
        heading=heading,
        dataset=summary.dataset_summary(run.dataset),
        headline=summary.headline(scores, len(classes)),
        conditions=summary.conditions(run, analysis),
        warnings=summary.warnings(run),
        curves=sections.curves_section(run),
        filters=sections.filters_section(run.model),
        examples=sections.examples_section(predicted, classes),
        errors=sections.errors_section(predicted, classes),
        confusion=sections.confusion_section(predicted, classes),
        inside=sections.inside_section(analysis, classes),
        recipe=sections.recipe_section(run.model),
        provenance=summary.provenance(run),
        model_file=MODEL_FILE,
        commands=summary.commands(run, predicted),
    )
