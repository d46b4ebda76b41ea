"""The command neighbors: the records of a dataset that are nearest to images."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from alexnet.cli.options import (
    JSON,
    LAYER,
    LOCATION,
    MODEL,
    PATH,
    require_all_readable,
    runtime_options,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alexnet.analysis.retrieval.neighbors import QueryResult
    from alexnet.analysis.retrieval.queries import Neighbors


@click.command()
@click.argument("model", type=MODEL)
@click.argument("dataset", type=LOCATION)
@click.argument("images", type=LOCATION, nargs=-1, metavar="[IMAGE...]")
@click.option(
    "--records",
    type=click.IntRange(1),
    default=None,
    metavar="N",
    help="Query also with N random records of test, else val.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed of --records.")
@click.option(
    "--top-k",
    type=click.IntRange(1),
    default=6,
    show_default=True,
    help="Neighbors of each image.",
)
@click.option("--split", default="train", show_default=True, help="Split that is searched.")
@LAYER
@click.option(
    "--search",
    type=click.Choice(["auto", "exact", "faiss"]),
    default="auto",
    show_default=True,
    help="auto: faiss for many records, if it is installed.",
)
@click.option(
    "--hash-bits",
    type=click.IntRange(8),
    default=None,
    metavar="BITS",
    help="Compare binary codes of this length instead.",
)
@click.option("--out", type=PATH, default=None, metavar="FILE.png", help="Draw them as well.")
@JSON
@runtime_options
def neighbors(
    model: Path,
    dataset: str,
    images: tuple[str, ...],
    records: int | None,
    seed: int,
    top_k: int,
    split: str,
    layer: str,
    search: Literal["auto", "exact", "faiss"],
    hash_bits: int | None,
    out: Path | None,
    as_json: bool,
    device: str,
    precision: str,
    workers: int | None,
) -> None:
    """Find the images of a DATASET that are nearest to others.

    MODEL is a model file, a run's directory or a name of `alexnet weights`. IMAGEs are files,
    folders or patterns; or records of the dataset, with --records. The features of the searched
    split are computed once and kept in a directory next to the model file.

    \b
    Examples:  alexnet neighbors run dataset cat.jpg --out neighbors.png
               alexnet neighbors run dataset --records 8 --hash-bits 256
    """
    from alexnet.analysis.plots.figure_io import require_figure_path
    from alexnet.analysis.retrieval.queries import find_neighbors
    from alexnet.core import console
    from alexnet.core.atomic_io import require_writable
    from alexnet.core.device import make_runtime

    if out is not None:
        require_figure_path(out)
        require_writable(out)
    result = find_neighbors(
        model,
        dataset,
        images,
        records=records,
        seed=seed,
        top_k=top_k,
        split=split,
        layer=layer,
        search=search,
        hash_bits=hash_bits,
        keep_images=out is not None,
        runtime=make_runtime(device, precision, workers),
        stage=console.progress_bar,
    )
    if as_json:
        console.print_json([query.to_json() for query in result.results])
    else:
        _print(result)
    if out is not None:
        _draw(result, out, as_json)
    unreadable = sum(query.error is not None for query in result.results)
    require_all_readable(unreadable, len(result.results))


def _draw(result: "Neighbors", out: Path, as_json: bool) -> None:
    """Draw the queries with their neighbors, and print the path of the sheet."""
    from alexnet.analysis.plots.figure_io import save_figure
    from alexnet.analysis.retrieval.neighbors import contact_sheet
    from alexnet.core import console

    save_figure(out, contact_sheet(result.results, result.split))
    line = _sheet_line(result.results, out)
    if as_json:
        console.print_status(line)
    else:
        console.print_line(line)


def _print(result: "Neighbors") -> None:
    """Print a table for each query, then how and where all were searched."""
    from alexnet.core import console

    for query in result.results:
        if query.error is not None:
            console.print_line(f"{query.path}: {query.error}")
            continue
        rows = [
            [near.distance, near.class_name, near.name, near.split, str(near.index)]
            for near in query.neighbors
        ]
        title = f"{query.path} ({query.class_name})" if query.class_name else query.path
        console.print_table(title, ["distance", "class", "image", "split", "record"], rows)
    console.print_line(f"search: {result.method}, in {result.index}")


def _sheet_line(answers: "Sequence[QueryResult]", out: Path) -> str:
    """Return the path of the sheet, and how many of the readable queries it shows if not all."""
    shown = sum(query.image is not None for query in answers)
    readable = sum(query.error is None for query in answers)
    return str(out) if shown == readable else f"{out}: shows the first {shown} of {readable} images"
