"""Time a training step of each parallel strategy on two ranks of one thread, and of one process.

The cases take turns.

    python benchmarks/parallel_strategies.py --recipe original --repeats 3
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import get_args

import torch

from alexnet.core.allocator import GLIBC_TUNABLES
from alexnet.core.device import ParallelMode, make_runtime, with_parallelism
from alexnet.distributed import process_group
from alexnet.distributed.strategies import StepInput
from alexnet.models.alexnet import AlexNet, init_weights
from alexnet.recipes.presets import get_recipe
from alexnet.recipes.schedules import PlateauState
from alexnet.training.sharded_model import ShardedModel

CLASSES = 1000
WARMUP_STEPS = 1
TIMED_STEPS = 3
INDEPENDENT = "two independent processes, half the batch each"


def run_rank(recipe_name: str, parallel: ParallelMode, batch_size: int) -> None:
    """Train some steps on a fixed batch as one rank; rank 0 prints the seconds of the fastest."""
    with process_group.init_distributed() as ranks:
        recipe = get_recipe(recipe_name)
        runtime = with_parallelism(make_runtime("cpu", "fp32"), parallel, ranks)
        full_model = init_weights(AlexNet(recipe.network, CLASSES), 0)
        model = ShardedModel.from_model(full_model, recipe.training, runtime)
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(batch_size, *recipe.network.input, generator=generator)
        own_images = images[model.strategy.rows(batch_size)]
        step_input = StepInput(
            own_images.contiguous(memory_format=torch.channels_last),
            torch.arange(batch_size, dtype=torch.int32),
            torch.arange(batch_size) % CLASSES,
            0.0,
        )
        seconds = []
        for _ in range(WARMUP_STEPS + TIMED_STEPS):
            start = time.perf_counter()
            model.strategy.forward_backward(step_input)
            model.set_lr(0.0, PlateauState())
            model.step()
            process_group.all_gather_scalars(ranks, [0.0])  # synchronizes, as the trainer does
            seconds.append(time.perf_counter() - start)
        if ranks.is_main:
            print(f"seconds {min(seconds[WARMUP_STEPS:])}", flush=True)


def rank_command(
    recipe: str, parallel: ParallelMode, batch_size: int, launcher: list[str]
) -> list[str]:
    rank = ["--rank", recipe, parallel, str(batch_size)]
    return [sys.executable, *launcher, __file__, *rank]


def environment(threads: int) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "GLIBC_TUNABLES": GLIBC_TUNABLES}


def parse_seconds(output: str) -> float:
    return float(output.split("seconds ")[1].split()[0])


def images_per_second(
    recipe: str, parallel: ParallelMode, batch_size: int, processes: int, threads: int
) -> float:
    """Run some ranks of some threads and return their images per second."""
    launcher: list[str] = []
    if processes > 1:
        launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    command = rank_command(recipe, parallel, batch_size, launcher)
    ended = subprocess.run(
        command, capture_output=True, text=True, check=True, env=environment(threads)
    )
    return batch_size / parse_seconds(ended.stdout)


def independent_images_per_second(recipe: str, batch_size: int) -> float:
    """Run two processes of one thread with half the batch each, which do not communicate."""
    half = batch_size // 2
    command = rank_command(recipe, "none", half, [])
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(1))
        for _ in range(2)
    ]
    outputs = [process.communicate()[0] for process in processes]
    return sum(half / parse_seconds(output) for output in outputs)


def make_cases(recipe: str, smaller: str, batch_size: int) -> dict[str, Callable[[], float]]:
    """Return the cases by name, each a function that returns images per second."""
    run = partial(images_per_second, recipe)
    cases: dict[str, Callable[[], float]] = {
        "one process, one thread": partial(run, "none", batch_size, 1, 1),
        "one process, two threads": partial(run, "none", batch_size, 1, 2),
        INDEPENDENT: partial(independent_images_per_second, recipe, batch_size),
    }
    for parallel in get_args(ParallelMode):
        if parallel != "none":
            cases[f"two ranks, {parallel}"] = partial(run, parallel, batch_size, 2, 1)
    one_device = partial(images_per_second, smaller, "none", batch_size, 1, 1)
    cases[f"{smaller}, one process, one thread"] = one_device
    return cases


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="original")
    parser.add_argument(
        "--smaller", default="half", help="the network for a single device, as in the paper"
    )
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--rank",
        nargs=3,
        metavar=("RECIPE", "PARALLEL", "BATCH_SIZE"),
        help="run as one rank; used by this script itself",
    )
    args = parser.parse_args()
    if args.rank:
        recipe, parallel, batch_size = args.rank
        run_rank(recipe, parallel, int(batch_size))
        return
    cases = make_cases(args.recipe, args.smaller, args.batch_size)
    speeds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(args.repeats):
        for name, run in cases.items():
            speeds[name].append(run())
            print(f"{name}: {speeds[name][-1]:.1f}", file=sys.stderr, flush=True)
    reference = max(speeds[INDEPENDENT])
    print("| images/s, best (median) | | of two independent |\n|---|---|---|")
    for name, each in speeds.items():
        best = max(each)
        print(f"| {name} | {best:.1f} ({statistics.median(each):.1f}) | {best / reference:.1%} |")


if __name__ == "__main__":
    main()
