"""The verb that draws: show, with a figure for each of its words."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alexnet.errors import AlexNetError, UsageError
from alexnet.verbs.options import JSON, MODEL_FILE, Verb, computing, configured, must_be_read

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from alexnet.data.groups import Group
    from alexnet.data.store import Split
    from alexnet.data.views import View
    from alexnet.insight.figures.characters import Series
    from alexnet.recipes.recipe import Recipe

SET = click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Any setting, by its dotted name.")
SPLIT = click.option("--split", default=None, help="Of a store; default: test, else val.")
VIEWS = click.option("--views", type=click.Choice(["1", "9", "10"]), default=None, help="Default: the model's own number.")
TERMINAL = click.option("--terminal", "in_terminal", is_flag=True, help="In characters, instead of a file.")
RECORD = click.option("--record", type=click.IntRange(0), default=0, show_default=True, help="Which record of a store.")


def drawing(verb: Verb) -> Verb:
    """The options of everything that is drawn."""
    file = click.Path(path_type=Path)
    out = click.option(
        "--out", type=file, default=None, metavar="FILE.png|.svg", help="Default: its word, .png, in this directory."
    )
    return out(JSON(verb))


@click.group()
def show() -> None:
    """Draw a figure, as PNG or SVG.

    \b
    Examples:  alexnet show network original --out figure2.svg
               alexnet show filters run/model.safetensors
    """


# ---- of a recipe


@show.command()
@click.argument("recipe", default="modern")
@click.option("--classes", type=click.IntRange(2), default=1000, show_default=True)
@SET
@click.option("--backward", is_flag=True, help="Instead: one step of training, with its gradients and updates.")
@drawing
def network(recipe: str, classes: int, settings: tuple[str, ...], backward: bool, out: Path | None, as_json: bool) -> None:
    """The architecture to scale, with what each layer costs (the paper's figure 2).

    \b
    Examples:  alexnet show network original
               alexnet show network caffe --backward --out step.svg
    """
    from dataclasses import asdict

    from alexnet.insight.figures import architecture, step
    from alexnet.insight.figures.blueprint import blueprint

    path, shaped = place(out, "network"), recipe_of(recipe, settings)
    if backward:
        placed = step.places(shaped, classes)
        figure, data = step.step(placed, f"{recipe}: one step of training"), {"operators": [asdict(each) for each in placed]}
    else:
        plan = blueprint(shaped.network, classes)
        figure, data = architecture.architecture(plan, f"{recipe}, {classes:,} classes"), plan.to_json()
    finish(path, figure, {"recipe": recipe} | data, as_json)


@show.command()
@click.argument("recipe", required=False)
@SET
@TERMINAL
@drawing
def activations(recipe: str | None, settings: tuple[str, ...], in_terminal: bool, out: Path | None, as_json: bool) -> None:
    """The functions of a unit's value and their derivatives: all there are, or those of a RECIPE's network.

    \b
    Example:  alexnet show activations
    """
    from alexnet.insight.figures import activations as room
    from alexnet.insight.figures.characters import Series
    from alexnet.network.alexnet import ACTIVATIONS

    path = place(out, "activations")
    found = [room.curve(name) for name in (room.used(recipe_of(recipe, settings).network) if recipe else ACTIVATIONS)]
    data = {"functions": [each.to_json() for each in found]}
    if in_terminal:
        values, slopes = ([Series(each.name, each.x, getattr(each, what)) for each in found] for what in ("value", "derivative"))
        told_in_characters({"f(x)": values, "f'(x)": slopes}, data, as_json)
    else:
        finish(path, room.activations(found), data, as_json)


@show.command()
@click.argument("recipe", default="modern")
@click.option("--epochs", type=click.IntRange(1), default=None, help="Stretch or shorten the schedules to this many.")
@click.option("--lr", type=float, default=None, help="The largest rate; the others in proportion.")
@SET
@TERMINAL
@drawing
def schedule(
    recipe: str,
    epochs: int | None,
    lr: float | None,
    settings: tuple[str, ...],
    in_terminal: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """A RECIPE's rates by group of parameters, its colour noise and the sizes of its views, over its epochs.

    \b
    Example:  alexnet show schedule original --epochs 30
    """
    from alexnet.insight.figures import schedule as room
    from alexnet.insight.figures.characters import Series

    path, plan = place(out, "schedule"), room.planned(recipe_of(recipe, settings, epochs, lr))
    if in_terminal:
        rates = [Series(group.name, *room.corners(plan, group.rates)) for group in plan.groups]
        told_in_characters({f"{recipe}: learning rate": rates}, plan.to_json(), as_json, log=not plan.smooth)
    else:
        finish(path, room.schedule(plan), plan.to_json(), as_json)


# ---- of a store, and of runs


@show.command()
@click.argument("store")
@click.option("--recipe", default="modern", show_default=True)
@SET
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Of the run whose draws these are.")
@click.option("--count", type=click.IntRange(1, 12), default=4, show_default=True, help="Records.")
@drawing
def views(store: str, recipe: str, settings: tuple[str, ...], seed: int, count: int, out: Path | None, as_json: bool) -> None:
    """What the network gets to see of some train records of a STORE: crops, mirrors, colour noise, by the recipe's own draws.

    \b
    Example:  alexnet show views store --recipe original
    """
    from alexnet.data.store import open_store
    from alexnet.evaluate import scored_split
    from alexnet.insight.figures.predictions import spread
    from alexnet.insight.figures.seen import seen, watched
    from alexnet.model import view_of

    path, shaped, opened = place(out, "views"), recipe_of(recipe, settings), open_store(store)
    train = scored_split(opened, "train")
    found = watched(train, view_of(opened, shaped), shaped, seed, spread(count, len(train)))
    data = {"recipe": recipe, "seed": seed, "records": [each.to_json() for each in found]}
    finish(path, seen(found, shaped.network.input[1]), data, as_json)


@show.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@TERMINAL
@drawing
def curves(runs: tuple[Path, ...], in_terminal: bool, out: Path | None, as_json: bool) -> None:
    """Loss, validation error and learning rate of one RUN, or of several over each other.

    \b
    Example:  alexnet show curves runs/store-modern runs/store-original
    """
    from alexnet.insight.figures import curves as room
    from alexnet.insight.figures.characters import Series
    from alexnet.insight.runs import read_course

    path, tracks = place(out, "curves"), room.tracks([read_course(run) for run in runs])
    data = {"runs": [each.to_json() for each in tracks]}
    if in_terminal:
        losses = [Series(each.name, each.at.tolist(), each.mean_loss.tolist()) for each in tracks]
        errors = [Series(each.name, *each.validation("top1_error")) for each in tracks if each.epochs]
        told_in_characters({"training loss": losses} | ({"validation top-1 error, %": errors} if errors else {}), data, as_json)
    else:
        finish(path, room.curves(tracks), data, as_json)


# ---- of a model


@show.command()
@click.argument("model", type=MODEL_FILE)
@drawing
def filters(model: Path, out: Path | None, as_json: bool) -> None:
    """The kernels of a MODEL's first layer, the towers apart (the paper's figure 3).

    \b
    Example:  alexnet show filters run/model.safetensors
    """
    from alexnet.insight.figures import filters as room
    from alexnet.model import read_model

    path = place(out, "filters")
    found = room.first_layer(read_model(model))
    finish(path, room.filters(*found), room.told(*found), as_json)


@show.command()
@click.argument("model", type=MODEL_FILE)
@click.argument("paths", nargs=-1, required=True, metavar="STORE|PICTURE...")
@click.option("--only-errors", is_flag=True, help="Only pictures of a store that it gets wrong.")
@click.option("--count", type=click.IntRange(1, 40), default=8, show_default=True)
@SPLIT
@VIEWS
@drawing
@computing
def predictions(
    model: Path, paths: tuple[str, ...], only_errors: bool, count: int, split: str | None, views: str | None, out: Path | None,
    as_json: bool, device: str, precision: str, workers: int | None,
) -> None:  # fmt: skip
    """Pictures with their five likeliest classes, the true one marked (the paper's figure 4, left).

    \b
    Example:  alexnet show predictions run/model.safetensors store --only-errors
    """
    from alexnet import runtime, terminal
    from alexnet.insight.figures import predictions as room
    from alexnet.model import ready

    path, chosen = place(out, "predictions"), runtime.choose(device, precision, workers)
    found = ready(model, chosen)
    seer, several = (found.network, found.view), int(views or found.view.views.test)
    unread: list[tuple[str, str]] = []
    if only_errors:
        records = split_of(found.view, paths, split)
        with terminal.progress("looking for errors") as tick:
            told = room.errors(seer, records, count, several, chosen, tick)
        if not told:
            raise AlexNetError(f"{paths[0]}: no errors on {records.name}, {len(records):,} pictures; leave out --only-errors")
    else:
        readable, unread = sorted_out(pictures_of(found.view, paths, split, count, chosen.workers))
        told = room.told(seer, readable, several, chosen)
    data = {"views": several, "pictures": [each.to_json(found.view.classes) for each in told]}
    finish_without(unread, path, room.predictions(told, found.view.classes), data, as_json)
    must_be_read(len(unread), len(told) + len(unread))


@show.command()
@click.argument("model", type=MODEL_FILE)
@click.argument("path", metavar="STORE|PICTURE")
@RECORD
@SPLIT
@drawing
@computing
def stations(
    model: Path, path: str, record: int, split: str | None, out: Path | None, as_json: bool, device: str, precision: str,
    workers: int | None,
) -> None:  # fmt: skip
    """Feature maps of one picture at each station of a MODEL.

    \b
    Example:  alexnet show stations run/model.safetensors cat.jpg
    """
    from alexnet import runtime
    from alexnet.insight.figures.maps import maps, passed
    from alexnet.model import ready

    target, chosen = place(out, "stations"), runtime.choose(device, precision, workers)
    found = ready(model, chosen)
    picture, _ = sorted_out(pictures_of(found.view, (path,), split, 1, chosen.workers, record))
    through = passed((found.network, found.view), picture.readable[0], chosen)
    finish(target, maps(through), {"picture": picture.names[0], "stations": through.to_json()}, as_json)


@show.command()
@click.argument("model", type=MODEL_FILE)
@click.argument("paths", nargs=-1, required=True, metavar="STORE|PICTURE...")
@click.option("--class", "class_name", default=None, help="The class asked about; default: the likeliest of each picture.")
@click.option("--count", type=click.IntRange(1, 12), default=3, show_default=True, help="Pictures, at most.")
@RECORD
@SPLIT
@drawing
@computing
def saliency(
    model: Path, paths: tuple[str, ...], class_name: str | None, count: int, record: int, split: str | None, out: Path | None,
    as_json: bool, device: str, precision: str, workers: int | None,
) -> None:  # fmt: skip
    """Where a MODEL looks: the gradient of its answer by every pixel, and what it loses where a patch is covered.

    \b
    Example:  alexnet show saliency run/model.safetensors cat.jpg --class cat
    """
    from alexnet import runtime, terminal
    from alexnet.insight.figures import saliency as room
    from alexnet.model import ready

    path, chosen = place(out, "saliency"), runtime.choose(device, precision, workers)
    found = ready(model, chosen)
    classes, asked = found.view.classes, None if class_name is None else class_of(found.view, class_name)
    (readable, unread), looked = sorted_out(pictures_of(found.view, paths, split, count, chosen.workers, record)), []
    with terminal.progress("looking") as tick:
        for name, square in zip(readable.names, readable.readable, strict=True):
            looked.append(room.looked((found.network, found.view), name, square, asked, chosen))
            tick(len(looked), len(readable.names))
    data = {"pictures": [each.to_json(classes) for each in looked]}
    finish_without(unread, path, room.saliency(looked, classes), data, as_json)
    must_be_read(len(unread), len(looked) + len(unread))


@show.command()
@click.argument("model", type=MODEL_FILE)
@click.argument("store")
@SPLIT
@VIEWS
@drawing
@computing
def confusion(
    model: Path, store: str, split: str | None, views: str | None, out: Path | None, as_json: bool, device: str, precision: str,
    workers: int | None,
) -> None:  # fmt: skip
    """Which classes of a STORE a MODEL takes for which: all counts of a few classes, the most frequent mistakes of many.

    \b
    Example:  alexnet show confusion run/model.safetensors store --views 1
    """
    from alexnet import runtime, terminal
    from alexnet.evaluate import answers
    from alexnet.insight.figures import confusion as room
    from alexnet.model import ready

    path, chosen = place(out, "confusion"), runtime.choose(device, precision, workers)
    found = ready(model, chosen)
    records, several = split_of(found.view, (store,), split), int(views or found.view.views.test)
    with terminal.progress("evaluating") as tick:
        probability, labels = answers([(found.network, found.view)], records, several, chosen, tick)
    truth, said, classes = labels.numpy(), probability.argmax(1).numpy(), found.view.classes
    data = {"split": records.name, "views": several} | room.told(truth, said, classes)
    finish(path, room.confusion(truth, said, classes), data, as_json)


# ---- what they share


def place(out: Path | None, word: str) -> Path:
    """Where a figure goes; UsageError where its name does not end as a figure's."""
    from alexnet.insight.figures.drawing import must_be_a_figure

    path = out or Path(f"{word}.png")
    must_be_a_figure(path)
    return path


def finish(path: Path, figure: "Figure", data: dict[str, Any], as_json: bool) -> None:
    """Write the figure and say where it is, or what is drawn."""
    from alexnet import terminal
    from alexnet.insight.figures.drawing import save

    save(path, figure)
    if as_json:
        terminal.emit_json({"figure": str(path), **data})
    else:
        terminal.say(str(path))


def finish_without(unread: Sequence[tuple[str, str]], path: Path, figure: "Figure", data: dict[str, Any], as_json: bool) -> None:
    """As `finish`, and say of the pictures that are not in the figure, (name, reason), why they are not."""
    from alexnet import terminal

    for name, reason in () if as_json else unread:
        terminal.say(f"{name}: {reason}")
    finish(path, figure, data | {"unread": [{"path": name, "error": reason} for name, reason in unread]}, as_json)


def told_in_characters(plots: "Mapping[str, Sequence[Series]]", data: dict[str, Any], as_json: bool, log: bool = False) -> None:
    """The curves in characters, or what they are."""
    from alexnet import terminal
    from alexnet.insight.figures.characters import plotted

    if as_json:
        terminal.emit_json({"figure": None, **data})
        return
    for title, series in plots.items():
        terminal.say(plotted(title, series, log))


def recipe_of(name: str, settings: tuple[str, ...], epochs: int | None = None, lr: float | None = None) -> "Recipe":
    """A recipe as the options ask for it."""
    from alexnet.recipes.named import named

    return configured(named(name), epochs, None, lr, settings)


def split_of(view: "View", paths: Sequence[str], split: str | None) -> "Split":
    """The split of the one store that is named, which must fit the model; UsageError where there is no store."""
    from alexnet.data.groups import is_store
    from alexnet.data.store import open_store
    from alexnet.evaluate import must_fit, scored_split

    if len(paths) != 1 or not is_store(paths[0]):
        raise UsageError(
            f"{', '.join(paths)}: expected a single store, made by `alexnet prepare`, for only there the truth is known"
        )
    store = open_store(paths[0])
    must_fit(view, store)
    return scored_split(store, split)


def pictures_of(view: "View", paths: Sequence[str], split: str | None, count: int, workers: int, record: int = 0) -> "Group":
    """Some pictures: of a store, `count` spread over a split from a record on; else the first of the files named."""
    from alexnet.data.groups import find_pictures, from_files, from_split, is_store
    from alexnet.insight.figures.predictions import spread

    if len(paths) == 1 and is_store(paths[0]):
        records = split_of(view, paths, split)
        if record >= len(records):
            raise UsageError(f"--record {record}: {records.name} has {len(records):,} pictures, numbered from 0")
        return next(from_split(records, [(record + at) % len(records) for at in spread(count, len(records))], workers))
    if any(map(is_store, paths)):
        raise UsageError(f"{next(filter(is_store, paths))}: a store, but not alone; expected a single store or only pictures")
    if split is not None or record:
        raise UsageError("--split, --record: only a store has splits and records; expected a single one")
    return next(from_files(view, find_pictures(paths)[:count], workers))


def sorted_out(pictures: "Group") -> "tuple[Group, list[tuple[str, str]]]":
    """The pictures that could be read, and (name, reason) of the others; AlexNetError with the first reason where none could."""
    if not pictures.readable:
        name, reason = pictures.unread[0]
        raise AlexNetError(f"{name}: {reason}")
    return pictures.without_unread, pictures.unread


def class_of(view: "View", name: str) -> int:
    """The number of a class; UsageError names the nearest."""
    from difflib import get_close_matches

    if name not in view.classes:
        near = get_close_matches(name, view.classes, n=3) or view.classes[:3]
        raise UsageError(f"--class {name}: the model has no such class; nearest: {', '.join(near)}")
    return view.classes.index(name)
