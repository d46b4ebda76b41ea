"""Plot the augmented crops that training takes of some samples.

Crops and random draws come from the training loader itself, and jitter and resolution are read at
the batch in which the sample occurs, so the crops are those of a run with this seed, also in an
epoch in which a schedule changes. They are shown before the mean is subtracted; a resolution
below the network's own is shown with its coarse pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from alexnet.analysis.plots.style import (
    RUST,
    SMALL_FONT,
    figure_style,
    hide_axes,
    shorten,
    show_image,
)
from alexnet.data import crop_normalize
from alexnet.data.loader import LoaderState, TrainLoader, resolution_at
from alexnet.data.prepared import Split
from alexnet.data.transforms import Preprocessor
from alexnet.recipes.recipe import Recipe

NUM_EPOCHS = 6  # shown of each sample
IMAGE_SIZE = 1.3  # inches


@dataclass(frozen=True, eq=False)
class AugmentedCrop:
    """A sample as the network sees it in one epoch: uint8 (size, size, C), and the random draws.

    `offset`: top and left of the crop. `angle`: degrees of rotation before the crop. `color_shift`:
    gray levels (C,) added to every pixel.
    """

    epoch: int
    pixels: np.ndarray
    offset: tuple[int, int]
    mirrored: bool
    angle: float
    color_shift: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the random draws as plain data."""
        return {
            "epoch": self.epoch,
            "size": len(self.pixels),
            "offset": self.offset,
            "mirrored": self.mirrored,
            "angle": self.angle,
            "color_shift": self.color_shift,
        }


@dataclass(frozen=True, eq=False)
class AugmentedSample:
    """A sample uint8 (S, S, C), its class name, and its augmented crops."""

    index: int
    class_name: str
    pixels: np.ndarray
    crops: tuple[AugmentedCrop, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the sample and its random draws as plain data."""
        return {
            "index": self.index,
            "class": self.class_name,
            "crops": [crop.to_json() for crop in self.crops],
        }


def compute_augmented_crops(
    split: Split, preprocessor: Preprocessor, recipe: Recipe, seed: int, indices: Sequence[int]
) -> list[AugmentedSample]:
    """Compute the crops of some samples in up to six epochs, spread over a run with this seed."""
    loader = TrainLoader(split, preprocessor, recipe.training, seed, workers=1)
    crops: dict[int, list[AugmentedCrop]] = {index: [] for index in indices}
    last = recipe.training.epochs - 1
    for epoch in sorted({round(last * step / (NUM_EPOCHS - 1)) for step in range(NUM_EPOCHS)}):
        order = loader.order(epoch)
        position_of = np.argsort(order)
        for index in indices:
            crops[index].append(
                _augmented_crop(loader, recipe, epoch, int(position_of[index]), order)
            )
    return [
        AugmentedSample(
            index,
            preprocessor.classes[split.labels[index]],
            split.pixels(index),
            tuple(crops[index]),
        )
        for index in indices
    ]


def _augmented_crop(
    loader: TrainLoader, recipe: Recipe, epoch: int, position: int, order: np.ndarray
) -> AugmentedCrop:
    """Compute the crop of the sample at a position of an epoch's order; only it is decoded."""
    batch_number, row = divmod(position, recipe.training.batch_size)
    state = LoaderState(epoch, batch_number)
    batch = replace(loader, rows=lambda images: slice(row, row + 1)).batch(state, order)
    params = batch.params.rows(batch.rows)
    exact_epoch = loader.epoch(state)
    resolution = resolution_at(recipe, exact_epoch)
    jitter = recipe.augmentation.color_jitter.at(exact_epoch)
    shift = np.zeros(batch.crops.shape[3])
    if jitter:
        shift = loader.preprocessor.color_shift(params.color, jitter)[0]
    crop = batch.crops
    if resolution != crop.shape[2]:
        crop = crop_normalize.resize(crop, resolution)
    levels = (crop[0].float() + torch.from_numpy(shift)).round().clamp(0, 255).byte()
    return AugmentedCrop(
        epoch,
        levels.numpy(),
        (int(params.offsets[0, 0]), int(params.offsets[0, 1])),
        bool(params.mirror[0]),
        float(params.angles[0]),
        tuple(shift.tolist()),
    )


@figure_style()
def plot_augmentations(samples: Sequence[AugmentedSample], crop_size: int) -> Figure:
    """Plot a row for each sample: the image with its crops outlined, then each crop."""
    columns = 1 + len(samples[0].crops)
    size = (IMAGE_SIZE * columns + 0.1, (IMAGE_SIZE + 0.35) * len(samples) + 0.2)
    figure = Figure(size, layout="constrained")
    grid = figure.subplots(len(samples), columns, squeeze=False)
    for row, sample in zip(grid, samples, strict=True):
        _draw_sample(row[0], sample, crop_size)
        for axes, crop in zip(row[1:], sample.crops, strict=True):
            show_image(axes, crop.pixels)
            axes.set_xlabel(_caption(crop, crop_size), fontsize=SMALL_FONT)
    grid[0, 0].set_title("image", fontsize=9)
    for axes, crop in zip(grid[0, 1:], samples[0].crops, strict=True):
        axes.set_title(f"epoch {crop.epoch}", fontsize=9)
    return figure


def _draw_sample(axes: Axes, sample: AugmentedSample, crop_size: int) -> None:
    """Draw the whole image with the outlines of its crops."""
    show_image(hide_axes(axes), sample.pixels)
    for crop in sample.crops:
        top, left = crop.offset
        outline = Rectangle(
            (left - 0.5, top - 0.5),
            crop_size,
            crop_size,
            fill=False,
            edgecolor=RUST,
            linewidth=0.6,
            alpha=0.8,
        )
        axes.add_patch(outline)
    axes.set_xlabel(shorten(sample.class_name, 18), fontsize=SMALL_FONT)


def _caption(crop: AugmentedCrop, crop_size: int) -> str:
    """Describe offset, mirroring and rotation, and the size where it is below the crop size."""
    words = [f"{crop.offset[0]}, {crop.offset[1]}"]
    if crop.mirrored:
        words.append("mirrored")
    if crop.angle:
        words.append(f"{crop.angle:+.0f}°")
    text = ", ".join(words)
    if len(crop.pixels) != crop_size:
        text += f"\n{len(crop.pixels)} px"
    return text
