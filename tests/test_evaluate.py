"""Scores against counting by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from alexnet.data.store import Store
from alexnet.errors import AlexNetError, UsageError
from alexnet.evaluate import (
    DENSE,
    answers,
    evaluate,
    must_be_seen,
    must_fit,
    predictions,
    probabilities,
    scored_split,
    scores,
    write_submission,
)
from alexnet.model import Model, view_of
from alexnet.network.alexnet import AlexNet, start
from alexnet.recipes.named import MODERN, ORIGINAL, PAPER
from alexnet.verbs.using import own_views
from tests.conftest import CPU, tiny


def test_scores_count_as_sorting_does() -> None:
    draw = np.random.default_rng(0)
    probability, labels = torch.from_numpy(draw.dirichlet(np.ones(9), 500)), torch.from_numpy(draw.integers(0, 9, 500))
    order = probability.argsort(1, descending=True)
    found = scores(probability, labels)
    assert found.top1_error == pytest.approx(100 * float((order[:, 0] != labels).double().mean()))
    assert found.top5_error == pytest.approx(100 * float((order[:, :5] != labels[:, None]).all(1).double().mean()))
    assert found.loss == pytest.approx(float(-probability[torch.arange(500), labels].log().mean()))


def test_ties_share_the_places_left() -> None:
    tied = torch.tensor([[0.3, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]])
    found = scores(tied, torch.tensor([3]))  # four places for seven equals, none of them the first
    assert found.top1_error == 100 and found.top5_error == pytest.approx(100 * (1 - 4 / 7))
    assert scores(torch.full((1, 2), 0.5), torch.tensor([0])).top1_error == pytest.approx(50)


def test_what_is_not_a_number_is_wrong() -> None:
    assert scores(torch.full((2, 9), torch.nan), torch.tensor([0, 1])).top1_error == 100


def test_with_few_classes_the_first_five_say_nothing() -> None:
    assert scores(torch.full((1, 5), 0.2), torch.tensor([0])).top5_error is None


@pytest.mark.parametrize("views", [1, 10])
def test_an_ensemble_averages_probabilities_over_views_and_models(store: Store, views: int) -> None:
    seers = []
    for recipe, seed in ((tiny(ORIGINAL), 0), (tiny(PAPER), 1)):
        seers.append((start(AlexNet(recipe.network, len(store.classes)), seed).eval(), view_of(store, recipe)))
    split = store.splits["val"]
    by_hand = []
    for i in range(len(split)):
        square = split.pixels(i)[None]
        each = [view.ten(square)[0] if views == 10 else view.centre(square) for _, view in seers]
        crops = [network(view.tensor(crop)).softmax(1).mean(0) for (network, view), crop in zip(seers, each, strict=True)]
        by_hand.append(torch.stack(crops).mean(0))
    found = torch.cat([part for part, _ in predictions(seers, split, views, CPU, lambda done, of: None)])
    torch.testing.assert_close(found, torch.stack(by_hand), rtol=1e-5, atol=1e-6)
    assert evaluate(seers, split, views, CPU).pictures == len(split)


def test_the_scored_split_is_test_before_val(store: Store) -> None:
    assert scored_split(store, None).name == "test" and scored_split(store, "train").name == "train"
    with pytest.raises(AlexNetError, match="no pictures in a split tset; it has train, val, test"):
        scored_split(store, "tset")


def test_a_model_of_other_classes_is_refused(store: Store) -> None:
    view = view_of(store, tiny(PAPER))
    must_fit(view, store)
    with pytest.raises(AlexNetError, match="classes are not the model's"):
        must_fit(replace(view, classes=view.classes[::-1]), store)
    must_be_seen(replace(view, classes=view.classes[::-1]), store)


def test_dense_is_the_mean_over_all_places(store: Store) -> None:
    recipe = tiny(PAPER)
    recipe = replace(recipe, network=replace(recipe.network, input=(3, 67, 67)))  # 1 x 1 of the last pool; records have 104
    network, view = start(AlexNet(recipe.network, len(store.classes)), 0).eval(), view_of(store, recipe)
    squares = np.stack([store.splits["val"].pixels(i) for i in range(3)])
    maps = network.dense(view.whole(squares))
    assert maps.shape == (3, len(store.classes), 2, 2)
    found = probabilities((network, view), squares, DENSE, CPU)
    torch.testing.assert_close(found, maps.softmax(1).flatten(2).mean(2))
    assert evaluate([(network, view)], store.splits["val"], DENSE, CPU).pictures == len(store.splits["val"])


def quiet(done: int, of: int) -> None:
    """A progress that nobody watches."""


@pytest.mark.parametrize("classes", [3, 12])
def test_a_submission_lists_the_likeliest_classes_from_one(classes: int, tmp_path: Path) -> None:
    probability = torch.from_numpy(np.random.default_rng(0).dirichlet(np.ones(classes), 50))
    probability[7] = 1 / classes  # equals stand in the classes' order
    names = [f"val/{50 - number}/picture_{number:02}.jpg" for number in range(50)]
    shuffled = np.random.default_rng(1).permutation(50)  # stored by class; the challenge counts by file name
    write_submission(tmp_path / "answers.txt", probability[shuffled], [names[number] for number in shuffled])
    lines = [[int(word) for word in line.split()] for line in (tmp_path / "answers.txt").read_text().splitlines()]
    assert lines == (np.argsort(-probability.numpy(), 1, kind="stable")[:, :5] + 1).tolist()
    assert lines[7] == list(range(1, min(5, classes) + 1))


def test_models_made_for_other_views_have_to_be_told_how_many(store: Store) -> None:
    many, one = (replace(MODERN, views=replace(MODERN.views, test=count)) for count in (10, 1))
    models = [Model(AlexNet(tiny(r).network, 3), view_of(store, tiny(r)), tiny(r), {}) for r in (many, one)]
    assert own_views(models[:1]) == 10
    with pytest.raises(UsageError, match="made for 1 and 10 views"):
        own_views(models)


def test_answers_come_in_stored_order(store: Store) -> None:
    recipe = tiny(PAPER)
    seer, split = (start(AlexNet(recipe.network, len(store.classes)), 0).eval(), view_of(store, recipe)), store.splits["val"]
    probability, labels = answers([seer], split, 1, CPU, quiet)
    alone = torch.cat([probabilities(seer, split.pixels(i)[None], 1, CPU) for i in range(len(split))])
    torch.testing.assert_close(probability, alone, rtol=1e-5, atol=1e-6)
    assert labels.tolist() == split.labels.tolist()
