"""The figure augmentations: what the network sees of training images."""

from pathlib import Path

import click

from alexnet.cli.options import LOCATION, SEED, SET
from alexnet.cli.show.figure import figure_options, figure_path, write_figure


@click.command()
@click.argument("dataset", type=LOCATION)
@click.option("--recipe", default="modern", show_default=True, help="Whose augmentation.")
@SET
@SEED
@click.option("--count", type=click.IntRange(1, 12), default=4, show_default=True, help="Images.")
@figure_options
def augmentations(
    dataset: str,
    recipe: str,
    settings: tuple[str, ...],
    seed: int,
    count: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Draw what training sees of a DATASET's images.

    Crops, mirroring and color noise are exactly those of a run with this recipe and random seed.

    \b
    Example:  alexnet show augmentations dataset --recipe original
    """
    from alexnet.analysis.plots import augmentations as plot
    from alexnet.analysis.plots.sampling import evenly_spaced
    from alexnet.data.prepared import open_dataset
    from alexnet.evaluation.evaluate import scored_split
    from alexnet.models.model_file import make_preprocessor
    from alexnet.recipes.configure import configure_recipe

    path = figure_path(out, "augmentations")
    configured = configure_recipe(recipe, settings=settings)
    opened = open_dataset(dataset)
    train = scored_split(opened, "train")
    preprocessor = make_preprocessor(opened, configured)
    chosen = evenly_spaced(count, len(train))
    augmented = plot.compute_augmented_crops(train, preprocessor, configured, seed, chosen)
    records = [record.to_json() for record in augmented]
    data = {"recipe": recipe, "seed": seed, "records": records}
    write_figure(
        path, plot.plot_augmentations(augmented, configured.network.input[1]), data, as_json
    )
