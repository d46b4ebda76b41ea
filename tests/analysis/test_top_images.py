"""The strongest images of every unit equal those of a loop over all images."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from alexnet.analysis import top_images
from alexnet.analysis.computation import Computation
from alexnet.analysis.top_images import TopImages, find_top_images
from alexnet.core.errors import UsageError
from alexnet.data.prepared import PreparedDataset
from alexnet.models.model_file import Classifier, load_model, save_model
from alexnet.recipes.presets import ORIGINAL
from tests.conftest import CPU, tiny, tiny_classifier


def finish(steps: Computation[TopImages]) -> tuple[list[tuple[int, int]], TopImages]:
    """Take all steps; return what they reported and the result."""
    reports = []
    while True:
        try:
            reports.append(next(steps))
        except StopIteration as end:
            return reports, end.value


@pytest.fixture(scope="module")
def classifier(dataset: PreparedDataset) -> Classifier:
    return tiny_classifier(tiny(ORIGINAL), dataset)


def test_top_images_equal_a_loop_over_all_images(
    classifier: Classifier, dataset: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(top_images, "BATCH_SIZE", 5)  # not a divisor of the number of images
    split = dataset.splits["train"]
    reports, result = finish(find_top_images(classifier, split, CPU, 4))
    assert reports[-1] == (len(split), len(split))
    assert list(result.layers) == [*(f"conv{n}" for n in range(1, 6)), "fc6", "fc7", "fc8"]
    model = classifier.model.requires_grad_(False)
    for layer in ("conv1", "conv4", "fc6", "fc8"):
        strongest = []
        for index in range(len(split)):
            image = classifier.preprocessor.from_record(split.pixels(index))[None]
            units = model.forward_intermediates(image)[layer][0]
            strongest.append(units.reshape(len(units), -1).numpy())
        for unit in range(0, len(strongest[0]), 5):
            values = np.array([float(maps[unit].max()) for maps in strongest])
            images = result.of_unit(layer, unit)
            indices = [index for index, _, _ in images]
            assert np.allclose(values[indices], np.sort(values)[::-1][:4], rtol=1e-4, atol=1e-5)
            for index, value, position in images:
                assert value == pytest.approx(values[index], rel=1e-4, abs=1e-5)
                at_position = float(strongest[index][unit].flat[position])
                assert at_position == pytest.approx(values[index], rel=1e-4, abs=1e-5)


def test_equal_values_come_in_stored_order(
    classifier: Classifier, dataset: PreparedDataset
) -> None:
    silent = replace(classifier, model=tiny_classifier(tiny(ORIGINAL), dataset).model)
    with torch.no_grad():
        silent.model.fc8.weight.zero_()
    _, result = finish(find_top_images(silent, dataset.splits["train"], CPU, 3))
    assert [index for index, _, _ in result.of_unit("fc8", 2)] == [0, 1, 2]


def test_units_and_layers_that_are_not_there_are_refused(
    classifier: Classifier, dataset: PreparedDataset
) -> None:
    _, result = finish(find_top_images(classifier, dataset.splits["val"], CPU))
    with pytest.raises(UsageError, match="expected one of conv1"):
        result.of_unit("pool1", 0)
    with pytest.raises(UsageError, match="no unit 12; it has 12"):
        result.of_unit("conv1", 12)


def test_a_result_is_computed_once(
    dataset: PreparedDataset,
    classifier: Classifier,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(top_images, "cache_folder", lambda: tmp_path / "cache")
    path = tmp_path / "model.safetensors"
    save_model(path, classifier.model, classifier.preprocessor)
    reports, first = finish(top_images.load_or_find_top_images(path, classifier, dataset, CPU))
    assert reports
    assert first.split == "val"
    reports, second = finish(top_images.load_or_find_top_images(path, classifier, dataset, CPU))
    assert not reports, "it was computed again"
    assert first.of_unit("conv3", 7) == second.of_unit("conv3", 7)
    model, preprocessor = load_model(path)
    with torch.no_grad():
        model.conv1.bias.add_(1)
    save_model(path, model, preprocessor)
    reports, _ = finish(top_images.load_or_find_top_images(path, classifier, dataset, CPU))
    assert reports, "another model has other images"
