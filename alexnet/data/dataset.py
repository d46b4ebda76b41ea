"""A split of a prepared dataset as a PyTorch dataset, for any training loop and any transform.

It follows torchvision's ImageFolder: `(image, label)` pairs, PIL images without a transform,
`classes`, `class_to_idx` and `targets`. A model's own transforms (`preprocess`, `preprocess.train`)
get the stored record itself, so the tensors equal those of `alexnet evaluate` and `alexnet train`.
This module is apart from the reader because preparing a dataset must not import torch.
"""

import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any, SupportsIndex

from PIL import Image
from torch.utils import data

from alexnet.core.errors import UsageError
from alexnet.data.prepared import PreparedDataset, open_dataset
from alexnet.data.transforms import RecordTransform

Transform = Callable[[Any], Any]


class Dataset(data.Dataset[tuple[Any, int]]):
    """A map-style dataset over one split of a prepared dataset; an item is `(sample, label)`.

    Without a transform the sample is the stored square as a PIL image (RGB, or L for grayscale), as
    torchvision's datasets give it; a transform gets that image. `transform=preprocess` gives the
    center crop, normalized, and `transform=preprocess.train` a random training crop, both float32
    (C, H, W). Works in the worker processes of a DataLoader: what is pickled is the dataset's
    location, and each worker opens it again.

        train = alexnet.Dataset("DATASET", split="train", transform=preprocess.train)
        loader = torch.utils.data.DataLoader(train, batch_size=128, shuffle=True, num_workers=2)

    Attributes: `split` (its name), `classes`, `class_to_idx`, `targets` (the labels), `names` (the
    images' names in their source), `transform`.
    """

    def __init__(
        self,
        path: str | Path | PreparedDataset,
        split: str = "train",
        transform: Transform | None = None,
    ) -> None:
        """Open a split of a prepared dataset; `path` is its directory or address.

        AlexNetError where the dataset is missing or damaged, UsageError where it has no such split.
        """
        opened = path if isinstance(path, PreparedDataset) else open_dataset(path)
        if split not in opened.splits:
            raise UsageError(
                f"{opened.location}: found no split {split!r}, expected one of "
                f"{', '.join(opened.splits)}"
            )
        self.split = split
        self.transform = transform
        self.classes = list(opened.classes)
        self.class_to_idx = {name: i for i, name in enumerate(opened.classes)}
        self._records = opened.splits[split]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._records)

    def __getitem__(self, index: SupportsIndex) -> tuple[Any, int]:
        """Return (sample, label) of one image; negative indices count from the end."""
        if isinstance(index, slice):
            raise TypeError(
                "found a slice, expected an integer: torch.utils.data.Subset(dataset, indices) "
                "holds several images"
            )
        i = operator.index(index)
        if not -len(self) <= i < len(self):
            raise IndexError(f"index {i} is out of range for {len(self)} images")
        i %= len(self)
        return self._sample(i), int(self._records.labels[i])

    def __repr__(self) -> str:
        """Return the location, the split, and the numbers of images and classes."""
        location = self._records.location
        return (
            f"Dataset({str(location)!r}, split={self.split!r}): {len(self)} images, "
            f"{len(self.classes)} classes"
        )

    @property
    def targets(self) -> list[int]:
        """The labels of all images, in order."""
        labels: list[int] = self._records.labels.tolist()
        return labels

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all images in their source, in order."""
        return self._records.names

    def _sample(self, i: int) -> Any:
        pixels = self._records.pixels(i)
        if isinstance(self.transform, RecordTransform):
            return self.transform.from_record(pixels)
        image = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0])
        return image if self.transform is None else self.transform(image)
