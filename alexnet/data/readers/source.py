"""A source of images: samples with names, classes and splits, read in any order by any thread.

A sample without a split of its own gets one by a hash of its name, so it stays in its split when
other images are added. A source does not know whether a file with an image's name holds an image:
decoding finds out.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from alexnet.core.errors import AlexNetError, UsageError
from alexnet.core.rng import key, uniform
from alexnet.data.readers.names import name_bytes

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Sample:
    """An image file, its class and its split."""

    name: str  # POSIX path in the source, below its single top folder if it has one
    label: str  # class name
    split: str | None  # "train", "val" or "test"; None until assigned


@dataclass(frozen=True)
class SplitFractions:
    """The fractions of the train images to hold out for splits that the source does not have."""

    val: float = 0.1
    test: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.val < 1 and 0 <= self.test < 1 and self.val + self.test < 1):
            raise UsageError(
                f"split fractions: val {self.val} and test {self.test}, "
                "expected 0 or more each and less than 1 together"
            )


@dataclass(frozen=True, eq=False)
class ImageSource:
    """A listed source of images, from `open_source`; close it, or use it in a `with` block."""

    samples: tuple[Sample, ...]  # sorted by the bytes of their names
    classes: tuple[str, ...]  # sorted by bytes; classes without images too
    ignored: tuple[tuple[str, str], ...]  # (name, reason)
    warnings: tuple[str, ...]
    provenance: dict[str, Any]  # kind, name, images, sha256 of the sorted (name, size) list
    fetch: Callable[[str], bytes] = field(repr=False)  # sample name -> the bytes of its file
    close: Callable[[], None] = field(repr=False)
    exif: bool = True  # whether the camera's rotation is applied by default

    def read(self, sample: Sample) -> bytes:
        """Return the bytes of a sample's file, from any thread.

        Raises AlexNetError if they cannot be read.
        """
        try:
            return self.fetch(sample.name)
        except OSError as error:
            raise AlexNetError(f"cannot be read: {error.strerror or error}") from error

    def __enter__(self) -> "ImageSource":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def assign_splits(samples: Iterable[Sample], fractions: SplitFractions) -> tuple[Sample, ...]:
    """Return the samples with a split each: their own, or one by the hash of "CLASS/FILE".

    Only splits that no sample has are filled, from the samples of train or of no split.
    """
    samples = tuple(samples)
    present = {sample.split for sample in samples}
    hashes = hash_names(sample.name.removeprefix(f"{sample.split}/") for sample in samples)
    in_test = (uniform(key("test", hashes)) < fractions.test) & ("test" not in present)
    in_val = (uniform(key("val", hashes)) < fractions.val) & ("val" not in present)
    splits = np.where(in_test, "test", np.where(in_val, "val", "train")).tolist()
    return tuple(
        replace(sample, split=split) if sample.split in (None, "train") else sample
        for sample, split in zip(samples, splits, strict=True)
    )


def hash_names(names: Iterable[str]) -> np.ndarray:
    """Return names hashed into 64-bit words, uint64 (names,), as keys for `core.rng`."""
    digests = [hashlib.blake2b(name_bytes(name), digest_size=8).digest() for name in names]
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


def describe_source(kind: str, name: str, sizes: list[tuple[str, int]]) -> dict[str, Any]:
    """Return the provenance of a source with these (name, size in bytes) pairs."""
    lines = "".join(json.dumps(pair) + "\n" for pair in sizes)
    return {
        "kind": kind,
        "name": name,
        "images": len(sizes),
        "sha256": hashlib.sha256(lines.encode()).hexdigest(),
    }
