"""The entry points of torch.hub, loaded from this directory as torch.hub does."""

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import alexnet
from alexnet.core.errors import AlexNetError
from tests.helpers.file_site import Site
from tests.helpers.public_weights import CLASSES, publish_weights

REPOSITORY = str(Path(__file__).parents[1])


def load(entry: str, **options: Any) -> Any:
    return torch.hub.load(REPOSITORY, entry, source="local", **options)


@pytest.fixture
def published(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_weights(site, monkeypatch)
    monkeypatch.setenv("ALEXNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def test_the_entry_points_are_listed_with_their_help() -> None:
    # torch.hub.list and torch.hub.help, which take no local directory, read just these
    entries = runpy.run_path(f"{REPOSITORY}/hubconf.py")
    names = [name for name, value in entries.items() if callable(value) and name[0] != "_"]
    assert names == ["alexnet", "preprocess"]
    assert all("pretrained" in str(entries[name].__doc__) for name in names)


def test_a_recipe_gives_its_network() -> None:
    model = load("alexnet", recipe="cifar-11pct", seed=3)
    expected = alexnet.create_model("cifar-11pct", seed=3).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())
    assert load("alexnet", recipe="cifar-11pct", num_classes=7).num_classes == 7


@pytest.mark.usefixtures("published")
def test_pretrained_weights_come_with_their_preprocessing() -> None:
    image = np.random.default_rng(0).integers(0, 256, (300, 280, 3), dtype=np.uint8)
    model = load("alexnet", pretrained="caffe")
    preprocess = load("preprocess", pretrained="caffe")
    expected_model, expected_preprocess = alexnet.load_model("caffe")
    batch = preprocess([image])
    assert torch.equal(batch, expected_preprocess([image])) and preprocess.classes == CLASSES
    assert torch.equal(model(batch), expected_model(batch)) and not model.training


@pytest.mark.usefixtures("published")
def test_other_classes_get_a_new_last_layer() -> None:
    model = load("alexnet", pretrained="torchvision", num_classes=3)
    expected, _ = alexnet.load_model("torchvision")
    assert torch.equal(model.fc7.weight, expected.fc7.weight)
    assert model.fc8.weight.shape[0] == 3
    with pytest.raises(AlexNetError, match="by name: torchvision, caffe, caffenet"):
        load("alexnet", pretrained="imagenet")
