"""Shared by many tests: images computed from integers, a small dataset of them, and tiny recipes.

The images come from integers alone, so they are the same to the bit on every machine. The recipes
are smaller so that a network trains in seconds on one CPU core.
"""

import functools
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from alexnet.core.device import Runtime
from alexnet.core.kernels import library
from alexnet.core.rng import key, randint
from alexnet.data.build import prepare
from alexnet.data.images import DecodeConfig
from alexnet.data.prepared import PreparedDataset, open_dataset
from alexnet.data.readers import SplitFractions, open_source
from alexnet.models.alexnet import AlexNet, init_weights
from alexnet.models.model_file import Classifier, make_preprocessor
from alexnet.recipes.layers import Conv, Layer, Linear
from alexnet.recipes.presets import get_recipe
from alexnet.recipes.recipe import Augmentation, Recipe, with_epochs
from alexnet.recipes.schedules import PiecewiseConstant
from alexnet.training.run_config import RunConfig
from tests.helpers.file_site import Site, serve_files

CLASSES = ("across", "down", "falling", "rising", "squares", "plain", "dots")
SLOPES = {"across": (0, 1), "down": (1, 0), "falling": (1, 1), "rising": (1, -1)}
INPUT = 99  # side of the network's input in pixels
SIDE = 104  # side of a stored image in pixels
RESOLUTIONS = (67.0, 83.0, 99.0)  # sides of growing training crops
CPU = Runtime(torch.device("cpu"), torch.float32, workers=1)


def striped_image(label: str, number: int) -> np.ndarray:
    """Return an image uint8 (80, 90, 3) whose pattern shows its class, computed from integers."""
    values = randint(key("stripes", label, number, np.arange(8)), 97)
    y, x = np.mgrid[0:80, 0:90] + int(values[0])
    if label in SLOPES:
        down, across = SLOPES[label]
        pattern = (down * y + across * x) // 6 % 2
    elif label == "squares":
        pattern = (y // 12 + x // 12) % 2
    elif label == "plain":
        pattern = 0 * x
    else:  # dots
        pattern = (y % 12 < 4) * (x % 12 < 4)
    noise = randint(key("noise", label, number, np.arange(80 * 90)), 60).reshape(80, 90, 1)
    color = values[1:4]
    contrast = 30 + values[4:7]
    image = noise + color + pattern[..., None] * contrast
    return image.clip(0, 255).astype(np.uint8)


def write_images(folder: Path, per_class: int = 12) -> Path:
    """Write striped images as PNG files into one folder per class; return `folder`."""
    for label in CLASSES:
        (folder / label).mkdir(parents=True)
        for number in range(per_class):
            data = io.BytesIO()
            Image.fromarray(striped_image(label, number)).save(data, "PNG")
            (folder / label / f"{number:03d}.png").write_bytes(data.getvalue())
    return folder


def make_dataset(images: Path, path: Path) -> PreparedDataset:
    """Prepare a dataset of raw 104-pixel images with train, val and test splits at `path`."""
    with open_source(str(images)) as source:
        prepare(
            source,
            path,
            DecodeConfig(size=SIDE, encoding="raw"),
            SplitFractions(0.2, 0.2),
            on_error="fail",
            workers=1,
            progress=lambda done, total: None,
        )
    return open_dataset(path)


@pytest.fixture(params=["native", "generic", "plain"])
def each_form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test with each form of the kernels; return the form's name.

    native: compiled for this processor; generic: compiled for any; plain: torch's own operations.
    """
    form = str(request.param)
    monkeypatch.setenv("ALEXNET_KERNELS", "plain" if form == "plain" else "")
    if form == "generic":
        monkeypatch.setattr(library, "TARGET_FLAGS", ((),))
        monkeypatch.setattr(library, "_load", functools.cache(library._load.__wrapped__))
    if form != "plain" and library.load_library() is None:
        pytest.skip(library.describe_form())
    return form


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Serve files on the loopback address."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve_files() as served:
        yield served


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of striped images, one folder per class."""
    return write_images(tmp_path_factory.mktemp("images") / "patterns")


@pytest.fixture(scope="session")
def dataset(images: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    """Return the prepared dataset of the striped images."""
    return make_dataset(images, tmp_path_factory.mktemp("dataset") / "patterns")


def shrunk_layer(layer: Layer) -> Layer:
    """Return the layer with an eighth of its channels, or at most 64 features.

    A Gaussian initialization gets wider as the inputs get fewer, so that activations keep their
    scale.
    """
    if isinstance(layer, Conv):
        return replace(
            layer,
            out_channels=layer.out_channels // 8,
            init_std=layer.init_std if isinstance(layer.init_std, str) else 3 * layer.init_std,
        )
    if isinstance(layer, Linear):
        return replace(
            layer,
            out_features=min(layer.out_features, 64),
            init_std=layer.init_std if isinstance(layer.init_std, str) else 8 * layer.init_std,
        )
    return layer


def small_resolutions(augmentation: Augmentation) -> Augmentation:
    """Return the augmentation with small crops, if it has a resolution schedule."""
    schedule = augmentation.resolution_schedule
    if schedule is None:
        return augmentation
    starts = [start for start, _ in schedule.points]
    points = tuple(zip(starts, RESOLUTIONS, strict=True))
    return replace(augmentation, resolution_schedule=PiecewiseConstant(points))


def tiny(recipe: Recipe, epochs: int = 2, batch_size: int = 8) -> Recipe:
    """Return a recipe with an eighth of the channels, 64 hidden units and a 99-pixel input.

    The last pooling layer then gives 2 x 2 positions.
    """
    layers = tuple(shrunk_layer(layer) for layer in recipe.network.layers)
    smaller = replace(
        recipe,
        network=replace(recipe.network, layers=layers, input=(3, INPUT, INPUT)),
        augmentation=small_resolutions(recipe.augmentation),
        training=replace(recipe.training, batch_size=batch_size),
    )
    return with_epochs(smaller, epochs)


def small_model(name: str) -> AlexNet:
    """Return a recipe's network in eval mode, for 7 classes and at most 99 pixels.

    It has an eighth of the channels.
    """
    network = get_recipe(name).network
    channels, side, _ = network.input
    side = min(side, 99)
    layers = tuple(shrunk_layer(layer) for layer in network.layers)
    smaller = replace(network, layers=layers, input=(channels, side, side))
    return init_weights(AlexNet(smaller, 7), seed=0).eval()


def tiny_classifier(recipe: Recipe, dataset: PreparedDataset, seed: int = 0) -> Classifier:
    """Return an untrained classifier of a recipe for a dataset's images and classes."""
    model = init_weights(AlexNet(recipe.network, len(dataset.classes)), seed).eval()
    return Classifier(model, make_preprocessor(dataset, recipe), recipe, {})


def tiny_config(dataset: PreparedDataset, recipe: Recipe, seed: int = 1) -> RunConfig:
    """Return the configuration of a run of a recipe on one CPU thread."""
    return RunConfig(dataset, recipe, seed, CPU)
