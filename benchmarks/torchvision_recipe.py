"""Train torchvision's AlexNet with torchvision's recipe for a given time, for comparison with ours.

The network is the one torchvision calls AlexNet (64-192-384-256-256, no norm, dropout before fc6
and fc7), built from its published shape. The recipe is that of its reference: random resized crop
to 224, mirror, ImageNet's mean and std, SGD at 0.01, momentum 0.9, weight decay 1e-4, float32, here
with batches of 32 and files decoded by Pillow for every crop. It is scored on the center 224 of the
short side at 256. Train and test images are those of
`alexnet prepare SOURCE DATASET --val-fraction 0 --test-fraction 0.2`.

    python benchmarks/torchvision_recipe.py DATA/caltech101.tar --minutes 5
"""

import argparse
import io
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from alexnet.benchmark.torch_baselines import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    random_crop_box,
    torch_model,
)
from alexnet.data.readers import (
    ImageSource,
    Sample,
    SplitFractions,
    assign_splits,
    open_source,
)
from alexnet.recipes.presets import OWT

BATCH_SIZE = 32
SIDE = 224
SHORT_SIDE = 256  # at test
TEST_BATCH_SIZE = 64


def decode(source: ImageSource, sample: Sample) -> Image.Image:
    return Image.open(io.BytesIO(source.read(sample))).convert("RGB")


def training_crop(source: ImageSource, sample: Sample, seed: int) -> Image.Image:
    """Return a random resized crop, mirrored half of the time."""
    random = np.random.default_rng(seed)
    image = decode(source, sample)
    box = random_crop_box(image.size, random)
    crop = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box)
    return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else crop


def center_crop(image: Image.Image) -> Image.Image:
    """Return the center of an image whose short side is resized to SHORT_SIDE."""
    scale = SHORT_SIDE / min(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    image = image.resize(size, Image.Resampling.BILINEAR)
    left = (image.width - SIDE) // 2
    top = (image.height - SIDE) // 2
    return image.crop((left, top, left + SIDE, top + SIDE))


def to_tensor(images: list[Image.Image]) -> Tensor:
    """Return normalized images (N, 3, SIDE, SIDE), float32."""
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images])).float() / 255
    normalized = (pixels - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
    return normalized.permute(0, 3, 1, 2).contiguous()


def shuffled_batches(samples: list[Sample], random: np.random.Generator) -> Iterator[list[Sample]]:
    """Yield the batches of one epoch after the other, without an end."""
    while True:
        order = random.permutation(len(samples))
        for start in range(0, len(order), BATCH_SIZE):
            yield [samples[i] for i in order[start : start + BATCH_SIZE]]


def training_batches(
    source: ImageSource, samples: list[Sample], random: np.random.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield inputs and labels without an end; two threads load one batch ahead."""
    labels = {name: i for i, name in enumerate(source.classes)}
    batches = shuffled_batches(samples, random)
    with ThreadPoolExecutor(2) as pool:

        def submit(batch: list[Sample]) -> list[Future[Image.Image]]:
            seeds = [int(random.integers(2**62)) for _ in batch]
            return [
                pool.submit(training_crop, source, sample, seed)
                for sample, seed in zip(batch, seeds, strict=True)
            ]

        batch = next(batches)
        jobs = submit(batch)
        while True:
            next_batch = next(batches)
            next_jobs = submit(next_batch)
            inputs = to_tensor([job.result() for job in jobs])
            yield inputs, torch.tensor([labels[sample.label] for sample in batch])
            batch = next_batch
            jobs = next_jobs


@torch.inference_mode()
def accuracy(model: nn.Sequential, source: ImageSource, samples: list[Sample]) -> float:
    """Return the top-1 accuracy in percent."""
    model.eval()
    correct = 0
    for start in range(0, len(samples), TEST_BATCH_SIZE):
        batch = samples[start : start + TEST_BATCH_SIZE]
        inputs = to_tensor([center_crop(decode(source, sample)) for sample in batch])
        predicted = model(inputs).argmax(1).tolist()
        for index, sample in zip(predicted, batch, strict=True):
            correct += source.classes[index] == sample.label
    return 100 * correct / len(samples)


def train_for(
    minutes: float, model: nn.Sequential, source: ImageSource, samples: list[Sample], seed: int
) -> None:
    """Train for some minutes and print the number of images, the speed and the last loss."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    images = 0
    start = time.monotonic()
    for inputs, labels in training_batches(source, samples, np.random.default_rng(seed)):
        loss = F.cross_entropy(model(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        images += len(labels)
        if time.monotonic() - start > 60 * minutes:
            break
    speed = images / (time.monotonic() - start)
    print(
        f"{images} images, {images / len(samples):.2f} epochs, {speed:.1f} images/s, "
        f"last loss {float(loss.detach()):.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    with open_source(args.source) as source:
        samples = assign_splits(source.samples, SplitFractions(0, 0.2))
        train = [sample for sample in samples if sample.split == "train"]
        test = [sample for sample in samples if sample.split == "test"]
        model = torch_model(OWT.network, len(source.classes)).train()
        train_for(args.minutes, model, source, train, args.seed)
        percent = accuracy(model, source, test)
        print(f"top-1 accuracy on {len(test)} test images, center crop: {percent:.2f} %")


if __name__ == "__main__":
    main()
