"""How far raw pixels go: the error of a linear classifier on a folder of class folders.

Each picture's central square is shrunk to --size and centred; multinomial logistic regression is then trained by
full-batch L-BFGS once per weight decay, and the decay with the lowest validation error is reported, which favours the
linear classifier. A tenth of the pictures, chosen by a fixed seed, validates. A set fit for a convolutional net's trial is
one on which this fails. Example: python benchmarks/linear_on_pixels.py pictures --size 32
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.nn.functional import cross_entropy

DECAYS = (0.001, 0.1, 1.0, 3.0, 10.0, 30.0)


def load(folder: Path, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels, float32, pictures × 3·size², centred and of unit deviation over the set; labels, int64."""
    files = sorted(folder.glob("*/*.jpg"))
    if not files:
        raise SystemExit(f"found no CLASS/*.jpg in {folder}; expected a folder of class folders")
    names = sorted({file.parent.name for file in files})
    rows = [np.asarray(ImageOps.fit(Image.open(file).convert("RGB"), (size, size))).reshape(-1) for file in files]
    pixels = torch.from_numpy(np.stack(rows)).float()
    pixels = (pixels - pixels.mean(0)) / pixels.std()
    return pixels, torch.tensor([names.index(file.parent.name) for file in files])


def fit(pixels: torch.Tensor, labels: torch.Tensor, decay: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights, features × classes, and biases that minimise cross-entropy + decay / 2 · |weights|² / classes."""
    classes = int(labels.max()) + 1
    weight = torch.zeros(pixels.shape[1], classes, requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=300, history_size=20, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        solver.zero_grad()
        value = cross_entropy(pixels @ weight + bias, labels) + decay / 2 * weight.square().sum() / classes
        value.backward()
        return value

    solver.step(loss)
    return weight.detach(), bias.detach()


def error(pixels: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> float:
    """Top-1 error in percent."""
    return 100 * float(((pixels @ weight + bias).argmax(1) != labels).float().mean())


def measure(folder: Path, size: int) -> list[tuple[float, float, float]]:
    """(decay, training error, validation error) for each decay, errors in percent."""
    pixels, labels = load(folder, size)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    held, kept = order[: len(order) // 10], order[len(order) // 10 :]
    rows = []
    for decay in DECAYS:
        weight, bias = fit(pixels[kept], labels[kept], decay)
        train, validation = (error(pixels[part], labels[part], weight, bias) for part in (kept, held))
        rows.append((decay, train, validation))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="a folder of class folders of JPEG files")
    parser.add_argument("--size", type=int, default=32, help="pixels a side (default 32)")
    arguments = parser.parse_args()
    rows = measure(arguments.folder, arguments.size)
    for decay, train, validation in rows:
        print(f"decay {decay:g}: training error {train:.1f} %, validation error {validation:.1f} %")
    print(f"best: validation error {min(row[2] for row in rows):.1f} % at {arguments.size} pixels")


if __name__ == "__main__":
    main()
