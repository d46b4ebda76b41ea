"""What many tests share: pictures drawn from whole numbers, a small store of them, and the recipes shrunk to train in seconds."""

import functools
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from alexnet.data.images import Policy
from alexnet.data.prepare import prepare
from alexnet.data.sources import Fractions, open_source
from alexnet.data.store import Store, open_store
from alexnet.native import library as native
from alexnet.randomness import below, key
from alexnet.recipes.layers import Conv, Full, Layer
from alexnet.recipes.recipe import Recipe, with_epochs
from alexnet.recipes.schedules import Steps
from alexnet.runtime import Runtime
from alexnet.training.tasks import Task

CLASSES = ("across", "down", "falling", "rising", "squares", "plain", "dots")
SLOPES = {"across": (0, 1), "down": (1, 0), "falling": (1, 1), "rising": (1, -1)}
INPUT, SIDE = 99, 104  # pixels seen, pixels of a record


def stripes(label: str, number: int) -> np.ndarray:
    """A picture uint8 (80, 90, 3) whose pattern tells its class, from whole numbers alone: the same bits anywhere."""
    draws = below(key("stripes", label, number, np.arange(8)), 97)
    y, x = np.mgrid[0:80, 0:90] + int(draws[0])
    if label in SLOPES:
        wave = (SLOPES[label][0] * y + SLOPES[label][1] * x) // 6 % 2
    else:
        wave = {"squares": (y // 12 + x // 12) % 2, "plain": 0 * x, "dots": (y % 12 < 4) * (x % 12 < 4)}[label]
    noise = below(key("noise", label, number, np.arange(80 * 90)), 60).reshape(80, 90)
    return (noise[..., None] + draws[1:4] + wave[..., None] * (30 + draws[4:7])).clip(0, 255).astype(np.uint8)


def write_pictures(folder: Path, per_class: int = 12) -> Path:
    """A folder of class folders with such pictures, as PNG."""
    for label in CLASSES:
        (folder / label).mkdir(parents=True)
        for number in range(per_class):
            data = io.BytesIO()
            Image.fromarray(stripes(label, number)).save(data, "PNG")
            (folder / label / f"{number:03d}.png").write_bytes(data.getvalue())
    return folder


def make_store(pictures: Path, path: Path) -> Store:
    """A store of 104-pixel raw records with train, val and test."""
    with open_source(str(pictures)) as source:
        policy = Policy(size=SIDE, encoding="raw")
        prepare(source, path, policy, Fractions(0.2, 0.2), on_bad="fail", workers=1, progress=lambda done, of: None)
    return open_store(path)


@pytest.fixture(params=["native", "generic", "plain"])
def each_form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The forms an operation comes in: compiled for this processor, for any, and in torch's own operations."""
    monkeypatch.setenv("ALEXNET_KERNELS", "plain" if request.param == "plain" else "")
    if request.param == "generic":
        monkeypatch.setattr(native, "CHOICES", ((),))
        monkeypatch.setattr(native, "_loaded", functools.cache(native._loaded.__wrapped__))
    if request.param != "plain" and native.library() is None:
        pytest.skip(native.state())
    return str(request.param)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures") / "patterns")


@pytest.fixture(scope="session")
def store(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(pictures, tmp_path_factory.mktemp("store") / "patterns")


def shrunk_layer(layer: Layer) -> Layer:
    """An eighth of a layer; a Gaussian start is widened as much as its inputs get fewer, so that signals keep their size."""
    if isinstance(layer, Conv):
        return replace(layer, maps=layer.maps // 8, std=layer.std if isinstance(layer.std, str) else 3 * layer.std)
    if isinstance(layer, Full):
        return replace(layer, units=min(layer.units, 64), std=layer.std if isinstance(layer.std, str) else 8 * layer.std)
    return layer


def tiny(recipe: Recipe, epochs: int = 2, batch: int = 8) -> Recipe:
    """A recipe with an eighth of the maps, 64 hidden units, a 99-pixel input (2 x 2 of the last pool), views that grow to it."""
    layers = tuple(shrunk_layer(layer) for layer in recipe.network.layers)
    views, sizes = recipe.views, recipe.views.sizes
    if sizes is not None:
        views = replace(
            views, sizes=Steps(tuple((start, side) for (start, _), side in zip(sizes.points, (67.0, 83.0, 99.0), strict=True)))
        )
    network = replace(recipe.network, layers=layers, input=(3, INPUT, INPUT))
    training = replace(recipe.training, batch=batch)
    return with_epochs(replace(recipe, network=network, views=views, training=training), epochs)


CPU = Runtime(torch.device("cpu"), torch.float32, workers=1)


def tiny_task(store: Store, recipe: Recipe, seed: int = 1) -> Task:
    return Task(store, recipe, seed, CPU)
