"""Scores against counting, ensembles against their mean, checks of models against datasets."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from alexnet.api import common_crops
from alexnet.core.errors import AlexNetError, UsageError
from alexnet.data.prepared import PreparedDataset
from alexnet.evaluation.evaluate import (
    DENSE,
    evaluate,
    predict_split,
    predictions,
    probabilities,
    require_same_classes,
    require_same_images,
    score,
    scored_split,
)
from alexnet.models.alexnet import AlexNet
from alexnet.models.model_file import Classifier, make_preprocessor
from alexnet.recipes.presets import MODERN, ORIGINAL, PAPER
from tests.conftest import CPU, tiny, tiny_classifier


def test_scores_count_as_sorting_does() -> None:
    generator = np.random.default_rng(0)
    probability = torch.from_numpy(generator.dirichlet(np.ones(9), 500))
    labels = torch.from_numpy(generator.integers(0, 9, 500))
    order = probability.argsort(1, descending=True)
    scores = score(probability, labels)
    wrong = (order[:, 0] != labels).double()
    not_in_five = (order[:, :5] != labels[:, None]).all(1).double()
    assert scores.top1_error == pytest.approx(100 * float(wrong.mean()))
    assert scores.top5_error == pytest.approx(100 * float(not_in_five.mean()))
    assert scores.loss == pytest.approx(float(-probability[torch.arange(500), labels].log().mean()))


def test_ties_share_the_places_left() -> None:
    tied = torch.tensor([[0.3, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]])
    scores = score(tied, torch.tensor([3]))  # four places for seven equals, none of them the first
    assert scores.top1_error == 100 and scores.top5_error == pytest.approx(100 * (1 - 4 / 7))
    assert score(torch.full((1, 2), 0.5), torch.tensor([0])).top1_error == pytest.approx(50)


def test_nan_is_wrong() -> None:
    assert score(torch.full((2, 9), torch.nan), torch.tensor([0, 1])).top1_error == 100


def test_with_few_classes_there_is_no_top5_error() -> None:
    assert score(torch.full((1, 5), 0.2), torch.tensor([0])).top5_error is None


@pytest.mark.parametrize("crops", [1, 10])
def test_an_ensemble_averages_probabilities_over_crops_and_models(
    dataset: PreparedDataset, crops: int
) -> None:
    classifiers = [
        tiny_classifier(tiny(ORIGINAL), dataset, 0),
        tiny_classifier(tiny(PAPER), dataset, 1),
    ]
    split = dataset.splits["val"]
    expected = []
    for i in range(len(split)):
        image = split.pixels(i)[None]
        each = []
        for classifier in classifiers:
            preprocessor = classifier.preprocessor
            batch = preprocessor.normalize(preprocessor.test_crops(image, crops)[0])
            each.append(classifier.model(batch).softmax(1).mean(0))
        expected.append(torch.stack(each).mean(0))
    averaged = torch.cat([batch for batch, _ in predictions(classifiers, split, crops, CPU)])
    torch.testing.assert_close(averaged, torch.stack(expected), rtol=1e-5, atol=1e-6)
    assert evaluate(classifiers, split, crops, CPU).images == len(split)


def test_one_model_is_an_ensemble_of_one(dataset: PreparedDataset) -> None:
    classifier = tiny_classifier(tiny(PAPER), dataset)
    split = dataset.splits["val"]
    assert evaluate(classifier, split, 1, CPU) == evaluate([classifier], split, 1, CPU)
    alone, _ = predict_split(classifier, split, 1, CPU)
    assert torch.equal(alone, predict_split([classifier], split, 1, CPU)[0])


def test_the_scored_split_is_test_before_val(dataset: PreparedDataset) -> None:
    assert scored_split(dataset, None).name == "test"
    assert scored_split(dataset, "train").name == "train"
    with pytest.raises(AlexNetError, match="no images in a split tset; it has train, val, test"):
        scored_split(dataset, "tset")


def test_a_model_of_other_classes_is_refused(dataset: PreparedDataset) -> None:
    preprocessor = make_preprocessor(dataset, tiny(PAPER))
    require_same_classes(preprocessor, dataset)
    reversed_classes = replace(preprocessor, classes=preprocessor.classes[::-1])
    with pytest.raises(AlexNetError, match="classes are not the model's"):
        require_same_classes(reversed_classes, dataset)
    require_same_images(reversed_classes, dataset)


def test_a_model_for_other_images_is_refused(dataset: PreparedDataset) -> None:
    preprocessor = make_preprocessor(dataset, tiny(PAPER))
    larger = replace(preprocessor.decode_config, size=128)
    message = (
        "its records are 104 x 104 RGB; the model expects records prepared at 128 x 128 RGB; "
        "prepare with --size 128$"
    )
    with pytest.raises(AlexNetError, match=message):
        require_same_images(replace(preprocessor, decode_config=larger), dataset)


def test_dense_is_the_mean_over_all_positions(dataset: PreparedDataset) -> None:
    recipe = tiny(PAPER)
    # 1 x 1 outputs of the last pool; the images have 104 pixels
    recipe = replace(recipe, network=replace(recipe.network, input=(3, 67, 67)))
    classifier = tiny_classifier(recipe, dataset)
    split = dataset.splits["val"]
    images = np.stack([split.pixels(i) for i in range(3)])
    logits = classifier.model.dense(classifier.preprocessor.normalize_whole(images))
    assert logits.shape == (3, len(dataset.classes), 2, 2)
    probability = probabilities(classifier, images, DENSE, CPU)
    torch.testing.assert_close(probability, logits.softmax(1).flatten(2).mean(2))
    assert evaluate(classifier, split, DENSE, CPU).images == len(split)


def test_models_made_for_different_numbers_of_crops_need_one_given(
    dataset: PreparedDataset,
) -> None:
    many, one = (
        replace(MODERN, augmentation=replace(MODERN.augmentation, test_crops=count))
        for count in (10, 1)
    )
    models = [
        Classifier(AlexNet(tiny(r).network, 3), make_preprocessor(dataset, tiny(r)), tiny(r), {})
        for r in (many, one)
    ]
    assert common_crops(models[:1]) == 10
    with pytest.raises(UsageError, match="made for 1 and 10 crops"):
        common_crops(models)


def test_predictions_come_in_stored_order(dataset: PreparedDataset) -> None:
    classifier = tiny_classifier(tiny(PAPER), dataset)
    split = dataset.splits["val"]
    probability, labels = predict_split([classifier], split, 1, CPU)
    alone = torch.cat(
        [probabilities(classifier, split.pixels(i)[None], 1, CPU) for i in range(len(split))]
    )
    torch.testing.assert_close(probability, alone, rtol=1e-5, atol=1e-6)
    assert labels.tolist() == split.labels.tolist()
