"""The workloads of our implementation: training, inference, the data loader and the norm."""

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

from alexnet.benchmark.inputs import CLASSES, SEED, fixed_batch
from alexnet.benchmark.interleaved_timer import Workload, timed_call
from alexnet.core.device import Runtime
from alexnet.data.loader import LoaderState, TrainLoader
from alexnet.data.prepared import open_dataset
from alexnet.models.alexnet import AlexNet, init_weights
from alexnet.models.fusion import fuse
from alexnet.models.model_file import make_preprocessor
from alexnet.models.response_norm import response_norm
from alexnet.recipes.layers import LocalResponseNorm
from alexnet.recipes.recipe import Recipe
from alexnet.recipes.schedules import PiecewiseConstant
from alexnet.training import trainer
from alexnet.training.optimizer import make_optimizer, set_lr
from alexnet.training.run_config import RunConfig

# Steps of a training run with two workers, at least:
UNTIMED_STEPS = 2  # while the loader gets ahead
TIMED_STEPS = 4
KERNELS_VARIABLE = "ALEXNET_KERNELS"


class _EnoughSteps(Exception):
    """Raised by the run's callback after the last timed step, so that nothing is saved."""


def training_step(recipe: Recipe, batch_size: int, runtime: Runtime) -> Workload:
    """Build forward, loss, backward and update on one fixed batch of the network's full input."""
    model = init_weights(AlexNet(recipe.network, CLASSES), SEED).to(runtime.device)
    optimizer = make_optimizer(model, recipe.training)
    set_lr(optimizer, recipe.training, epoch=0)
    optimizer.keep_masters()
    fused = fuse(model.to(runtime.dtype).train())
    label_smoothing = recipe.training.label_smoothing
    inputs, labels = fixed_batch(recipe.network.input, batch_size, runtime.device)
    inputs = inputs.to(runtime.dtype, memory_format=torch.channels_last)
    dropout_keys = torch.arange(batch_size, dtype=torch.int32, device=runtime.device)

    def step() -> None:
        logits = fused(inputs, dropout_keys).float()
        F.cross_entropy(logits, labels, label_smoothing=label_smoothing).backward()
        optimizer.step()
        optimizer.zero_grad()

    return Workload(timed_call(step, runtime.device), batch_size)


def training_run(recipe: Recipe, dataset: Path, batch_size: int, runtime: Runtime) -> Workload:
    """Build a run of the trainer itself, with data loading and logging.

    A repetition returns the mean seconds of its later steps.
    """
    config = RunConfig(open_dataset(dataset), constant_recipe(recipe, batch_size), SEED, runtime)
    scale = max(1, runtime.workers // 2)  # all workers deliver their first batches at once

    def run() -> float:
        marks: list[tuple[int, float]] = []  # (step, seconds); long epochs do not log every step

        def callback(record: dict[str, Any]) -> None:
            if record["kind"] == "step" and record["step"] >= UNTIMED_STEPS * scale:
                marks.append((record["step"], time.perf_counter()))
                if marks[-1][0] - marks[0][0] >= TIMED_STEPS * scale:
                    raise _EnoughSteps

        with TemporaryDirectory(dir=dataset.parent) as folder, suppress(_EnoughSteps):
            trainer.train(config, Path(folder) / "run", callback)
        first_step, start = marks[0]
        last_step, end = marks[-1]
        return (end - start) / (last_step - first_step)

    return Workload(run, batch_size)


def constant_recipe(recipe: Recipe, batch_size: int) -> Recipe:
    """Return the recipe at full resolution throughout and with a constant learning rate."""
    lr = PiecewiseConstant(((0, recipe.training.lr.largest),))
    return replace(
        recipe,
        augmentation=replace(recipe.augmentation, resolution_schedule=None),
        training=replace(recipe.training, batch_size=batch_size, lr=lr),
    )


def inference(recipe: Recipe, batch_size: int, runtime: Runtime) -> Workload:
    """Build the logits of a fixed batch, as evaluate and predict compute them."""
    model = init_weights(AlexNet(recipe.network, CLASSES), SEED)
    model.to(runtime.device, runtime.dtype).eval().requires_grad_(False)
    inputs, _ = fixed_batch(recipe.network.input, batch_size, runtime.device)
    inputs = inputs.to(runtime.dtype, memory_format=torch.channels_last)
    fused = fuse(model)

    @torch.inference_mode()
    def forward() -> None:
        fused(inputs)

    return Workload(timed_call(forward, runtime.device), batch_size)


def loader(recipe: Recipe, dataset: Path, batch_size: int) -> Workload:
    """Build training's batches of uint8 crops, one after the other, as one worker makes them."""
    opened = open_dataset(dataset)
    train_loader = TrainLoader(
        opened.splits["train"],
        make_preprocessor(opened, recipe),
        replace(recipe.training, batch_size=batch_size),
        SEED,
        workers=1,
    )
    order = train_loader.order(0)
    full_batches = cycle(range(len(train_loader.split) // batch_size))

    def load() -> None:
        train_loader.batch(LoaderState(0, next(full_batches)), order)

    return Workload(timed_call(load, torch.device("cpu")), batch_size)


def norm(
    spec: LocalResponseNorm, shape: tuple[int, int, int, int], runtime: Runtime, kernels: str
) -> Workload:
    """Build the forward and backward pass of a norm across channels.

    `kernels` is the value of ALEXNET_KERNELS that chooses the implementation ("": as it is).
    """
    x, grad = (
        torch.randn(shape).to(runtime.device, runtime.dtype, memory_format=torch.channels_last)
        for _ in range(2)
    )
    x.requires_grad_()

    def forward_backward() -> None:
        with _kernels(kernels):
            y = response_norm(x, spec.n, spec.k, spec.alpha, spec.beta)
            torch.autograd.grad(y, x, grad)

    return Workload(timed_call(forward_backward, runtime.device), shape[0])


@contextmanager
def _kernels(choice: str) -> Iterator[None]:
    before = os.environ.get(KERNELS_VARIABLE, "")
    os.environ[KERNELS_VARIABLE] = choice or before
    try:
        yield
    finally:
        os.environ[KERNELS_VARIABLE] = before
