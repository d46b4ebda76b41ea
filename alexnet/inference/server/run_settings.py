"""The settings of a run that the page starts: what a beginner cannot be asked.

The network's input is chosen to fit the dataset's images, and small datasets get small batches,
since a network learns by updates and they would make too few (README, "Few images").
"""

from dataclasses import dataclass
from pathlib import Path

from alexnet.core.device import Runtime
from alexnet.data.prepared import open_dataset
from alexnet.recipes.configure import configure_recipe
from alexnet.recipes.presets import get_recipe
from alexnet.recipes.recipe import Recipe
from alexnet.training.duration import epochs_within
from alexnet.training.run_config import RunConfig, check_run

# sides for which every layer of the 2012 net comes out even: 67, 99, ... 227
SMALLEST_SIDE = 67
SIDE_STEP = 32
CROP_SHARE = 0.9  # of an image's side, at most, so that random crops differ
BATCH_SIZES = ((800, 16), (4000, 32))  # (images in train below which, batch size)


@dataclass(frozen=True)
class RunSettings:
    """A run as it will be started: the changes to its recipe, and how long it is."""

    recipe: str
    epochs: int
    batch_size: int | None  # None: the recipe's own
    side: int | None  # of the network's input; None: the recipe's own

    def options(self) -> list[str]:
        """Return the options of `alexnet train`."""
        options = ["--recipe", self.recipe, "--epochs", str(self.epochs)]
        if self.batch_size is not None:
            options += ["--batch-size", str(self.batch_size)]
        if self.side is not None:
            options += ["--set", f"network.input={input_setting(self)}"]
        return options


def input_setting(settings: RunSettings) -> str:
    """Return the network's input as --set takes it."""
    channels = get_recipe(settings.recipe).network.input[0]
    return f"{channels},{settings.side},{settings.side}"


def configure(settings: RunSettings) -> Recipe:
    """Return the recipe that a run with these settings has."""
    changes = [] if settings.side is None else [f"network.input={input_setting(settings)}"]
    return configure_recipe(settings.recipe, settings.epochs, settings.batch_size, settings=changes)


def choose_settings(
    dataset: Path, recipe: str, epochs: int | None, minutes: float | None, runtime: Runtime
) -> RunSettings:
    """Choose a run's settings for a dataset; its length is `epochs`, or fits into `minutes`.

    To fit it, training is measured for a few seconds. Raises AlexNetError or UsageError where the
    recipe cannot be trained on the dataset.
    """
    own = get_recipe(recipe)
    opened = open_dataset(dataset)
    settings = RunSettings(
        recipe,
        epochs or own.training.epochs,
        fitting_batch_size(own, len(opened.splits["train"])),
        fitting_side(own, opened.decode_config.size),
    )
    config = RunConfig(opened, configure(settings), 0, runtime)
    check_run(config)
    if minutes is None:
        return settings
    fitting = epochs_within(config, minutes)
    return RunSettings(recipe, fitting, settings.batch_size, settings.side)


def fitting_batch_size(recipe: Recipe, images: int) -> int | None:
    """Return a batch size for few training images; None where the recipe's own is as small."""
    for limit, batch_size in BATCH_SIZES:
        if images < limit and batch_size < recipe.training.batch_size:
            return batch_size
    return None


def fitting_side(recipe: Recipe, size: int) -> int | None:
    """Return a side of the input for images of a size; None where the recipe's own must do."""
    if recipe.network.input[1] <= size or size < SMALLEST_SIDE:
        return None
    steps = int(CROP_SHARE * size - SMALLEST_SIDE) // SIDE_STEP
    return SMALLEST_SIDE + SIDE_STEP * max(0, steps)
