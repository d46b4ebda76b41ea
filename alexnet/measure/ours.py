"""Our contenders: the bare training step, the whole training, inference, the stream of crops, the norm."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.nn import functional as F

from alexnet.data.batches import Position, Stream
from alexnet.data.store import open_store
from alexnet.measure.inputs import CLASSES, SEED, fixed_batch
from alexnet.measure.rounds import Work, clocked
from alexnet.model import view_of
from alexnet.network.alexnet import AlexNet, start
from alexnet.network.response_norm import norm_across_maps
from alexnet.recipes.layers import Norm
from alexnet.recipes.recipe import Recipe
from alexnet.recipes.schedules import PlateauState, Steps
from alexnet.runtime import Runtime
from alexnet.training import loop
from alexnet.training.optimizer import Optimizer
from alexnet.training.tasks import Task

UNTIMED, STEPS = 2, 4  # of a whole training with two readers, at least: while the feed gets ahead, and on the clock


class _Enough(Exception):
    """The last step that counts is done; raised by the run's listener, so that nothing is saved."""


def training_step(recipe: Recipe, batch: int, runtime: Runtime) -> Work:
    """Forward, loss, backward and update on one fixed batch of the network's own input."""
    network = start(AlexNet(recipe.network, CLASSES), SEED).to(runtime.device)
    optimizer = Optimizer(network, recipe.training)
    network.to(runtime.dtype).train()
    rates = recipe.training.rates(optimizer.parameters, 0.0, PlateauState())
    views, labels = fixed_batch(recipe.network.input, batch, runtime.device)
    views = views.to(runtime.dtype, memory_format=torch.channels_last)
    keys = torch.arange(batch, dtype=torch.int32, device=runtime.device)

    def step() -> None:
        logits = network(views, keys).float()
        F.cross_entropy(logits, labels, label_smoothing=recipe.training.smoothing).backward()
        optimizer.update(rates)

    return Work(clocked(step, runtime.device), batch)


def whole_training(recipe: Recipe, store: Path, batch: int, runtime: Runtime) -> Work:
    """A run through the training loop itself, with feed, views and records; a repetition gives the mean of its later steps."""
    task = Task(open_store(store), steady(recipe, batch), SEED, runtime)
    untimed, steps = (times * max(1, runtime.workers // 2) for times in (UNTIMED, STEPS))  # all readers bring their first at once

    def run() -> float:
        marks: list[tuple[int, float]] = []  # (step, seconds); in a long epoch not every step is recorded

        def tell(record: dict[str, Any]) -> None:
            if record["kind"] == "step" and record["step"] >= untimed:
                marks.append((record["step"], time.perf_counter()))
                if marks[-1][0] - marks[0][0] >= steps:
                    raise _Enough

        with TemporaryDirectory(dir=store.parent) as folder, suppress(_Enough):
            loop.train(task, Path(folder) / "run", tell)
        (first, began), (last, ended) = marks[0], marks[-1]
        return (ended - began) / (last - first)

    return Work(run, batch)


def steady(recipe: Recipe, batch: int) -> Recipe:
    """The recipe with views of the network's full size throughout, and a rate that no validation has to decide on."""
    rate = Steps(((0, recipe.training.rate.largest),))
    return replace(
        recipe,
        views=replace(recipe.views, sizes=None),
        training=replace(recipe.training, batch=batch, rate=rate),
    )


def inference(recipe: Recipe, batch: int, runtime: Runtime) -> Work:
    """The logits of a fixed batch, as evaluate and predict compute them."""
    network = start(AlexNet(recipe.network, CLASSES), SEED).to(runtime.device, runtime.dtype).eval().requires_grad_(False)
    views, _ = fixed_batch(recipe.network.input, batch, runtime.device)
    views = views.to(runtime.dtype, memory_format=torch.channels_last)

    @torch.inference_mode()
    def forward() -> None:
        network(views)

    return Work(clocked(forward, runtime.device), batch)


def stream(recipe: Recipe, store: Path, batch: int) -> Work:
    """Training's batches of crops, uint8, one after the other as one reading thread makes them."""
    opened = open_store(store)
    training = replace(recipe.training, batch=batch)
    made = Stream(opened.splits["train"], view_of(opened, recipe), training, SEED, workers=1)
    order, numbers = made.order(0), cycle(range(len(made.split) // batch))  # whole batches only
    return Work(clocked(lambda: made.batch(Position(0, next(numbers)), order), torch.device("cpu")), batch)


def norm(rule: Norm, shape: tuple[int, int, int, int], runtime: Runtime, kernels: str) -> Work:
    """A norm across maps forward and backward, in the form that ALEXNET_KERNELS asks for when set to `kernels` ("": as it is)."""
    x, g = (torch.randn(shape).to(runtime.device, runtime.dtype, memory_format=torch.channels_last) for _ in range(2))
    x.requires_grad_()

    def there_and_back() -> None:
        with _kernels(kernels):
            torch.autograd.grad(norm_across_maps(x, rule.n, rule.k, rule.alpha, rule.beta), x, g)

    return Work(clocked(there_and_back, runtime.device), shape[0])


@contextmanager
def _kernels(wanted: str) -> Iterator[None]:
    before = os.environ.get("ALEXNET_KERNELS", "")
    os.environ["ALEXNET_KERNELS"] = wanted or before
    try:
        yield
    finally:
        os.environ["ALEXNET_KERNELS"] = before
