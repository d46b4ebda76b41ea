"""Feature vectors: a layer's output in the images' order; and an index that is built once and read
only where it matches its model and dataset."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alexnet.analysis.retrieval import features as features_module
from alexnet.analysis.retrieval.features import (
    FeatureIndex,
    extract_features,
    feature_dim,
    load_or_build_index,
    names_path,
    write_features,
)
from alexnet.core.errors import AlexNetError, UsageError
from alexnet.data.image_batches import from_files, from_split
from alexnet.data.prepared import PreparedDataset, Split
from alexnet.models.alexnet import AlexNet, init_weights
from alexnet.models.model_file import (
    Classifier,
    load_classifier,
    make_preprocessor,
    read_model_file,
    write_model_file,
)
from alexnet.recipes.presets import MODERN, ORIGINAL
from alexnet.recipes.recipe import Recipe
from tests.conftest import CPU, tiny


def write_untrained_model(
    path: Path, dataset: PreparedDataset, recipe: Recipe = MODERN, seed: int = 0
) -> Path:
    """Write the model file of a tiny untrained network."""
    small = tiny(recipe)
    model = init_weights(AlexNet(small.network, len(dataset.classes)), seed)
    preprocessor = make_preprocessor(dataset, small)
    write_model_file(path, dict(model.named_parameters()), preprocessor, small, {"epoch": 0})
    return path


@pytest.fixture
def model_path(dataset: PreparedDataset, tmp_path: Path) -> Path:
    return write_untrained_model(tmp_path / "model.safetensors", dataset)


def ignore_progress(done: int, total: int) -> None:
    """A progress callback that does nothing."""


def reference_features(classifier: Classifier, split: Split, layer: str) -> np.ndarray:
    """A layer's output for each image of a split, computed one image at a time."""
    preprocessor = classifier.preprocessor
    outputs = []
    for i in range(len(split)):
        crop = preprocessor.center_crop(split.pixels(i)[None])
        intermediates = classifier.model.forward_intermediates(preprocessor.normalize(crop))
        outputs.append(intermediates[layer].flatten(1).numpy())
    return np.concatenate(outputs)


@pytest.mark.parametrize("layer", ["fc7", "pool2", "prob"])
def test_written_features_are_the_layers_output_in_the_images_order(
    model_path: Path, dataset: PreparedDataset, tmp_path: Path, layer: str
) -> None:
    classifier = read_model_file(model_path)
    split = dataset.splits["val"]
    indices = [*range(len(split))][::-1]
    batches = from_split(split, indices, 2, 5)  # several batches, the last one smaller
    path = tmp_path / "features.npy"
    written = write_features(path, classifier, batches, len(split), layer, CPU, ignore_progress)
    values = np.load(path)
    assert values.dtype == np.float32
    assert values.shape == (len(split), written.dim)
    assert written.dim == feature_dim(classifier.model, layer)
    expected = reference_features(classifier, split, layer)[::-1]
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-6)
    names = [json.loads(line) for line in names_path(path).read_text().splitlines()]
    assert names == [split.names[i] for i in indices] == list(written.names)


def test_files_have_their_images_features_and_unreadable_files_none(
    model_path: Path, dataset: PreparedDataset, images: Path, tmp_path: Path
) -> None:
    classifier = read_model_file(model_path)
    split = dataset.splits["val"]
    (tmp_path / "bad.jpg").write_bytes(b"not an image")
    files = [
        images / split.names[0],
        tmp_path / "bad.jpg",
        images / split.names[1],
        tmp_path / "missing.png",
    ]
    batches = from_files(classifier.preprocessor, files, 1)
    path = tmp_path / "features.npy"
    written = write_features(path, classifier, batches, len(files), "fc7", CPU, ignore_progress)
    squares = np.stack([split.pixels(0), split.pixels(1)])
    expected = extract_features(classifier, squares, "fc7", CPU).numpy()
    assert np.array_equal(np.load(path), expected)
    assert written.names == (str(files[0]), str(files[2]))
    assert [name for name, _ in written.unreadable] == [str(files[1]), str(files[3])]


def test_without_readable_images_the_file_is_empty(model_path: Path, tmp_path: Path) -> None:
    classifier = read_model_file(model_path)
    batches = from_files(classifier.preprocessor, [tmp_path / "missing"], 1)
    path = tmp_path / "features.npy"
    write_features(path, classifier, batches, 1, "fc7", CPU, ignore_progress)
    assert np.load(path).shape == (0, 64)
    assert names_path(path).read_text() == ""


def test_an_unknown_layer_is_an_error_that_lists_the_layers(model_path: Path) -> None:
    model = read_model_file(model_path).model
    assert feature_dim(model, "fc8") == feature_dim(model, "prob") == model.num_classes
    for layer in ("fc9", ""):
        with pytest.raises(UsageError, match="it has conv1, .*fc8, prob"):
            feature_dim(model, layer)


# ---- the index


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limit parts to 20 images, so that the index of the small dataset has several."""
    monkeypatch.setattr(features_module, "MAX_PART_IMAGES", 20)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The indices of the images that were decoded so far."""
    indices: list[int] = []
    original = Split.pixels

    def recording(split: Split, i: int) -> np.ndarray:
        indices.append(i)
        return original(split, i)

    monkeypatch.setattr(Split, "pixels", recording)
    return indices


def fc7_index(model_path: Path, dataset: PreparedDataset, **changes: Any) -> FeatureIndex:
    """The index of the train split by fc7, read or built; `changes` are those of the runtime."""
    runtime = replace(CPU, **changes)
    classifier = load_classifier(model_path, runtime)
    train = dataset.splits["train"]
    return load_or_build_index(
        model_path, classifier, dataset, train, "fc7", runtime, ignore_progress
    )


def test_the_index_holds_every_feature_as_float16(
    model_path: Path, dataset: PreparedDataset
) -> None:
    features = fc7_index(model_path, dataset).features
    expected = reference_features(read_model_file(model_path), dataset.splits["train"], "fc7")
    assert len(features) == len(expected)
    assert len(features.parts) == -(-len(expected) // 20) > 1
    stored = features.take(range(len(expected)))
    assert stored.dtype == torch.float16
    np.testing.assert_allclose(stored.float().numpy(), expected, rtol=2e-3, atol=1e-4)
    squared_norms = (stored.double().numpy() ** 2).sum(1)
    assert np.array_equal(features.squared_norms.numpy(), squared_norms)


def test_the_index_is_built_once(
    model_path: Path, dataset: PreparedDataset, decoded: list[int]
) -> None:
    first = fc7_index(model_path, dataset).features
    assert sorted(decoded) == list(range(len(first)))
    decoded.clear()
    second = fc7_index(model_path, dataset).features
    assert not decoded
    assert all(map(torch.equal, first.parts, second.parts))
    assert len(first.parts) == len(second.parts)


def test_only_missing_and_damaged_parts_are_rebuilt(
    model_path: Path, dataset: PreparedDataset, decoded: list[int]
) -> None:
    first = fc7_index(model_path, dataset)
    files = sorted(first.folder.iterdir())
    parts = [part.clone() for part in first.features.parts]
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:-1] + b"?")
    decoded.clear()
    rebuilt = fc7_index(model_path, dataset).features
    assert sorted(decoded) == list(range(40))
    assert len(parts) == len(rebuilt.parts)
    assert all(map(torch.equal, parts, rebuilt.parts))


def test_an_interrupted_build_continues_at_the_unfinished_part(
    model_path: Path, dataset: PreparedDataset, decoded: list[int]
) -> None:
    reported: list[int] = []

    def interrupt(done: int, total: int) -> None:
        reported.append(done)
        if done == 40:
            raise KeyboardInterrupt

    train = dataset.splits["train"]
    classifier = read_model_file(model_path)
    with pytest.raises(KeyboardInterrupt):
        load_or_build_index(model_path, classifier, dataset, train, "fc7", CPU, interrupt)
    decoded.clear()
    assert reported == [20, 40]
    assert len(fc7_index(model_path, dataset).features) == len(train)
    assert sorted(decoded) == list(range(40, len(train)))


def test_another_model_or_precision_rebuilds_the_index(
    model_path: Path, dataset: PreparedDataset, decoded: list[int]
) -> None:
    first = fc7_index(model_path, dataset)
    first_part = first.features.parts[0].clone()
    write_untrained_model(model_path, dataset, seed=1)
    decoded.clear()
    second = fc7_index(model_path, dataset)
    assert second.folder == first.folder
    assert len(decoded) == len(second.features)
    assert not torch.equal(first_part, second.features.parts[0])
    decoded.clear()
    bf16 = fc7_index(model_path, dataset, dtype=torch.bfloat16)
    assert bf16.metadata["precision"] == "bf16"
    assert len(decoded) == len(second.features)


def test_another_dataset_has_its_own_index(model_path: Path, dataset: PreparedDataset) -> None:
    changed = replace(dataset, digest="0" * 64)
    assert fc7_index(model_path, dataset).folder != fc7_index(model_path, changed).folder


def test_values_beyond_float16_are_an_error(dataset: PreparedDataset, tmp_path: Path) -> None:
    small = tiny(ORIGINAL)
    model = init_weights(AlexNet(small.network, len(dataset.classes)), 0)
    weights = {
        name: weight * (1e9 if name == "fc7.weight" else 1)
        for name, weight in model.named_parameters()
    }
    path = tmp_path / "model.safetensors"
    write_model_file(path, weights, make_preprocessor(dataset, small), small, {"epoch": 0})
    with pytest.raises(AlexNetError, match="image 0 of train: fc7 is NaN or beyond 65,504"):
        fc7_index(path, dataset)
