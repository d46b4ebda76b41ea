"""How time and memory grow with the batch size, torch's threads, and the images of a dataset.

Every number is from a process of its own, so that memory is that process's peak. A step is one
training step of the recipe on a fixed random batch; a dataset has synthetic 8-pixel images, read by
the train loader at that size. Needs the module `resource` (Linux, macOS).

    python benchmarks/growth.py batch --recipe paper
    python benchmarks/growth.py threads --recipe paper
    python benchmarks/growth.py dataset
"""

import argparse
import io
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from alexnet.data.build import prepare
from alexnet.data.images import DecodeConfig
from alexnet.data.readers import ImageSource, Sample, SplitFractions

BATCH_SIZES = (1, 4, 16, 64, 128, 256, 512)
THREADS = (1, 2)
IMAGES = (10**3, 10**4, 10**5, 10**6)
BATCH_SIZE = 128
BATCHES = 100


def measure_step(recipe_name: str, batch_size: int, threads: int) -> None:
    """Print the seconds of the fastest of three steps, and the peak memory in GB.

    The memory is printed before the network is made and at the end.
    """
    import torch
    from torch.nn import functional as F

    from alexnet.core.device import make_runtime
    from alexnet.models.alexnet import AlexNet, init_weights
    from alexnet.recipes.presets import get_recipe
    from alexnet.training.optimizer import make_optimizer, set_lr

    torch.set_num_threads(threads)
    memory_before = peak_memory()
    runtime = make_runtime("cpu", "auto", 1)
    recipe = get_recipe(recipe_name)
    model = init_weights(AlexNet(recipe.network, 1000), seed=0)
    optimizer = make_optimizer(model, recipe.training)
    set_lr(optimizer, recipe.training, epoch=0)
    optimizer.keep_masters()
    model.to(runtime.dtype).train()
    images = torch.randn(batch_size, *recipe.network.input).to(runtime.dtype)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(1000, (batch_size,))
    keys = torch.arange(batch_size, dtype=torch.int32)
    seconds = []
    for _ in range(4):
        started = time.perf_counter()
        F.cross_entropy(model(images, keys).float(), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - started)
    print(f"{min(seconds[1:]):.4f} {memory_before:.3f} {peak_memory():.3f}")


def measure_dataset(images: int) -> None:
    """Print images prepared a second, ms to open, ms to the first batch, images read a second.

    Then the peak memory in GB after preparing, and at the end.
    """
    from alexnet.data.loader import LoaderState, TrainLoader
    from alexnet.data.prepared import open_dataset
    from alexnet.models.model_file import make_preprocessor
    from alexnet.recipes.presets import MODERN

    augmentation = replace(MODERN.augmentation, resolution_schedule=None)
    network = replace(MODERN.network, input=(3, 8, 8))
    training = replace(MODERN.training, batch_size=BATCH_SIZE)
    recipe = replace(MODERN, augmentation=augmentation, network=network, training=training)
    decode_config = DecodeConfig(size=8, encoding="raw")
    with TemporaryDirectory() as folder:
        path = Path(folder, "dataset")
        started = time.perf_counter()
        prepare(
            synthetic_source(images),
            path,
            decode_config,
            SplitFractions(0, 0),
            on_error="fail",
            workers=2,
        )
        prepare_seconds = time.perf_counter() - started
        memory_before = peak_memory()
        started = time.perf_counter()
        dataset = open_dataset(path)
        open_seconds = time.perf_counter() - started
        train = dataset.splits["train"]
        preprocessor = make_preprocessor(dataset, recipe)
        loader = TrainLoader(train, preprocessor, recipe.training, seed=0, workers=1)
        started = time.perf_counter()
        order = loader.order(0)
        loader.batch(LoaderState(0, 0), order)
        first_seconds = time.perf_counter() - started
        started = time.perf_counter()
        for number in range(BATCHES):
            loader.batch(LoaderState(0, number % (images // BATCH_SIZE)), order)
        read_seconds = time.perf_counter() - started
    print(
        f"{images / prepare_seconds:.0f} {open_seconds * 1e3:.1f} {first_seconds * 1e3:.1f} "
        f"{BATCHES * BATCH_SIZE / read_seconds:.0f} {memory_before:.3f} {peak_memory():.3f}"
    )


def synthetic_source(count: int) -> ImageSource:
    """Return a source of `count` images in ten classes, all from the same ten files."""
    files = []
    for level in range(0, 200, 20):
        data = io.BytesIO()
        Image.fromarray(np.full((8, 8, 3), level, np.uint8)).save(data, "PNG")
        files.append(data.getvalue())

    def fetch(name: str) -> bytes:
        return files[int(name[0])]

    def close() -> None:
        pass

    names = sorted(f"{number % 10}/{number:09d}.png" for number in range(count))
    return ImageSource(
        samples=tuple(Sample(name, name[0], "train") for name in names),
        classes=tuple("0123456789"),
        ignored=(),
        warnings=(),
        provenance={"kind": "synthetic", "name": "synthetic", "images": count, "sha256": ""},
        fetch=fetch,
        close=close,
    )


def peak_memory() -> float:
    """Return the most memory that this process has used, in GB."""
    if sys.platform == "win32":
        raise SystemExit("peak memory cannot be read on Windows: run this on Linux or macOS")
    import resource

    unit = 2**30 if sys.platform == "darwin" else 2**20  # bytes on macOS, kilobytes on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def run_alone(*arguments: str) -> list[float]:
    """Return the numbers that this script prints in a process of its own."""
    command = [sys.executable, __file__, *arguments]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [float(word) for word in output.split()]


def print_dataset_table(counts: list[int]) -> None:
    print("| images | prepared/s | opened, ms | first batch, ms | read/s | memory, GB |")
    print("|---|---|---|---|---|---|")
    for count in counts:
        prepared, opened, first, read, _, memory = run_alone("one-dataset", str(count))
        print(
            f"| {count:,} | {prepared:,.0f} | {opened:.1f} | {first:.1f} | {read:,.0f} "
            f"| {memory:.2f} |",
            flush=True,
        )


def print_step_table(cases: list[tuple[int, int]], recipe: str) -> None:
    print("| batch size | threads | seconds a step | images/s | memory beyond torch, GB |")
    print("|---|---|---|---|---|")
    for batch_size, threads in cases:
        seconds, before, memory = run_alone(
            "one-step", str(batch_size), str(threads), "--recipe", recipe
        )
        print(
            f"| {batch_size} | {threads} | {seconds:.3f} | {batch_size / seconds:.1f} "
            f"| {memory - before:.2f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["batch", "threads", "dataset", "one-step", "one-dataset"])
    parser.add_argument("--recipe", default="paper")
    parser.add_argument("numbers", nargs="*", type=int)
    arguments = parser.parse_args()
    if arguments.what == "one-step":
        batch_size, threads = arguments.numbers
        measure_step(arguments.recipe, batch_size, threads)
    elif arguments.what == "one-dataset":
        measure_dataset(arguments.numbers[0])
    elif arguments.what == "dataset":
        print_dataset_table(arguments.numbers or list(IMAGES))
    elif arguments.what == "batch":
        print_step_table([(batch_size, 2) for batch_size in BATCH_SIZES], arguments.recipe)
    else:
        print_step_table([(BATCH_SIZE, threads) for threads in THREADS], arguments.recipe)


if __name__ == "__main__":
    main()
