"""The model file: the lock between training, which writes it, and everything that uses a network, which only reads it.

One .safetensors file holds the weights (float32), the mean image and the colour basis, and in its header the recipe, the picture
policy, the classes and where it comes from, under a hash of it all. So whoever has the file sees pictures as training did.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from alexnet.data.images import Policy
from alexnet.data.store import Colour, Store
from alexnet.data.views import View
from alexnet.errors import AlexNetError, UsageError
from alexnet.network.alexnet import AlexNet
from alexnet.recipes.recipe import Recipe
from alexnet.recipes.settings import from_json, to_json
from alexnet.runtime import Runtime
from alexnet.tensorfile import read_tensors, write_tensors

FORMAT = "alexnet-model/1"
MEAN, COLOUR = "view.mean", ("view.colour.mean", "view.colour.eigenvalues", "view.colour.eigenvectors")


@dataclass(frozen=True, eq=False)
class Model:
    """A network, how it sees, the recipe that made it, and where it comes from (`made`: run, epoch, versions, as JSON)."""

    network: AlexNet
    view: View
    recipe: Recipe
    made: Mapping[str, Any]


def load(path: str | Path) -> tuple[AlexNet, View]:
    """The network of a model file, ready for use, and its view: `network(view("cat.jpg")).softmax(1)`; AlexNetError."""
    model = read_model(Path(path))
    return model.network, model.view


def ready(path: Path, runtime: Runtime) -> Model:
    """A model file's content with the network on the device and in the precision it will compute in."""
    model = read_model(path)
    model.network.to(runtime.device, runtime.dtype)
    return model


def view_of(store: Store, recipe: Recipe) -> View:
    """How a recipe's network sees a store's pictures."""
    return View(store.policy, recipe.network.input, recipe.views, store.classes, store.mean, store.colour)


def write_model(path: Path, weights: Mapping[str, Tensor], view: View, recipe: Recipe, made: Mapping[str, Any]) -> None:
    """Write a model file, whole or not at all."""
    about = {"recipe": to_json(recipe), "policy": view.policy.to_json(), "classes": view.classes, "made": made}
    arrays = (view.mean, view.colour.mean, view.colour.eigenvalues, view.colour.eigenvectors)
    seeing = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in zip((MEAN, *COLOUR), arrays, strict=True)}
    write_tensors(path, FORMAT, {name: tensor.float() for name, tensor in weights.items()} | seeing, about)


def _recipe(path: Path, about: Mapping[str, Any]) -> Recipe:
    try:
        return from_json(about["recipe"])
    except UsageError as error:
        raise AlexNetError(f"{path}: {error}") from error


def read_model(path: Path) -> Model:
    """Read and verify a model file; AlexNetError where it is not one, is damaged, or its weights do not fit its recipe."""
    tensors, about = read_tensors(path, FORMAT)
    recipe, classes = _recipe(path, about), tuple(about["classes"])
    mean, *colour = (tensors.pop(name).numpy() for name in (MEAN, *COLOUR))
    view = View(Policy.from_json(about["policy"]), recipe.network.input, recipe.views, classes, mean, Colour(*colour))
    network = AlexNet(recipe.network, len(classes))
    expected = {name: parameter.shape for name, parameter in network.named_parameters()}
    if {name: tensor.shape for name, tensor in tensors.items()} != expected:
        raise AlexNetError(f"{path}: its weights do not fit the net it describes; expected {', '.join(expected)}")
    network.load_state_dict(tensors)
    network.eval().requires_grad_(False)
    return Model(network, view, recipe, about["made"])
