"""The figure filters: the kernels of the first layer."""

from pathlib import Path

import click

from alexnet.cli.options import MODEL
from alexnet.cli.show.figure import figure_options, figure_path, write_figure


@click.command()
@click.argument("model", type=MODEL)
@figure_options
def filters(model: Path, out: Path | None, as_json: bool) -> None:
    """Draw a MODEL's first kernels, by tower (figure 3).

    \b
    Example:  alexnet show filters run
    """
    from alexnet.analysis.plots import filters as plot
    from alexnet.models.model_file import read_model_file

    path = figure_path(out, "filters")
    first_layer = plot.first_layer_filters(read_model_file(model))
    write_figure(path, plot.plot_filters(first_layer), first_layer.to_json(), as_json)
