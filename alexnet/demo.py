"""The whole pipeline once, without any data: draw images, prepare, train, evaluate, report.

The drawn images are real JPEG files in class folders and go through the same calls as any other
images. What a stopped demo has finished is used when it is started again. The caller's Display
shows what happens; nothing is printed here.
"""

import os
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from alexnet.analysis.report.run_report import write_report
from alexnet.core.console import Stage, format_duration
from alexnet.core.cpu import available_cores
from alexnet.core.device import Runtime
from alexnet.core.signals import stop_requests
from alexnet.data.build import prepare
from alexnet.data.images import DecodeConfig
from alexnet.data.prepared import PreparedDataset, open_dataset
from alexnet.data.readers import SplitFractions, open_source
from alexnet.data.synthetic import write_images
from alexnet.models.flops import layer_costs, totals
from alexnet.recipes.presets import MODERN
from alexnet.recipes.recipe import Recipe, with_epochs, with_lr
from alexnet.training.run_config import RunConfig, describe_run
from alexnet.training.trainer import RunCallback, train

# 2,000 images: small batches, so that there are enough steps to learn in
EPOCHS = 12
BATCH_SIZE = 32
LR = 0.01

MATRIX_SIDE = 1024  # of the product that is timed to estimate how long training takes
TRIALS = 4
BACKWARD_COST = 3  # a training step over a forward pass
EFFICIENCY = 0.5  # share of a matrix product's speed that a training step reaches


@dataclass(frozen=True)
class Display:
    """How a caller shows the demo: a line of text; the progress of a stage; that of a training.

    `stage` takes a label and a unit, `training` the number of steps; both are context managers
    that give the callback for that time.
    """

    status: Callable[[str], None]
    stage: Stage
    training: Callable[[int], AbstractContextManager[RunCallback]]


def run_demo(
    out: Path, runtime: Runtime, display: Display, *, epochs: int | None = None, seed: int = 0
) -> dict[str, Any]:
    """Run the demo in the directory `out`; return the summary of its training.

    To that of `alexnet.train` it adds `report`, the path of the page, and the errors in percent
    are those of ten crops on the val split. `epochs` None takes the demo's own number.
    """
    dataset = _prepare(out, seed, display.stage)
    config = RunConfig(dataset, _recipe(epochs or EPOCHS), seed, runtime)
    folder = out / f"run-{seed}"
    display.status(_estimate(config))
    for line in describe_run(config):
        display.status(line)
    with stop_requests() as stop, display.training(config.steps) as callback:
        summary = train(config, folder, callback, stop)
    with display.stage("evaluating for the report", "images") as progress:
        report, scores = write_report(folder, "val", 10, runtime, progress)
    errors = {"top1_error": scores.top1_error, "top5_error": scores.top5_error}
    return summary | errors | {"report": str(report)}


def closing_lines(result: dict[str, Any]) -> list[str]:
    """Return the demo's last lines: errors, report, and what to type for one's own images."""
    top1 = f"top-1 {result['top1_error']:.2f} %"
    top5 = f"top-5 {result['top5_error']:.2f} %"
    command = _command()
    return [
        f"validation error, ten crops: {top1}, {top5}",
        f"report: {result['report']}",
        "your own images, in a folder of class folders:",
        f"  {command} prepare IMAGES DATASET",
        f"  {command} train DATASET --out RUN",
        f"  {command} report RUN",
    ]


def _command() -> str:
    """Return what starts `alexnet` here: its name where the shell finds it, else a module."""
    if shutil.which("alexnet"):
        return "alexnet"
    return f"{os.path.relpath(sys.executable)} -m alexnet"


def _recipe(epochs: int) -> Recipe:
    recipe = with_lr(with_epochs(MODERN, epochs), LR)
    return replace(recipe, training=replace(recipe.training, batch_size=BATCH_SIZE))


def _prepare(out: Path, seed: int, stage: Stage) -> PreparedDataset:
    """Return the demo's dataset, drawn and prepared where that is not done yet."""
    images = out / f"images-{seed}"
    dataset = out / f"dataset-{seed}"
    workers = available_cores()
    if not images.exists():
        out.mkdir(parents=True, exist_ok=True)
        with stage("drawing", "images") as progress:
            write_images(images, seed=seed, workers=workers, progress=progress)
    if not dataset.exists():
        with open_source(str(images)) as source, stage("preparing", "images") as progress:
            prepare(
                source,
                dataset,
                DecodeConfig(),
                SplitFractions(),
                on_error="fail",
                workers=workers,
                progress=progress,
            )
    return open_dataset(dataset)


# ---- how long it will take


def _estimate(config: RunConfig) -> str:
    """Return a line about the time the training will take, from a matrix product timed now."""
    runtime = config.runtime
    seconds = _multiply_adds(config) * _seconds_per_multiply_add(runtime)
    line = f"training will take about {format_duration(seconds)}"
    if runtime.dtype == torch.float32 and runtime.device.type == "cpu":
        line += " (in float32: this processor has no bf16 units)"
    return line


def _multiply_adds(config: RunConfig) -> float:
    """Return the multiply-adds of a run: those of its forward passes times BACKWARD_COST."""
    network = config.recipe.network
    channels = network.input[0]
    total = 0
    for epoch in range(config.recipe.training.epochs):
        side = config.resolution(epoch + 0.5)
        resized = replace(network, input=(channels, side, side))
        total += totals(layer_costs(resized, len(config.dataset.classes)))["multiply_adds"]
    return BACKWARD_COST * total * len(config.train)


def _seconds_per_multiply_add(runtime: Runtime) -> float:
    """Return the seconds a training step needs for a multiply-add, by the best of a few trials."""
    matrix = torch.ones(MATRIX_SIDE, MATRIX_SIDE, dtype=runtime.dtype, device=runtime.device)
    seconds = []
    for _ in range(TRIALS):
        started = time.monotonic()
        float((matrix @ matrix)[0, 0])
        seconds.append(time.monotonic() - started)
    return min(seconds) / MATRIX_SIDE**3 / EFFICIENCY
