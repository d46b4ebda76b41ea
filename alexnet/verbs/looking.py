"""The verbs that look inside: describe, report, features, neighbours."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alexnet.errors import UsageError
from alexnet.verbs.options import JSON, MODEL_FILE, computing, configured, must_be_read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alexnet.insight.nearest.neighbours import Answer


@click.command()
@click.argument("recipe", default="modern")
@click.option("--classes", type=click.IntRange(2), default=1000, show_default=True)
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Any setting, by its dotted name.")
@click.option("--ops", is_flag=True, help="Instead: the operators that compute it, by Caffe2's names.")
@click.option("--backward", is_flag=True, help="The operators of a training step: loss, gradients and updates, too.")
@JSON
def describe(recipe: str, classes: int, settings: tuple[str, ...], ops: bool, backward: bool, as_json: bool) -> None:
    """Layers, shapes, parameters, neurons and operations of a RECIPE's network.

    \b
    Examples:  alexnet describe original
               alexnet describe caffe --ops
    """
    from dataclasses import asdict

    from alexnet import terminal
    from alexnet.insight import operators, words
    from alexnet.network.accounting import costs, totals
    from alexnet.network.geometry import plan
    from alexnet.recipes.named import named

    shaped = configured(named(recipe), None, None, None, settings)
    if ops or backward:
        listed = operators.graph(shaped, classes, training=backward)
        if as_json:
            terminal.emit_json({"recipe": recipe, "operators": [asdict(operator) for operator in listed]})
        else:
            terminal.say("\n".join([operators.HEADING, *(operator.line() for operator in listed)]))
        return
    layers = costs(shaped.network, classes)
    whole = totals(layers)
    if as_json:
        terminal.emit_json({"recipe": recipe, "layers": [asdict(cost) for cost in layers], **whole})
        return
    names = [words.called(layer) for layer in shaped.network.layers]
    counted = ("parameters", "neurons", "multiply_adds", "seed_operations")
    rows = [
        [name, words.shape(cost.shape), *(getattr(cost, count) or "" for count in counted)]
        for name, cost in zip(names, layers, strict=True)
    ]
    rows.append(["in all", "", *(whole[count] for count in counted)])
    columns = ["layer", "output", "parameters", "neurons", "multiply-adds", "by hand"]
    terminal.table(f"{recipe}, {classes} classes", columns, rows)
    steps = plan(shaped.network, classes)
    does = [[name, words.layer(step.layer, any(step.overhang))] for name, step in zip(names, steps, strict=True)]
    terminal.table("what each layer does", ["layer", "what it does"], [row for row in does if row[0] != row[1]])
    terminal.say(f"float32 parameters take {whole['parameter_bytes'] / 2**20:.2f} MiB")
    terminal.say("by hand: parameters times places, as is often counted; a bias is one more")


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@click.option("--split", default=None, help="Default: test, else val.")
@click.option("--views", type=click.Choice(["1", "9", "10"]), default=None, help="Default: the model's own number.")
@click.option("--store", default=None, help="Where the runs' store is now, if it has moved.")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Of several runs; default: comparison.html.")
@JSON
@computing
def report(
    runs: tuple[Path, ...], split: str | None, views: str | None, store: str | None, out: Path | None, as_json: bool,
    device: str, precision: str, workers: int | None,
) -> None:  # fmt: skip
    """Write RUN/report.html: the numbers with their conditions, curves, filters, predictions, mistakes; or compare several RUNs.

    \b
    Examples:  alexnet report runs/store-modern
               alexnet report runs/store-modern runs/store-original --out comparison.html
    """
    from alexnet import runtime, terminal
    from alexnet.durable import must_be_writable
    from alexnet.insight.report.comparison import write_comparison
    from alexnet.insight.report.single import write_report

    if len(runs) == 1 and out is not None:
        raise UsageError(f"--out {out}: the report of one run goes into its own directory; expected several runs with --out")
    path = out or Path("comparison.html")
    if path.suffix != ".html":
        raise UsageError(f"--out {out}: expected a name that ends in .html")
    if len(runs) > 1:
        must_be_writable(path)
    chosen, count = runtime.choose(device, precision, workers), int(views) if views else None
    with terminal.progress("looking") as tick:
        if len(runs) == 1:
            path, scores = write_report(runs[0], split, count, chosen, tick, store)
            told: dict[str, Any] = {"report": str(path), "pictures": scores.pictures, **dict(scores)}
        else:
            found = write_comparison(runs, path, split, count, chosen, tick, store)
            told = {"report": str(path), "runs": [{"run": name, "pictures": each.pictures, **dict(each)} for name, each in found]}
    if as_json:
        terminal.emit_json(told)
    else:
        terminal.say(str(path))


STATION = click.option("--station", default="fc7", show_default=True, help="Which of the net's intermediates.")


@click.command()
@click.argument("model", type=MODEL_FILE)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@STATION
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FILE.npy", help="Where the rows go.")
@click.option("--split", default=None, help="Of a store; default: test, else val.")
@JSON
@computing
def features(
    model: Path,
    paths: tuple[str, ...],
    station: str,
    out: Path,
    split: str | None,
    as_json: bool,
    device: str,
    precision: str,
    workers: int | None,
) -> None:
    """Write what a network makes of pictures: a float32 row of a station's values for each, in their order, into FILE.npy.

    PATHs are files, folders or patterns, or a single store. The pictures' names go into FILE.names, one JSON string a line.

    \b
    Example:  alexnet features run/model.safetensors photos --out photos.npy
    """
    from alexnet import runtime, terminal
    from alexnet.data.groups import find_pictures, from_files, from_split, is_store
    from alexnet.data.store import open_store
    from alexnet.evaluate import must_be_seen, scored_split
    from alexnet.insight.nearest.features import names_beside, write_features
    from alexnet.model import ready

    if out.suffix != ".npy":
        raise UsageError(f"--out {out}: expected a name that ends in .npy")
    chosen = runtime.choose(device, precision, workers)
    seer = ready(model, chosen)
    if len(paths) == 1 and is_store(paths[0]):
        store = open_store(paths[0])
        must_be_seen(seer.view, store)
        records = scored_split(store, split)
        groups, total = from_split(records, range(len(records)), chosen.workers), len(records)
    elif split is None:
        files = find_pictures(paths)
        groups, total = from_files(seer.view, files, chosen.workers), len(files)
    else:
        raise UsageError(f"--split {split}: only a store has splits; expected a single one as PATH")
    with terminal.progress("features") as tick:
        written = write_features(out, (seer.network, seer.view), groups, total, station, chosen, tick)
    unread = [{"path": path, "error": error} for path, error in written.unread]
    if as_json:
        about = {"features": str(out), "names": str(names_beside(out)), "station": station}
        terminal.emit_json(about | {"rows": len(written.names), "values": written.values, "unread": unread})
    else:
        for path, error in written.unread:
            terminal.say(f"{path}: {error}")
        terminal.say(f"{out}: {len(written.names):,} rows of {written.values:,} values ({station}); names: {names_beside(out)}")
    must_be_read(len(unread), total)


@click.command()
@click.argument("model", type=MODEL_FILE)
@click.argument("store")
@click.argument("pictures", nargs=-1, metavar="PICTURE...")
@click.option("--records", type=click.IntRange(1), default=None, help="Also ask with so many records of test, else val, drawn.")
@click.option("--seed", type=int, default=0, show_default=True, help="Which records are drawn.")
@click.option("--count", type=click.IntRange(1), default=6, show_default=True, help="Neighbours of each picture.")
@click.option("--split", default="train", show_default=True, help="Where neighbours are looked for.")
@STATION
@click.option("--search", type=click.Choice(["auto", "exact", "faiss"]), default="auto", show_default=True)
@click.option("--codes", type=click.IntRange(8), default=None, metavar="BITS", help="Compare codes of so many bits instead.")
@click.option("--out", type=click.Path(path_type=Path), default=None, metavar="FILE.png", help="Draw them as well.")
@JSON
@computing
def neighbours(
    model: Path, store: str, pictures: tuple[str, ...], records: int | None, seed: int, count: int, split: str, station: str,
    search: str, codes: int | None, out: Path | None, as_json: bool, device: str, precision: str, workers: int | None,
) -> None:  # fmt: skip
    """Find the records of a STORE that are nearest to PICTUREs: files, folders, patterns, or records with --records.

    What the network makes of the records is computed once and kept beside the model file.

    \b
    Examples:  alexnet neighbours run/model.safetensors store cat.jpg --out nearest.png
               alexnet neighbours run/model.safetensors store --records 8 --codes 256
    """
    from itertools import chain

    from alexnet import runtime, terminal
    from alexnet.data.groups import find_pictures, from_files, from_split
    from alexnet.data.store import open_store
    from alexnet.durable import must_be_writable
    from alexnet.evaluate import must_be_seen, scored_split
    from alexnet.insight.figures import drawing
    from alexnet.insight.nearest import features, neighbours
    from alexnet.model import ready

    if not pictures and records is None:
        raise UsageError("neighbours: found no picture; expected some, or --records N for records of the store")
    if out is not None:
        drawing.must_be_a_figure(out)
        must_be_writable(out)
    chosen = runtime.choose(device, precision, workers)
    found, opened = ready(model, chosen), open_store(store)
    must_be_seen(found.view, opened)
    seer, searched = (found.network, found.view), scored_split(opened, split)
    way = neighbours.way(search, codes, len(searched))
    queries = [from_files(found.view, find_pictures(pictures), chosen.workers)]
    if records is not None:
        asked = scored_split(opened, None)
        queries.append(from_split(asked, neighbours.drawn(asked, records, seed), chosen.workers))
    with terminal.progress("looking", "records") as tick:
        kept = features.kept(model, seer, opened, searched, station, chosen, tick)
    with terminal.progress("learning", "steps" if codes else "records") as tick:
        ready_search = neighbours.searching(kept, way, codes, tick)
    each = neighbours.answers(kept, opened.classes, seer, chain(*queries), count, ready_search, chosen)
    answers = list(neighbours.with_squares(each, neighbours.SHEET if out is not None else 0))
    if as_json:
        terminal.emit_json([answer.to_json() for answer in answers])
    else:
        told_nearest(answers, way, kept.folder)
    if out is not None:
        drawing.save(out, neighbours.sheet(answers, searched))
        (terminal.note if as_json else terminal.say)(sheet_line(answers, out))
    must_be_read(sum(answer.error is not None for answer in answers), len(answers))


def told_nearest(answers: "Sequence[Answer]", way: str, index: Path) -> None:
    """A table for each query, and where all came from."""
    from alexnet import terminal

    for answer in answers:
        if answer.error is not None:
            terminal.say(f"{answer.path}: {answer.error}")
            continue
        rows = [[near.distance, near.class_name, near.name, near.split, str(near.number)] for near in answer.nearest]
        title = f"{answer.path} ({answer.class_name})" if answer.class_name else answer.path
        terminal.table(title, ["distance", "class", "picture", "split", "record"], rows)
    terminal.say(f"search: {way}, in {index}")


def sheet_line(answers: "Sequence[Answer]", out: Path) -> str:
    """Where the sheet is, and how many of the pictures that could be read it shows, if not all."""
    shown, read = sum(answer.square is not None for answer in answers), sum(answer.error is None for answer in answers)
    return str(out) if shown == read else f"{out}: shows the first {shown} of {read} pictures"
