"""The stream: every picture once an epoch, any batch at once, the same whatever the number of threads."""

import threading
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from alexnet.data.ahead import prefetched
from alexnet.data.batches import Position, Stream, in_order
from alexnet.data.store import Store
from alexnet.model import view_of
from alexnet.recipes.named import MODERN, ORIGINAL
from alexnet.recipes.recipe import Recipe
from tests.conftest import tiny


def stream(store: Store, recipe: Recipe = MODERN, workers: int = 1) -> Stream:
    shrunk = tiny(recipe)
    return Stream(store.splits["train"], view_of(store, shrunk), shrunk.training, seed=5, workers=workers)


def test_an_epoch_holds_every_picture_once_and_its_labels(store: Store) -> None:
    batches = [batch for position, batch in stream(store).after(Position()) if position.epoch == 0]
    pictures = np.concatenate([batch.pictures for batch in batches])
    assert sorted(pictures) == list(range(len(store.splits["train"])))
    assert np.array_equal(np.concatenate([batch.labels for batch in batches]), store.splits["train"].labels[pictures])


def test_any_position_is_found_again_at_once(store: Store) -> None:
    whole = list(stream(store).after(Position()))
    start, expected = whole[len(whole) // 2 + 1]
    position, found = next(iter(stream(store).after(start)))
    assert position == start and torch.equal(found.crops, expected.crops) and np.array_equal(found.pictures, expected.pictures)


def test_threads_change_nothing(store: Store) -> None:
    for (_, one), (_, four) in zip(stream(store).after(Position()), stream(store, workers=4).after(Position()), strict=True):
        assert torch.equal(one.crops, four.crops) and np.array_equal(one.draws.dropout, four.draws.dropout)


def test_a_crop_is_cut_where_its_draws_say(store: Store) -> None:
    _, batch = next(iter(stream(store).after(Position())))
    for crop, picture, (top, left), mirror in zip(
        batch.crops, batch.pictures, batch.draws.offsets, batch.draws.mirror, strict=True
    ):
        cut = store.splits["train"].pixels(int(picture))[top : top + 99, left : left + 99]
        assert np.array_equal(crop, cut[:, ::-1] if mirror else cut)


def test_the_order_is_new_each_epoch_or_the_same(store: Store) -> None:
    anew, fixed = stream(store), stream(store, ORIGINAL)
    assert not np.array_equal(anew.order(0), anew.order(1))
    assert np.array_equal(fixed.order(0), fixed.order(1))
    assert not np.array_equal(anew.order(0), replace(anew, seed=6).order(0))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_batches_travel_to_a_gpu_and_stay_themselves(store: Store) -> None:
    here, there = stream(store, workers=2), replace(stream(store, workers=2), device=torch.device("cuda"))
    for (position, one), (place, other) in zip(here.after(Position()), there.after(Position()), strict=True):
        assert position == place and other.crops.is_cuda and torch.equal(one.crops, other.crops.cpu())


def test_in_order_counts_each_record_once(store: Store) -> None:
    labels = np.concatenate([labels for _, labels in in_order(store.splits["train"], 7, workers=2)])
    assert np.array_equal(labels, store.splits["train"].labels)


def test_what_is_made_ahead_is_bounded_and_stops_with_the_reader() -> None:
    made: list[int] = []

    def make(number: int) -> int:
        made.append(number)
        return number

    results = prefetched((partial(make, number) for number in range(100)), workers=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    results.close()
    assert len(made) <= 6
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_a_failing_job_reaches_the_reader() -> None:
    def fail() -> int:
        raise ValueError("broken picture")

    with pytest.raises(ValueError, match="broken picture"):
        list(prefetched([lambda: 1, fail], workers=1))
