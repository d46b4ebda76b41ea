"""Predictions of files: equal to evaluation, and never stopped by a bad image."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from alexnet.data.prepared import PreparedDataset
from alexnet.evaluation.evaluate import predictions
from alexnet.inference.predict import predict_files
from alexnet.models.alexnet import AlexNet, init_weights
from alexnet.models.model_file import Classifier
from alexnet.recipes.presets import MODERN
from tests.conftest import CPU, tiny, tiny_classifier


@pytest.fixture(scope="module")
def classifier(dataset: PreparedDataset) -> Classifier:
    return tiny_classifier(tiny(MODERN), dataset)


def test_a_file_gets_the_probabilities_of_its_record(
    classifier: Classifier, dataset: PreparedDataset, images: Path
) -> None:
    split = dataset.splits["val"]
    predicted = list(predict_files(classifier, [images / name for name in split.names], 10, CPU))
    expected = torch.cat([batch for batch, _ in predictions(classifier, split, 10, CPU)])
    for prediction, probability in zip(predicted, expected, strict=True):
        best = dataset.classes[int(probability.argmax())]
        assert dict(prediction.top)[best] == float(probability.max())
        in_order = probability.sort(descending=True).values[:5].tolist()
        assert [p for _, p in prediction.top] == in_order


def test_a_bad_image_gets_a_reason(classifier: Classifier, images: Path, tmp_path: Path) -> None:
    good = sorted(images.rglob("*.png"))[0]
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:200])
    (tmp_path / "text.jpg").write_text("not an image")
    files = [tmp_path / "cut.png", good, tmp_path / "text.jpg"]
    predicted = list(predict_files(classifier, files, 1, CPU))
    assert [prediction.error is None for prediction in predicted] == [False, True, False]
    assert predicted[1].top == next(iter(predict_files(classifier, [good], 1, CPU))).top
    assert [prediction.path for prediction in predicted] == files
    assert all("cannot be read" in str(predicted[index].error) for index in (0, 2))


def test_there_are_no_more_predictions_than_classes(classifier: Classifier, images: Path) -> None:
    few = replace(
        classifier,
        model=init_weights(AlexNet(classifier.model.spec, 3), 0).eval(),
        preprocessor=replace(classifier.preprocessor, classes=("a", "b", "c")),
    )
    prediction = next(iter(predict_files(few, sorted(images.rglob("*.png"))[:1], 1, CPU)))
    assert len(prediction.top) == 3
    assert sum(probability for _, probability in prediction.top) == pytest.approx(1)
