"""The model file: what goes in comes out, and nothing damaged is ever used."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

import alexnet
from alexnet import tensorfile
from alexnet.data.store import Store
from alexnet.errors import AlexNetError
from alexnet.model import read_model, view_of, write_model
from alexnet.network.alexnet import AlexNet, start
from alexnet.recipes.named import ORIGINAL
from tests.conftest import tiny


@pytest.fixture
def model_file(store: Store, tmp_path: Path) -> Path:
    recipe = tiny(ORIGINAL)
    network = start(AlexNet(recipe.network, len(store.classes)), seed=2)
    write_model(tmp_path / "model.safetensors", network.state_dict(), view_of(store, recipe), recipe, {"epoch": 3})
    return tmp_path / "model.safetensors"


def test_a_model_comes_back_whole(model_file: Path, store: Store, pictures: Path) -> None:
    model, recipe = read_model(model_file), tiny(ORIGINAL)
    assert model.recipe == recipe and model.made == {"epoch": 3} and model.view.classes == store.classes
    original = start(AlexNet(recipe.network, len(store.classes)), seed=2).state_dict()
    assert all(torch.equal(original[name], tensor) for name, tensor in model.network.state_dict().items())
    network, view = alexnet.load(model_file)
    assert np.array_equal(view.mean, store.mean) and np.array_equal(view.colour.eigenvectors, store.colour.eigenvectors)
    assert network(view(*sorted(pictures.rglob("*.png"))[:2])).shape == (2, 7)


def test_the_same_model_is_the_same_file(model_file: Path, tmp_path: Path) -> None:
    model = read_model(model_file)
    write_model(tmp_path / "again", model.network.state_dict(), model.view, model.recipe, model.made)
    assert (tmp_path / "again").read_bytes() == model_file.read_bytes()


def test_every_flipped_bit_and_every_cut_is_noticed(model_file: Path) -> None:
    whole = model_file.read_bytes()
    draw = np.random.default_rng(0)
    for position in [*draw.integers(0, len(whole), 60), *range(8, 20)]:
        model_file.write_bytes(whole[:position] + bytes([whole[position] ^ (1 << draw.integers(8))]) + whole[position + 1 :])
        with pytest.raises(AlexNetError):
            read_model(model_file)
    for length in (0, 7, 100, len(whole) - 1):
        model_file.write_bytes(whole[:length])
        with pytest.raises(AlexNetError):
            read_model(model_file)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a model", b"\xff" * 64])
def test_what_is_no_model_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_bytes(content)
    with pytest.raises(AlexNetError, match="cat.jpg: not a file of format alexnet-model/1"):
        alexnet.load(tmp_path / "cat.jpg")


def test_a_missing_file_and_another_format_are_named(tmp_path: Path) -> None:
    with pytest.raises(AlexNetError, match="no such file"):
        alexnet.load(tmp_path / "none")
    tensorfile.write_tensors(tmp_path / "old", "alexnet-model/0", {"a": torch.zeros(1)}, {})
    with pytest.raises(AlexNetError, match="its format is alexnet-model/0; expected alexnet-model/1"):
        alexnet.load(tmp_path / "old")


def test_a_full_disk_leaves_what_was_there(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = model_file.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    model = read_model(model_file)
    with pytest.raises(AlexNetError, match="No space left on device.*untouched"):
        write_model(model_file, model.network.state_dict(), model.view, model.recipe, {"epoch": 4})
    assert model_file.read_bytes() == before
    assert [path.name for path in model_file.parent.iterdir()] == [model_file.name]
