"""How time and memory grow: with the pictures in a batch, with torch's threads, with the records in a store.

Every figure is from a process of its own, so that memory is that process's highest. A step is one training step of the recipe on
a fixed random batch; a store is of drawn 8-pixel records, read by the training stream at its own size.

    python benchmarks/growth.py batch --recipe paper
    python benchmarks/growth.py threads --recipe paper
    python benchmarks/growth.py store
"""

import argparse
import io
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from alexnet.data.images import Policy
from alexnet.data.prepare import prepare
from alexnet.data.sources import Fractions, Picture, Source

BATCHES, THREADS, RECORDS = (1, 4, 16, 64, 128, 256, 512), (1, 2), (10**3, 10**4, 10**5, 10**6)


def one_step(recipe: str, batch: int, threads: int) -> None:
    """Print seconds of the fastest of three steps, and the highest memory in GB before the network and in the end."""
    import torch
    from torch.nn import functional as F

    from alexnet.network.alexnet import AlexNet, start
    from alexnet.recipes.named import named
    from alexnet.recipes.schedules import PlateauState
    from alexnet.runtime import choose
    from alexnet.training.optimizer import Optimizer

    torch.set_num_threads(threads)
    before, runtime, chosen = highest(), choose("cpu", "auto", 1), named(recipe)
    network = start(AlexNet(chosen.network, 1000), seed=0)
    optimizer = Optimizer(network, chosen.training)
    network.to(runtime.dtype).train()
    views = torch.randn(batch, *chosen.network.input).to(runtime.dtype).contiguous(memory_format=torch.channels_last)
    labels, keys = torch.randint(1000, (batch,)), torch.arange(batch, dtype=torch.int32)
    rates, seconds = chosen.training.rates(optimizer.parameters, 0, PlateauState()), []
    for _ in range(4):
        began = time.perf_counter()
        F.cross_entropy(network(views, keys).float(), labels).backward()
        optimizer.update(rates)
        seconds.append(time.perf_counter() - began)
    print(f"{min(seconds[1:]):.4f} {before:.3f} {highest():.3f}")


def one_store(records: int) -> None:
    """Print what preparing so many records, opening them, the first batch and the next hundred take, and the highest memory."""
    from alexnet.data.batches import Position, Stream
    from alexnet.data.store import open_store
    from alexnet.model import view_of
    from alexnet.recipes.named import MODERN

    views = replace(MODERN.views, sizes=None)
    recipe = replace(MODERN, views=views, network=replace(MODERN.network, input=(3, 8, 8)))
    with TemporaryDirectory() as folder:
        began = time.perf_counter()
        policy = Policy(size=8, encoding="raw")
        prepare(
            drawn(records),
            Path(folder, "store"),
            policy,
            Fractions(0, 0),
            on_bad="fail",
            workers=2,
            progress=lambda done, of: None,
        )
        prepared, before = time.perf_counter() - began, highest()
        began = time.perf_counter()
        store = open_store(Path(folder, "store"))
        opened = time.perf_counter() - began
        stream = Stream(store.splits["train"], view_of(store, recipe), replace(recipe.training, batch=128), seed=0, workers=1)
        began = time.perf_counter()
        order = stream.order(0)
        stream.batch(Position(0, 0), order)
        first = time.perf_counter() - began
        began = time.perf_counter()
        for number in range(100):
            stream.batch(Position(0, number % (records // 128)), order)
        rate = 100 * 128 / (time.perf_counter() - began)
    print(f"{records / prepared:.0f} {opened * 1e3:.1f} {first * 1e3:.1f} {rate:.0f} {before:.3f} {highest():.3f}")


def drawn(records: int) -> Source:
    """So many pictures of ten classes, all from the same few files."""
    files = []
    for number in range(10):
        data = io.BytesIO()
        Image.fromarray(np.full((8, 8, 3), 20 * number, np.uint8)).save(data, "PNG")
        files.append(data.getvalue())
    names = [f"{number % 10}/{number:09d}.png" for number in range(records)]
    pictures = tuple(Picture(name, name[0], "train") for name in sorted(names))
    provenance = {"kind": "drawn", "name": "drawn", "pictures": records, "sha256": ""}
    return Source(pictures, tuple("0123456789"), (), (), provenance, lambda name: files[int(name[0])], lambda: None)


def highest() -> float:
    """The most memory this process has held, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def told(*arguments: str) -> list[float]:
    """What a process of its own prints."""
    command = [sys.executable, __file__, *arguments]
    return [float(word) for word in subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["batch", "threads", "store", "one-step", "one-store"])
    parser.add_argument("--recipe", default="paper")
    parser.add_argument("numbers", nargs="*", type=int)
    given = parser.parse_args()
    if given.what == "one-step":
        one_step(given.recipe, *given.numbers)
    elif given.what == "one-store":
        one_store(*given.numbers)
    elif given.what == "store":
        print("| records | prepared a second | opened, ms | first batch, ms | read a second | memory, GB |")
        print("|---|---|---|---|---|---|")
        for records in given.numbers or RECORDS:
            prepared, opened, first, rate, _, most = told("one-store", str(records))
            print(f"| {records:,} | {prepared:,.0f} | {opened:.1f} | {first:.1f} | {rate:,.0f} | {most:.2f} |", flush=True)
    else:
        print("| batch | threads | seconds a step | pictures/s | memory beyond torch, GB |\n|---|---|---|---|---|")
        cases = [(batch, 2) for batch in BATCHES] if given.what == "batch" else [(128, threads) for threads in THREADS]
        for batch, threads in cases:
            seconds, before, most = told("one-step", str(batch), str(threads), "--recipe", given.recipe)
            print(f"| {batch} | {threads} | {seconds:.3f} | {batch / seconds:.1f} | {most - before:.2f} |", flush=True)


if __name__ == "__main__":
    main()
