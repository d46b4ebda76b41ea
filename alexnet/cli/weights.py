"""The command weights: the public weights that a MODEL can be, and what is in the cache."""

from typing import TYPE_CHECKING, Any

import click

from alexnet.cli.options import JSON

if TYPE_CHECKING:
    from alexnet.models.pretrained import PublicWeights


@click.command()
@click.argument("name", required=False)
@JSON
def weights(name: str | None, as_json: bool) -> None:
    """List public weights, or fetch those of a NAME.

    A NAME can stand wherever a MODEL is taken, unless there is a file or directory called so. The
    weights are fetched at their first use, checked by their published hash, and kept in the cache
    folder ($ALEXNET_CACHE); a file put there by hand is taken as well. $ALEXNET_WEIGHTS_MIRROR is
    the address of a folder of the same files that is tried first.

    \b
    Examples:  alexnet weights
               alexnet weights caffe
               alexnet predict caffe cat.jpg
               alexnet train dataset --recipe caffe --init-from caffe
    """
    from alexnet.core import console
    from alexnet.models.pretrained import PRETRAINED, fetch, get_weights

    if name is None:
        _print_all([_describe(weights) for weights in PRETRAINED.values()], as_json)
        return
    chosen = get_weights(name)
    model = fetch(chosen, console.progress_bar, console.print_status)
    if as_json:
        console.print_json(_describe(chosen))
    else:
        console.print_line(str(model))


def _describe(weights: "PublicWeights") -> dict[str, Any]:
    """Return what the table knows of weights and what the cache holds, as a JSON object.

    `cache`: ready, where the model file is there, fetched, where only the published one is, absent.
    """
    from alexnet.models.pretrained import find_downloaded, find_in_cache

    model = find_in_cache(weights)
    downloaded = find_downloaded(weights)
    state = "absent"
    if downloaded:
        state = "fetched"
    if model:
        state = "ready"
    path = model or downloaded
    return {
        "name": weights.name,
        "recipe": weights.recipe,
        "megabytes": weights.megabytes,
        "license": weights.license,
        "top1_error": weights.top1_error,
        "top5_error": weights.top5_error,
        "cache": state,
        "path": None if path is None else str(path),
        "file": weights.file.name,
        "hash": weights.file.hash_text,
        "source": weights.source,
    }


def _print_all(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print the table, and below it where each one is from and where it lies."""
    from alexnet.core import console
    from alexnet.models.pretrained import weights_folder

    if as_json:
        console.print_json(rows)
        return
    columns = {
        "name": "name",
        "recipe": "recipe",
        "megabytes": "MB",
        "top1_error": "top-1 error %",
        "top5_error": "top-5 error %",
        "license": "license",
        "cache": "cache",
    }
    title = "public weights; errors as published, ILSVRC-2012 validation, center crop"
    console.print_table(
        title, list(columns.values()), [[row[key] for key in columns] for row in rows]
    )
    for row in rows:
        console.print_line(f"{row['name']}: from {row['source']}")
    for row in rows:
        if row["path"]:
            console.print_line(f"{row['name']}: {row['path']}")
    console.print_line(f"files put by hand: into {weights_folder()}")
