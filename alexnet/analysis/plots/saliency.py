"""Compute and plot saliency: which pixels of a crop the probability of a class depends on.

Input gradient (Simonyan, Vedaldi and Zisserman 2013): of the class's logit with respect to the
input, the largest magnitude over the channels. Occlusion (Zeiler and Fergus 2013): how much of
the class's probability is lost when a square patch is replaced by the mean that preprocessing
subtracts, that is by zeros. Both use the center crop; occlusion takes one forward pass for each
position of the patch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from alexnet.analysis.format import format_count
from alexnet.analysis.plots.style import (
    DIVERGING,
    GRAY,
    SMALL_FONT,
    figure_style,
    hide_axes,
    shorten,
    show_image,
)
from alexnet.core.device import Runtime
from alexnet.evaluation.evaluate import CROPS_PER_BATCH
from alexnet.models.alexnet import AlexNet
from alexnet.models.model_file import Classifier

PATCHES_PER_SIDE = 5  # the patch is a fifth of the crop's side
FINE = 20  # the patch moves by a twentieth of the side
COARSE = 10  # or by a tenth, which takes a quarter of the time
ROW_HEIGHT = 1.95  # inches
FIGURE_WIDTH = 6.6


@dataclass(frozen=True, eq=False)
class Saliency:
    """A crop uint8 (H, W, C), a class and its probability, and the two maps.

    `gradient` float32 (H, W). `probability_drop` float32 (positions, positions): the probability
    lost with the patch's upper left corner at each of `corners` down and along.
    """

    name: str
    crop: np.ndarray
    label: int
    probability: float
    gradient: np.ndarray
    probability_drop: np.ndarray
    patch: int
    corners: tuple[int, ...]

    def to_json(self, classes: Sequence[str]) -> dict[str, Any]:
        """Return the plotted values as plain data; the gradient is left out for its size."""
        return {
            "name": self.name,
            "class": classes[self.label],
            "probability": self.probability,
            "patch": self.patch,
            "corners": self.corners,
            "probability_drop": self.probability_drop.tolist(),
        }


def compute_saliency(
    classifier: Classifier,
    name: str,
    pixels: np.ndarray,
    label: int | None,
    runtime: Runtime,
    steps_per_side: int = FINE,
) -> Saliency:
    """Compute both maps of a sample uint8 (S, S, C) for a class, by default its most likely one."""
    model = classifier.model
    preprocessor = classifier.preprocessor
    crop = preprocessor.center_crop(pixels[None])
    batch = preprocessor.normalize(crop, runtime.device, runtime.dtype)
    probability = class_probabilities(model, batch)[0]
    target = int(probability.argmax()) if label is None else label
    patch, corners = patch_positions(batch.shape[-1], steps_per_side)
    gradient = input_gradient(model, batch, target)[0]
    drop = occlusion_map(model, batch[0], target, patch, corners)
    return Saliency(
        name,
        crop[0],
        target,
        float(probability[target]),
        gradient.float().cpu().numpy(),
        drop.float().cpu().numpy(),
        patch,
        corners,
    )


def patch_positions(side: int, steps_per_side: int) -> tuple[int, tuple[int, ...]]:
    """Return the patch's size, and the evenly spaced positions of its corner along a side."""
    patch = max(1, side // PATCHES_PER_SIDE)
    steps = max(1, round((side - patch) / max(1, side // steps_per_side)))
    corners = [round((side - patch) * step / steps) for step in range(steps + 1)]
    return patch, tuple(dict.fromkeys(corners))


@torch.no_grad()
def class_probabilities(model: AlexNet, batch: Tensor) -> Tensor:
    """Return class probabilities float32 (N, classes) of a batch (N, C, H, W)."""
    return model(batch).float().softmax(1)


def input_gradient(model: AlexNet, batch: Tensor, label: int) -> Tensor:
    """Return the largest magnitude over the channels of d logit / d input: (N, H, W)."""
    batch = batch.detach().clone().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(model(batch)[:, label].sum(), batch)
    return gradient.abs().amax(1)


def occlusion_map(
    model: AlexNet, crop: Tensor, label: int, patch: int, corners: Sequence[int]
) -> Tensor:
    """Return the probability that a crop (C, H, W) loses, for the patch at each pair of corners.

    The shape is (positions, positions): rows, then columns.
    """
    unoccluded = class_probabilities(model, crop[None])[0, label]
    positions = [(row, column) for row in corners for column in corners]
    batches = _occluded_batches(crop, positions, patch)
    occluded = torch.cat([class_probabilities(model, batch)[:, label] for batch in batches])
    return (unoccluded - occluded).view(len(corners), len(corners))


def _occluded_batches(
    crop: Tensor, positions: Sequence[tuple[int, int]], patch: int
) -> Iterator[Tensor]:
    """Yield batches of the crop, each copy with a patch of zeros at another position."""
    batch_size = CROPS_PER_BATCH // 2
    for first in range(0, len(positions), batch_size):
        corners = positions[first : first + batch_size]
        batch = crop.repeat(len(corners), 1, 1, 1)
        for occluded, (row, column) in zip(batch, corners, strict=True):
            occluded[:, row : row + patch, column : column + patch] = 0
        yield batch


@figure_style()
def plot_saliency(results: Sequence[Saliency], classes: Sequence[str]) -> Figure:
    """Plot a row for each image: the crop, the gradient, and the occlusion map.

    In the occlusion map blue is probability lost and rust is probability gained.
    """
    figure = Figure((FIGURE_WIDTH, ROW_HEIGHT * len(results) + 0.35), layout="constrained")
    grid = figure.subplots(len(results), 3, squeeze=False)
    for (crop_axes, gradient_axes, occlusion_axes), result in zip(grid, results, strict=True):
        show_image(crop_axes, result.crop)
        caption = f"{shorten(classes[result.label])}, {100 * result.probability:.0f} %"
        crop_axes.set_xlabel(caption, fontsize=SMALL_FONT)
        limit = float(np.quantile(result.gradient, 0.995)) or 1.0
        hide_axes(gradient_axes).imshow(result.gradient, cmap="gray_r", vmin=0, vmax=limit)
        _draw_occlusion(occlusion_axes, result)
    for axes, title in zip(grid[0], ("crop", "gradient", "occlusion"), strict=True):
        axes.set_title(title, fontsize=9)
    return figure


def _draw_occlusion(axes: Axes, result: Saliency) -> None:
    """Draw the drop of probability at the patch's center, over the crop in gray.

    The outline of a patch in the upper left corner shows its size.
    """
    side = len(result.crop)
    patch = result.patch
    gray = result.crop.mean(2)
    hide_axes(axes).imshow(255 - (255 - gray) * 0.45, cmap="gray", vmin=0, vmax=255)
    limit = max(float(np.abs(result.probability_drop).max()), 0.01)
    first_center = result.corners[0] + patch / 2
    last_center = result.corners[-1] + patch / 2
    step = (last_center - first_center) / max(1, len(result.corners) - 1)
    low = first_center - step / 2 - 0.5
    high = last_center + step / 2 - 0.5
    axes.imshow(
        result.probability_drop,
        cmap=DIVERGING,
        vmin=-limit,
        vmax=limit,
        alpha=0.65,
        extent=(low, high, high, low),
        interpolation="bilinear",
    )
    axes.set(xlim=(-0.5, side - 0.5), ylim=(side - 0.5, -0.5))
    axes.plot([0, patch, patch, 0, 0], [0, 0, patch, patch, 0], color=GRAY, linewidth=0.8)
    points = format_count(round(100 * float(result.probability_drop.max())), "point")
    axes.set_xlabel(f"at most {points} lost", fontsize=SMALL_FONT)
