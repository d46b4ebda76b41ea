"""Decode, resize and crop on one core: `images.to_square` against plain Pillow, in turns.

Plain Pillow is what most loaders do: decode the whole file, resize the short side, crop the center.
Both give 256-pixel squares with the same filter. Prints the best and the median time of several
repeats, and how far apart the pixels are.

    python benchmarks/square_against_pillow.py SOURCE
"""

import argparse
import io
import statistics
import time
from collections.abc import Callable

import numpy as np
from PIL import Image

from alexnet.data.images import DecodeConfig, to_square
from alexnet.data.readers import open_source

DECODE_CONFIG = DecodeConfig(exif=False)
SIZE = DECODE_CONFIG.size

Decoder = Callable[[bytes], np.ndarray]


def pillow(data: bytes) -> np.ndarray:
    """Decode all pixels, resize the short side, crop the center."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    scale = SIZE / min(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    image = image.resize(size, Image.Resampling.BILINEAR)
    left = (image.width - SIZE) // 2
    top = (image.height - SIZE) // 2
    return np.asarray(image.crop((left, top, left + SIZE, top + SIZE)))


def alexnet(data: bytes) -> np.ndarray:
    """Decode with this package."""
    return to_square(data, DECODE_CONFIG)


def seconds(decode: Decoder, files: list[bytes]) -> float:
    """Return the CPU time of decoding all files once."""
    started = time.process_time()
    for data in files:
        decode(data)
    return time.process_time() - started


def mean_squared_error(data: bytes) -> float:
    """Return the difference between the two decoders' pixels."""
    return float(np.mean((pillow(data).astype(float) - alexnet(data)) ** 2))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source")
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    with open_source(arguments.source) as source:
        files = [source.read(sample) for sample in source.samples]
    times: dict[Decoder, list[float]] = {pillow: [], alexnet: []}
    for _ in range(arguments.repeats):
        for decode, measured in times.items():
            measured.append(seconds(decode, files))
    for decode, measured in times.items():
        best = len(files) / min(measured)
        median = len(files) / statistics.median(measured)
        print(f"{decode.__name__:7} {best:7.1f} images/s at best, {median:7.1f} median")
    for name, summary in (("best", min), ("median", statistics.median)):
        ratio = summary(times[pillow]) / summary(times[alexnet])
        print(f"ratio of the {name} times: {ratio:.2f}")
    error = max(statistics.median(mean_squared_error(data) for data in files), 1e-9)
    print(f"median difference: {10 * np.log10(255**2 / error):.1f} dB")


if __name__ == "__main__":
    main()
