"""The command describe: a whole recipe, its network with its costs, augmentation and training."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alexnet.cli.options import JSON, SET
from alexnet.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alexnet.models.flops import LayerCost
    from alexnet.recipes.recipe import Recipe

COUNTS = ("parameters", "neurons", "multiply_adds", "parameter_positions")
COLUMNS = (
    "layer",
    "output",
    "parameters",
    "neurons",
    "multiply-adds",
    "parameters\n× positions",
)
POSITIONS_NOTE = (
    "parameters × positions: a popular hand count of operations, which takes the bias",
    "as one more weight (docs/references.md says whose it is)",
)

CLASSES = click.option(
    "--classes",
    type=click.IntRange(2),
    default=None,
    help="Number of classes; default: those of the recipe's dataset.",
)


def class_count(recipe: "Recipe", classes: int | None) -> int:
    """Return the number of classes to describe a recipe with: `classes`, else its dataset's."""
    return classes or recipe.network.num_classes


def find_recipe(name: str) -> tuple["Recipe", int | None]:
    """Return the recipe of a name, a run or a model file, and the classes of a trained model.

    UsageError where it is none of them.
    """
    from alexnet.recipes.presets import RECIPES, get_recipe

    if name in RECIPES:
        return RECIPES[name], None
    if Path(name).exists():
        return _read_recipe(Path(name))
    try:
        return get_recipe(name), None
    except UsageError as error:
        raise UsageError(f"{error}; expected a recipe's name or a run's directory") from error


def _read_recipe(path: Path) -> tuple["Recipe", int | None]:
    """Read the recipe of a run or a model file; only this needs torch."""
    from alexnet.models.model_file import MODEL_FILE, read_model_file
    from alexnet.training.run_dir import RECIPE_FILE, read_history

    if path.is_file() or (path / MODEL_FILE).is_file():
        trained = read_model_file(path)
        return trained.recipe, len(trained.preprocessor.classes)
    if (path / RECIPE_FILE).is_file():
        return read_history(path).recipe, None
    raise UsageError(f"{path}: no recipe in it; expected a recipe's name or a run's directory")


@click.command()
@click.argument("recipe", default="modern")
@CLASSES
@SET
@click.option("--ops", is_flag=True, help="Instead: its operators, by Caffe2's names.")
@click.option(
    "--backward",
    is_flag=True,
    help="The operators of a training step: loss, gradients and updates as well.",
)
@JSON
def describe(
    recipe: str,
    classes: int | None,
    settings: tuple[str, ...],
    ops: bool,
    backward: bool,
    as_json: bool,
) -> None:
    """Show a recipe: network, costs, augmentation, training.

    RECIPE is a recipe's name, or a run's directory or model, whose recipe is shown.

    \b
    Examples:  alexnet describe original
               alexnet describe run
               alexnet describe caffe --ops
    """
    from alexnet.recipes.configure import configure_recipe

    base, trained_classes = find_recipe(recipe)
    configured = configure_recipe(base, settings=settings)
    count = class_count(configured, classes or trained_classes)
    if ops or backward:
        _print_operators(configured, count, backward, as_json)
    elif as_json:
        _print_json(configured, count)
    else:
        _print_layers(configured, count)
        _print_settings(configured)


def _print_operators(recipe: "Recipe", classes: int, backward: bool, as_json: bool) -> None:
    """Print the operators that compute a network, or a training step of it."""
    from dataclasses import asdict

    from alexnet.analysis.caffe2_operators import HEADING, list_operators
    from alexnet.core import console

    graph = list_operators(recipe, classes, training=backward)
    if as_json:
        rows = [asdict(operator) for operator in graph]
        console.print_json({"recipe": recipe.name, "operators": rows})
        return
    console.print_line(HEADING)
    for operator in graph:
        console.print_line(operator.line())


def _print_json(recipe: "Recipe", classes: int) -> None:
    """Print a recipe as one JSON document; augmentation and training as recipe.json has them."""
    from dataclasses import asdict

    from alexnet.core import console
    from alexnet.models.flops import layer_costs, totals
    from alexnet.recipes.overrides import to_json

    layers = layer_costs(recipe.network, classes)
    document: dict[str, Any] = {
        "recipe": recipe.name,
        "classes": classes,
        "layers": [asdict(cost) for cost in layers],
        **totals(layers),
        "augmentation": to_json(recipe.augmentation),
        "training": to_json(recipe.training),
    }
    console.print_json(document)


def _print_layers(recipe: "Recipe", classes: int) -> None:
    """Print the layers with their shapes and costs, then what each of them does."""
    from alexnet.analysis.format import describe_layer
    from alexnet.core import console
    from alexnet.models.flops import layer_costs, totals
    from alexnet.models.shapes import infer_shapes
    from alexnet.recipes.layers import Activation

    layers = layer_costs(recipe.network, classes)
    sums = totals(layers)
    rows = [_row(cost) for cost in layers]
    rows.append(["total", "", *(sums[count] for count in COUNTS)])
    console.print_table(f"{recipe.name}, {classes:,} classes", COLUMNS, rows)
    steps = infer_shapes(recipe.network, classes)
    does = [
        [cost.name, describe_layer(step.layer, any(step.extra_padding))]
        for cost, step in zip(layers, steps, strict=True)
        if not isinstance(step.layer, Activation)  # their names say it
    ]
    console.print_table("what each layer does", ["layer", "what it does"], does)
    console.print_line(f"float32 parameters take {sums['parameter_bytes'] / 2**20:.2f} MiB")
    for line in POSITIONS_NOTE:
        console.print_line(line)


def _row(cost: "LayerCost") -> "Sequence[Any]":
    """Return a layer's row of the table; counts of 0 stay empty."""
    from alexnet.analysis.format import format_shape

    return [cost.name, format_shape(cost.shape), *(getattr(cost, count) or "" for count in COUNTS)]


def _print_settings(recipe: "Recipe") -> None:
    """Print the network as a whole, the augmentation and the training in words."""
    from alexnet.core import console
    from alexnet.recipes.describe import (
        describe_augmentation,
        describe_network,
        describe_training,
    )

    columns = ["setting", "value"]
    console.print_line("")
    console.print_table("network", columns, [("Sizes", describe_network(recipe.network))])
    augmentation = describe_augmentation(recipe.augmentation, recipe.network.input[1])
    console.print_table("augmentation", columns, augmentation)
    console.print_table("training", columns, describe_training(recipe.training))
