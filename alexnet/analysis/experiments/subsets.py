"""Subsets of a prepared dataset that can be trained on like one: some images, or their centers.

An experiment's quick version needs fewer images, and a network that is to learn without random
crops needs images of its input's size. Both refer to the same dataset: nothing is written, the
mean image (or its center) and the color statistics are those of the whole, and the digest says that
it is another dataset. Only labels and pixels are those of the subset: the images' encoded bytes and
names are those of the whole, and a subset cannot be opened by its path.
"""

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from alexnet.core.errors import require
from alexnet.core.rng import key, permutation
from alexnet.data.prepared import PreparedDataset, Split


@dataclass(frozen=True, eq=False)
class SubsetSplit(Split):
    """Some images of a split, cropped to their centers."""

    parent: Split
    parent_indices: np.ndarray  # int64 (len,)
    side: int  # pixels of the crop

    def pixels(self, i: int) -> np.ndarray:
        """Return the center of image i as uint8 (side, side, channels)."""
        square = self.parent.pixels(int(self.parent_indices[i]))
        margin = (len(square) - self.side) // 2
        return square[margin : margin + self.side, margin : margin + self.side]


def limit_images(dataset: PreparedDataset, max_images: int) -> PreparedDataset:
    """Return the dataset with at most `max_images` of train and half as many of each other split.

    The choice is always the same; the stored order is kept.
    """
    size = dataset.decode_config.size
    splits: dict[str, Split] = {}
    for name, split in dataset.splits.items():
        limit = max_images if name == "train" else -(-max_images // 2)
        splits[name] = _subset(split, limit, size)
    digest = _subset_digest(dataset, f"at most {max_images}")
    return replace(dataset, splits=splits, digest=digest)


def center_squares(dataset: PreparedDataset, side: int) -> PreparedDataset:
    """Return the dataset with every image cropped to its center of side x side pixels.

    UsageError where the images are no larger than that.
    """
    size = dataset.decode_config.size
    require(
        side < size,
        f"{dataset.location}: its images of {size} pixels leave an input of {side} no room for "
        "crops; prepare larger images with --size",
    )
    margin = (size - side) // 2
    center = slice(margin, margin + side)
    splits: dict[str, Split] = {
        name: _subset(split, len(split), side) for name, split in dataset.splits.items()
    }
    return replace(
        dataset,
        decode_config=replace(dataset.decode_config, size=side),
        mean=dataset.mean[center, center],
        splits=splits,
        digest=_subset_digest(dataset, f"center {side}"),
    )


def _subset(split: Split, limit: int, side: int) -> SubsetSplit:
    indices = np.sort(permutation(key("portion", split.name), len(split))[:limit])
    return SubsetSplit(
        location=split.location,
        name=split.name,
        labels=split.labels[indices],
        index=split.index[indices],
        shards=split.shards,
        checked=split.checked,
        parent=split,
        parent_indices=indices,
        side=side,
    )


def _subset_digest(dataset: PreparedDataset, subset: str) -> str:
    return hashlib.sha256(f"{dataset.digest} {subset}".encode()).hexdigest()
