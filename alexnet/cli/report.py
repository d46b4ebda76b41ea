"""The command report: a page about a run, or one that compares several."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alexnet.cli.options import CROPS, JSON, PATH, SPLIT, parse_crops, runtime_options
from alexnet.core.errors import UsageError

if TYPE_CHECKING:
    from alexnet.evaluation.evaluate import Scores


@click.command()
@click.argument("runs", nargs=-1, required=True, type=PATH, metavar="RUN...")
@SPLIT
@CROPS
@click.option("--dataset", default=None, help="Where the runs' dataset is now, if it has moved.")
@click.option("--out", type=PATH, default=None, help="Of several runs; default: comparison.html.")
@JSON
@runtime_options
def report(
    runs: tuple[Path, ...],
    split: str | None,
    crops: str | None,
    dataset: str | None,
    out: Path | None,
    as_json: bool,
    device: str,
    precision: str,
    workers: int | None,
) -> None:
    """Write a page about a RUN, or one that compares several.

    RUN/report.html shows the numbers with their conditions, curves, filters, predictions and
    mistakes. It refers to nothing outside itself.

    \b
    Examples:  alexnet report runs/dataset-modern
               alexnet report runs/dataset-modern runs/dataset-original --out comparison.html
    """
    from alexnet.analysis.report.comparison import write_comparison
    from alexnet.analysis.report.run_report import write_report
    from alexnet.core import console
    from alexnet.core.atomic_io import require_writable
    from alexnet.core.device import make_runtime

    path = _page(runs, out)
    if len(runs) > 1:
        require_writable(path)
    runtime = make_runtime(device, precision, workers)
    count = parse_crops(crops)
    document: dict[str, Any]
    with console.progress_bar("evaluating") as progress:
        if len(runs) == 1:
            path, scores = write_report(runs[0], split, count, runtime, progress, dataset)
            document = {"report": str(path), **_scores(scores)}
        else:
            comparison = write_comparison(runs, path, split, count, runtime, progress, dataset)
            rows = [{"run": name, **_scores(scores)} for name, scores in comparison]
            document = {"report": str(path), "runs": rows}
    if as_json:
        console.print_json(document)
    else:
        console.print_line(str(path))


def _page(runs: tuple[Path, ...], out: Path | None) -> Path:
    """Return the path of a comparison's page; UsageError for a wrong --out."""
    if len(runs) == 1 and out is not None:
        raise UsageError(
            f"--out {out}: the report of one run goes into its own directory;"
            " expected several runs with --out"
        )
    path = out or Path("comparison.html")
    if path.suffix != ".html":
        raise UsageError(f"--out {out}: expected a name that ends in .html")
    return path


def _scores(scores: "Scores") -> dict[str, Any]:
    return {"images": scores.images, **dict(scores)}
