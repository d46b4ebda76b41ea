"""The command predict: the likeliest classes of image files."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from alexnet.cli.options import (
    CROPS,
    JSON,
    MODEL,
    PATH,
    parse_crops,
    require_all_readable,
    runtime_options,
)

if TYPE_CHECKING:
    from alexnet.core.console import ProgressFn


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
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@CROPS
@click.option(
    "--top-k",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="Classes for each image.",
)
@click.option(
    "--csv", "csv_file", type=PATH, default=None, help="Write the predictions to this file as well."
)
@JSON
@runtime_options
def predict(
    model: Path,
    paths: tuple[str, ...],
    crops: str | None,
    top_k: int,
    csv_file: Path | None,
    as_json: bool,
    device: str,
    precision: str,
    workers: int | None,
) -> None:
    """Predict the classes of images.

    MODEL is a model file or a run's directory. PATHs are files, folders, or patterns such as
    "photos/*.jpg".

    \b
    Example:  alexnet predict run cat.jpg photos --csv predictions.csv
    """
    from alexnet import api
    from alexnet.core import console
    from alexnet.core.atomic_io import require_writable
    from alexnet.inference.predict import write_csv

    if csv_file is not None:
        require_writable(csv_file)
    with console.progress_bar("predicting") as progress:
        predictions = api.predict(
            model,
            paths,
            crops=parse_crops(crops),
            top_k=top_k,
            device=device,
            precision=precision,
            workers=workers,
            progress=without_single_report(progress),
        )
    if csv_file is not None:
        write_csv(csv_file, predictions)
    if as_json:
        console.print_json([prediction.to_json() for prediction in predictions])
    else:
        for prediction in predictions:
            console.print_line(prediction.line())
    unreadable = sum(prediction.error is not None for prediction in predictions)
    require_all_readable(unreadable, len(predictions))
