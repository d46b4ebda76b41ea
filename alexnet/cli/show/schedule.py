"""The figure schedule: what a recipe changes over its epochs."""

from pathlib import Path

import click

from alexnet.cli.options import EPOCHS, LR, SET
from alexnet.cli.show.figure import ASCII, figure_options, figure_path, print_curves, write_figure


@click.command()
@click.argument("recipe", default="modern")
@EPOCHS
@LR
@SET
@ASCII
@figure_options
def schedule(
    recipe: str,
    epochs: int | None,
    lr: float | None,
    settings: tuple[str, ...],
    as_text: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Draw a RECIPE's schedules over its epochs.

    They are the learning rates by parameter group, the color noise, and the resolution.

    \b
    Example:  alexnet show schedule original --epochs 30
    """
    from alexnet.analysis.plots import schedule as plot
    from alexnet.analysis.plots.ascii_plot import Series
    from alexnet.recipes.configure import configure_recipe

    path = figure_path(out, "schedule")
    configured = configure_recipe(recipe, epochs=epochs, lr=lr, settings=settings)
    schedules = plot.compute_schedules(configured)
    if not as_text:
        write_figure(path, plot.plot_schedules(schedules), schedules.to_json(), as_json)
        return
    curves = [
        Series(group.name, *plot.line_points(schedules, group.lr)) for group in schedules.groups
    ]
    plots = {f"{recipe}: learning rate": curves}
    print_curves(plots, schedules.to_json(), as_json, log=not schedules.is_smooth)
