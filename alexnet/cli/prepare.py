"""The command prepare: a source of images becomes a prepared dataset, or parts become one."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from alexnet.cli.options import JSON, LOCATION, given_options
from alexnet.core.errors import UsageError

if TYPE_CHECKING:
    from alexnet.data.build_plan import Part, PrepareSummary

JSON_KEYS = ("images", "classes", "splits", "left_out", "bad", "seconds")


def parse_part(context: click.Context, option: click.Parameter, value: str | None) -> "Part | None":
    """Return the value of --part; UsageError unless it is I/N."""
    if value is None:
        return None
    from alexnet.data.build_plan import Part

    number, slash, count = value.partition("/")
    numbers = slash and number.isdecimal() and count.isdecimal()
    if not (numbers and 1 <= int(number) <= int(count)):
        raise UsageError(f"--part {value}: expected I/N, part I of N, such as 1/3")
    return Part(int(number), int(count))


@click.command()
@click.argument("paths", type=LOCATION, nargs=-1, metavar="SOURCE DATASET")
@click.option(
    "--val-fraction",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.1,
    show_default=True,
    help="Share of train, if there is no val.",
)
@click.option(
    "--test-fraction",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="Share of train, if there is no test.",
)
@click.option(
    "--size",
    type=click.IntRange(1),
    default=256,
    show_default=True,
    help="Side of the prepared squares, pixels.",
)
@click.option("--grayscale", is_flag=True, help="One channel instead of three.")
@click.option(
    "--encoding",
    type=click.Choice(["auto", "raw", "jpeg"]),
    default="auto",
    show_default=True,
    help="auto: raw up to 64 pixels, else jpeg.",
)
@click.option(
    "--on-error",
    type=click.Choice(["fail", "skip"]),
    default="skip",
    show_default=True,
    help="What to do when an image cannot be read.",
)
@click.option(
    "--exif/--no-exif",
    default=None,
    help="Rotate images as their camera recorded, or not; default: rotate, except ImageNet's.",
)
@click.option(
    "--part",
    metavar="I/N",
    callback=parse_part,
    help="Make only every N-th shard, from the I-th; DATASET is then a part.",
)
@click.option(
    "--merge",
    is_flag=True,
    help="Merge parts, which stand before DATASET; they have their options already.",
)
@click.option(
    "--workers", type=click.IntRange(1), default=None, help="Threads; default: all cores."
)
@JSON
def prepare(
    paths: tuple[str, ...],
    size: int,
    grayscale: bool,
    encoding: Literal["auto", "raw", "jpeg"],
    val_fraction: float,
    test_fraction: float,
    on_error: Literal["fail", "skip"],
    exif: bool | None,
    part: "Part | None",
    merge: bool,
    workers: int | None,
    as_json: bool,
) -> None:
    """Turn images into a DATASET that training reads.

    SOURCE is a folder of class folders, a folder with train/, val/, test/ of them, or a tar or
    zip of either; a folder of MNIST's or Fashion-MNIST's files; an official archive of CIFAR-10;
    a folder of ImageNet's official archives, or Kaggle's folder or zip of it; "synthetic", images
    that the package draws itself; or a public set that is downloaded once: fashion-mnist, cifar10,
    caltech101, imagenette. Several machines share the work with --part and --merge.

    \b
    Examples:  alexnet prepare photos.tar dataset --test-fraction 0.2
               alexnet prepare fashion-mnist dataset --size 224 --grayscale
               alexnet prepare ILSVRC2012 part1 --part 1/2
               alexnet prepare --merge part1 part2 dataset
    """
    from alexnet import api
    from alexnet.core import console
    from alexnet.data.build_dir import require_absent

    if merge:
        _merge([Path(path) for path in paths], as_json)
        return
    _require_two_paths(paths)
    dataset = Path(paths[1])
    require_absent(dataset)
    with _local_source(paths[0], workers) as source, console.progress_bar("preparing") as progress:
        summary = api.prepare(
            source,
            dataset,
            size=size,
            grayscale=grayscale,
            encoding=encoding,
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            on_error=on_error,
            exif=exif,
            part=part,
            workers=workers,
            progress=progress,
        )
    _print(summary, dataset, part, as_json)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _require_two_paths(paths: tuple[str, ...]) -> None:
    """Raise UsageError unless the arguments are a source and a dataset."""
    see = "see alexnet prepare --help"
    if not paths:
        raise UsageError(f"prepare: expected SOURCE and DATASET; {see}")
    if len(paths) != 2:
        raise UsageError(
            f"prepare: found {_count(len(paths), 'path')}; "
            f"expected SOURCE DATASET, or --merge PART... DATASET; {see}"
        )


def _require_known(source: str) -> None:
    """Raise UsageError for a name that is no path, but close to that of a public set."""
    from alexnet.api import SYNTHETIC
    from alexnet.data.download import PUBLIC_DATASETS

    names = [*PUBLIC_DATASETS, SYNTHETIC]
    if source in names or Path(source).exists() or Path(source).name != source:
        return
    if get_close_matches(source.lower(), names):
        raise UsageError(
            f"{source}: not found; expected a folder, a .tar or a .zip of images, "
            f"or one of {', '.join(names)}"
        )


@contextmanager
def _local_source(source: str, workers: int | None) -> Iterator[str]:
    """Provide the path of a source; show the progress while it is drawn or downloaded."""
    from alexnet import api
    from alexnet.core import console
    from alexnet.core.cpu import available_cores

    _require_known(source)
    label = ("drawing", "images") if source == api.SYNTHETIC else ("downloading", "bytes")
    with ExitStack() as stack:
        with console.progress_bar(*label) as progress:
            local = api.local_source(source, workers or available_cores(), progress)
            path = stack.enter_context(local)
        yield path


def _merge(paths: list[Path], as_json: bool) -> None:
    """Merge the parts at all paths but the last into a dataset at the last."""
    from alexnet.core import console
    from alexnet.data.build_dir import require_absent
    from alexnet.data.merge import merge

    options = given_options()
    others = [flag for name, flag in options.items() if name not in ("paths", "merge", "as_json")]
    if others:
        raise UsageError(
            f"{', '.join(others)}: with --merge the parts have their options already; leave it out"
        )
    if len(paths) < 2:
        raise UsageError(
            "prepare --merge: expected PART... and DATASET; see alexnet prepare --help"
        )
    *parts, dataset = paths
    require_absent(dataset)
    with console.progress_bar("merging", "shards") as progress:
        summary = merge(parts, dataset, progress)
    _print(summary, dataset, None, as_json)


def _print(summary: "PrepareSummary", dataset: Path, part: "Part | None", as_json: bool) -> None:
    """Print what was prepared, and its warnings as status lines."""
    from alexnet.core import console

    for warning in summary.warnings:
        console.print_status(f"warning: {warning}")
    if as_json:
        document: dict[str, Any] = {name: getattr(summary, name) for name in JSON_KEYS}
        console.print_json(document)
        return
    for line in _lines(summary, dataset, part):
        console.print_line(line)


def _lines(summary: "PrepareSummary", dataset: Path, part: "Part | None") -> list[str]:
    """Return the summary as lines of text; the last says what to type next."""
    from alexnet.core.console import format_duration

    splits = ", ".join(f"{name} {count:,}" for name, count in summary.splits.items())
    what = f"images, part {part}" if part else f"images of {summary.classes} classes"
    duration = format_duration(summary.seconds)
    lines = [f"{dataset}: {summary.images:,} {what} ({splits}) in {duration}"]
    if summary.bad:
        where = "the merged dataset's dataset.json" if part else dataset / "dataset.json"
        lines.append(
            f"{_count(summary.bad, 'image')} could not be read; "
            f'{where} lists names and reasons under "bad"'
        )
    if part:
        command = f"prepare --merge PART... DATASET, of all {part.total} parts"
    else:
        command = f"train {dataset} --out RUN"
    return [*lines, f"next: alexnet {command}"]
