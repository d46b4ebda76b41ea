"""The verbs: `alexnet VERB ...`, the same as `python -m alexnet VERB ...`. Each is one call into a room.

Nothing heavy is imported before a verb needs it, so that help is there at once. A failure that the user can mend ends as one line
with status 1, a wrong call with 2, Ctrl-C and SIGTERM with 130 and 143 once the state is saved; `--debug` shows the traceback.
"""

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alexnet import __version__
from alexnet.errors import AlexNetError, UsageError

if TYPE_CHECKING:
    from alexnet.data.sources import Source
    from alexnet.measure.subjects import Subject
    from alexnet.recipes.recipe import Recipe
    from alexnet.weights.into_model import Imported

Verb = Callable[..., Any]
JSON = click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
ALLOCATOR = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=4294967296"
COMPUTING = ("demo", "train", "evaluate", "predict", "report")
MODEL_FILE = click.Path(path_type=Path)


def computing(verb: Verb) -> Verb:
    """The options of every verb that computes with a network."""
    for option in (
        click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Threads that read pictures."),
        click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True),
        click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, ..."),
    ):
        verb = option(verb)
    return verb


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="alexnet")
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of a failure; may stand anywhere.")
def cli() -> None:
    """AlexNet, the whole 2012 system: prepare pictures, train, evaluate, look inside, use.

    \b
    Start here:   alexnet demo
    Your own:     alexnet prepare PICTURES STORE
                  alexnet train STORE --out RUN
                  alexnet predict RUN/model.safetensors cat.jpg
    """


@cli.command()
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("alexnet-demo"), show_default=True, help="Where everything goes."
)
@click.option("--epochs", type=click.IntRange(1), default=None, help="Instead of the demo's own number.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True)
@JSON
@computing
def demo(out: Path, epochs: int | None, seed: int, as_json: bool, device: str, precision: str, workers: int) -> None:
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


@cli.command()
@click.argument("source")
@click.argument("store", type=click.Path(path_type=Path))
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
@click.option("--no-exif", is_flag=True, help="Do not turn pictures as their camera says (ImageNet in 2012 did not).")
@click.option("--workers", type=click.IntRange(1), default=None, help="Threads; default: all cores.")
@JSON
def prepare(
    source: str, store: Path, size: int, grey: bool, encoding: str, val_fraction: float, test_fraction: float,
    on_bad: str, no_exif: bool, workers: int | None, as_json: bool,
) -> None:  # fmt: skip
    """Turn SOURCE into a STORE that training reads.

    SOURCE is a folder of class folders, a folder with train/, val/, test/ of them, a tar or zip of either; a folder of MNIST's or
    Fashion-MNIST's files, an official archive of CIFAR-10; "embedded", the set the package draws itself; or a public set to be
    fetched once: fashion-mnist, cifar10, caltech101, imagenette.

    \b
    Examples:  alexnet prepare photos.tar store --test-fraction 0.2
               alexnet prepare fashion-mnist store --size 224 --grey
    """
    from alexnet import terminal
    from alexnet.data.images import Policy
    from alexnet.data.prepare import choose_encoding, must_be_free
    from alexnet.data.prepare import prepare as prepare_store
    from alexnet.data.sources import Fractions

    chosen = choose_encoding(size) if encoding == "auto" else encoding
    policy = Policy(size=size, channels=1 if grey else 3, encoding=chosen, exif=not no_exif)
    threads = workers or os.cpu_count() or 1
    fractions = Fractions(val_fraction, test_fraction)
    must_be_free(store)
    with opened(source, threads) as pictures, terminal.progress("preparing") as tick:
        summary = prepare_store(pictures, store, policy, fractions, on_bad=on_bad, workers=threads, progress=tick)
    for warning in summary.warnings:
        terminal.note(f"warning: {warning}")
    if as_json:
        terminal.emit_json({name: getattr(summary, name) for name in ("pictures", "classes", "bad", "seconds", "splits")})
        return
    splits = ", ".join(f"{name} {count:,}" for name, count in summary.splits.items())
    terminal.say(
        f"{store}: {summary.pictures:,} pictures of {summary.classes} classes ({splits}) in {terminal.duration(summary.seconds)}"
    )
    if summary.bad:
        terminal.say(
            f'{summary.bad} pictures could not be read; their names and reasons are in {store / "store.json"} under "bad"'
        )
    terminal.say(f"next: alexnet train {store} --out RUN")


@cli.command()
@click.argument("store", type=click.Path(path_type=Path), required=False)
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
@click.option("--save-every", type=click.FloatRange(0), default=300.0, show_default=True, help="Seconds between checkpoints.")
@click.option("--deterministic", is_flag=True, help="Only algorithms that give the same bits again (on a GPU: slower).")
@JSON
@computing
def train(
    store: Path | None, recipe: str, out: Path | None, resume: Path | None, epochs: int | None, batch_size: int | None,
    lr: float | None, seed: int, settings: tuple[str, ...], init: Path | None, freeze: str | None, save_every: float,
    deterministic: bool, as_json: bool,
    device: str, precision: str, workers: int,
) -> None:  # fmt: skip
    """Train a network on a STORE, or go on with a run (STORE then says where its store is now, if it has moved).

    \b
    Examples:  alexnet train store --out run --epochs 12
               alexnet train store --recipe original --set training.batch=64
               alexnet train store --init model.safetensors --freeze conv5 --lr 0.001
               alexnet train --resume run
    """
    from alexnet import runtime, terminal
    from alexnet.data.store import open_store
    from alexnet.recipes.named import named
    from alexnet.recipes.recipe import with_frozen
    from alexnet.training import loop, tasks

    if resume is not None:
        refuse_given(
            "recipe",
            "out",
            "epochs",
            "batch_size",
            "lr",
            "seed",
            "settings",
            "init",
            "freeze",
            "deterministic",
            "device",
            "precision",
        )
        task, folder = tasks.resumed(resume, workers, store), resume
    elif store is not None:
        opened_store = open_store(store)
        shaped = configured(named(recipe), epochs, batch_size, lr, settings)
        shaped = with_frozen(shaped, freeze) if freeze is not None else shaped
        chosen = runtime.choose(device, precision, workers, deterministic)
        task = tasks.Task(opened_store, shaped, seed, chosen, tasks.Init.of(init) if init is not None else None)
        folder = out or Path("runs") / f"{store.name}-{shaped.name}"
        tasks.must_be_new(folder)
    else:
        raise UsageError("train: expected a STORE, made by `alexnet prepare`, or --resume RUN")
    for line in tasks.plan_lines(task):
        terminal.note(line)
    with runtime.stop_requests() as stop, terminal.training_progress(task.steps) as tell:
        summary = loop.train(task, folder, tell, stop, save_every)
    if as_json:
        terminal.emit_json(summary)
        return
    if summary["top1_error"] is not None:
        terminal.say(f"best model: top-1 error {summary['top1_error']:.2f} % on the val split, one view")
    terminal.say(
        f"{summary['model']}, after {terminal.duration(summary['seconds'])} at {summary['pictures_per_second']:.0f} pictures/s"
    )
    terminal.say(f"next: alexnet evaluate {summary['model']} {task.store.path}, alexnet report {folder}")


@cli.command()
@click.argument("paths", nargs=-1, required=True, type=MODEL_FILE, metavar="MODEL... STORE")
@click.option("--split", default=None, help="Default: test, else val.")
@click.option("--views", type=click.Choice(["1", "9", "10", "dense"]), default=None, help="Default: the model's own number.")
@JSON
@computing
def evaluate(
    paths: tuple[Path, ...], split: str | None, views: str | None, as_json: bool, device: str, precision: str, workers: int
) -> None:
    """Score a MODEL on a STORE; several models are scored together, their probabilities averaged.

    \b
    Example:  alexnet evaluate run/model.safetensors store --views 10
    """
    from alexnet import runtime, terminal
    from alexnet.data.store import open_store
    from alexnet.evaluate import DENSE, must_fit, scored_split
    from alexnet.evaluate import evaluate as score
    from alexnet.model import ready

    if len(paths) < 2:
        raise UsageError(f"evaluate: found {paths[0]} alone; expected one or more models and a store")
    chosen = runtime.choose(device, precision, workers)
    opened_store, models = open_store(paths[-1]), [ready(path, chosen) for path in paths[:-1]]
    for model in models:
        must_fit(model.view, opened_store)
    records, count = scored_split(opened_store, split), DENSE if views == "dense" else int(views or models[0].view.views.test)
    with terminal.progress("evaluating") as tick:
        scores = score([(model.network, model.view) for model in models], records, count, chosen, tick)
    if as_json:
        terminal.emit_json(
            {"pictures": scores.pictures, "views": count or "dense", "models": len(models), "split": records.name, **dict(scores)}
        )
        return
    title = f"{records.name} split of {opened_store.path}, {scores.pictures:,} pictures"
    row = [", ".join(str(path) for path in paths[:-1]), count or "dense", scores.top1_error, scores.top5_error, scores.loss]
    terminal.table(title, ["model", "views", "top-1 error %", "top-5 error %", "loss"], [row])


@cli.command()
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
    workers: int,
) -> None:
    """Say what is on pictures: files, folders, or patterns such as "photos/*.jpg".

    \b
    Example:  alexnet predict run/model.safetensors cat.jpg photos --csv answers.csv
    """
    from alexnet import runtime, terminal
    from alexnet.model import ready
    from alexnet.serving.predict import find_pictures, predict_files, write_csv

    chosen = runtime.choose(device, precision, workers)
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
    unread = sum(answer.error is not None for answer in answers)
    if unread:
        raise AlexNetError(f"{unread} of {len(answers)} pictures could not be read; the reasons stand beside their names")


@cli.command()
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


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--split", default=None, help="Default: test, else val.")
@click.option("--views", type=click.Choice(["1", "9", "10"]), default=None, help="Default: the model's own number.")
@click.option("--store", type=click.Path(path_type=Path), default=None, help="Where the run's store is now, if it has moved.")
@JSON
@computing
def report(
    run: Path, split: str | None, views: str | None, store: Path | None, as_json: bool, device: str, precision: str, workers: int
) -> None:
    """Write RUN/report.html: the numbers with their conditions, curves, filters, predictions, mistakes.

    \b
    Example:  alexnet report runs/store-modern
    """
    from alexnet import runtime, terminal
    from alexnet.insight.report import write_report

    chosen = runtime.choose(device, precision, workers)
    with terminal.progress("looking") as tick:
        path, scores = write_report(run, split, int(views) if views else None, chosen, tick, store)
    if as_json:
        terminal.emit_json({"report": str(path), "pictures": scores.pictures, **dict(scores)})
    else:
        terminal.say(str(path))


@cli.group("import")
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


@cli.command()
@JSON
def doctor(as_json: bool) -> None:
    """What this machine offers: versions, cores, bf16 units, the form of the kernels, disk.

    \b
    Example:  alexnet doctor
    """
    from alexnet import runtime, terminal
    from alexnet.native.library import state

    found = runtime.machine() | {"kernels": state()} | runtime.surroundings()
    if as_json:
        terminal.emit_json(found)
    else:
        terminal.table("this machine", ["what", "found"], list(found.items()))


@cli.command()
@click.argument("subject", type=click.Choice(["train", "infer", "feed", "norm"]), default="train")
@click.option("--recipe", default="paper", show_default=True, help="Whose network, views and training; not for norm.")
@click.option("--batch-size", type=click.IntRange(1), default=None, help="Default: 128; infer: 64, beside 1.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Turns of every contender, after a warm-up.")
@click.option("--threads", type=click.IntRange(1), default=None, help="Of torch; default: its own choice. The feed has one.")
@click.option("--pictures", type=click.Path(exists=True), default=None, help="JPEG files for train, feed; default: drawn ones.")
@JSON
@computing
def measure(
    subject: "Subject", recipe: str, batch_size: int | None, rounds: int, threads: int | None, pictures: str | None,
    as_json: bool, device: str, precision: str, workers: int,
) -> None:  # fmt: skip
    """Time ours beside the usual ways, in turns, and against the machine's own limits: minutes for train and infer.

    \b
    train  a training step, and the whole training       infer  logits, a batch and a single picture
    feed   batches of crops, on one core                 norm   the response norm, forward and backward
    \b
    Examples:  alexnet measure train --recipe original
               alexnet measure infer --threads 1
    """
    import torch

    from alexnet import runtime, terminal
    from alexnet.measure.report import COLUMNS
    from alexnet.measure.subjects import BATCHES, Conditions
    from alexnet.measure.subjects import measure as taken
    from alexnet.recipes.named import named

    chosen = runtime.choose(device, precision, workers)
    batch, own = batch_size or BATCHES[subject], threads or torch.get_num_threads()
    with terminal.progress("measuring", "turns") as tick:
        found = taken(Conditions(subject, named(recipe), batch, rounds, own, chosen, ALLOCATOR, pictures), tick)
    if as_json:
        terminal.emit_json(found.to_json())
        return
    for title, rows in found.tables():
        terminal.table(title, COLUMNS, rows)
    for line in found.notes():
        terminal.say(line)


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


def refuse_given(*names: str) -> None:
    """UsageError where one of these options was given: a resumed run is what it was."""
    context = click.get_current_context()
    given = [name for name in names if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE]
    if given:
        flags = {option.name: option.opts[0] for option in context.command.params}
        raise UsageError(
            f"{', '.join(flags[name] for name in given)}: a resumed run keeps its own; leave it out or start a new run"
        )


def configured(recipe: "Recipe", epochs: int | None, batch: int | None, lr: float | None, settings: tuple[str, ...]) -> "Recipe":
    """A recipe after the familiar flags and `--set`, in that order."""
    from alexnet.recipes.recipe import with_epochs, with_rate
    from alexnet.recipes.settings import override

    recipe = with_epochs(recipe, epochs) if epochs is not None else recipe
    recipe = with_rate(recipe, lr) if lr is not None else recipe
    for setting in ([f"training.batch={batch}"] if batch is not None else []) + list(settings):
        recipe = override(recipe, setting)
    return recipe


def launch() -> None:
    """The command itself: `main` in a process whose memory allocator was told not to hand large tensors back after each step.

    glibc reads these settings before the first line of Python, so the process replaces itself once; its id stays the same.
    Elsewhere the settings mean nothing. A GLIBC_TUNABLES of one's own is left alone.
    """
    verb = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    if verb in COMPUTING and "GLIBC_TUNABLES" not in os.environ:
        os.environ["GLIBC_TUNABLES"] = ALLOCATOR
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    main()


def main() -> None:
    """Run a verb and turn whatever ends it into an exit status."""
    debug = "--debug" in sys.argv
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        sys.exit(cli(args=[word for word in sys.argv[1:] if word != "--debug"], prog_name="alexnet", standalone_mode=False) or 0)
    except click.exceptions.NoArgsIsHelpError as asked:
        print(asked.format_message())
        sys.exit(2)
    except click.ClickException as wrong:
        _end(f"{wrong.format_message()} (alexnet --help lists the verbs)", 2, debug)
    except AlexNetError as failed:
        _end(str(failed), failed.status, debug)
    except (KeyboardInterrupt, click.Abort):
        _end("interrupted", 130, debug)
    except BrokenPipeError:  # the reader of our output has gone, which is its right
        sys.exit(1)
    except OSError as failed:
        where = f"{failed.filename}: " if failed.filename else ""
        _end(f"{where}{failed.strerror or failed}; check the path, its permissions and the space left", 1, debug)


def _end(text: str, status: int, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    print(f"alexnet: {text}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    launch()
