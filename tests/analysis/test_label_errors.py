"""Wrong labels: predictions without each image are those of a classifier fitted without it."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from alexnet.analysis import label_errors
from alexnet.analysis.computation import finish
from alexnet.analysis.label_errors import (
    feature_layers,
    find_label_errors,
    margins,
    predict_without_each,
)
from alexnet.core.rng import key, normal, permutation
from alexnet.data.prepared import PreparedDataset
from alexnet.recipes.presets import MODERN
from tests.conftest import CPU, small_model, tiny, tiny_classifier


def clusters(images: int, classes: int, dim: int, spread: float) -> tuple[torch.Tensor, np.ndarray]:
    """Return features (images, dim) around a center for each class, and the classes."""
    labels = np.arange(images) % classes
    centers = normal(key("center", np.arange(classes)), dim)
    noise = normal(key("noise", np.arange(images)), dim)
    return torch.from_numpy(centers[labels] + spread * noise), labels


def test_closed_form_equals_refitting_without_each_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_errors, "PENALTIES", (0.05,))
    features, classes = clusters(40, 3, 6, 1.0)
    labels = torch.from_numpy(classes)
    predicted = predict_without_each([features], labels, 3)
    x = F.normalize(features - features.mean(0))
    x = x - x.mean(0)
    penalty = 0.05 * torch.linalg.eigvalsh(x.T @ x).mean() * torch.eye(6, dtype=torch.float64)
    targets = F.one_hot(labels, 3).double()
    for left_out in (0, 7, 39):
        others = [i for i in range(40) if i != left_out]
        mean_x, mean_y = x[others].mean(0), targets[others].mean(0)
        centered = x[others] - mean_x
        weights = torch.linalg.solve(
            centered.T @ centered + penalty, centered.T @ (targets[others] - mean_y)
        )
        expected = mean_y + (x[left_out] - mean_x) @ weights
        torch.testing.assert_close(predicted[left_out], expected)


def test_planted_errors_come_first() -> None:
    features, classes = clusters(400, 8, 30, 1.5)
    planted = permutation(key("planted"), 400)[:20]
    wrong = classes.copy()
    wrong[planted] = (classes[planted] + 3) % 8
    labels = torch.from_numpy(wrong)
    margin, suggested = margins(predict_without_each([features], labels, 8), labels)
    first = margin.argsort(descending=True)[:40].numpy()
    assert len(np.intersect1d(first, planted)) >= 19
    assert (suggested.numpy()[planted] == classes[planted]).sum() >= 19


def test_all_splits_are_ranked_by_margin(dataset: PreparedDataset) -> None:
    classifier = tiny_classifier(tiny(MODERN), dataset)
    suspects = finish(find_label_errors(classifier, dataset, CPU))
    scores = [suspect.score for suspect in suspects]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) > 0
    assert {suspect.split for suspect in suspects} <= set(dataset.splits)
    for suspect in suspects:
        assert suspect.given_label == dataset.splits[suspect.split].labels[suspect.index]
        assert suspect.suggested != suspect.given_label


def test_features_are_of_the_last_convolutions_and_the_first_hidden_layer() -> None:
    assert feature_layers(small_model("original")) == ["conv3", "conv4", "conv5", "fc6"]
    assert feature_layers(small_model("six")) == ["conv4", "conv5", "conv6", "fc6"]
    assert feature_layers(small_model("cifar-18pct")) == ["conv1", "conv2", "conv3"]
