"""The figure network: the architecture to scale, or the graph of a training step."""

from pathlib import Path

import click

from alexnet.cli.describe import CLASSES, class_count
from alexnet.cli.options import SET
from alexnet.cli.show.figure import figure_options, figure_path, write_figure


@click.command()
@click.argument("recipe", default="modern")
@CLASSES
@SET
@click.option(
    "--backward",
    is_flag=True,
    help="Instead: one step of training, with its gradients and updates.",
)
@figure_options
def network(
    recipe: str,
    classes: int | None,
    settings: tuple[str, ...],
    backward: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Draw a RECIPE's network to scale, with costs (figure 2).

    \b
    Examples:  alexnet show network original
               alexnet show network caffe --backward --out step.svg
    """
    from alexnet.analysis.plots.arch_layout import compute_layout
    from alexnet.analysis.plots.architecture import plot_architecture
    from alexnet.analysis.plots.training_graph import compute_training_graph, plot_training_graph
    from alexnet.recipes.configure import configure_recipe

    path = figure_path(out, "network")
    configured = configure_recipe(recipe, settings=settings)
    count = class_count(configured, classes)
    if backward:
        graph = compute_training_graph(configured, count)
        figure = plot_training_graph(graph, f"{recipe}: one step of training")
        data = graph.to_json()
    else:
        layout = compute_layout(configured.network, count)
        figure = plot_architecture(layout, f"{recipe}, {count:,} classes")
        data = layout.to_json()
    write_figure(path, figure, {"recipe": recipe} | data, as_json)
