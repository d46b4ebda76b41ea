"""What every import ends in: weights checked against a recipe's network, and a model file of them.

In go tensors under our names, a recipe and a mean image. Foreign files hold no class names and no
color statistics: classes are numbered unless a list is given, and the eigenvalues are zero. How
their images were resized is not in them either: ours take the center of a 256-pixel short side.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from torch import Tensor

from alexnet.core.errors import AlexNetError
from alexnet.data.images import DecodeConfig
from alexnet.data.prepared import ColorStats
from alexnet.data.transforms import Preprocessor
from alexnet.models.model_file import write_model_file
from alexnet.models.shapes import bias_shape, infer_shapes, weight_shape
from alexnet.recipes.layers import WeightedLayer
from alexnet.recipes.recipe import Recipe

IMAGE_SIZE = 256  # side of the images that these networks were trained on crops of, pixels
Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Imported:
    """What a foreign file held: the recipe of its network, its classes, its parameters."""

    recipe: str
    classes: int
    parameters: int


def require_file(path: Path, expected: str) -> Path:
    """Return the path; AlexNetError unless it is a file."""
    if not path.is_file():
        kind = "a directory" if path.is_dir() else "no such file"
        raise AlexNetError(f"{path}: {kind}; expected {expected}")
    return path


def read_classes(file: Path) -> tuple[str, ...]:
    """Read class names from a UTF-8 text file, one a line, without empty lines; AlexNetError."""
    require_file(file, "a text file of class names, one a line")
    try:
        lines = file.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeError) as error:
        raise AlexNetError(
            f"{file}: cannot be read ({error}); expected class names in UTF-8, one a line"
        ) from error
    return tuple(line.strip() for line in lines if line.strip())


def expected_shapes(recipe: Recipe, classes: int) -> dict[str, Sizes]:
    """Return the shape of every weight and bias of a recipe's network, by our names."""
    shapes: dict[str, Sizes] = {}
    for step in infer_shapes(recipe.network, classes):
        if isinstance(step.layer, WeightedLayer):
            shapes[f"{step.layer.name}.weight"] = weight_shape(step)
            shapes[f"{step.layer.name}.bias"] = bias_shape(step)
    return shapes


def require_fitting_weights(
    file: Path, weights: Mapping[str, Tensor], recipe: Recipe, classes: int
) -> None:
    """Raise AlexNetError unless every weight is finite and of the shape the network needs."""
    if classes < 1:
        raise AlexNetError(f"{file}: fc8 has no units; expected one per class")
    for name, shape in expected_shapes(recipe, classes).items():
        if weights[name].shape != shape:
            raise AlexNetError(
                f"{file}: {name} is {format_shape(weights[name].shape)}; "
                f"the network {recipe.name} expects {format_shape(shape)}"
            )
        if not weights[name].isfinite().all():
            raise AlexNetError(
                f"{file}: {name} holds values that are not finite; the file is damaged, "
                "restore it from a copy"
            )


def format_shape(shape: Sizes) -> str:
    """Return a shape as text: 96 x 3 x 11 x 11."""
    return " x ".join(map(str, shape)) or "a single value"


def constant_mean(red: float, green: float, blue: float) -> np.ndarray:
    """Return a mean image float32 (256, 256, 3) of one color, 0 to 255."""
    return np.broadcast_to(np.array((red, green, blue), np.float32), (IMAGE_SIZE, IMAGE_SIZE, 3))


def write_imported(
    source: Path,
    model: Path,
    weights: Mapping[str, Tensor],
    recipe: Recipe,
    mean: np.ndarray,
    classes: tuple[str, ...] | None,
    origin: Mapping[str, str] | None = None,
) -> Imported:
    """Write the model file of fitting weights; `mean` float32 (256, 256, 3), RGB, 0 to 255.

    `origin`: what else its provenance says, such as a license.
    AlexNetError where there are not as many class names as classes, or it cannot be written.
    """
    units = len(weights["fc8.bias"])
    names = tuple(f"class {i:04d}" for i in range(units)) if classes is None else classes
    if len(names) != units:
        raise AlexNetError(
            f"{source}: {len(names)} class names for the {units} units of fc8; give one per unit"
        )
    provenance = {"imported": source.name, "sha256": _sha256(source), **(origin or {})}
    write_model_file(model, weights, _preprocessor(recipe, mean, names), recipe, provenance)
    parameters = sum(prod(weight.shape) for weight in weights.values())
    return Imported(recipe.name, units, parameters)


def _preprocessor(recipe: Recipe, mean: np.ndarray, classes: tuple[str, ...]) -> Preprocessor:
    """Return the preprocessor: raw, for these networks saw no recompressed images."""
    color = ColorStats(mean.mean((0, 1), dtype=np.float64), np.zeros(3), np.eye(3))
    return Preprocessor(
        DecodeConfig(size=IMAGE_SIZE, encoding="raw"),
        recipe.network.input,
        recipe.augmentation,
        classes,
        mean,
        color,
    )


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
