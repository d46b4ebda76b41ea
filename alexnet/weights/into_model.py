"""What every import ends in: weights held against the recipe they belong to, and a model file with names and a mean.

In go tensors under our own names, a recipe and a mean image; out comes a model file that evaluate, predict and `--init` use as
any other. Foreign files carry no class names and no colour basis: classes are numbered unless a list is given, and the basis is
left without deviation. How their pictures were squared is not in them either: ours keep the middle of a 256-pixel short side.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from torch import Tensor

from alexnet.data.images import Policy
from alexnet.data.store import Colour
from alexnet.data.views import View
from alexnet.errors import AlexNetError
from alexnet.model import write_model
from alexnet.network.geometry import bias_shape, plan, weight_shape
from alexnet.recipes.layers import Weighted
from alexnet.recipes.recipe import Recipe

SIZE = 256  # side of the squares these nets were trained on crops of, pixels
Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Imported:
    """What was found in a foreign file: which recipe's net, with how many classes and parameters."""

    recipe: str
    classes: int
    parameters: int


def existing(file: Path, expected: str) -> Path:
    """The path again; AlexNetError unless there is a file."""
    if not file.is_file():
        raise AlexNetError(f"{file}: {'a folder' if file.is_dir() else 'no such file'}; expected {expected}")
    return file


def read_classes(file: Path) -> tuple[str, ...]:
    """Class names from a text file in UTF-8, one a line; empty lines do not count. AlexNetError."""
    try:
        lines = existing(file, "a text file of class names, one a line").read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeError) as error:
        raise AlexNetError(f"{file}: cannot be read ({error}); expected class names in UTF-8, one a line") from error
    return tuple(line.strip() for line in lines if line.strip())


def expected_shapes(recipe: Recipe, classes: int) -> dict[str, Sizes]:
    """The shape of every weight and bias of a recipe's network, by our names."""
    steps = [(step.layer.name, step) for step in plan(recipe.network, classes) if isinstance(step.layer, Weighted)]
    weights = {f"{name}.weight": weight_shape(step) for name, step in steps}
    return weights | {f"{name}.bias": bias_shape(step) for name, step in steps}


def must_fit(file: Path, weights: Mapping[str, Tensor], recipe: Recipe, classes: int) -> None:
    """AlexNetError unless every weight has the shape the recipe's network gives it, and holds numbers only."""
    if classes < 1:
        raise AlexNetError(f"{file}: fc8 has no units; expected one a class")
    for name, shape in expected_shapes(recipe, classes).items():
        if weights[name].shape != shape:
            raise AlexNetError(f"{file}: {name} is {spelt(weights[name].shape)}; the net {recipe.name} has {spelt(shape)} there")
        if not weights[name].isfinite().all():
            raise AlexNetError(f"{file}: {name} holds values that are no numbers; the file is damaged, restore it from a copy")


def spelt(shape: Sizes) -> str:
    """A shape as people say it: 96 x 3 x 11 x 11."""
    return " x ".join(map(str, shape)) or "a single value"


def constant(levels: tuple[float, float, float]) -> np.ndarray:
    """A mean image float32 (256, 256, 3) of one colour, in grey levels 0-255 of R, G, B."""
    return np.broadcast_to(np.array(levels, np.float32), (SIZE, SIZE, 3))


def write(
    source: Path, model: Path, weights: Mapping[str, Tensor], recipe: Recipe, mean: np.ndarray, classes: tuple[str, ...] | None
) -> Imported:
    """Write the model file of fitting weights; `mean` float32 (256, 256, 3), RGB. AlexNetError where names do not fit."""
    units = len(weights["fc8.bias"])
    names = classes if classes is not None else tuple(f"class {number:04d}" for number in range(units))
    if len(names) != units:
        raise AlexNetError(f"{source}: {len(names)} class names for the {units} units of fc8; give one name a unit")
    made = {"imported": source.name, "sha256": _sha256(source)}
    write_model(model, weights, _view(recipe, mean, names), recipe, made)
    return Imported(recipe.name, units, sum(prod(weight.shape) for weight in weights.values()))


def _view(recipe: Recipe, mean: np.ndarray, classes: tuple[str, ...]) -> View:
    """How the network sees pictures: straight from the resized pixels, for nothing was compressed in between."""
    colour = Colour(mean.mean((0, 1), dtype=np.float64), np.zeros(3), np.eye(3))
    return View(Policy(size=SIZE, encoding="raw"), recipe.network.input, recipe.views, classes, mean, colour)


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
