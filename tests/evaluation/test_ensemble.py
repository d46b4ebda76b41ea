"""The weights of an ensemble's models, against a grid, and on a dataset."""

import numpy as np
import pytest
import torch

from alexnet.core.errors import UsageError
from alexnet.data.prepared import PreparedDataset
from alexnet.evaluation.ensemble import ensemble_weights, optimal_weights, parse_weights
from alexnet.evaluation.evaluate import evaluate
from alexnet.recipes.presets import PAPER
from tests.conftest import CPU, tiny, tiny_classifier


def loss(weights: torch.Tensor, correct: torch.Tensor) -> float:
    return float(-(weights @ correct).log().mean())


def test_a_model_of_noise_counts_nothing_in_the_best_ensemble() -> None:
    generator = np.random.default_rng(0)
    good = torch.from_numpy(generator.beta(8, 2, 4000))
    noise = torch.from_numpy(generator.dirichlet(np.ones(10), 4000)[:, 0])
    weights = optimal_weights(torch.stack([noise, good]))
    assert weights[0] < 0.01 and float(weights.sum()) == pytest.approx(1)


def test_the_best_weights_are_the_best_on_a_fine_grid() -> None:
    generator = np.random.default_rng(1)
    correct = torch.from_numpy(
        generator.beta([[1.0], [2.0], [1.5]], [[1.0], [2.5], [1.0]], (3, 300))
    )
    least = loss(optimal_weights(correct), correct)
    grid = [(i / 50, j / 50, (50 - i - j) / 50) for i in range(51) for j in range(51 - i)]
    best = min(loss(torch.tensor(point, dtype=torch.float64), correct) for point in grid)
    assert best - 1e-3 < least <= best + 1e-6
    assert least <= loss(torch.full((3,), 1 / 3, dtype=torch.float64), correct)


def test_weights_are_finite_where_every_model_is_wrong() -> None:
    assert optimal_weights(torch.zeros(2, 5)).tolist() == [0.5, 0.5]


def test_weights_are_numbers_of_sum_one_and_all_else_is_refused() -> None:
    assert parse_weights("5, 3,2", 3).tolist() == pytest.approx([0.5, 0.3, 0.2])
    for text in ("0.5", "1,2,x", "1,-1,1", "0,0,0", "inf,1,1", "nan,1,1", ""):
        with pytest.raises(UsageError, match="expected val, or 3 numbers"):
            parse_weights(text, 3)


def test_weights_of_an_ensemble_on_a_dataset(dataset: PreparedDataset) -> None:
    recipe = tiny(PAPER)
    classifiers = [tiny_classifier(recipe, dataset, seed) for seed in range(3)]
    val, test = dataset.splits["val"], dataset.splits["test"]
    alone = [evaluate(classifier, val, 1, CPU) for classifier in classifiers]
    assert evaluate(classifiers, val, 1, CPU, weights=parse_weights("0,0,1", 3)) == alone[2]
    equal, best = (
        ensemble_weights(weights, classifiers, dataset, test, 1, CPU) for weights in (None, "val")
    )
    assert equal.tolist() == [1 / 3] * 3 and float(best.sum()) == pytest.approx(1)
    fitted = evaluate(classifiers, val, 1, CPU, weights=best).loss
    others = [evaluate(classifiers, val, 1, CPU).loss, *(scores.loss for scores in alone)]
    assert fitted <= min(others) + 1e-6
    with pytest.raises(UsageError, match="val is also the split that is scored"):
        ensemble_weights("val", classifiers, dataset, val, 1, CPU)
