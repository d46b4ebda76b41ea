"""Train a linear classifier on the raw pixels of a folder of class folders, and print its error.

Each image's central square is resized to --size and standardized; multinomial logistic regression
is trained by full-batch L-BFGS for several weight decays, and the lowest validation error is
reported, which favors the linear classifier. A tenth of the images, chosen by a fixed seed, is the
validation set. A dataset is fit for testing a convolutional network if this fails on it.

    python benchmarks/linear_baseline.py images --size 32
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn.functional import cross_entropy

WEIGHT_DECAYS = (0.001, 0.1, 1.0, 3.0, 10.0, 30.0)


class Result(NamedTuple):
    """Errors in percent for a weight decay."""

    weight_decay: float
    train_error: float
    val_error: float


def load_pixels(folder: Path, size: int) -> tuple[Tensor, Tensor]:
    """Return standardized pixels float32 (images, 3 * size * size), and labels int64."""
    files = sorted(folder.glob("*/*.jpg"))
    if not files:
        raise SystemExit(f"found no CLASS/*.jpg in {folder}; expected a folder of class folders")
    classes = sorted({file.parent.name for file in files})
    images = [
        np.asarray(ImageOps.fit(Image.open(file).convert("RGB"), (size, size))).reshape(-1)
        for file in files
    ]
    pixels = torch.from_numpy(np.stack(images)).float()
    pixels = (pixels - pixels.mean(0)) / pixels.std()
    return pixels, torch.tensor([classes.index(file.parent.name) for file in files])


def fit(pixels: Tensor, labels: Tensor, weight_decay: float) -> tuple[Tensor, Tensor]:
    """Return weight (pixels, classes) and bias of logistic regression.

    The loss is cross-entropy + weight_decay / 2 * |weight|^2 / classes.
    """
    classes = int(labels.max()) + 1
    weight = torch.zeros(pixels.shape[1], classes, requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=300, history_size=20, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        penalty = weight_decay / 2 * weight.square().sum() / classes
        loss = cross_entropy(pixels @ weight + bias, labels) + penalty
        loss.backward()
        return loss

    optimizer.step(closure)
    return weight.detach(), bias.detach()


def top1_error(pixels: Tensor, labels: Tensor, weight: Tensor, bias: Tensor) -> float:
    """Return the top-1 error in percent."""
    return 100 * float(((pixels @ weight + bias).argmax(1) != labels).float().mean())


def fit_all(folder: Path, size: int) -> list[Result]:
    """Fit and score the classifier for each weight decay."""
    pixels, labels = load_pixels(folder, size)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    val = order[: len(order) // 10]
    train = order[len(order) // 10 :]
    results = []
    for weight_decay in WEIGHT_DECAYS:
        weight, bias = fit(pixels[train], labels[train], weight_decay)
        train_error = top1_error(pixels[train], labels[train], weight, bias)
        val_error = top1_error(pixels[val], labels[val], weight, bias)
        results.append(Result(weight_decay, train_error, val_error))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="a folder of class folders of JPEG files")
    parser.add_argument("--size", type=int, default=32, help="pixels a side (default 32)")
    args = parser.parse_args()
    results = fit_all(args.folder, args.size)
    for result in results:
        print(
            f"weight decay {result.weight_decay:g}: training error {result.train_error:.1f} %, "
            f"validation error {result.val_error:.1f} %"
        )
    best = min(result.val_error for result in results)
    print(f"best: validation error {best:.1f} % at {args.size} pixels")


if __name__ == "__main__":
    main()
