"""A recipe as a user asks for it: by name, with the familiar settings and any other by its name.

The commands and the Python API configure recipes here, so that the same words mean the same.
"""

from collections.abc import Sequence

from alexnet.recipes.overrides import override
from alexnet.recipes.presets import get_recipe
from alexnet.recipes.recipe import Recipe, with_epochs, with_frozen, with_lr


def configure_recipe(
    recipe: str | Recipe,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    settings: Sequence[str] = (),
    freeze_until: str | None = None,
) -> Recipe:
    """Return a recipe, given by name or as a value, with these changes, applied in this order.

    `epochs` stretches or shortens all its schedules, `lr` sets its largest learning rate and keeps
    the others in proportion, `settings` are dotted names with values, and the layers up to
    `freeze_until` keep the weights they start with.

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
    for setting in settings:
        configured = override(configured, setting)
    if freeze_until is not None:
        configured = with_frozen(configured, freeze_until)
    return configured
