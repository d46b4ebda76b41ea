"""Does `alexnet predict` need more memory for more images, and does a killed run continue?

A few hundred small images are drawn, and every other file is a hard link to one of them, so that
100,000 cost no disk. The command runs on 10,000 and on all of them, each time in a process of its
own: seconds, images a second and peak memory are printed. Then it is killed (SIGKILL) when half of
the table is written, and continued with --resume: the table must be that of the run without a kill,
byte for byte. The network is that of CIFAR-10, untrained: small, so that the rest counts. Needs a
system with `os.wait4` (Linux, macOS).

    python benchmarks/predict_many.py --images 100000
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

SIZE = 32  # side of an image, pixels
DISTINCT = 300
FOLDER = 1000  # images in a folder
RECIPE = "cifar-18pct"
KIBIBYTE = 1024 if sys.platform == "linux" else 1  # what ru_maxrss counts in, bytes


def write_model(path: Path) -> None:
    """Write a model file of the small network, untrained."""
    from alexnet.data.images import DecodeConfig
    from alexnet.data.statistics import ColorStats
    from alexnet.data.transforms import Preprocessor
    from alexnet.models.alexnet import create_model
    from alexnet.models.model_file import save_model
    from alexnet.recipes.presets import get_recipe

    model = create_model(RECIPE, 10)
    preprocess = Preprocessor(
        DecodeConfig(size=SIZE, encoding="raw"),
        model.spec.input,
        get_recipe(RECIPE).augmentation,
        tuple(f"class {index}" for index in range(10)),
        np.full((SIZE, SIZE, 3), 120, np.float32),
        ColorStats(np.full(3, 120.0), np.zeros(3), np.eye(3)),
    )
    save_model(path, model, preprocess)


def write_images(folder: Path, count: int) -> None:
    """Write `count` images below a folder, most of them hard links to the first ones."""
    random = np.random.default_rng(0)
    originals: list[Path] = []
    for number in range(count):
        path = folder / f"{number // FOLDER:04d}" / f"{number:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number < DISTINCT:
            Image.fromarray(random.integers(0, 256, (SIZE, SIZE, 3), np.uint8)).save(path)
            originals.append(path)
        else:
            os.link(originals[number % DISTINCT], path)


def start(model: Path, paths: list[Path], table: Path, *options: str) -> "subprocess.Popen[bytes]":
    """Start the command on one core, its lines thrown away."""
    words = [sys.executable, "-m", "alexnet", "predict", model, *paths, "--csv", table]
    settings = ["--crops", "1", "--device", "cpu", "--precision", "fp32", "--workers", "1"]
    return subprocess.Popen([*map(str, words), *settings, *options], stdout=subprocess.DEVNULL)


def measure(model: Path, paths: list[Path], table: Path, *options: str) -> tuple[float, float]:
    """Run the command to its end; return its seconds and its peak memory in MB."""
    if sys.platform == "win32":
        sys.exit("needs os.wait4, which Windows does not have")
    started = time.perf_counter()
    process = start(model, paths, table, *options)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, process.returncode
    return time.perf_counter() - started, usage.ru_maxrss * KIBIBYTE / 1e6


def kill_half_way(model: Path, paths: list[Path], table: Path, length: int) -> int:
    """Kill the command when its table has `length` bytes; return the bytes that are left."""
    partial = table.with_name(f"{table.name}.partial")
    with start(model, paths, table) as process:
        while not partial.exists() or partial.stat().st_size < length:
            assert process.poll() is None, "it ended before it was killed"
            time.sleep(0.01)
        process.kill()
    assert not table.exists()
    return partial.stat().st_size


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=100_000)
    args = parser.parse_args()
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = folder / "model.safetensors"
        write_model(model)
        write_images(folder / "images", args.images)
        subfolders = sorted((folder / "images").iterdir())
        tenth = subfolders[: max(1, len(subfolders) // 10)]
        for paths in (tenth, [folder / "images"]):
            table = folder / "predictions.csv"
            seconds, memory = measure(model, paths, table)
            images = table.read_bytes().count(b"\n") - 1
            speed = f"{images / seconds:,.0f} images/s"
            print(f"{images:,} images: {seconds:.1f} s, {speed}, peak memory {memory:,.0f} MB")
        expected = table.read_bytes()
        resumed_table = folder / "resumed.csv"
        left = kill_half_way(model, [folder / "images"], resumed_table, len(expected) // 2)
        print(f"killed when {left:,} of {len(expected):,} bytes were written")
        seconds, memory = measure(model, [folder / "images"], resumed_table, "--resume")
        same = "the same" if resumed_table.read_bytes() == expected else "ANOTHER"
        print(f"resumed: {seconds:.1f} s, peak memory {memory:,.0f} MB, {same} table")


if __name__ == "__main__":
    main()
