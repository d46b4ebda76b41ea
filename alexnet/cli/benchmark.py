"""The command benchmark: the package's speed next to other programs' and the machine's limits."""

from typing import TYPE_CHECKING

import click

from alexnet.cli.options import JSON, runtime_options

if TYPE_CHECKING:
    from alexnet.benchmark.suites import SuiteName


@click.command()
@click.argument(
    "suite",
    type=click.Choice(["train", "infer", "feed", "norm"]),
    default="train",
    metavar="[train|infer|feed|norm]",
)
@click.option(
    "--recipe",
    default="paper",
    show_default=True,
    help="Whose network, augmentation and training; not for norm.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    default=None,
    help="Default: 128; infer: 64, and 1 as well.",
)
@click.option(
    "--repeats",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="Timed turns of each program, after a warm-up.",
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=None,
    help="torch's threads; default: its own choice. feed always has one.",
)
@click.option(
    "--images",
    type=click.Path(exists=True),
    default=None,
    help="Source of JPEG files for train and feed; default: drawn ones.",
)
@JSON
@runtime_options
def benchmark(
    suite: "SuiteName",
    recipe: str,
    batch_size: int | None,
    repeats: int,
    threads: int | None,
    images: str | None,
    as_json: bool,
    device: str,
    precision: str,
    workers: int | None,
) -> None:
    """Time this package, other programs and the machine's limits.

    All take turns, so that they share the machine's good and bad moments. train and infer take
    minutes.

    \b
    train  a training step, and a whole training    infer  logits of a batch and of one image
    feed   batches of crops, on one core            norm   response norm, forward and backward
    \b
    Examples:  alexnet benchmark train --recipe original
               alexnet benchmark infer --threads 1
    """
    import torch

    from alexnet.benchmark.report import COLUMNS
    from alexnet.benchmark.suites import DEFAULT_BATCH_SIZES, BenchmarkConfig, run_suite
    from alexnet.core import console
    from alexnet.core.allocator import GLIBC_TUNABLES
    from alexnet.core.device import make_runtime
    from alexnet.recipes.presets import get_recipe

    config = BenchmarkConfig(
        suite,
        get_recipe(recipe),
        batch_size or DEFAULT_BATCH_SIZES[suite],
        repeats,
        threads or torch.get_num_threads(),
        make_runtime(device, precision, workers),
        GLIBC_TUNABLES,
        images,
    )
    with console.progress_bar("timing", "turns") as progress:
        results = run_suite(config, progress)
    if as_json:
        console.print_json(results.to_json())
        return
    for title, rows in results.tables():
        console.print_table(title, COLUMNS, rows)
    for line in results.notes():
        console.print_line(line)
