"""The command predict: the likeliest classes of image files, any number of them."""

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from alexnet.cli.options import (
    CROPS,
    JSON,
    LOCATION,
    MODEL,
    PATH,
    parse_crops,
    require_all_readable,
    runtime_options,
)
from alexnet.core.errors import require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from alexnet.core.console import ProgressFn
    from alexnet.inference.predict import Prediction
    from alexnet.inference.predict_many import ImageInputs
    from alexnet.inference.prediction_file import FileFormat
    from alexnet.inference.sort_into import Transfer


def without_single_report(progress: "ProgressFn") -> "ProgressFn":
    """Return the same progress, silent for a single batch: its only report comes at the end."""
    started = False

    def report(done: int, total: int) -> None:
        nonlocal started
        started = started or done < total
        if started:
            progress(done, total)

    return report


@click.command()
@click.argument("model", type=MODEL)
@click.argument("paths", type=LOCATION, nargs=-1, required=True, metavar="PATH...")
@CROPS
@click.option(
    "--top-k",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="Classes for each image.",
)
@click.option(
    "--csv", "csv_file", type=PATH, default=None, help="Write the predictions to this table, too."
)
@click.option(
    "--jsonl", "jsonl_file", type=PATH, default=None, help="The same, as a JSON object a line."
)
@click.option(
    "--resume", is_flag=True, help="Continue an interrupted --csv or --jsonl where it stopped."
)
@click.option(
    "--sort-into",
    type=PATH,
    default=None,
    metavar="FOLDER",
    help="Copy each image into a folder of its likeliest class.",
)
@click.option(
    "--link",
    type=click.Choice(["hard", "symbolic"]),
    default=None,
    help="With --sort-into, link the images instead of copying them.",
)
@click.option("-0", "--null", is_flag=True, help="The paths on standard input end with NUL bytes.")
@JSON
@runtime_options
def predict(
    model: Path,
    paths: tuple[str, ...],
    crops: str | None,
    top_k: int,
    csv_file: Path | None,
    jsonl_file: Path | None,
    resume: bool,
    sort_into: Path | None,
    link: "Transfer | None",
    null: bool,
    as_json: bool,
    device: str,
    precision: str,
    workers: int | None,
) -> None:
    """Predict the classes of images.

    MODEL is a model file, a run's directory or a name of `alexnet weights`. PATHs are files,
    folders, or patterns such as "photos/*.jpg"; - reads paths from standard input, one a line. Any
    number of images will do: each answer is written at once, and an image that cannot be read is
    reported and skipped.

    \b
    Examples:  alexnet predict run cat.jpg photos --csv predictions.csv
               alexnet predict caffe cat.jpg
               find photos -name "*.jpg" | alexnet predict run - --sort-into sorted
    """
    from alexnet.core import console
    from alexnet.core.device import make_runtime
    from alexnet.core.signals import stop_requests
    from alexnet.inference import predict_many
    from alexnet.inference.predict import predict_files
    from alexnet.inference.prediction_file import PredictionSettings
    from alexnet.inference.sort_into import class_folders
    from alexnet.models.model_file import load_classifier, model_digest

    files = _output_files(csv_file, jsonl_file, resume)
    require(sort_into is not None or link is None, "--link: expected --sort-into FOLDER with it")
    inputs = _read_inputs(paths, null)
    total = predict_many.check_inputs(inputs, list(files.values()), sort_into)
    runtime = make_runtime(device, precision, workers)
    classifier = load_classifier(model, runtime)
    classes = classifier.preprocessor.classes
    folders = class_folders(sort_into, classes, link or "copy", resume) if sort_into else None
    count = parse_crops(crops) or classifier.preprocessor.augmentation.test_crops
    settings = PredictionSettings(model_digest(model), count, min(top_k, len(classes)))
    with (
        predict_many.open_outputs(files, settings, resume, folders) as outputs,
        stop_requests() as stop,
        console.progress_bar("predicting") as progress,
        _printer(as_json) as show,
    ):
        remaining = outputs.remaining(inputs)
        report = without_single_report(progress)
        left = total - len(outputs.done())
        predictions = predict_files(classifier, remaining, count, runtime, report, top_k, left)
        images, unreadable = predict_many.write_predictions(predictions, outputs, show, stop)
    require_all_readable(unreadable, images)


def _output_files(
    csv_file: Path | None, jsonl_file: Path | None, resume: bool
) -> "dict[FileFormat, Path]":
    """Return the files that predictions go to by their format; UsageError."""
    from alexnet.core.atomic_io import require_writable

    files: dict[FileFormat, Path] = {}
    if csv_file is not None:
        files["csv"] = csv_file
    if jsonl_file is not None:
        files["jsonl"] = jsonl_file
    require(bool(files) or not resume, "--resume: expected --csv or --jsonl with it")
    require(
        len({file.resolve() for file in files.values()}) == len(files),
        f"--csv and --jsonl are both {csv_file}; expected two files",
    )
    for file in files.values():
        require_writable(file)
    return files


def _read_inputs(paths: tuple[str, ...], null: bool) -> "ImageInputs":
    """Return the images that are to be predicted, with those named on standard input."""
    from alexnet.inference.predict_many import STDIN, ImageInputs, read_paths

    require(STDIN in paths or not null, "--null: expected - as a PATH, to read standard input")
    if STDIN not in paths:
        return ImageInputs(paths)
    return ImageInputs(paths, read_paths(sys.stdin.buffer, null))


@contextmanager
def _printer(as_json: bool) -> "Iterator[Callable[[Prediction], None]]":
    """Yield a function that prints a prediction: as a line, or as the next in one JSON list."""
    from alexnet.core import console

    if not as_json:
        yield _print_line
        return
    with console.json_list() as add:
        yield lambda prediction: add(prediction.to_json())


def _print_line(prediction: "Prediction") -> None:
    from alexnet.core import console

    console.print_line(prediction.line())
