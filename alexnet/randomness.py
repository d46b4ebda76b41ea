"""Counted randomness: every draw is a pure function of what it is for, never of what was drawn before.

A draw is named by numbers - (seed, purpose, epoch, picture, ...) - and the name is hashed. So workers, ranks, towers and a
resumed run all draw the same, and no generator state has to be saved. 64-bit names are mixed with the finaliser of splitmix64
(Steele, Lea and Flood, 2014). It knows nothing of tensors: dropout derives its units' draws from these keys on its own device.
"""

import zlib

import numpy as np

Words = np.ndarray  # uint64, any shape


def key(*name: int | str | np.ndarray) -> Words:
    """Hash a draw's name into 64 bits; arrays among its parts broadcast, giving one word per element."""
    word = np.zeros(1, np.uint64)
    for part in name:
        number = zlib.crc32(part.encode()) if isinstance(part, str) else part
        word = _mix(word ^ np.atleast_1d(np.asarray(number)).astype(np.uint64))
    return word


def uniform(words: Words) -> np.ndarray:
    """Words as float64 in [0, 1), 53 bits each."""
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def below(words: Words, limit: int) -> np.ndarray:
    """Words as int64 in [0, limit); the bias, limit / 2^53, is far below what any run could notice."""
    return (uniform(words) * limit).astype(np.int64)


def normal(words: Words, count: int) -> np.ndarray:
    """Standard normal draws by Box and Muller, float64, shape (*words.shape, count)."""
    radius = uniform(key(words[..., None], "radius", np.arange(count)))
    angle = uniform(key(words[..., None], "angle", np.arange(count)))
    return np.sqrt(-2 * np.log1p(-radius)) * np.cos(2 * np.pi * angle)


def permutation(words: Words, count: int) -> np.ndarray:
    """An order of 0..count-1, int64: the one that sorts a hash of each number."""
    return np.argsort(key(words, np.arange(count)), kind="stable")


def _mix(word: Words) -> Words:
    word = word + np.uint64(0x9E3779B97F4A7C15)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))
