"""The training batches: every image once an epoch, resumable anywhere, on any number of threads."""

import threading
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from alexnet.data.loader import LoaderState, TrainLoader, iterate_split
from alexnet.data.prefetch import prefetch
from alexnet.data.prepared import PreparedDataset
from alexnet.models.model_file import make_preprocessor
from alexnet.recipes.presets import MODERN, ORIGINAL
from alexnet.recipes.recipe import Recipe
from tests.conftest import tiny


def make_loader(dataset: PreparedDataset, recipe: Recipe = MODERN, workers: int = 1) -> TrainLoader:
    small = tiny(recipe)
    preprocessor = make_preprocessor(dataset, small)
    return TrainLoader(dataset.splits["train"], preprocessor, small.training, 5, workers)


def test_an_epoch_has_every_image_once_with_its_label(dataset: PreparedDataset) -> None:
    items = make_loader(dataset).iterate_from(LoaderState())
    batches = [batch for state, batch in items if state.epoch == 0]
    indices = np.concatenate([batch.indices for batch in batches])
    labels = np.concatenate([batch.labels for batch in batches])
    assert sorted(indices) == list(range(len(dataset.splits["train"])))
    assert np.array_equal(labels, dataset.splits["train"].labels[indices])


def test_iteration_resumes_at_any_state(dataset: PreparedDataset) -> None:
    items = list(make_loader(dataset).iterate_from(LoaderState()))
    start, expected = items[len(items) // 2 + 1]
    state, batch = next(iter(make_loader(dataset).iterate_from(start)))
    assert state == start
    assert torch.equal(batch.crops, expected.crops)
    assert np.array_equal(batch.indices, expected.indices)


def test_the_number_of_threads_changes_nothing(dataset: PreparedDataset) -> None:
    with_one = make_loader(dataset).iterate_from(LoaderState())
    with_four = make_loader(dataset, workers=4).iterate_from(LoaderState())
    for (_, one), (_, four) in zip(with_one, with_four, strict=True):
        assert torch.equal(one.crops, four.crops)
        assert np.array_equal(one.params.dropout, four.params.dropout)


def test_crops_are_cut_as_their_params_say(dataset: PreparedDataset) -> None:
    _, batch = next(iter(make_loader(dataset).iterate_from(LoaderState())))
    for i, crop in enumerate(batch.crops):
        top, left = batch.params.offsets[i]
        image = dataset.splits["train"].pixels(int(batch.indices[i]))
        expected = image[top : top + 99, left : left + 99]
        assert np.array_equal(crop, expected[:, ::-1] if batch.params.mirror[i] else expected)


def test_the_order_changes_every_epoch_or_stays(dataset: PreparedDataset) -> None:
    reshuffled = make_loader(dataset)
    fixed = make_loader(dataset, ORIGINAL)
    assert not np.array_equal(reshuffled.order(0), reshuffled.order(1))
    assert np.array_equal(fixed.order(0), fixed.order(1))
    assert not np.array_equal(reshuffled.order(0), replace(reshuffled, seed=6).order(0))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_batches_on_a_gpu_equal_those_on_the_cpu(dataset: PreparedDataset) -> None:
    on_cpu = make_loader(dataset, workers=2)
    on_gpu = replace(make_loader(dataset, workers=2), device=torch.device("cuda"))
    for (state, one), (other_state, other) in zip(
        on_cpu.iterate_from(LoaderState()), on_gpu.iterate_from(LoaderState()), strict=True
    ):
        assert state == other_state
        assert other.crops.is_cuda
        assert torch.equal(one.crops, other.crops.cpu())


def test_iterate_split_yields_each_record_once_in_order(dataset: PreparedDataset) -> None:
    split = dataset.splits["train"]
    labels = np.concatenate([labels for _, labels in iterate_split(split, 7, workers=2)])
    assert np.array_equal(labels, split.labels)


def test_prefetch_is_bounded_and_stops_with_its_reader() -> None:
    before = set(threading.enumerate())
    started: list[int] = []

    def job(number: int) -> int:
        started.append(number)
        return number

    results = prefetch((partial(job, number) for number in range(100)), workers=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    results.close()
    assert len(started) <= 6
    assert not set(threading.enumerate()) - before


def test_prefetch_raises_what_a_job_raises() -> None:
    def fail() -> int:
        raise ValueError("broken image")

    with pytest.raises(ValueError, match="broken image"):
        list(prefetch([lambda: 1, fail], workers=1))
