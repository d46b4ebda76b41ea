"""Decode, resize and crop on one core: `images.square` against plain Pillow, in turns, on the pictures of a source.

Plain Pillow is what most loaders do: decode the whole file, resize the short side, crop the middle. Both give 256-pixel squares
with the same filter; the table shows the least and the median time of several rounds, and how far apart the pixels are.

    python benchmarks/square_against_pillow.py DATA/imagenet-sample.tar
"""

import argparse
import io
import statistics
import time
from collections.abc import Callable

import numpy as np
from PIL import Image

from alexnet.data.images import Policy, square
from alexnet.data.sources import open_source

POLICY = Policy(exif=False)


def plain(data: bytes) -> np.ndarray:
    """The usual way: all pixels decoded, the short side resized, the middle cut out."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    scale = POLICY.size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
    left, top = (image.width - POLICY.size) // 2, (image.height - POLICY.size) // 2
    return np.asarray(image.crop((left, top, left + POLICY.size, top + POLICY.size)))


def ours(data: bytes) -> np.ndarray:
    return square(data, POLICY)


def seconds(way: Callable[[bytes], np.ndarray], files: list[bytes]) -> float:
    began = time.process_time()
    for data in files:
        way(data)
    return time.process_time() - began


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("source")
    arguments.add_argument("--rounds", type=int, default=7)
    given = arguments.parse_args()
    with open_source(given.source) as source:
        files = [source.read(picture) for picture in source.pictures]
    took: dict[Callable[[bytes], np.ndarray], list[float]] = {plain: [], ours: []}
    for _ in range(given.rounds):
        for way, times in took.items():
            times.append(seconds(way, files))
    for way, times in took.items():
        least, median = min(times), statistics.median(times)
        print(f"{way.__name__:6} {len(files) / least:7.1f} pictures/s at best, {len(files) / median:7.1f} median")
    for name, summary in (("least", min), ("median", statistics.median)):
        print(f"ratio of the {name} times: {summary(took[plain]) / summary(took[ours]):.2f}")
    errors = [np.mean((plain(data).astype(float) - ours(data)) ** 2) for data in files]
    print(f"median difference: {10 * np.log10(255**2 / max(statistics.median(errors), 1e-9)):.1f} dB")


if __name__ == "__main__":
    main()
