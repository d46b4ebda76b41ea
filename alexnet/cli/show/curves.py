"""The figure curves: how runs went."""

from pathlib import Path

import click

from alexnet.cli.options import PATH
from alexnet.cli.show.figure import ASCII, figure_options, figure_path, print_curves, write_figure


@click.command()
@click.argument("runs", nargs=-1, required=True, type=PATH, metavar="RUN...")
@ASCII
@figure_options
def curves(runs: tuple[Path, ...], as_text: bool, out: Path | None, as_json: bool) -> None:
    """Draw loss, validation error and learning rate of RUNs.

    \b
    Example:  alexnet show curves runs/dataset-modern runs/dataset-original
    """
    from alexnet.analysis.plots import curves as plot
    from alexnet.analysis.plots.ascii_plot import Series
    from alexnet.training.run_dir import read_history

    path = figure_path(out, "curves")
    runs_curves = plot.compute_curves([read_history(run) for run in runs])
    data = {"runs": [curve.to_json() for curve in runs_curves]}
    if not as_text:
        write_figure(path, plot.plot_curves(runs_curves), data, as_json)
        return
    losses = []
    errors = []
    for curve in runs_curves:
        losses.append(Series(curve.name, curve.step_epochs.tolist(), curve.mean_loss.tolist()))
        if curve.epochs:
            errors.append(Series(curve.name, *curve.validation("top1_error")))
    plots = {"training loss": losses}
    if errors:
        plots["validation top-1 error, %"] = errors
    print_curves(plots, data, as_json)
