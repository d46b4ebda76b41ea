"""The command train: a new run of a recipe on a dataset, or the rest of a stopped one."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alexnet.cli.options import (
    BATCH_SIZE,
    EPOCHS,
    JSON,
    LOCATION,
    LR,
    MODEL,
    PATH,
    SEED,
    SET,
    given_options,
    runtime_options,
)
from alexnet.core.errors import UsageError

if TYPE_CHECKING:
    from alexnet.core.device import ParallelMode
    from alexnet.training.run_config import RunConfig

# options that a resumed run has from its start
FIXED = (
    "recipe",
    "out",
    "epochs",
    "batch_size",
    "lr",
    "seed",
    "settings",
    "init_from",
    "freeze_until",
    "deterministic",
    "precision",
)


@click.command()
@click.argument("dataset", type=LOCATION, required=False)
@click.option(
    "--recipe",
    default="modern",
    show_default=True,
    help="The recipe's name; `alexnet describe NAME` shows it.",
)
@click.option("--out", type=PATH, default=None, help="Directory; default: runs/DATASET-RECIPE.")
@click.option("--resume", type=PATH, default=None, help="Go on with the run in this directory.")
@EPOCHS
@BATCH_SIZE
@LR
@SEED
@SET
@click.option(
    "--init-from",
    type=MODEL,
    default=None,
    help="Start with this MODEL's layers; a new last layer where classes differ. "
    "A name of `alexnet weights` as well.",
)
@click.option(
    "--freeze-until",
    metavar="LAYER",
    default=None,
    help="Freeze the layers up to and including this one.",
)
@click.option(
    "--parallel",
    type=click.Choice(["none", "data", "towers", "hybrid", "pipeline"]),
    default="none",
    show_default=True,
    help="How several processes, or two devices, share the work.",
)
@click.option(
    "--save-every",
    type=click.FloatRange(0),
    default=300.0,
    show_default=True,
    help="Seconds between checkpoints.",
)
@click.option(
    "--deterministic",
    is_flag=True,
    help="Use only algorithms that repeat to the bit (slower on a GPU).",
)
@click.option(
    "--log",
    type=click.Choice(["tensorboard", "wandb", "mlflow"]),
    multiple=True,
    help="Log to this tracker as well; a resumed run continues its logs.",
)
@JSON
@runtime_options
def train(
    dataset: str | None,
    recipe: str,
    out: Path | None,
    resume: Path | None,
    epochs: int | None,
    batch_size: int | None,
    lr: float | None,
    seed: int,
    settings: tuple[str, ...],
    init_from: Path | None,
    freeze_until: str | None,
    parallel: "ParallelMode",
    save_every: float,
    deterministic: bool,
    log: tuple[str, ...],
    as_json: bool,
    device: str,
    precision: str,
    workers: int | None,
) -> None:
    """Train a network on a DATASET, or resume a run.

    DATASET is a directory or an address (http://, s3://). With --resume it is given only if it
    has moved.

    \b
    Examples:  alexnet train dataset --out run --epochs 12
               alexnet train dataset --recipe original --set training.momentum=0.8
               alexnet train dataset --init-from run --freeze-until conv5 --lr 0.001
               alexnet train dataset --log tensorboard
               alexnet train --resume run
               torchrun --nproc-per-node 2 -m alexnet train dataset --parallel data
    """
    from alexnet import api
    from alexnet.analysis.tracking.session import require_trackers
    from alexnet.core.device import make_runtime, with_parallelism
    from alexnet.distributed.process_group import init_distributed
    from alexnet.recipes.configure import configure_recipe
    from alexnet.training.run_config import new_run

    require_trackers(log)
    with init_distributed() as ranks:
        if resume is not None:
            config = _resume(resume, dataset, device, workers)
            folder = resume
        elif dataset is not None:
            configured = configure_recipe(recipe, epochs, batch_size, lr, settings, freeze_until)
            runtime = make_runtime(device, precision, workers, deterministic)
            config = new_run(dataset, configured, seed, runtime, init_from)
            folder = api.new_run_dir(out, config.dataset, configured, ranks)
        else:
            expected = "a DATASET, made by `alexnet prepare`, or --resume RUN"
            raise UsageError(f"train: expected {expected}")
        config = replace(config, runtime=with_parallelism(config.runtime, parallel, ranks))
        summary = _run(config, folder, save_every, resume is not None, log)
    if ranks.is_main:
        _print(summary, config, folder, as_json)


def _resume(folder: Path, dataset: str | None, device: str, workers: int | None) -> "RunConfig":
    """Return the configuration of a run to resume; UsageError for an option it has already."""
    from alexnet.training.run_config import resume_run

    options = given_options()
    refused = [options[name] for name in FIXED if name in options]
    if refused:
        raise UsageError(
            f"{', '.join(refused)}: a resumed run keeps its own; leave it out, "
            f"or start a new run with --init-from {folder}"
        )
    return resume_run(folder, workers, dataset, device if "device" in options else None)


def _run(
    config: "RunConfig", folder: Path, save_every: float, is_resumed: bool, log: tuple[str, ...]
) -> dict[str, Any]:
    """Check a run, say what it is and train it; Ctrl-C and SIGTERM stop it with its state saved."""
    from alexnet.analysis.tracking.session import tracked
    from alexnet.core import console
    from alexnet.core.signals import stop_requests
    from alexnet.training import trainer
    from alexnet.training.run_config import check_run, describe_run

    check_run(config)
    ranks = config.runtime.ranks
    if ranks.is_main:
        lines = describe_run(config)
        if is_resumed and trainer.is_finished(config, folder):
            epochs = config.recipe.training.epochs
            lines = [f"finished already: {epochs} of {epochs} epochs"]
        for line in lines:
            console.print_status(line)
    with (
        stop_requests(ranks) as stop,
        console.training_progress(config.steps) as callback,
        tracked(log, config, folder, callback) as session,
    ):
        return trainer.train(config, folder, session.log, stop, save_every, session.log_filters)


def _print(summary: dict[str, Any], config: "RunConfig", folder: Path, as_json: bool) -> None:
    """Print the summary of a run, and what to type next."""
    from alexnet.core import console

    if as_json:
        console.print_json(summary)
        return
    if config.val is not None and summary["top1_error"] is not None:
        error = f"top-1 error {summary['top1_error']:.2f} %"
        images = f"{len(config.val):,} images"
        console.print_line(
            f"best model: epoch {summary['best_epoch']}, {error} on the val split ({images})"
        )
    duration = console.format_duration(summary["seconds"])
    speed = f"{summary['images_per_second']:.0f} images/s"
    console.print_line(f"{summary['model']}, after {duration} at {speed}")
    console.print_line(
        f"next: alexnet evaluate {folder} {config.dataset.location}, alexnet report {folder}"
    )
