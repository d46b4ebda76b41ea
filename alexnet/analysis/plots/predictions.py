"""Plot predictions: images with their five most likely classes as bars (paper, figure 4, left).

Probabilities are those of `evaluate`, over the same crops. Images of a dataset are evenly spaced
over a split; errors are searched for in a fixed shuffle of the split, until there are enough.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alexnet.analysis.plots.style import (
    BLUE,
    GRAY,
    INK,
    RUST,
    SMALL_FONT,
    figure_style,
    hide_axes,
    shorten,
    show_image,
)
from alexnet.core.device import Runtime
from alexnet.core.rng import key, permutation
from alexnet.data.image_batches import ImageBatch, from_split
from alexnet.data.prepared import Split
from alexnet.evaluation.evaluate import CROPS_PER_BATCH, ProgressFn, probabilities
from alexnet.models.model_file import Classifier

TOP_K = 5
COLUMNS = 4  # images in a row
CELL_SIZE = (1.75, 2.95)  # inches: width and height of an image with its bars
OTHER_COLOR = "#d9d8d2"  # bars of classes that are neither the prediction nor the true class


@dataclass(frozen=True, eq=False)
class PredictedImage:
    """An image uint8 (S, S, C), the probability of every class (classes,), and its true class.

    `label` is None where the true class is unknown.
    """

    name: str
    pixels: np.ndarray
    probability: np.ndarray
    label: int | None = None

    @property
    def top_classes(self) -> list[int]:
        """Return the most likely classes, at most five, the most likely first."""
        order = np.argsort(-self.probability, kind="stable")
        return [int(label) for label in order[:TOP_K]]

    @property
    def is_wrong(self) -> bool:
        """Return whether the most likely class is known not to be the true one."""
        return self.label is not None and self.top_classes[0] != self.label

    def to_json(self, classes: Sequence[str]) -> dict[str, Any]:
        """Return the plotted values as plain data."""
        top = [
            {"class": classes[label], "probability": float(self.probability[label])}
            for label in self.top_classes
        ]
        true_class = None if self.label is None else classes[self.label]
        return {"name": self.name, "true": true_class, "top": top}


def predict_images(
    classifier: Classifier, images: ImageBatch, crops: int, runtime: Runtime
) -> list[PredictedImage]:
    """Predict the classes of some images, all of which must be readable."""
    predicted = probabilities(classifier, np.stack(images.readable), crops, runtime).numpy()
    rows = zip(images.names, images.readable, predicted, images.labels, strict=True)
    return [PredictedImage(name, pixels, row, label) for name, pixels, row, label in rows]


def find_errors(
    classifier: Classifier,
    split: Split,
    count: int,
    crops: int,
    runtime: Runtime,
    progress: ProgressFn,
) -> list[PredictedImage]:
    """Return the first `count` wrongly predicted images of a fixed shuffle of the split, or all."""
    order = permutation(key("show", "errors"), len(split)).tolist()
    errors: list[PredictedImage] = []
    batch_size = max(1, CROPS_PER_BATCH // crops)
    for first in range(0, len(order), batch_size):
        (batch,) = from_split(split, order[first : first + batch_size], runtime.workers)
        predicted = predict_images(classifier, batch, crops, runtime)
        errors += [image for image in predicted if image.is_wrong]
        progress(min(first + batch_size, len(order)), len(order))
        if len(errors) >= count:
            break
    return errors[:count]


@figure_style()
def plot_predictions(images: Sequence[PredictedImage], classes: Sequence[str]) -> Figure:
    """Plot the images in rows of four, each above its bars.

    Blue is the true class, rust a wrong prediction, gray every other class.
    """
    columns = min(COLUMNS, len(images))
    rows = -(-len(images) // columns)
    width, height = CELL_SIZE
    figure = Figure((width * columns, height * rows), layout="constrained")
    grid = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=(1.75, 1.0) * rows)
    for axes in grid.flat:
        hide_axes(axes)
    for number, image in enumerate(images):
        row, column = divmod(number, columns)
        _draw_image(grid[2 * row, column], image, classes)
        _draw_bars(grid[2 * row + 1, column], image, classes)
    return figure


def _draw_image(axes: Axes, image: PredictedImage, classes: Sequence[str]) -> None:
    """Draw the image under its true class, where that is known, and over its file name."""
    show_image(axes, image.pixels)
    file_name = image.name.rsplit("/", 1)[-1]
    axes.set_xlabel(shorten(file_name, 22), fontsize=SMALL_FONT, color=GRAY, labelpad=2)
    if image.label is not None:
        title = shorten(classes[image.label], 20)
        axes.set_title(title, fontsize=9, weight="bold", loc="center")


def _draw_bars(axes: Axes, image: PredictedImage, classes: Sequence[str]) -> None:
    """Draw the most likely classes; the true one has a check mark as well as its color."""
    for row, label in enumerate(image.top_classes):
        probability = float(image.probability[label])
        is_true = label == image.label
        color = OTHER_COLOR
        if is_true:
            color = BLUE
        elif row == 0 and image.label is not None:
            color = RUST
        alpha = 1.0 if color == OTHER_COLOR else 0.45
        axes.barh(row, probability, height=0.84, color=color, alpha=alpha, linewidth=0)
        axes.text(
            0.02,
            row,
            ("\N{CHECK MARK} " if is_true else "") + shorten(classes[label], 15),
            va="center",
            fontsize=SMALL_FONT,
            weight="bold" if is_true else "normal",
        )
        percent = f"{100 * probability:.0f} %"
        axes.text(0.99, row, percent, va="center", ha="right", fontsize=SMALL_FONT, color=INK)
    axes.set(xlim=(0, 1), ylim=(TOP_K - 0.5, -0.5))
