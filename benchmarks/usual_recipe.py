"""What people usually do: torchvision's net and recipe on the pictures themselves, for a given time; to be quoted beside ours.

The net is the one torchvision calls AlexNet (64-192-384-256-256, no norm, dropout before fc6 and fc7), built from its
published shape; the recipe its reference: random resized crop to 224, mirror, mean and deviation of ImageNet, SGD at .01,
momentum .9, decay 1e-4, float32, batches of 32, files decoded by Pillow for every view. Scored on the centre 224 of the short
side at 256.
Train and test pictures are those of `alexnet prepare SOURCE STORE --val-fraction 0 --test-fraction 0.2`.

    python benchmarks/usual_recipe.py DATA/caltech101.tar --minutes 5
"""

import argparse
import io
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from alexnet.data.sources import Fractions, Picture, Source, assign_splits, open_source
from alexnet.measure import stock
from alexnet.recipes.named import OWT

MEAN, DEVIATION = torch.tensor(stock.MEAN), torch.tensor(stock.DEVIATION)
BATCH = 32


def opened(source: Source, picture: Picture) -> Image.Image:
    return Image.open(io.BytesIO(source.read(picture))).convert("RGB")


def random_resized_crop(image: Image.Image, draw: np.random.Generator) -> Image.Image:
    """A random 8 to 100 % of the area, sides 3:4 to 4:3, as 224 x 224; the whole middle when ten tries do not fit."""
    width, height = image.size
    for _ in range(10):
        area = width * height * draw.uniform(0.08, 1)
        ratio = math.exp(draw.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if w <= width and h <= height:
            left, top = int(draw.integers(0, width - w + 1)), int(draw.integers(0, height - h + 1))
            return image.resize((224, 224), Image.Resampling.BILINEAR, box=(left, top, left + w, top + h))
    return centre(image)


def centre(image: Image.Image) -> Image.Image:
    """Short side to 256, middle 224."""
    scale = 256 / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    return image.crop((left, top, left + 224, top + 224))


def tensor(images: list[Image.Image]) -> Tensor:
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images])).float() / 255
    return ((pixels - MEAN) / DEVIATION).permute(0, 3, 1, 2).contiguous()


def training_batches(source: Source, pictures: list[Picture], draw: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless shuffled batches, one made ahead by two threads."""

    def load(picture: Picture, seed: int) -> Image.Image:
        own = np.random.default_rng(seed)
        image = random_resized_crop(opened(source, picture), own)
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if own.random() < 0.5 else image

    classes = {name: number for number, name in enumerate(source.classes)}
    with ThreadPoolExecutor(2) as pool:
        while True:
            order = draw.permutation(len(pictures))
            chunks = [[pictures[i] for i in order[first : first + BATCH]] for first in range(0, len(order), BATCH)]
            ahead = [[pool.submit(load, picture, int(draw.integers(2**62))) for picture in chunk] for chunk in chunks[:1]]
            for number, chunk in enumerate(chunks):
                if number + 1 < len(chunks):
                    ahead.append([pool.submit(load, picture, int(draw.integers(2**62))) for picture in chunks[number + 1]])
                images = [job.result() for job in ahead.pop(0)]
                yield tensor(images), torch.tensor([classes[picture.label] for picture in chunk])


@torch.inference_mode()
def accuracy(network: nn.Sequential, source: Source, pictures: list[Picture]) -> float:
    """Share of the pictures whose likeliest class is right, in percent."""
    right = 0
    for first in range(0, len(pictures), 64):
        some = pictures[first : first + 64]
        said = network.eval()(tensor([centre(opened(source, picture)) for picture in some])).argmax(1).tolist()
        right += sum(source.classes[number] == picture.label for number, picture in zip(said, some, strict=True))
    return 100 * right / len(pictures)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("source")
    arguments.add_argument("--minutes", type=float, default=5)
    arguments.add_argument("--seed", type=int, default=0)
    given = arguments.parse_args()
    torch.manual_seed(given.seed)
    with open_source(given.source) as source:
        pictures = assign_splits(source.pictures, Fractions(0, 0.2))
        train, test = ([picture for picture in pictures if picture.split == split] for split in ("train", "test"))
        network = stock.net(OWT.network, len(source.classes)).train()
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
        seen, began = 0, time.monotonic()
        for images, labels in training_batches(source, train, np.random.default_rng(given.seed)):
            loss = F.cross_entropy(network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen += len(labels)
            if time.monotonic() - began > 60 * given.minutes:
                break
        rate = seen / (time.monotonic() - began)
        print(f"{seen} pictures, {seen / len(train):.2f} epochs, {rate:.1f} pictures/s, last loss {float(loss.detach()):.3f}")
        print(f"top-1 accuracy on {len(test)} test pictures, centre view: {accuracy(network, source, test):.2f} %")


if __name__ == "__main__":
    main()
