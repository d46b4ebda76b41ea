"""The progress of a run, batch by batch."""

import pytest

from alexnet.data.loader import LoaderState
from alexnet.training.progress import Progress, advance

LOSSES = [4.0, 3.0, 2.0, 1.0, 0.5]
SIZES = [8, 8, 8, 8, 2]  # of an epoch's batches


def one_epoch(progress: Progress) -> Progress:
    for loss, size in zip(LOSSES, SIZES, strict=True):
        progress = advance(progress, progress.loader_state, len(SIZES), size, loss, incorrect=1)
    return progress


def test_an_epochs_means_are_over_its_images() -> None:
    progress = one_epoch(Progress())
    assert progress.loader_state == LoaderState(1, 0)
    assert (progress.steps, progress.images, progress.incorrect) == (5, 34, 5)
    means = progress.train_means(34)
    expected = sum(loss * size for loss, size in zip(LOSSES, SIZES, strict=True)) / 34
    assert means == {"train_loss": expected, "train_error": pytest.approx(100 * 5 / 34)}
    second_half = (2.0 * 8 + 1.0 * 8 + 0.5 * 2) / 18
    assert progress.second_half_loss == pytest.approx(second_half)


def test_sums_start_at_zero_with_each_epoch() -> None:
    first = one_epoch(Progress())
    second = one_epoch(first)
    assert second.loader_state == LoaderState(2, 0)
    assert (second.steps, second.images) == (10, 68)
    assert second.train_means(34) == first.train_means(34)
    assert second.second_half_loss == first.second_half_loss


def test_a_batch_inside_an_epoch_moves_to_the_next() -> None:
    progress = advance(Progress(), LoaderState(), 2, 8, 1.0, 0)
    assert progress.loader_state == LoaderState(0, 1) and progress.second_half_images == 0
