"""What contenders work on: a fixed batch of noise, and drawn pictures as a class folder and as stores.

A few hundred pictures are drawn by a fixed seed and stand, as hard links, in a thousand class folders, so that a store of them
asks for the same net as ImageNet does. What a picture shows does not matter here; that its file is smaller than ImageNet's does,
and favours whoever decodes it anew for every view.
"""

from pathlib import Path

import torch
from torch import Tensor

from alexnet.data.embedded import draw
from alexnet.data.images import Policy
from alexnet.data.prepare import prepare
from alexnet.data.sources import Fractions, open_source
from alexnet.recipes.layers import Shape

CLASSES = 1000
SEED = 0
PER_CLASS = 20  # pictures of each of the drawn set's twelve kinds


def fixed_batch(shape: Shape, batch: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Views (batch, C, H, W), normal noise in float32, and labels (batch,) among CLASSES: the same ones every time."""
    generator = torch.Generator().manual_seed(SEED)
    views = torch.randn(batch, *shape, generator=generator)
    return views.to(device), torch.randint(CLASSES, (batch,), generator=generator).to(device)


def class_folder(folder: Path, count: int, workers: int) -> Path:
    """`count` picture files below `folder`, spread over CLASSES class folders: the drawn ones again and again."""
    draw(folder / "drawn", PER_CLASS, SEED, workers)
    drawn = sorted((folder / "drawn").rglob("*.jpg"))
    for number in range(count):
        place = folder / "pictures" / f"{number % CLASSES:04d}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:06d}.jpg").hardlink_to(drawn[number % len(drawn)])
    return folder / "pictures"


def store_of(pictures: Path, store: Path, shape: Shape, encoding: str, workers: int) -> Path:
    """A store of all of them to train on: squares of the usual 256 pixels, or as large as the network's input (C, H, W)."""
    policy = Policy(size=max(256, shape[1]), channels=shape[0], encoding=encoding)
    with open_source(str(pictures)) as source:
        prepare(source, store, policy, Fractions(0, 0), on_bad="fail", workers=workers, progress=lambda done, of: None)
    return store
