"""Parts of a store that can be trained on like a store: some of its pictures, or the middle of each.

An experiment's quick version needs fewer pictures, and a net that is to learn without crops needs pictures that leave no room
for any. Both are the same store seen otherwise: nothing is written, the mean image (or its middle) and the colours are those of
the whole, and the digest says that it is another set. It knows only what training and scoring ask for, labels and pixels: records
as bytes and the pictures' names are those of the whole, and such a store cannot be opened by its path.
"""

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from alexnet.data.store import Split, Store
from alexnet.errors import must_be
from alexnet.randomness import key, permutation


@dataclass(frozen=True, eq=False)
class Part(Split):
    """Some records of a whole split, and of each the middle square."""

    whole: Split
    chosen: np.ndarray  # int64 (len,): their places in the whole
    side: int  # pixels

    def pixels(self, i: int) -> np.ndarray:
        """The middle of record i of the part as uint8 (side, side, channels)."""
        square = self.whole.pixels(int(self.chosen[i]))
        low = (len(square) - self.side) // 2
        return square[low : low + self.side, low : low + self.side]


def fewer(store: Store, most: int) -> Store:
    """The store with at most so many train pictures and half as many of each other split, always the same, in stored order."""
    limits = {name: most if name == "train" else -(-most // 2) for name in store.splits}
    splits: dict[str, Split] = {name: _part(split, limits[name], store.policy.size) for name, split in store.splits.items()}
    return replace(store, splits=splits, digest=_digest(store, f"at most {most}"))


def middles(store: Store, side: int) -> Store:
    """The store with the middle side x side pixels of every picture; UsageError where the pictures are no larger than that."""
    size = store.policy.size
    must_be(side < size, f"{store.place}: pictures of {size} pixels leave {side} no room for crops; prepare larger ones")
    low = (size - side) // 2
    splits: dict[str, Split] = {name: _part(split, len(split), side) for name, split in store.splits.items()}
    policy, mean = replace(store.policy, size=side), store.mean[low : low + side, low : low + side]
    return replace(store, policy=policy, mean=mean, splits=splits, digest=_digest(store, f"middle {side}"))


def _part(split: Split, most: int, side: int) -> Part:
    chosen = np.sort(permutation(key("portion", split.name), len(split))[:most])
    few = split.labels[chosen], split.index[chosen]
    return Part(split.store, split.name, *few, split.shards, split.checked, split, chosen, side)


def _digest(store: Store, part: str) -> str:
    return hashlib.sha256(f"{store.digest} {part}".encode()).hexdigest()
