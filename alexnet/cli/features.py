"""The command features: a layer's output for images, as rows in a .npy file."""

from pathlib import Path

import click

from alexnet.cli.options import (
    JSON,
    LAYER,
    LOCATION,
    MODEL,
    PATH,
    SPLIT,
    require_all_readable,
    runtime_options,
)


@click.command()
@click.argument("model", type=MODEL)
@click.argument("paths", type=LOCATION, nargs=-1, required=True, metavar="PATH...")
@LAYER
@click.option("--out", type=PATH, required=True, metavar="FILE.npy", help="Where the rows go.")
@SPLIT
@JSON
@runtime_options
def features(
    model: Path,
    paths: tuple[str, ...],
    layer: str,
    out: Path,
    split: str | None,
    as_json: bool,
    device: str,
    precision: str,
    workers: int | None,
) -> None:
    """Write a layer's output for images to a .npy file.

    MODEL is a model file, a run's directory or a name of `alexnet weights`. PATHs are files,
    folders or patterns, or a single dataset. FILE.npy gets a float32 row for each image, in their
    order; their names go into FILE.names, one JSON string a line.

    \b
    Example:  alexnet features run photos --layer fc7 --out photos.npy
    """
    from alexnet.analysis.retrieval.features import names_path
    from alexnet.analysis.retrieval.queries import save_features
    from alexnet.core import console
    from alexnet.core.device import make_runtime

    runtime = make_runtime(device, precision, workers)
    with console.progress_bar("features") as progress:
        written = save_features(
            out, model, paths, layer=layer, split=split, runtime=runtime, progress=progress
        )
    rows = len(written.names)
    names = names_path(out)
    if as_json:
        document = {
            "features": str(out),
            "names": str(names),
            "layer": layer,
            "rows": rows,
            "values": written.dim,
            "unreadable": [{"path": path, "error": error} for path, error in written.unreadable],
        }
        console.print_json(document)
    else:
        for path, error in written.unreadable:
            console.print_line(f"{path}: {error}")
        shape = f"{rows:,} rows of {written.dim:,} values"
        console.print_line(f"{out}: {shape} ({layer}); names: {names}")
    require_all_readable(len(written.unreadable), rows + len(written.unreadable))
