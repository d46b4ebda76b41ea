"""One device against two: a training step of each way on two ranks of one thread each, beside one process, taking turns.

python benchmarks/ways.py --recipe original --rounds 3
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from typing import get_args

import torch

from alexnet import ranks
from alexnet.network.alexnet import AlexNet, start
from alexnet.parallel.ways import Lesson
from alexnet.recipes.named import named
from alexnet.recipes.schedules import PlateauState
from alexnet.runtime import Way, choose, spread
from alexnet.training.net import Net
from alexnet.verbs.machine import ALLOCATOR

CLASSES, WARM, STEPS = 1000, 1, 3


def steps(recipe: str, way: Way, batch: int) -> None:
    """As one rank: some steps on a fixed batch, the parts of all ranks learning together; rank 0 prints the best's seconds."""
    with ranks.together() as group:
        chosen = named(recipe)
        runtime = spread(choose("cpu", "fp32"), way, group)
        net = Net.of(start(AlexNet(chosen.network, CLASSES), 0), chosen.training, runtime)
        rates = chosen.training.rates(net.names, 0.0, PlateauState())
        rows = net.way.rows(batch)
        pictures = torch.randn(batch, *chosen.network.input, generator=torch.Generator().manual_seed(0))
        views = pictures[rows].contiguous(memory_format=torch.channels_last)
        lesson = Lesson(views, torch.arange(batch, dtype=torch.int32), torch.arange(batch) % CLASSES, 0.0)
        taken = []
        for _ in range(WARM + STEPS):
            began = time.perf_counter()
            net.way.learn(lesson)
            net.update(rates)
            ranks.numbers(group, [0.0])  # as the loop does: nobody runs ahead
            taken.append(time.perf_counter() - began)
        if group.leads:
            print(f"seconds {min(taken[WARM:])}", flush=True)


def timed(recipe: str, way: Way, batch: int, processes: int, threads: int) -> float:
    """Pictures a second of so many ranks of so many threads."""
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)] if processes > 1 else []
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "GLIBC_TUNABLES": ALLOCATOR}
    command = [sys.executable, *launcher, __file__, "--one", recipe, way, str(batch)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    return batch / float(said.split("seconds ")[1].split()[0])


def apart(recipe: str, batch: int) -> float:
    """Pictures a second of two processes of one thread, each with half the batch, that know nothing of each other."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLIBC_TUNABLES": ALLOCATOR}
    command = [sys.executable, __file__, "--one", recipe, "none", str(batch // 2)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    return sum(batch // 2 / float(words.split("seconds ")[1].split()[0]) for words in said)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--recipe", default="original")
    asked.add_argument("--smaller", default="half", help="The net that one device alone is given, as in the paper.")
    asked.add_argument("--batch", type=int, default=128)
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--one", nargs=3, metavar=("RECIPE", "WAY", "BATCH"), help="Be one rank.")
    given = asked.parse_args()
    if given.one:
        steps(given.one[0], given.one[1], int(given.one[2]))
        return
    recipe, batch = given.recipe, given.batch
    contenders = {
        "one process, one thread": lambda: timed(recipe, "none", batch, 1, 1),
        "one process, two threads": lambda: timed(recipe, "none", batch, 1, 2),
        "two processes apart, half the batch each": lambda: apart(recipe, batch),
        **{f"two ranks, {way}": lambda way=way: timed(recipe, way, batch, 2, 1) for way in get_args(Way) if way != "none"},  # type: ignore[misc]
        f"{given.smaller}, one process, one thread": lambda: timed(given.smaller, "none", batch, 1, 1),
    }
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(given.rounds):
        for name, run in contenders.items():
            found[name].append(run())
            print(f"{name}: {found[name][-1]:.1f}", file=sys.stderr, flush=True)
    most = max(found["two processes apart, half the batch each"])
    print("| pictures/s, best (median) | | of two apart |\n|---|---|---|")
    for name, rates in found.items():
        print(f"| {name} | {max(rates):.1f} ({statistics.median(rates):.1f}) | {max(rates) / most:.1%} |")


if __name__ == "__main__":
    main()
