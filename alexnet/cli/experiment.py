"""The command experiment: one of the paper's comparisons, trained, scored and drawn."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alexnet.cli.options import (
    BATCH_SIZE,
    EPOCHS,
    JSON,
    LOCATION,
    LR,
    PATH,
    SET,
    parse_crops,
    runtime_options,
)

if TYPE_CHECKING:
    from alexnet.analysis.experiments.config import ExperimentConfig
    from alexnet.analysis.experiments.results import ExperimentResult


@click.command()
@click.argument("name")
@click.argument("dataset", type=LOCATION)
@click.option(
    "--recipe",
    default=None,
    help="Recipe to change; default: modern, for relu-vs-tanh figure1.",
)
@EPOCHS
@click.option(
    "--seeds",
    type=click.IntRange(1),
    default=None,
    help="Runs of each ablation, from seed 0 on; default: 3, ensemble 5.",
)
@BATCH_SIZE
@LR
@SET
@click.option("--split", default="val", show_default=True, help="Split that is scored.")
@click.option(
    "--crops",
    type=click.Choice(["1", "9", "10"]),
    default=None,
    help="Default: the recipe's own number.",
)
@click.option(
    "--quick",
    is_flag=True,
    help="Only to see it work: 1,000 images, few epochs, one seed, one crop.",
)
@click.option(
    "--out",
    type=PATH,
    default=None,
    help="Directory for runs and results; default: experiments/DATASET.",
)
@JSON
@runtime_options
def experiment(
    name: str,
    dataset: str,
    recipe: str | None,
    epochs: int | None,
    seeds: int | None,
    batch_size: int | None,
    lr: float | None,
    settings: tuple[str, ...],
    split: str,
    crops: str | None,
    quick: bool,
    out: Path | None,
    as_json: bool,
    device: str,
    precision: str,
    workers: int | None,
) -> None:
    """Repeat one of the paper's comparisons on a DATASET.

    \b
    relu-vs-tanh    epochs to 25 % training error   towers          half the kernels, no exchange
    normalization   without response norm           depth           without one convolution
    overlap         other pools                     initialization  the text's, the program's
    dropout         without it, and its pace        weight-decay    none, less, more
    augmentation    crops, mirrors, color noise     ensemble        several models averaged
    color-jitter    the text's, the program's       sparsity        zeros and dead units

    Every ablation is compared with what 2012 published. Runs are kept and shared between
    experiments; after a stop the same command goes on. Leaves OUT/NAME-HASH.json and .png.
    relu-vs-tanh without --lr tries several learning rates and takes each function's best.

    \b
    Examples:  alexnet experiment normalization dataset --quick
               alexnet experiment depth dataset --recipe original --epochs 20 --seeds 5
    """
    from alexnet.analysis.experiments.plan import plan_experiment
    from alexnet.core import console
    from alexnet.core.device import make_runtime

    plan = plan_experiment(
        name,
        dataset,
        recipe=recipe,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        settings=settings,
        seeds=seeds,
        split=split,
        crops=parse_crops(crops),
        quick=quick,
        out=out,
        runtime=make_runtime(device, precision, workers),
    )
    result = _run(plan)
    if as_json:
        console.print_json(result.to_json())
    else:
        _print(result, plan.out)


def _run(plan: "ExperimentConfig") -> "ExperimentResult":
    """Run an experiment and show its progress; Ctrl-C and SIGTERM stop it, its runs kept."""
    from alexnet.analysis.experiments.runner import run_experiment
    from alexnet.analysis.experiments.training_runs import ExperimentHooks
    from alexnet.core import console
    from alexnet.core.signals import stop_requests

    with stop_requests() as stop:
        return run_experiment(plan, ExperimentHooks(_training, console.progress_bar, stop))


@contextmanager
def _training(title: str, steps: int) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Show the progress of a run under a title; give the callback for its records."""
    from alexnet.core import console

    console.print_status(title)
    with console.training_progress(steps) as callback:
        yield callback


def _print(result: "ExperimentResult", folder: Path) -> None:
    """Print the results as a table, the notes, and where the files are."""
    from alexnet.core import console

    columns, rows = result.table()
    console.print_table(f"{result.name}: {result.question}", columns, rows)
    for line in result.footnotes():
        console.print_line(line)
    path = folder / result.file_stem
    console.print_line(f"{path}.json, {path}.png")
