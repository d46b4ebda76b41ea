"""The mean image and the color statistics of the train images, from exact integer sums.

Integers add up to the same total in any order, so the results do not depend on how the images
were distributed over shards, threads or machines, nor on whether the preparation was interrupted.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from alexnet.data.images import DecodeConfig, decode_record


@dataclass(frozen=True, eq=False)
class ColorStats:
    """The distribution of the train pixels' colors, in levels 0-255 (eigenvalues: squared)."""

    mean: np.ndarray  # float64 (channels,)
    eigenvalues: np.ndarray  # float64 (channels,), descending
    eigenvectors: np.ndarray  # float64 (channels, channels), columns; largest component positive


@dataclass(frozen=True, eq=False)
class PixelSums:
    """Sums over decoded images, enough for the mean image and the color covariance."""

    images: int
    pixels: np.ndarray  # int64 (size, size, channels), the sum of all images
    products: np.ndarray  # int64 (channels, channels), of the channels of each pixel

    def __add__(self, other: "PixelSums") -> "PixelSums":
        return PixelSums(
            self.images + other.images,
            self.pixels + other.pixels,
            self.products + other.products,
        )

    @classmethod
    def zeros(cls, decode_config: DecodeConfig) -> "PixelSums":
        """Return the sums over no images."""
        size = decode_config.size
        channels = decode_config.channels
        pixels = np.zeros((size, size, channels), np.int64)
        products = np.zeros((channels, channels), np.int64)
        return cls(0, pixels, products)

    @classmethod
    def from_records(cls, records: Iterable[bytes], decode_config: DecodeConfig) -> "PixelSums":
        """Return the sums over encoded records."""
        total = cls.zeros(decode_config)
        images = 0
        for record in records:
            pixels = decode_record(record)
            rows = pixels.reshape(-1, decode_config.channels).astype(np.float64)
            products = (rows.T @ rows).astype(np.int64)  # exact: far below 2^53
            np.add(total.pixels, pixels, out=total.pixels)
            np.add(total.products, products, out=total.products)
            images += 1
        return cls(images, total.pixels, total.products)


def mean_image(sums: PixelSums) -> np.ndarray:
    """Return the mean image, float32 (size, size, channels), levels 0-255."""
    return (sums.pixels / sums.images).astype(np.float32)


def color_basis(sums: PixelSums) -> ColorStats:
    """Return the principal components of all pixels' colors (paper, section 4.1)."""
    height, width = sums.pixels.shape[:2]
    count = sums.images * height * width
    mean = sums.pixels.sum((0, 1)) / count
    values, vectors = np.linalg.eigh(sums.products / count - np.outer(mean, mean))
    values = values[::-1]
    vectors = vectors[:, ::-1]
    largest = vectors[np.abs(vectors).argmax(0), range(len(values))]
    return ColorStats(mean, np.maximum(values, 0), vectors * np.sign(largest))
