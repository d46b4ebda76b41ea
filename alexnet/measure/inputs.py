"""What contenders work on: a fixed batch of noise, and drawn pictures as a class folder and as stores.

A few hundred pictures are drawn by a fixed seed and stand, as hard links, in a thousand class folders, so that a store of them
asks for the same net as ImageNet does. What a picture shows does not matter here; that its file is smaller than ImageNet's does,
and favours whoever decodes it anew for every view: so other pictures can be given instead.
"""

from pathlib import Path

import torch
from torch import Tensor

from alexnet.data.embedded import draw
from alexnet.data.images import Policy
from alexnet.data.prepare import prepare
from alexnet.data.sources import Fractions, open_source
from alexnet.errors import AlexNetError
from alexnet.recipes.layers import Shape

CLASSES = 1000
SEED = 0
PER_CLASS = 20  # pictures of each of the drawn set's twelve kinds


def fixed_batch(shape: Shape, batch: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Views (batch, C, H, W), normal noise in float32, and labels (batch,) among CLASSES: the same ones every time."""
    generator = torch.Generator().manual_seed(SEED)
    views = torch.randn(batch, *shape, generator=generator)
    return views.to(device), torch.randint(CLASSES, (batch,), generator=generator).to(device)


def class_folder(folder: Path, count: int, workers: int, source: str | None = None) -> Path:
    """`count` picture files below `folder`, spread over CLASSES class folders: the source's JPEGs, or drawn ones, repeated."""
    files = _drawn(folder / "files", workers) if source is None else _copied(folder / "files", source)
    for number in range(count):
        place = folder / "pictures" / f"{number % CLASSES:04d}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:06d}.jpg").hardlink_to(files[number % len(files)])
    return folder / "pictures"


def _drawn(folder: Path, workers: int) -> list[Path]:
    draw(folder, PER_CLASS, SEED, workers)
    return sorted(folder.rglob("*.jpg"))


def _copied(folder: Path, source: str) -> list[Path]:
    folder.mkdir(parents=True)
    with open_source(source) as opened:
        chosen = [picture for picture in opened.pictures if picture.name.lower().endswith((".jpg", ".jpeg"))][:CLASSES]
        if not chosen:
            raise AlexNetError(f"{source}: holds no JPEG files; what is measured is how they are decoded")
        files = [folder / f"{number:06d}.jpg" for number in range(len(chosen))]
        for file, picture in zip(files, chosen, strict=True):
            file.write_bytes(opened.read(picture))
    return files


def store_of(pictures: Path, store: Path, shape: Shape, encoding: str, workers: int) -> Path:
    """A store of all of them to train on: squares of the usual 256 pixels, or as large as the network's input (C, H, W)."""
    policy = Policy(size=max(256, shape[1]), channels=shape[0], encoding=encoding)
    with open_source(str(pictures)) as source:
        prepare(source, store, policy, Fractions(0, 0), on_bad="fail", workers=workers, progress=lambda done, of: None)
    return store
