"""The model file: what goes in comes out, and nothing damaged is ever used."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

import alexnet
from alexnet.core import safetensors_io
from alexnet.core.errors import AlexNetError, UsageError
from alexnet.data.prepared import PreparedDataset
from alexnet.models.alexnet import AlexNet, init_weights
from alexnet.models.model_file import (
    load_classifier,
    make_preprocessor,
    read_model_file,
    read_model_info,
    write_model_file,
)
from alexnet.recipes.presets import ORIGINAL
from tests.conftest import CPU, tiny


@pytest.fixture
def model_file(dataset: PreparedDataset, tmp_path: Path) -> Path:
    recipe = tiny(ORIGINAL)
    model = init_weights(AlexNet(recipe.network, len(dataset.classes)), seed=2)
    write_model_file(
        tmp_path / "model.safetensors",
        model.state_dict(),
        make_preprocessor(dataset, recipe),
        recipe,
        {"epoch": 3},
    )
    return tmp_path / "model.safetensors"


def test_a_model_comes_back_as_it_was_written(model_file: Path, dataset: PreparedDataset) -> None:
    classifier = read_model_file(model_file)
    recipe = tiny(ORIGINAL)
    assert classifier.recipe == recipe
    assert classifier.provenance == {"epoch": 3}
    assert classifier.preprocessor.classes == dataset.classes
    original = init_weights(AlexNet(recipe.network, len(dataset.classes)), seed=2).state_dict()
    state = classifier.model.state_dict()
    assert all(torch.equal(original[name], tensor) for name, tensor in state.items())
    preprocessor = classifier.preprocessor
    assert np.array_equal(preprocessor.mean, dataset.mean)
    assert np.array_equal(preprocessor.color.eigenvectors, dataset.color.eigenvectors)


def test_a_model_can_be_described_without_its_weights(
    model_file: Path, dataset: PreparedDataset, tmp_path: Path
) -> None:
    info = read_model_info(model_file)
    assert info.recipe == tiny(ORIGINAL)
    assert info.classes == dataset.classes
    assert info.decode_config == dataset.decode_config
    assert info.provenance == {"epoch": 3}
    (tmp_path / "other.safetensors").write_bytes(b"other")
    with pytest.raises(AlexNetError, match="not a file of format"):
        read_model_info(tmp_path / "other.safetensors")


@pytest.mark.parametrize("give_run", [False, True], ids=["model file", "run directory"])
def test_a_loaded_model_is_in_eval_mode_and_trainable(
    give_run: bool, model_file: Path, images: Path
) -> None:
    model, preprocessor = alexnet.load_model(model_file.parent if give_run else model_file)
    assert not model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    logits = model(preprocessor(sorted(images.rglob("*.png"))[:2]))
    assert logits.shape == (2, 7)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    classifier = read_model_file(model_file)
    assert np.array_equal(preprocessor.mean, classifier.preprocessor.mean)
    state = classifier.model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


def test_a_classifier_for_inference_is_frozen(model_file: Path) -> None:
    for path in (model_file, model_file.parent):
        model = load_classifier(path, CPU).model
        assert not model.training
        assert not any(parameter.requires_grad for parameter in model.parameters())


def test_the_same_model_is_the_same_file(model_file: Path, tmp_path: Path) -> None:
    classifier = read_model_file(model_file)
    write_model_file(
        tmp_path / "again",
        classifier.model.state_dict(),
        classifier.preprocessor,
        classifier.recipe,
        classifier.provenance,
    )
    assert (tmp_path / "again").read_bytes() == model_file.read_bytes()


def test_every_flipped_bit_and_every_cut_is_noticed(model_file: Path) -> None:
    content = model_file.read_bytes()
    generator = np.random.default_rng(0)
    for position in [*generator.integers(0, len(content), 60), *range(8, 20)]:
        flipped = bytearray(content)
        flipped[position] ^= 1 << int(generator.integers(8))
        model_file.write_bytes(flipped)
        with pytest.raises(AlexNetError):
            read_model_file(model_file)
    for length in (0, 7, 100, len(content) - 1):
        model_file.write_bytes(content[:length])
        with pytest.raises(AlexNetError):
            read_model_file(model_file)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a model", b"\xff" * 64])
def test_what_is_not_a_model_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_bytes(content)
    with pytest.raises(AlexNetError, match="cat.jpg: not a file of format alexnet-model/1"):
        alexnet.load_model(tmp_path / "cat.jpg")


def test_a_missing_file_and_another_format_are_named(tmp_path: Path) -> None:
    with pytest.raises(AlexNetError, match="none: no such file or directory; expected a model"):
        alexnet.load_model(tmp_path / "none")
    with pytest.raises(AlexNetError, match="a directory without model.safetensors; expected a"):
        alexnet.load_model(tmp_path)
    safetensors_io.write_tensors(tmp_path / "old", "alexnet-model/0", {"a": torch.zeros(1)}, {})
    with pytest.raises(
        AlexNetError, match="its format is alexnet-model/0; expected alexnet-model/1"
    ):
        alexnet.load_model(tmp_path / "old")


def test_a_full_disk_leaves_the_old_file(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = model_file.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    classifier = read_model_file(model_file)
    with pytest.raises(AlexNetError, match="No space left on device.*untouched"):
        write_model_file(
            model_file,
            classifier.model.state_dict(),
            classifier.preprocessor,
            classifier.recipe,
            {"epoch": 4},
        )
    assert model_file.read_bytes() == before
    assert [path.name for path in model_file.parent.iterdir()] == [model_file.name]


def test_a_model_with_other_classes_is_saved(model_file: Path, tmp_path: Path) -> None:
    model, preprocess = alexnet.load_model(model_file)
    model.reset_classifier(3)
    path = tmp_path / "finetuned.safetensors"
    with pytest.raises(UsageError, match=r"3 outputs, the preprocessor 7 .*with_classes\("):
        alexnet.save_model(path, model, preprocess)
    preprocess = preprocess.with_classes(["a", "b", "c"])
    alexnet.save_model(path, model, preprocess)
    saved, saved_preprocess = alexnet.load_model(path)
    assert saved.num_classes == 3
    assert saved_preprocess.classes == ("a", "b", "c")
    assert np.array_equal(saved_preprocess.mean, preprocess.mean)
    image = np.zeros((120, 110, 3), np.uint8)
    assert torch.equal(saved(saved_preprocess([image])), model(preprocess([image])))
    recipe = read_model_file(path).recipe
    assert (recipe.name, recipe.network.num_classes) == ("custom", 3)
    assert len(alexnet.predict(path, image, device="cpu", workers=1)[0].top) == 3


def test_a_model_that_no_recipe_describes_is_not_saved(model_file: Path, tmp_path: Path) -> None:
    model, preprocess = alexnet.load_model(model_file)
    with pytest.raises(UsageError, match=r"found Preprocessor, expected AlexNet; .*\(model, pre"):
        alexnet.save_model(tmp_path / "new", preprocess, model)  # type: ignore[arg-type]
    model.fc8 = torch.nn.Linear(5, 7)
    with pytest.raises(UsageError, match=r"fit the model's network in fc8.weight; .*reset_cl"):
        alexnet.save_model(tmp_path / "new", model, preprocess)
    model.fc8 = torch.nn.Linear(64, 5)
    with pytest.raises(UsageError, match="the model has 5 outputs"):
        alexnet.save_model(tmp_path / "new", model, preprocess)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
@pytest.mark.parametrize("zipped", [True, False])
def test_weights_of_torch_save_are_named(
    suffix: str, zipped: bool, model_file: Path, tmp_path: Path
) -> None:
    model, preprocess = alexnet.load_model(model_file)
    path = tmp_path / f"weights{suffix}"
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(AlexNetError, match="PyTorch weights: load them with model.load_state_dict"):
        alexnet.load_model(path)
    alexnet.save_model(path, model, preprocess)  # a model file, whatever its name
    assert alexnet.load_model(path)[0].num_classes == 7
