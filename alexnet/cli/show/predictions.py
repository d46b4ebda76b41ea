"""The figure predictions: images with their likeliest classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from alexnet.cli.options import CROPS, LOCATION, MODEL, SPLIT, parse_crops, runtime_options
from alexnet.cli.show.figure import figure_options, figure_path, write_figure_of_images
from alexnet.cli.show.inputs import open_split, read_images
from alexnet.core.errors import AlexNetError

if TYPE_CHECKING:
    from alexnet.analysis.plots.predictions import PredictedImage
    from alexnet.core.device import Runtime
    from alexnet.models.model_file import Classifier


@click.command()
@click.argument("model", type=MODEL)
@click.argument("paths", type=LOCATION, nargs=-1, required=True, metavar="DATASET|IMAGE...")
@click.option("--only-errors", is_flag=True, help="Only images of a dataset that it gets wrong.")
@click.option("--count", type=click.IntRange(1, 40), default=8, show_default=True, help="Images.")
@SPLIT
@CROPS
@figure_options
@runtime_options
def predictions(
    model: Path,
    paths: tuple[str, ...],
    only_errors: bool,
    count: int,
    split: str | None,
    crops: str | None,
    out: Path | None,
    as_json: bool,
    device: str,
    precision: str,
    workers: int | None,
) -> None:
    """Draw images with their likeliest classes (figure 4).

    The true class is marked.

    \b
    Example:  alexnet show predictions run dataset --only-errors
    """
    from alexnet.analysis.plots import predictions as plot
    from alexnet.core.device import make_runtime
    from alexnet.models.model_file import load_classifier

    path = figure_path(out, "predictions")
    runtime = make_runtime(device, precision, workers)
    classifier = load_classifier(model, runtime)
    preprocessor = classifier.preprocessor
    crop_count = parse_crops(crops) or preprocessor.augmentation.test_crops
    unreadable: list[tuple[str, str]] = []
    shown: Sequence[PredictedImage]
    if only_errors:
        shown = _errors(classifier, paths, split, count, crop_count, runtime)
    else:
        images, unreadable = read_images(preprocessor, paths, split, count, runtime.workers)
        shown = plot.predict_images(classifier, images, crop_count, runtime)
    figure = plot.plot_predictions(shown, preprocessor.classes)
    rows = [prediction.to_json(preprocessor.classes) for prediction in shown]
    data = {"crops": crop_count, "images": rows}
    write_figure_of_images(path, figure, data, len(shown), unreadable, as_json)


def _errors(
    classifier: "Classifier",
    paths: Sequence[str],
    split: str | None,
    count: int,
    crops: int,
    runtime: "Runtime",
) -> "Sequence[PredictedImage]":
    """Return wrong predictions on a dataset's split; AlexNetError where there are none."""
    from alexnet.analysis.plots import predictions as plot
    from alexnet.core import console

    records = open_split(classifier.preprocessor, paths, split)
    with console.progress_bar("looking for errors") as progress:
        errors = plot.find_errors(classifier, records, count, crops, runtime, progress)
    if not errors:
        where = f"{records.name}, {len(records):,} images"
        raise AlexNetError(f"{paths[0]}: no errors on {where}; leave out --only-errors")
    return errors
