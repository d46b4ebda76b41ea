"""A recipe as a user asks for it: by name, with the familiar settings and any other by its name.

The commands and the Python API configure recipes here, so that the same words mean the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from alexnet.core.errors import require
from alexnet.recipes.overrides import override
from alexnet.recipes.presets import get_recipe
from alexnet.recipes.recipe import Recipe, with_epochs, with_frozen, with_lr

Settings = str | Sequence[str] | Mapping[str, Any]  # what `settings_list` reads


def configure_recipe(
    recipe: str | Recipe,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    settings: Settings = (),
    freeze_until: str | None = None,
) -> Recipe:
    """Return a recipe, given by name or as a value, with these changes, applied in this order.

    `epochs` stretches or shortens all its schedules, `lr` sets its largest learning rate and keeps
    the others in proportion, `settings` are dotted names with values (`settings_list`), and the
    layers up to `freeze_until` keep the weights they start with.

    >>> recipe = configure_recipe("original", epochs=10, settings=["training.momentum=0.8"])
    >>> recipe.training.epochs, recipe.training.momentum
    (10, 0.8)

    Raises UsageError that names the nearest known names, or the expected value.
    """
    configured = get_recipe(recipe) if isinstance(recipe, str) else recipe
    if epochs is not None:
        configured = with_epochs(configured, epochs)
    if lr is not None:
        configured = with_lr(configured, lr)
    if batch_size is not None:
        configured = override(configured, f"training.batch_size={batch_size}")
    for setting in settings_list(settings):
        configured = override(configured, setting)
    if freeze_until is not None:
        configured = with_frozen(configured, freeze_until)
    return configured


def settings_list(settings: Settings) -> list[str]:
    """Return settings of a recipe as a list of "name=value"; UsageError for other values.

    >>> settings_list({"training.momentum": 0.8, "network.input": [3, 99, 99]})
    ['training.momentum=0.8', 'network.input=(3, 99, 99)']
    """
    if isinstance(settings, str):
        return [settings]
    if isinstance(settings, Mapping):
        values = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in settings.items()
        }
        return [f"{name}={value}" for name, value in values.items()]
    listed = list(settings) if isinstance(settings, Sequence) else [settings]
    require(
        all(isinstance(setting, str) for setting in listed),
        'settings: expected {"training.momentum": 0.8} or ["training.momentum=0.8"]',
    )
    return listed
