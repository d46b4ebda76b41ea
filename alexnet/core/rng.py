"""Counted randomness: every draw is a pure function of its name, never of the draws before it.

A name is a sequence of numbers and words - (seed, purpose, epoch, image, ...) - and is hashed. So
workers, ranks, towers and a resumed run all draw the same, and no generator state has to be saved.
64-bit hashes are mixed with the finalizer of splitmix64 (Steele, Lea and Flood, 2014). Nothing here
knows of tensors: dropout derives its units' draws from these keys on its own device.
"""

import zlib

import numpy as np

Hashes = np.ndarray  # uint64, any shape


def key(*name: int | str | np.ndarray) -> Hashes:
    """Hash a draw's name to 64 bits; arrays in it broadcast, with one hash per element."""
    hashes = np.zeros(1, np.uint64)
    for part in name:
        number = zlib.crc32(part.encode()) if isinstance(part, str) else part
        hashes = _mix(hashes ^ np.atleast_1d(np.asarray(number)).astype(np.uint64))
    return hashes


def uniform(hashes: Hashes) -> np.ndarray:
    """Return float64 values in [0, 1), of 53 bits each."""
    return (hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53


def randint(hashes: Hashes, limit: int) -> np.ndarray:
    """Return int64 values in [0, limit); the bias, limit / 2^53, is far too small to notice."""
    return (uniform(hashes) * limit).astype(np.int64)


def normal(hashes: Hashes, count: int) -> np.ndarray:
    """Return standard normal values, float64 (*hashes.shape, count), by Box and Muller."""
    radius = uniform(key(hashes[..., None], "radius", np.arange(count)))
    angle = uniform(key(hashes[..., None], "angle", np.arange(count)))
    return np.sqrt(-2 * np.log1p(-radius)) * np.cos(2 * np.pi * angle)


def permutation(hashes: Hashes, count: int) -> np.ndarray:
    """Return the order of 0..count-1, int64, that sorts a hash of each number."""
    return np.argsort(key(hashes, np.arange(count)), kind="stable")


def _mix(hashes: Hashes) -> Hashes:
    hashes = hashes + np.uint64(0x9E3779B97F4A7C15)
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))
