"""The verbs that make something: demo, prepare, train."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alexnet.cores import cores
from alexnet.errors import UsageError
from alexnet.verbs.options import JSON, computing, configured, given, refuse_given

if TYPE_CHECKING:
    from alexnet.data.sources import Source
    from alexnet.data.unfinished import Part, Summary
    from alexnet.runtime import Way


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("alexnet-demo"), show_default=True, help="Where everything goes."
)
@click.option("--epochs", type=click.IntRange(1), default=None, help="Instead of the demo's own number.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True)
@JSON
@computing
def demo(out: Path, epochs: int | None, seed: int, as_json: bool, device: str, precision: str, workers: int | None) -> None:
    """Draw a set of pictures, prepare it, train on it, evaluate, report: everything once, in minutes.

    \b
    Example:  alexnet demo
    """
    from alexnet import demo as room
    from alexnet import runtime, terminal

    chosen = runtime.choose(device, precision, workers)
    result = room.run(out, epochs, seed, chosen)
    if as_json:
        terminal.emit_json(result)
    else:
        terminal.say(room.closing_words(result))


def _part(context: click.Context, option: click.Parameter, value: str | None) -> "Part | None":
    """What `--part` says; UsageError."""
    if value is None:
        return None
    from alexnet.data.unfinished import Part

    number, slash, of = value.partition("/")
    if not (slash and number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise UsageError(f"--part {value}: expected I/N, part I of N, as 1/3")
    return Part(int(number), int(of))


@click.command()
@click.argument("places", nargs=-1, required=True, metavar="SOURCE STORE")
@click.option("--size", type=click.IntRange(1), default=256, show_default=True, help="Side of the prepared squares, pixels.")
@click.option("--grey", is_flag=True, help="One channel instead of three.")
@click.option("--encoding", type=click.Choice(["auto", "raw", "jpeg"]), default="auto", show_default=True)
@click.option(
    "--val-fraction",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.1,
    show_default=True,
    help="Of train, if there is no val.",
)
@click.option(
    "--test-fraction", type=click.FloatRange(0, 1, max_open=True), default=0.0, show_default=True, help="Of an unsplit folder."
)
@click.option(
    "--on-bad", type=click.Choice(["fail", "skip"]), default="skip", show_default=True, help="When a picture cannot be read."
)
@click.option(
    "--exif/--no-exif",
    default=None,
    help="Turn pictures as their camera says, or leave them; default: turn, but leave ImageNet's own (as in 2012).",
)
@click.option("--part", metavar="I/N", callback=_part, help="Make only every N-th shard, from the I-th; STORE is then a part.")
@click.option("--merge", is_flag=True, help="Make STORE of its parts, which stand before it; options are theirs.")
@click.option("--workers", type=click.IntRange(1), default=None, help="Threads; default: all cores.")
@JSON
def prepare(
    places: tuple[str, ...], size: int, grey: bool, encoding: str, val_fraction: float, test_fraction: float,
    on_bad: str, exif: bool | None, part: "Part | None", merge: bool, workers: int | None, as_json: bool,
) -> None:  # fmt: skip
    """Turn SOURCE into a STORE that training reads.

    SOURCE is a folder of class folders, a folder with train/, val/, test/ of them, a tar or zip of either; a folder of MNIST's or
    Fashion-MNIST's files, an official archive of CIFAR-10; a folder of ImageNet's official archives, or Kaggle's folder or zip of
    it; "embedded", the set the package draws itself; or a public set to be fetched once: fashion-mnist, cifar10, caltech101,
    imagenette. Several machines share the work by --part and --merge.

    \b
    Examples:  alexnet prepare photos.tar store --test-fraction 0.2
               alexnet prepare fashion-mnist store --size 224 --grey
               alexnet prepare ILSVRC2012 part1 --part 1/2
               alexnet prepare --merge part1 part2 store
    """
    from dataclasses import replace

    from alexnet import terminal
    from alexnet.data.images import Policy
    from alexnet.data.prepare import choose_encoding, must_be_free
    from alexnet.data.prepare import prepare as prepare_store
    from alexnet.data.sources import Fractions

    if merge:
        _merge([Path(place) for place in places], as_json)
        return
    if len(places) != 2:
        raise UsageError(f"prepare: found {len(places)} places, expected SOURCE STORE, or --merge PART... STORE")
    source, store = places[0], Path(places[1])
    chosen = choose_encoding(size) if encoding == "auto" else encoding
    policy = Policy(size=size, channels=1 if grey else 3, encoding=chosen)
    threads = workers or cores()
    fractions = Fractions(val_fraction, test_fraction)
    must_be_free(store)
    with opened(source, threads) as pictures, terminal.progress("preparing") as tick:
        policy = replace(policy, exif=pictures.exif if exif is None else exif)
        summary = prepare_store(pictures, store, policy, fractions, on_bad=on_bad, workers=threads, progress=tick, part=part)
    _told(summary, store, part, as_json)


def _merge(places: list[Path], as_json: bool) -> None:
    """Make a store, the last of the places, of the parts before it."""
    from alexnet import terminal
    from alexnet.data.merge import merge
    from alexnet.data.unfinished import must_be_free

    context, line = click.get_current_context(), click.core.ParameterSource.COMMANDLINE
    said = [option for option in context.command.params if context.get_parameter_source(option.name or "") is line]
    strange = [option.opts[0] for option in said if option.name not in ("places", "merge", "as_json")]
    if strange:
        raise UsageError(f"{', '.join(strange)}: with --merge the parts' own options count; leave it out")
    *parts, store = places
    must_be_free(store)
    with terminal.progress("merging", "shards") as tick:
        summary = merge(parts, store, tick)
    _told(summary, store, None, as_json)


def _told(summary: "Summary", store: Path, part: "Part | None", as_json: bool) -> None:
    """Say what was prepared."""
    from alexnet import terminal

    for warning in summary.warnings:
        terminal.note(f"warning: {warning}")
    if as_json:
        terminal.emit_json({name: getattr(summary, name) for name in ("pictures", "classes", "bad", "seconds", "splits")})
        return
    splits = ", ".join(f"{name} {count:,}" for name, count in summary.splits.items())
    of_what = f"pictures, part {part}" if part else f"pictures of {summary.classes} classes"
    terminal.say(f"{store}: {summary.pictures:,} {of_what} ({splits}) in {terminal.duration(summary.seconds)}")
    if summary.bad:
        where = "the merged store's store.json" if part else store / "store.json"
        terminal.say(f'{summary.bad} pictures could not be read; their names and reasons are in {where} under "bad"')
    verb = f"prepare --merge PART... STORE, of all {part.of} parts" if part else f"train {store} --out RUN"
    terminal.say(f"next: alexnet {verb}")


@contextmanager
def opened(source: str, workers: int) -> Iterator["Source"]:
    """A source of pictures by its path, the embedded set drawn for the occasion, or a public set by its name."""
    from tempfile import TemporaryDirectory

    from alexnet import terminal
    from alexnet.data.download import COLLECTIONS, download
    from alexnet.data.embedded import draw
    from alexnet.data.open import open_any

    with TemporaryDirectory() as place:
        if source == "embedded":
            source = f"{place}/embedded"
            with terminal.progress("drawing") as tick:
                draw(Path(source), workers=workers, progress=tick)
        elif source in COLLECTIONS and not Path(source).exists():
            with terminal.progress("downloading", "bytes") as tick:
                source = str(download(source, tick))
        with open_any(source) as pictures:
            yield pictures


@click.command()
@click.argument("store", required=False)
@click.option("--recipe", default="modern", show_default=True, help="The recipe's name; `alexnet describe NAME` shows it.")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="The run's directory; default: runs/STORE-RECIPE.")
@click.option("--resume", type=click.Path(path_type=Path), default=None, help="Go on with the run in this directory.")
@click.option("--epochs", type=click.IntRange(1), default=None, help="Stretch or shorten the recipe's schedules to this many.")
@click.option("--batch-size", type=click.IntRange(1), default=None)
@click.option("--lr", type=float, default=None, help="The largest rate of the schedule; the others in proportion.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True)
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Any other setting, by its dotted name.")
@click.option(
    "--init",
    type=click.Path(path_type=Path),
    default=None,
    help="Begin with this model's layers; a new head where classes differ.",
)
@click.option("--freeze", metavar="STATION", default=None, help="Hold every layer up to this one as it starts.")
@click.option(
    "--parallel",
    type=click.Choice(["none", "data", "towers", "hybrid", "layers"]),
    default="none",
    show_default=True,
    help="How several processes, or two devices, share the work.",
)
@click.option("--save-every", type=click.FloatRange(0), default=300.0, show_default=True, help="Seconds between checkpoints.")
@click.option("--deterministic", is_flag=True, help="Only algorithms that give the same bits again (on a GPU: slower).")
@JSON
@computing
def train(
    store: str | None, recipe: str, out: Path | None, resume: Path | None, epochs: int | None, batch_size: int | None,
    lr: float | None, seed: int, settings: tuple[str, ...], init: Path | None, freeze: str | None, parallel: "Way",
    save_every: float, deterministic: bool, as_json: bool,
    device: str, precision: str, workers: int | None,
) -> None:  # fmt: skip
    """Train on a STORE, a folder or an address (http://, s3://), or go on with a run (whose STORE is given if it has moved).

    \b
    Examples:  alexnet train store --out run --epochs 12
               alexnet train store --recipe original --set training.batch=64
               alexnet train store --init model.safetensors --freeze conv5 --lr 0.001
               alexnet train --resume run
               torchrun --nproc-per-node 2 -m alexnet train store --parallel data
    """
    from dataclasses import replace

    from alexnet import ranks, runtime, terminal
    from alexnet.recipes.named import named
    from alexnet.recipes.recipe import with_frozen
    from alexnet.training import loop, tasks

    with ranks.together() as group:
        if resume is not None:
            refuse_given(*"recipe out epochs batch_size lr seed settings init freeze deterministic precision".split())
            task, folder = tasks.resumed(resume, workers, store, device if given("device") else None), resume
        elif store is not None:
            shaped = configured(named(recipe), epochs, batch_size, lr, settings)
            shaped = with_frozen(shaped, freeze) if freeze is not None else shaped
            task = tasks.begun(store, shaped, seed, runtime.choose(device, precision, workers, deterministic), init)
            folder = out or Path("runs") / f"{task.store.path.name}-{shaped.name}"
            if group.leads and not group.noted("begun"):  # torchrun may start a run again that is there by then
                tasks.must_be_new(folder)
                group.note("begun")
        else:
            raise UsageError("train: expected a STORE, made by `alexnet prepare`, or --resume RUN")
        task = replace(task, runtime=runtime.spread(task.runtime, parallel, group))
        for line in tasks.plan_lines(task) if group.leads else ():
            terminal.note(line)
        with runtime.stop_requests(group) as stop, terminal.training_progress(task.steps) as tell:
            summary = loop.train(task, folder, tell, stop, save_every)
    if as_json and group.leads:
        terminal.emit_json(summary)
    elif group.leads:
        told_trained(summary, str(task.store.place), folder)


def told_trained(summary: dict[str, Any], store: str, folder: Path) -> None:
    """Say what a run has come to, and what may come next."""
    from alexnet import terminal

    if summary["top1_error"] is not None:
        terminal.say(f"best model: top-1 error {summary['top1_error']:.2f} % on the val split, one view")
    terminal.say(
        f"{summary['model']}, after {terminal.duration(summary['seconds'])} at {summary['pictures_per_second']:.0f} pictures/s"
    )
    terminal.say(f"next: alexnet evaluate {summary['model']} {store}, alexnet report {folder}")
