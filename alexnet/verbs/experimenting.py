"""The verb that makes the paper's own comparisons: experiment."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from alexnet.verbs.options import JSON, computing, configured

QUICK_BATCH = 32  # few pictures: small batches, so that there are some steps to learn in


@click.command()
@click.argument("name")
@click.argument("store")
@click.option("--recipe", default=None, help="What is changed; default: modern, for relu-vs-tanh figure1.")
@click.option("--epochs", type=click.IntRange(1), default=None, help="Stretch or shorten the recipe's schedules to this many.")
@click.option("--seeds", type=click.IntRange(1), default=None, help="Runs of each arm, from seed 0 on; default: 3, ensemble 5.")
@click.option("--batch-size", type=click.IntRange(1), default=None)
@click.option("--lr", type=float, default=None, help="The largest rate; relu-vs-tanh else looks for each arm's best.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Any other setting of the recipe.")
@click.option("--split", default="val", show_default=True, help="Which pictures are scored.")
@click.option("--views", type=click.Choice(["1", "9", "10"]), default=None, help="Default: the recipe's own number.")
@click.option("--quick", is_flag=True, help="Only to see it work: a thousand pictures, few epochs, one seed, one view.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=None, help="Where runs and results go; default: experiments/STORE."
)
@JSON
@computing
def experiment(
    name: str, store: str, recipe: str | None, epochs: int | None, seeds: int | None, batch_size: int | None, lr: float | None,
    settings: tuple[str, ...], split: str, views: str | None, quick: bool, out: Path | None,
    as_json: bool, device: str, precision: str, workers: int | None,
) -> None:  # fmt: skip
    """Make one of the paper's comparisons, by its NAME, on a STORE: train every arm, score it, set it beside what 2012 found.

    \b
    relu-vs-tanh    epochs to 25 % training error   towers          half the kernels, no exchange
    normalisation   without response norm           depth           without one convolution
    overlap         other pools                     initialisation  the text's start, the program's
    dropout         without it, and its pace        weight-decay    none, less, more
    augmentation    crops, mirrors, colour noise    ensemble        several models averaged
    colour-noise    the text's, the program's       sparsity        zeros and dead units

    Runs are kept and shared between experiments; stopped, the same command goes on. Leaves OUT/NAME-….json and .png, whose
    names end in a hash of what was asked for.

    \b
    Examples:  alexnet experiment normalisation store --quick
               alexnet experiment depth store --recipe original --epochs 20 --seeds 5
    """
    from alexnet import runtime, terminal
    from alexnet.data.store import open_store
    from alexnet.insight.experiments import arms
    from alexnet.insight.experiments.conduct import Setting, conduct
    from alexnet.insight.experiments.portions import fewer
    from alexnet.insight.experiments.runs import Company
    from alexnet.recipes.named import named

    asked, opened_store = arms.experiment(name), open_store(store)
    place = out or Path("experiments") / opened_store.path.name
    if quick:
        opened_store = fewer(opened_store, asked.quick.pictures)
        epochs, batch_size, seeds = epochs or asked.quick.epochs, batch_size or QUICK_BATCH, seeds or asked.quick.seeds
    shaped = configured(named(recipe or asked.recipe), epochs, batch_size, lr, settings)
    count = int(views) if views else 1 if quick else shaped.views.test
    chosen = runtime.choose(device, precision, workers)
    from_seeds = tuple(range(seeds or asked.seeds))
    with runtime.stop_requests() as stop:
        company = Company(training, terminal.progress, stop)
        setting = Setting(asked, opened_store, shaped, from_seeds, split, count, chosen, place, lr)
        found = conduct(setting, company)
    if as_json:
        terminal.emit_json(found.to_json())
        return
    terminal.table(f"{found.name}: {found.asks}", *found.table())
    for line in found.lines():
        terminal.say(line)
    terminal.say(f"{place / found.called}.json, {place / found.called}.png")


@contextmanager
def training(title: str, steps: int) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A listener for the records of a run of that title."""
    from alexnet import terminal

    terminal.note(title)
    with terminal.training_progress(steps) as tell:
        yield tell
