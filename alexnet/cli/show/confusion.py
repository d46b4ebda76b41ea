"""The figure confusion: which classes a model takes for which."""

from pathlib import Path

import click

from alexnet.cli.options import CROPS, LOCATION, MODEL, SPLIT, parse_crops, runtime_options
from alexnet.cli.show.figure import figure_options, figure_path, write_figure
from alexnet.cli.show.inputs import open_split


@click.command()
@click.argument("model", type=MODEL)
@click.argument("dataset", type=LOCATION)
@SPLIT
@CROPS
@figure_options
@runtime_options
def confusion(
    model: Path,
    dataset: str,
    split: str | None,
    crops: str | None,
    out: Path | None,
    as_json: bool,
    device: str,
    precision: str,
    workers: int | None,
) -> None:
    """Draw which classes a MODEL confuses on a DATASET.

    All counts of a few classes, the most frequent mistakes of many.

    \b
    Example:  alexnet show confusion run dataset --crops 1
    """
    from alexnet.analysis.plots import confusion as plot
    from alexnet.core import console
    from alexnet.core.device import make_runtime
    from alexnet.evaluation.evaluate import predict_split
    from alexnet.models.model_file import load_classifier

    path = figure_path(out, "confusion")
    runtime = make_runtime(device, precision, workers)
    classifier = load_classifier(model, runtime)
    preprocessor = classifier.preprocessor
    records = open_split(preprocessor, (dataset,), split)
    count = parse_crops(crops) or preprocessor.augmentation.test_crops
    with console.progress_bar("evaluating") as progress:
        probability, labels = predict_split([classifier], records, count, runtime, progress)
    predicted = probability.argmax(1).numpy()
    result = plot.Confusion(labels.numpy(), predicted, preprocessor.classes)
    data = {"split": records.name, "crops": count, **result.to_json()}
    write_figure(path, plot.plot_confusion_matrix(result), data, as_json)
