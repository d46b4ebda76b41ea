"""Benchmark inputs: a fixed random batch, and images as a class folder and as prepared datasets.

A few hundred synthetic images are drawn from a fixed seed and hard-linked into a thousand class
folders, so that a dataset of them needs the same network as ImageNet. What an image shows does not
matter here. That its file is smaller than ImageNet's does, and favors loaders that decode it for
every crop: therefore other images can be given instead.
"""

from pathlib import Path

import torch
from torch import Tensor

from alexnet.core.errors import AlexNetError
from alexnet.data.build import prepare
from alexnet.data.images import DecodeConfig
from alexnet.data.readers import SplitFractions, open_source
from alexnet.data.synthetic import write_images
from alexnet.recipes.layers import Shape

CLASSES = 1000
SEED = 0
IMAGES_PER_CLASS = 20  # of each of the twelve synthetic classes


def fixed_batch(shape: Shape, batch_size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return normal noise (batch_size, C, H, W), float32, and random labels (batch_size,).

    The values are the same on every call.
    """
    generator = torch.Generator().manual_seed(SEED)
    inputs = torch.randn(batch_size, *shape, generator=generator)
    labels = torch.randint(CLASSES, (batch_size,), generator=generator)
    return inputs.to(device), labels.to(device)


def make_class_folder(folder: Path, count: int, workers: int, source: str | None = None) -> Path:
    """Write `count` image files below `folder`, spread over CLASSES class folders; return the root.

    The files are the source's JPEGs, or synthetic images where it is None, repeated as needed.
    """
    if source is None:
        files = _draw_synthetic(folder / "files", workers)
    else:
        files = _copy_jpegs(folder / "files", source)
    root = folder / "images"
    for i in range(count):
        class_folder = root / f"{i % CLASSES:04d}"
        class_folder.mkdir(parents=True, exist_ok=True)
        (class_folder / f"{i:06d}.jpg").hardlink_to(files[i % len(files)])
    return root


def _draw_synthetic(folder: Path, workers: int) -> list[Path]:
    write_images(folder, IMAGES_PER_CLASS, SEED, workers)
    return sorted(folder.rglob("*.jpg"))


def _copy_jpegs(folder: Path, source: str) -> list[Path]:
    """Copy the first CLASSES JPEG files of a source; AlexNetError where it has none."""
    folder.mkdir(parents=True)
    with open_source(source) as opened:
        samples = [
            sample for sample in opened.samples if sample.name.lower().endswith((".jpg", ".jpeg"))
        ][:CLASSES]
        if not samples:
            raise AlexNetError(
                f"{source}: found no JPEG files, but the benchmark is about decoding them; "
                "give a folder that has some"
            )
        files = [folder / f"{i:06d}.jpg" for i in range(len(samples))]
        for file, sample in zip(files, samples, strict=True):
            file.write_bytes(opened.read(sample))
    return files


def prepare_dataset(
    images: Path, dataset: Path, input_shape: Shape, encoding: str, workers: int
) -> Path:
    """Prepare a folder of images for training on inputs (C, H, W) and return the dataset's path.

    Images are 256 x 256, or as large as the network's input where that is larger.
    """
    channels, height, _ = input_shape
    decode_config = DecodeConfig(size=max(256, height), channels=channels, encoding=encoding)
    with open_source(str(images)) as source:
        prepare(
            source,
            dataset,
            decode_config,
            SplitFractions(0, 0),
            on_error="fail",
            workers=workers,
            progress=lambda done, total: None,
        )
    return dataset
