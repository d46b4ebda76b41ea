"""Train 200 steps in bf16 and in float32 from the same state: how far do the losses diverge?

Printed are the largest and the mean difference of the losses, smoothed over 20 steps, and the mean
loss of the last 50 steps of each; and, as the measure of chance, the same between two seeds.

    python benchmarks/bf16_vs_fp32.py DATASET --recipe modern --set network.input=3,67,67
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from alexnet.core.device import make_runtime
from alexnet.data.prepared import PreparedDataset, open_dataset
from alexnet.recipes.overrides import override
from alexnet.recipes.presets import get_recipe
from alexnet.recipes.recipe import Recipe, with_epochs
from alexnet.training import trainer
from alexnet.training.run_config import RunConfig

STEPS = 200
WINDOW = 20  # steps of the moving average


def step_losses(dataset: PreparedDataset, recipe: Recipe, seed: int, precision: str) -> np.ndarray:
    """Train and return the loss of each of the first STEPS steps."""
    losses: list[float] = []

    def callback(record: dict[str, Any]) -> None:
        if record["kind"] == "step":
            losses.append(record["loss"])

    def stop() -> int:
        return 2 if len(losses) >= STEPS - 1 else 0

    config = RunConfig(dataset, recipe, seed, make_runtime("cpu", precision, 1))
    with TemporaryDirectory() as folder:
        try:
            trainer.train(config, Path(folder), callback, stop, save_every=float("inf"))
        except trainer.RunStopped:
            pass  # requested by `stop`
    return np.array(losses[:STEPS])


def smooth(losses: np.ndarray) -> np.ndarray:
    """Return the moving average of the losses."""
    return np.convolve(losses, np.ones(WINDOW) / WINDOW, "valid")


def print_comparison(name: str, reference: np.ndarray, other: np.ndarray) -> None:
    difference = np.abs(smooth(reference) - smooth(other))
    print(
        f"float32 and {name}: the losses differ by {difference.max():.4f} at most, "
        f"{difference.mean():.4f} on average; first {reference[0]:.4f} and {other[0]:.4f}, "
        f"last fifty {reference[-50:].mean():.4f} and {other[-50:].mean():.4f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset")
    parser.add_argument("--recipe", default="modern")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    args = parser.parse_args()
    recipe = with_epochs(get_recipe(args.recipe), args.epochs)
    for setting in args.settings:
        recipe = override(recipe, setting)
    trainer.RECORDS_PER_EPOCH = 10**9  # every step
    dataset = open_dataset(args.dataset)
    reference = step_losses(dataset, recipe, 0, "fp32")
    print_comparison("bf16", reference, step_losses(dataset, recipe, 0, "bf16"))
    print_comparison("another seed", reference, step_losses(dataset, recipe, 1, "fp32"))


if __name__ == "__main__":
    main()
