"""The command evaluate: the errors of a model, or of an ensemble, on a dataset."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from alexnet.cli.options import (
    CROPS,
    JSON,
    LOCATION,
    MODEL,
    PATH,
    SPLIT,
    parse_crops,
    runtime_options,
)
from alexnet.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alexnet.api import Crops, Evaluation


@click.command()
@click.argument("paths", type=LOCATION, nargs=-1, required=True, metavar="MODEL... DATASET")
@SPLIT
@CROPS
@click.option("--dense", is_flag=True, help="Average every position of the whole square instead.")
@click.option(
    "--weights",
    default=None,
    metavar="W,W,...|val",
    help="Weight of each model; val: fitted on that split.",
)
@click.option(
    "--submission", type=PATH, default=None, help="Write the challenge's file of five guesses."
)
@JSON
@runtime_options
def evaluate(
    paths: tuple[str, ...],
    split: str | None,
    crops: str | None,
    dense: bool,
    weights: str | None,
    submission: Path | None,
    as_json: bool,
    device: str,
    precision: str,
    workers: int | None,
) -> None:
    """Score a MODEL, or several as an ensemble, on a DATASET.

    MODEL is a model file, a run's directory or a name of `alexnet weights`; the probabilities of
    several are averaged. DATASET is a directory or an address (http://HOST/DATASET,
    s3://BUCKET/DATASET).

    --weights val fits the weights of least loss on the validation split, to score another one.
    --submission writes a line for each image, in the order of file names: its five likeliest
    classes, numbered from 1 as the dataset lists them.

    \b
    Examples:  alexnet evaluate run dataset --crops 10
               alexnet evaluate run1 run2 dataset --weights val --split test
               torchrun --nproc-per-node 4 -m alexnet evaluate run dataset
    """
    from alexnet import api
    from alexnet.core import console
    from alexnet.core.device import make_runtime, with_parallelism
    from alexnet.distributed.process_group import init_distributed

    *models, dataset = paths
    if not models:
        raise UsageError(f"evaluate: found only {dataset}; expected MODEL... and a DATASET")
    with init_distributed() as ranks:
        runtime = with_parallelism(make_runtime(device, precision, workers), "data", ranks)
        evaluation = api.evaluate_models(
            [MODEL.convert(model, None, None) for model in models],
            dataset,
            runtime,
            split=split,
            crops=_crops(crops, dense),
            weights=weights,
            submission=submission,
            stage=console.progress_bar,
        )
    if not ranks.is_main:
        return
    if as_json:
        console.print_json(evaluation.to_json())
    else:
        _print(evaluation, models, weights is not None)


def _crops(crops: str | None, dense: bool) -> "Crops | None":
    """Return the crops of --crops or --dense; UsageError where both are given."""
    if not dense:
        return parse_crops(crops)
    if crops is not None:
        raise UsageError(f"--crops {crops} with --dense: expected one of them")
    return "dense"


def _print(evaluation: "Evaluation", models: "Sequence[str]", weighted: bool) -> None:
    """Print the scores as a table; an ensemble's weights before its models if they were chosen."""
    from alexnet.core import console

    scores = evaluation.scores
    title = f"{evaluation.split} split of {evaluation.location}, {scores.images:,} images"
    names = ", ".join(models)
    if weighted:
        shares = zip(evaluation.weights, models, strict=True)
        names = ", ".join(f"{share:.3f} {model}" for share, model in shares)
    columns = ["model", "crops", "top-1 error %", "top-5 error %", "loss"]
    row = [names, evaluation.crops, scores.top1_error, scores.top5_error, scores.loss]
    console.print_table(title, columns, [row])
