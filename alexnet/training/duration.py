"""How long training takes: the time left of a run, and the epochs that fit into some minutes.

Epochs do not cost the same where the training resolution grows, so time is counted in the
multiply-adds of an epoch (`models.flops`), and one measurement gives seconds for them.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from alexnet.data.loader import LoaderItem, LoaderState, TrainLoader, resolution_at
from alexnet.models.alexnet import AlexNet, init_weights
from alexnet.models.flops import layer_costs, totals
from alexnet.models.model_file import make_preprocessor
from alexnet.recipes.recipe import Recipe
from alexnet.training.progress import Progress
from alexnet.training.run_config import RunConfig, check_run
from alexnet.training.sharded_model import ShardedModel
from alexnet.training.trainer import TrainState, ignore_model, train_step

BACKWARD_COST = 3  # multiply-adds of a training step over those of a forward pass
MEASURED_SECONDS = 3.0
MEASURED_STEPS = 3  # or more, after one that is not counted
USABLE_SHARE = 0.8  # of the time: validations, model files and the last checkpoint take the rest
START_SECONDS = 8.0  # until the first step
MAX_EPOCHS = 120  # more repeat the same images without use


# ---- the time left of a run


def seconds_left(recipe: Recipe, epoch: float, seconds: float) -> float | None:
    """Estimate the seconds from an epoch, with its fraction, to the end of a run.

    `seconds`: of training up to there. None where nothing is done yet.
    """
    costs = epoch_costs(recipe)
    complete = int(epoch)
    done = sum(costs[:complete])
    if complete < len(costs):
        done += (epoch - complete) * costs[complete]
    return seconds * (sum(costs) - done) / done if done else None


@lru_cache(maxsize=64)
def epoch_costs(recipe: Recipe) -> tuple[float, ...]:
    """Return the multiply-adds of an image's forward pass in every epoch of a recipe."""
    sides = [resolution_at(recipe, epoch + 0.5) for epoch in range(recipe.training.epochs)]
    costs = {side: _forward_cost(recipe, side) for side in set(sides)}
    return tuple(costs[side] for side in sides)


def _forward_cost(recipe: Recipe, side: int) -> float:
    network = replace(recipe.network, input=(recipe.network.input[0], side, side))
    return float(totals(layer_costs(network, network.num_classes))["multiply_adds"])


# ---- the epochs that fit into some minutes


def epochs_within(config: RunConfig, minutes: float) -> int:
    """Return how many epochs of a recipe this machine trains in some minutes, 1 to MAX_EPOCHS.

    Training steps are measured for a few seconds on the run's own dataset, feed included; nothing
    is written. Raises what `train` raises before and at its first steps.
    """
    check_run(config)
    costs = epoch_costs(config.recipe)
    mean_cost = sum(costs) / len(costs) / costs[0]
    steps = config.recipe.training.steps_per_epoch(len(config.train))
    epoch_seconds = measure_step(config) * steps * (mean_cost + _validation_cost(config, costs))
    usable = USABLE_SHARE * 60 * minutes - START_SECONDS
    return min(MAX_EPOCHS, max(1, int(usable / epoch_seconds)))


def _validation_cost(config: RunConfig, costs: tuple[float, ...]) -> float:
    """Return the cost of a validation as a share of the training in the first epoch."""
    images = 0 if config.val is None else len(config.val)
    full = _forward_cost(config.recipe, config.recipe.network.input[1])
    return images / len(config.train) * full / costs[0] / BACKWARD_COST


def measure_step(config: RunConfig) -> float:
    """Return the mean seconds from one training step to the next, at a run's first resolution."""
    state = _untrained(config)
    steps = 0
    started = time.monotonic()
    for loader_state, batch in _first_epoch_repeated(state.loader):
        train_step(state, loader_state, batch, 0, math.inf)
        steps += 1
        elapsed = time.monotonic() - started
        if steps == 1:  # allocates and compiles
            started += elapsed
        elif steps > MEASURED_STEPS and elapsed > MEASURED_SECONDS:
            break
    return elapsed / (steps - 1)


def _untrained(config: RunConfig) -> TrainState:
    """Return the state of a run that has not begun and is never written."""
    recipe = config.recipe
    preprocessor = make_preprocessor(config.dataset, recipe)
    model = init_weights(AlexNet(recipe.network, len(config.dataset.classes)), config.seed)
    sharded = ShardedModel.from_model(model, recipe.training, config.runtime)
    loader = TrainLoader(
        config.train,
        preprocessor,
        replace(recipe.training, epochs=1),
        config.seed,
        config.runtime.workers,
        sharded.strategy.rows,
        config.runtime.device,
    )
    return TrainState(
        config,
        Path(),
        sharded,
        preprocessor,
        loader,
        Progress(),
        _ignore,
        ignore_model,
    )


def _first_epoch_repeated(loader: TrainLoader) -> Iterator[LoaderItem]:
    while True:
        yield from loader.iterate_from(LoaderState())


def _ignore(record: dict[str, Any]) -> None:
    """Do nothing with a record."""
