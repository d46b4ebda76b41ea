"""Batches of concurrent requests: fixed sizes, no waiting, answers independent of the company."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from alexnet.data.prepared import PreparedDataset
from alexnet.evaluation.evaluate import CROPS_PER_BATCH, probabilities
from alexnet.inference.server.batch_sizes import LEAST_FILL, SIZES, choose_size
from alexnet.inference.server.batcher import Batcher
from alexnet.models.model_file import Classifier
from alexnet.recipes.presets import MODERN
from tests.conftest import CPU, tiny, tiny_classifier


@pytest.fixture(scope="module")
def classifier(dataset: PreparedDataset) -> Classifier:
    return tiny_classifier(tiny(MODERN), dataset)


@pytest.fixture(scope="module")
def squares(dataset: PreparedDataset) -> list[np.ndarray]:
    split = dataset.splits["train"]
    return [split.pixels(index) for index in range(20)]


@pytest.mark.parametrize("crops", [1, 9, 10])
def test_a_batch_has_a_fixed_size_and_little_padding(crops: int) -> None:
    for waiting in range(1, 200):
        size = choose_size(waiting, crops)
        assert size in SIZES
        assert size * crops <= CROPS_PER_BATCH
        assert min(waiting, size) >= LEAST_FILL * size


def test_images_that_wait_share_batches(classifier: Classifier, squares: list[np.ndarray]) -> None:
    sizes: list[int] = []
    thread = ThreadPoolExecutor(1)
    batcher = Batcher(thread, CPU, sizes.append)
    go = threading.Event()
    thread.submit(go.wait)  # the thread is busy while the requests arrive

    async def ask() -> list[torch.Tensor]:
        requests = [
            asyncio.create_task(batcher.probabilities(classifier, [square], 1))
            for square in squares
        ]
        requests.append(asyncio.create_task(batcher.probabilities(classifier, squares[:3], 10)))
        await asyncio.sleep(0)
        go.set()
        return await asyncio.gather(*requests)

    *single, several = asyncio.run(ask())
    thread.shutdown()
    assert sizes == [16, 3, 4]
    expected = probabilities(classifier, np.stack(squares), 1, CPU)
    torch.testing.assert_close(torch.cat(single), expected, rtol=0, atol=2e-6)
    assert several.shape == (3, 7)
    expected = probabilities(classifier, np.stack(squares[:3]), 10, CPU)
    torch.testing.assert_close(several, expected, rtol=0, atol=2e-6)


def test_an_idle_service_computes_an_image_alone(
    classifier: Classifier, squares: list[np.ndarray]
) -> None:
    sizes: list[int] = []
    with ThreadPoolExecutor(1) as thread:
        batcher = Batcher(thread, CPU, sizes.append)
        rows = [asyncio.run(batcher.probabilities(classifier, [each], 10)) for each in squares[:3]]
    assert sizes == [1, 1, 1]
    for row, square in zip(rows, squares, strict=False):
        assert torch.equal(row, probabilities(classifier, square[None], 10, CPU))


@pytest.mark.parametrize("size", [2, 4, 8, 16])
def test_an_answer_does_not_depend_on_the_images_beside_it(
    classifier: Classifier, squares: list[np.ndarray], size: int
) -> None:
    batch = np.stack(squares[:size])
    alone = probabilities(classifier, np.repeat(batch[:1], size, 0), 1, CPU)
    first = probabilities(classifier, batch, 1, CPU)
    last = probabilities(classifier, batch[::-1].copy(), 1, CPU)
    assert torch.equal(first[0], last[-1])
    assert torch.equal(first[0], alone[0])


def test_a_request_that_is_given_up_takes_no_other_along(
    classifier: Classifier, squares: list[np.ndarray]
) -> None:
    sizes: list[int] = []
    go = threading.Event()

    async def ask(batcher: Batcher) -> torch.Tensor:
        given_up, patient = (
            asyncio.create_task(batcher.probabilities(classifier, [square], 1))
            for square in squares[:2]
        )
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.wait([given_up])
        go.set()
        return await asyncio.wait_for(patient, 60)

    with ThreadPoolExecutor(1) as thread:
        thread.submit(go.wait)
        row = asyncio.run(ask(Batcher(thread, CPU, sizes.append)))
    assert sizes == [1]
    assert torch.equal(row, probabilities(classifier, squares[1][None], 1, CPU))


def test_a_failure_is_each_requests_own(classifier: Classifier, squares: list[np.ndarray]) -> None:
    sizes: list[int] = []
    with ThreadPoolExecutor(1) as thread:
        batcher = Batcher(thread, CPU, sizes.append)
        with pytest.raises(ValueError, match="shape"):
            asyncio.run(batcher.probabilities(classifier, [squares[0], squares[0][1:]], 1))
        row = asyncio.run(batcher.probabilities(classifier, [squares[0]], 1))
    assert row.sum() == pytest.approx(1, abs=1e-5)
