"""The verbs that use networks: evaluate, predict, import."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from alexnet.errors import UsageError, must_be
from alexnet.verbs.options import JSON, MODEL_FILE, computing, must_be_read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alexnet.model import Model
    from alexnet.weights.into_model import Imported


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="MODEL... STORE")
@click.option("--split", default=None, help="Default: test, else val.")
@click.option("--views", type=click.Choice(["1", "9", "10", "dense"]), default=None, help="Default: the model's own number.")
@click.option("--weights", default=None, metavar="W,W,...|val", help="How much each model counts; val: found on that split.")
@click.option("--submission", type=click.Path(path_type=Path), default=None, help="Write the challenge's file of answers.")
@JSON
@computing
def evaluate(
    paths: tuple[str, ...],
    split: str | None,
    views: str | None,
    weights: str | None,
    submission: Path | None,
    as_json: bool,
    device: str,
    precision: str,
    workers: int | None,
) -> None:
    """Score a MODEL on a STORE; several models are scored together, their probabilities averaged.

    STORE is a folder, or an address (http://HOST/STORE, s3://BUCKET/STORE).

    --weights val finds the weights of least loss on the validation split, to score another one. --submission writes a line for
    each picture, in the order of file names: its five likeliest classes, numbered from 1 as the store lists them.

    \b
    Examples:  alexnet evaluate run/model.safetensors store --views 10
               alexnet evaluate a.safetensors b.safetensors store --weights val --split test
               torchrun --nproc-per-node 4 -m alexnet evaluate run/model.safetensors store
    """
    from alexnet import ranks, runtime, terminal
    from alexnet.data.store import open_store
    from alexnet.durable import must_be_writable
    from alexnet.ensemble import weighed
    from alexnet.evaluate import DENSE, answers, must_fit, scored_split, write_submission
    from alexnet.evaluate import scores as score
    from alexnet.model import ready

    if len(paths) < 2:
        raise UsageError(f"evaluate: found {paths[0]} alone; expected one or more models and a store")
    if submission is not None:
        must_be_writable(submission)
    with ranks.together() as group:
        chosen = runtime.spread(runtime.choose(device, precision, workers), "data", group)
        opened_store, models = open_store(paths[-1]), [ready(Path(path), chosen) for path in paths[:-1]]
        for model in models:
            must_fit(model.view, opened_store)
        records = scored_split(opened_store, split)
        count = DENSE if views == "dense" else int(views) if views else own_views(models)
        seers = [(model.network, model.view) for model in models]
        with terminal.progress("weighing") as tick:
            shares = weighed(weights, seers, opened_store, records, count, chosen, tick)
        with terminal.progress("evaluating") as tick:
            probability, labels = answers(seers, records, count, chosen, tick, shares)
    if not group.leads:
        return
    scores = score(probability, labels)
    if submission is not None:
        write_submission(submission, probability, records.names)
    if as_json:
        found = {"pictures": scores.pictures, "views": count or "dense", "models": len(models), "weights": shares.tolist()}
        terminal.emit_json(found | {"split": records.name, **dict(scores)})
        return
    title = f"{records.name} split of {opened_store.place}, {scores.pictures:,} pictures"
    names = [f"{share:.3f} {path}" if weights else path for share, path in zip(shares.tolist(), paths[:-1], strict=True)]
    row = [", ".join(names), count or "dense", scores.top1_error, scores.top5_error, scores.loss]
    terminal.table(title, ["model", "views", "top-1 error %", "top-5 error %", "loss"], [row])


def own_views(models: "Sequence[Model]") -> int:
    """The number of views that the models' own recipes ask for; UsageError where they do not agree."""
    asked = sorted({model.view.views.test for model in models})
    must_be(len(asked) == 1, f"these models are made for {' and '.join(map(str, asked))} views; choose with --views")
    return asked[0]


@click.command()
@click.argument("model", type=MODEL_FILE)
@click.argument("paths", nargs=-1, required=True)
@click.option("--views", type=click.Choice(["1", "9", "10"]), default=None, help="Default: the model's own number.")
@click.option("--csv", "csv_file", type=click.Path(path_type=Path), default=None, help="Write the answers to this file as well.")
@JSON
@computing
def predict(
    model: Path,
    paths: tuple[str, ...],
    views: str | None,
    csv_file: Path | None,
    as_json: bool,
    device: str,
    precision: str,
    workers: int | None,
) -> None:
    """Say what is on pictures: files, folders, or patterns such as "photos/*.jpg".

    \b
    Example:  alexnet predict run/model.safetensors cat.jpg photos --csv answers.csv
    """
    from alexnet import runtime, terminal
    from alexnet.data.groups import find_pictures
    from alexnet.durable import must_be_writable
    from alexnet.model import ready
    from alexnet.serving.predict import predict_files, write_csv

    chosen = runtime.choose(device, precision, workers)
    if csv_file is not None:
        must_be_writable(csv_file)
    seer, found = ready(model, chosen), find_pictures(paths)
    with terminal.progress("predicting") as tick:
        answers = list(predict_files((seer.network, seer.view), found, int(views or seer.view.views.test), chosen, tick))
    if csv_file is not None:
        write_csv(csv_file, answers)
    if as_json:
        terminal.emit_json([answer.to_json() for answer in answers])
    else:
        for answer in answers:
            terminal.say(answer.line())
    must_be_read(sum(answer.error is not None for answer in answers), len(answers))


@click.group("import")
def import_() -> None:
    """Turn weights that other programs wrote into a model file.

    \b
    Example:  alexnet import caffe bvlc_alexnet.caffemodel model.safetensors --mean imagenet_mean.binaryproto
    """


CLASS_NAMES = click.option("--classes", type=MODEL_FILE, default=None, help="A text file with the classes' names, one a line.")


@import_.command()
@click.argument("file", type=MODEL_FILE)
@click.argument("model", type=MODEL_FILE)
@click.option("--mean", type=MODEL_FILE, default=None, help="Its mean image, a .binaryproto; default: Caffe's mean colour.")
@CLASS_NAMES
@JSON
def caffe(file: Path, model: Path, mean: Path | None, classes: Path | None, as_json: bool) -> None:
    """A .caffemodel of bvlc_alexnet or bvlc_reference_caffenet.

    \b
    Example:  alexnet import caffe bvlc_alexnet.caffemodel model.safetensors
    """
    from alexnet.weights.caffe import import_caffe
    from alexnet.weights.into_model import read_classes

    told_imported(file, model, import_caffe(file, model, mean, read_classes(classes) if classes else None), as_json)


@import_.command()
@click.argument("file", type=MODEL_FILE)
@click.argument("model", type=MODEL_FILE)
@CLASS_NAMES
@JSON
def torchvision(file: Path, model: Path, classes: Path | None, as_json: bool) -> None:
    """A .pth of torchvision's net, or one trained from it.

    \b
    Example:  alexnet import torchvision alexnet-owt-7be5be79.pth model.safetensors
    """
    from alexnet.weights.into_model import read_classes
    from alexnet.weights.torchvision import import_torchvision

    told_imported(file, model, import_torchvision(file, model, read_classes(classes) if classes else None), as_json)


def told_imported(file: Path, model: Path, imported: "Imported", as_json: bool) -> None:
    """Say which net a file turned out to be."""
    from dataclasses import asdict

    from alexnet import terminal

    if as_json:
        terminal.emit_json({"model": str(model), **asdict(imported)})
    else:
        what = f"the net {imported.recipe}, {imported.classes:,} classes, {imported.parameters:,} parameters"
        terminal.say(f"{model}: {what}, from {file.name}")
