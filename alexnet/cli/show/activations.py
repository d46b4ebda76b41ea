"""The figure activations: activation functions and their derivatives."""

from pathlib import Path

import click

from alexnet.cli.options import SET
from alexnet.cli.show.figure import ASCII, figure_options, figure_path, print_curves, write_figure


@click.command()
@click.argument("recipe", required=False)
@SET
@ASCII
@figure_options
def activations(
    recipe: str | None,
    settings: tuple[str, ...],
    as_text: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Draw activation functions and their derivatives.

    They are those of a RECIPE's network; without RECIPE, all there are.

    \b
    Example:  alexnet show activations
    """
    from alexnet.analysis.plots import activations as plot
    from alexnet.analysis.plots.ascii_plot import Series
    from alexnet.models.layers import ACTIVATIONS
    from alexnet.recipes.configure import configure_recipe

    path = figure_path(out, "activations")
    names = list(ACTIVATIONS)
    if recipe:
        names = plot.activation_names(configure_recipe(recipe, settings=settings).network)
    curves = [plot.compute_activation_curve(name) for name in names]
    data = {"functions": [curve.to_json() for curve in curves]}
    if not as_text:
        write_figure(path, plot.plot_activations(curves), data, as_json)
        return
    values = [Series(curve.name, curve.x, curve.value) for curve in curves]
    derivatives = [Series(curve.name, curve.x, curve.derivative) for curve in curves]
    print_curves({"f(x)": values, "f'(x)": derivatives}, data, as_json)
