"""The whole river once, without any data: draw pictures, prepare, train, evaluate, report.

The drawn pictures are real JPEG files in class folders and go through the same calls as anybody's. What a stopped demo has
finished is used when it is started again.
"""

import os
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from alexnet import runtime, terminal
from alexnet.cores import cores
from alexnet.data.embedded import draw
from alexnet.data.images import Policy
from alexnet.data.prepare import prepare
from alexnet.data.sources import Fractions, open_source
from alexnet.data.store import Store, open_store
from alexnet.insight.report.single import write_report
from alexnet.network.accounting import costs, totals
from alexnet.recipes.named import MODERN
from alexnet.recipes.recipe import Recipe, with_epochs, with_rate
from alexnet.runtime import Runtime
from alexnet.training import loop, tasks

EPOCHS, BATCH, RATE = 12, 32, 0.01  # two thousand pictures: small batches, so that there are enough steps to learn in


def run(out: Path, epochs: int | None, seed: int, chosen: Runtime) -> dict[str, Any]:
    """Do it all below `out`; the training's summary with the ten-view errors on val, and where the report is."""
    store = _prepared(out, seed)
    task = tasks.Task(store, _recipe(epochs or EPOCHS), seed, chosen)
    terminal.note(f"training will take about {terminal.duration(_expected_seconds(task))} {_because(chosen)}")
    for line in tasks.plan_lines(task):
        terminal.note(line)
    with runtime.stop_requests() as stop, terminal.training_progress(task.steps) as tell:
        summary = loop.train(task, out / f"run-{seed}", tell, stop)
    with terminal.progress("evaluating, for the report") as tick:
        report, scores = write_report(out / f"run-{seed}", "val", 10, chosen, tick)
    return summary | {"top1_error": scores.top1_error, "top5_error": scores.top5_error, "report": str(report)}


def _recipe(epochs: int) -> Recipe:
    recipe = with_rate(with_epochs(MODERN, epochs), RATE)
    return replace(recipe, training=replace(recipe.training, batch=BATCH))


def closing_words(result: dict[str, Any]) -> str:
    """The demo's last lines: the errors, the report, and what to type for one's own pictures."""
    return (
        f"validation error, ten views: top-1 {result['top1_error']:.2f} %, top-5 {result['top5_error']:.2f} %\n"
        f"report: {result['report']}\n"
        "your own pictures, in a folder of class folders:\n"
        f"  {_command()} prepare PICTURES STORE && {_command()} train STORE --out RUN && {_command()} report RUN"
    )


def _command() -> str:
    """What to type for `alexnet` here: its name where the shell would find it, else this Python's module."""
    return "alexnet" if shutil.which("alexnet") else f"{os.path.relpath(sys.executable)} -m alexnet"


def _prepared(out: Path, seed: int) -> Store:
    pictures, store, workers = out / f"pictures-{seed}", out / f"store-{seed}", cores()
    if not pictures.exists():
        out.mkdir(parents=True, exist_ok=True)
        with terminal.progress("drawing") as tick:
            draw(pictures, seed=seed, workers=workers, progress=tick)
    if not store.exists():
        with open_source(str(pictures)) as source, terminal.progress("preparing") as tick:
            prepare(source, store, Policy(), Fractions(), on_bad="fail", workers=workers, progress=tick)
    return open_store(store)


def _expected_seconds(task: tasks.Task) -> float:
    """Multiply-adds of the run, three times the forward pass's, over the rate of a matrix product timed now; a step reaches
    about half of that rate."""
    network, classes = task.recipe.network, len(task.store.classes)
    sides = [task.side(epoch + 0.5) for epoch in range(task.recipe.training.epochs)]
    adds = [totals(costs(replace(network, input=(3, side, side)), classes))["multiply_adds"] for side in sides]
    return 3 * 2 * len(task.train) * sum(adds) * _seconds_per_add(task.runtime)


def _seconds_per_add(chosen: Runtime) -> float:
    side, took = 1024, []
    a = torch.ones(side, side, dtype=chosen.dtype, device=chosen.device)
    for _ in range(4):
        began = time.monotonic()
        float((a @ a)[0, 0])
        took.append(time.monotonic() - began)
    return min(took) / side**3


def _because(chosen: Runtime) -> str:
    if chosen.dtype == torch.float32 and chosen.device.type == "cpu":
        return "(in float32: this processor has no bf16 units)"
    return ""
