"""From what a user asks for to an experiment that can be run: its dataset, recipe, seeds, crops.

The quick version replaces what the user leaves open, never what was given.
"""

from collections.abc import Sequence
from pathlib import Path

from alexnet.analysis.experiments import ablations
from alexnet.analysis.experiments.config import ExperimentConfig
from alexnet.analysis.experiments.subsets import limit_images
from alexnet.core.device import Runtime
from alexnet.data.prepared import open_dataset
from alexnet.recipes.configure import configure_recipe

QUICK_BATCH_SIZE = 32  # few images: small batches, so that there are some steps to learn in
QUICK_CROPS = 1


def plan_experiment(
    name: str,
    dataset: str,
    *,
    recipe: str | None,
    epochs: int | None,
    batch_size: int | None,
    lr: float | None,
    settings: Sequence[str],
    seeds: int | None,
    split: str,
    crops: int | None,
    quick: bool,
    out: Path | None,
    runtime: Runtime,
) -> ExperimentConfig:
    """Return an experiment on a dataset; None takes the experiment's or the recipe's own value.

    `out` None is experiments/DATASET. Raises UsageError for an unknown name or a wrong setting,
    AlexNetError where the dataset cannot be read.
    """
    experiment = ablations.get_experiment(name)
    opened = open_dataset(dataset)
    folder = out or Path("experiments") / opened.path.name
    if quick:
        opened = limit_images(opened, experiment.quick.images)
        epochs = epochs or experiment.quick.epochs
        batch_size = batch_size or QUICK_BATCH_SIZE
        seeds = seeds or experiment.quick.seeds
        crops = crops or QUICK_CROPS
    configured = configure_recipe(recipe or experiment.recipe, epochs, batch_size, lr, settings)
    return ExperimentConfig(
        experiment,
        opened,
        configured,
        tuple(range(seeds or experiment.seeds)),
        split,
        crops or configured.augmentation.test_crops,
        runtime,
        folder,
        lr,
    )
