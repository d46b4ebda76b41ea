"""Count and plot which classes a network confuses, readable with ten classes and with a thousand.

Few classes: every count is written in its cell. Many: the counts are summed in blocks of
neighboring classes, next to the errors of all classes in order and the pairs confused most often,
because of a million cells nearly all are empty. Rows are true classes, columns predicted ones;
blue is right and rust is wrong.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
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
    text_width,
    tint,
)

MAX_FULL_MATRIX = 25  # classes: with more, the counts are not written out
MAX_BLOCKS = 125  # rows and columns of the block matrix, at most
NUM_PAIRS = 20  # named in the figure
CELL = 0.36  # inches


@dataclass(frozen=True, eq=False)
class Confusion:
    """The true and the predicted class of every image, int64 (N,), and the classes' names."""

    labels: np.ndarray
    predicted: np.ndarray
    classes: tuple[str, ...]

    @property
    def few_classes(self) -> bool:
        """Return whether the whole matrix can be written out."""
        return len(self.classes) <= MAX_FULL_MATRIX

    @property
    def matrix(self) -> np.ndarray:
        """Return the counts int64 (true class, predicted class)."""
        return confusion_matrix(self.labels, self.predicted, len(self.classes))

    @property
    def pairs(self) -> list[tuple[int, int, int]]:
        """Return (true class, predicted class, images) of all errors, the most frequent first."""
        return confused_pairs(self.labels, self.predicted)

    @property
    def class_errors(self) -> list[tuple[int, int, int]]:
        """Return (class, errors, images) of the classes that occur, the largest error first."""
        return class_errors(self.labels, self.predicted)

    def to_json(self) -> dict[str, Any]:
        """Return the pairs as plain data, and the matrix where there are few classes."""
        pairs = [
            {"true": self.classes[true], "predicted": self.classes[predicted], "images": images}
            for true, predicted, images in self.pairs
        ]
        return {
            "classes": list(self.classes),
            "matrix": self.matrix.tolist() if self.few_classes else None,
            "pairs": pairs,
        }


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Count images by true and predicted class: int64 (num_classes, num_classes)."""
    counts = np.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def confused_pairs(labels: np.ndarray, predicted: np.ndarray) -> list[tuple[int, int, int]]:
    """Return (true class, predicted class, images) of all errors, the most frequent first."""
    wrong = labels != predicted
    stacked = np.stack([labels[wrong], predicted[wrong]], 1)
    pairs, counts = np.unique(stacked, axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return [
        (int(true), int(other), int(count))
        for (true, other), count in zip(pairs[order], counts[order], strict=True)
    ]


def class_errors(labels: np.ndarray, predicted: np.ndarray) -> list[tuple[int, int, int]]:
    """Return (class, errors, images) of each class that occurs, the largest error first."""
    images = np.bincount(labels)
    errors = np.bincount(labels[labels != predicted], minlength=len(images))
    present = np.flatnonzero(images)
    order = present[np.argsort(-errors[present] / images[present], kind="stable")]
    return [(int(label), int(errors[label]), int(images[label])) for label in order]


def block_sums(matrix: np.ndarray) -> tuple[np.ndarray, int]:
    """Sum the counts over square blocks, so that no more than MAX_BLOCKS are in a row.

    Returns the sums and the number of classes along a block's side.
    """
    block_size = -(-len(matrix) // MAX_BLOCKS)
    starts = np.arange(0, len(matrix), block_size)
    return np.add.reduceat(np.add.reduceat(matrix, starts, 0), starts, 1), block_size


# ---- the figures


def plot_confusion_matrix(confusion: Confusion, with_pairs: bool = True) -> Figure:
    """Plot the confusion of few or of many classes.

    `with_pairs`: name the most confused pairs of many classes, where they are not listed elsewhere.
    """
    if confusion.few_classes:
        return _plot_few_classes(confusion)
    return _plot_many_classes(confusion, with_pairs)


@figure_style()
def _plot_few_classes(confusion: Confusion) -> Figure:
    """Plot every count, tinted by its share of the true class, and the error of each class."""
    matrix = confusion.matrix
    count = len(matrix)
    names = [shorten(name) for name in confusion.classes]
    name_width = text_width(names, SMALL_FONT)
    # A name above its column is turned by 45 degrees: it goes as far up as to the right, in inches.
    slant = (name_width + SMALL_FONT / 72) / 2**0.5
    right_margin = max(0.9 * CELL, slant - 0.5 * CELL)  # the classes' errors need it, too
    width = name_width + 0.4 + CELL * count + right_margin + 0.1
    figure = Figure((width, slant + 0.35 + CELL * count + 0.1), layout="constrained")
    axes = hide_axes(figure.subplots())
    shares = matrix / np.maximum(1, matrix.sum(1, keepdims=True))
    strengths = np.where(np.eye(count, dtype=bool), shares, shares**0.6)
    _draw_cells(axes, strengths)
    axes.set(xlim=(-0.5, count + 0.9), ylim=(count - 0.5, -0.5))
    _write_counts(axes, matrix, strengths)
    _write_class_errors(axes, matrix, shares)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.set_yticks(range(count), names)
    axes.set_xticks(range(count), names, rotation=45, ha="left", rotation_mode="anchor")
    axes.set_ylabel("true class", color=GRAY)
    axes.set_xlabel("predicted class", color=GRAY)
    return figure


def _draw_cells(axes: Axes, strengths: np.ndarray) -> None:
    """Color the cells (count, count), blue on the diagonal and rust elsewhere, with white lines."""
    count = len(strengths)
    colors = [
        to_rgb(tint(BLUE if row == column else RUST, strengths[row, column]))
        for row in range(count)
        for column in range(count)
    ]
    edge = count - 0.5
    axes.imshow(
        np.reshape(colors, (count, count, 3)),
        interpolation="nearest",
        extent=(-0.5, edge, edge, -0.5),
    )
    lines = np.arange(count + 1) - 0.5
    axes.hlines(lines, -0.5, edge, colors="white", linewidth=1.6)
    axes.vlines(lines, -0.5, edge, colors="white", linewidth=1.6)


def _write_counts(axes: Axes, matrix: np.ndarray, strengths: np.ndarray) -> None:
    """Write the counts that are not 0, white on dark cells."""
    for row, column in np.argwhere(matrix).tolist():
        text = axes.text(
            column,
            row,
            str(matrix[row, column]),
            ha="center",
            va="center",
            fontsize=SMALL_FONT,
            color="white" if strengths[row, column] > 0.55 else INK,
        )
        text.set_in_layout(False)  # it lies inside the axes: the layout need not measure it


def _write_class_errors(axes: Axes, matrix: np.ndarray, shares: np.ndarray) -> None:
    """Write the error of each class at the end of its row."""
    x = len(matrix) + 0.85
    style: dict[str, Any] = {"ha": "right", "fontsize": SMALL_FONT, "color": GRAY}
    axes.text(x, -0.75, "error", va="bottom", **style)
    for row, total in enumerate(matrix.sum(1)):
        error = f"{100 * (1 - shares[row, row]):.0f} %" if total else "\N{EN DASH}"
        axes.text(x, row, error, va="center", **style)


@figure_style()
def _plot_many_classes(confusion: Confusion, with_pairs: bool) -> Figure:
    """Plot blocks of counts, the errors of all classes in order, and the most confused pairs."""
    figure = Figure((10.2, 4.6) if with_pairs else (7.0, 4.0), layout="constrained")
    widths = (4.4, 2.2, 3.6) if with_pairs else (4.4, 2.6)
    left, middle, *rest = figure.subplots(1, len(widths), width_ratios=widths)
    _draw_blocks(left, confusion.matrix)
    _draw_class_errors(middle, confusion)
    for axes in rest:
        _write_pairs(axes, confusion)
    return figure


def _draw_blocks(axes: Axes, matrix: np.ndarray) -> None:
    """Draw the blocks: correct ones blue, wrong ones rust.

    Both are on a square-root scale, so that a single image can be seen.
    """
    sums, block_size = block_sums(matrix)
    right = block_sums(np.diag(np.diag(matrix)))[0]
    wrong = sums - right
    correct = (right >= np.maximum(1, wrong))[..., None]
    pixels = np.where(correct, _on_root_scale(right, BLUE), _on_root_scale(wrong, RUST))
    edge = len(sums) * block_size - 0.5
    axes.imshow(pixels, interpolation="nearest", extent=(-0.5, edge, edge, -0.5))
    axes.set(xlim=(-0.5, len(matrix) - 0.5), ylim=(len(matrix) - 0.5, -0.5))
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.grid(False)
    axes.spines[:].set_visible(True)
    point = f"each point {block_size} × {block_size} classes"
    if block_size == 1:
        point = "each point a pair of classes"
    title = f"{int(matrix.sum()):,} images, {len(matrix):,} classes; {point}"
    axes.set_title(title, fontsize=9)


def _on_root_scale(counts: np.ndarray, color: str) -> np.ndarray:
    """Map counts to RGBA, from near-white to the color, in proportion to their square roots."""
    colormap = LinearSegmentedColormap.from_list("", [tint(color, 0), color])
    return colormap(np.sqrt(counts / max(1, counts.max())))


def _draw_class_errors(axes: Axes, confusion: Confusion) -> None:
    """Draw the error of every class, the largest first."""
    errors = [100 * wrong / images for _, wrong, images in confusion.class_errors]
    x = range(len(errors))
    axes.fill_between(x, errors, color=RUST, alpha=0.35, linewidth=0, step="mid")
    axes.plot(x, errors, color=RUST, drawstyle="steps-mid")
    axes.set(xlim=(0, max(1, len(errors) - 1)), ylim=(0, 100), xlabel="classes, hardest first")
    axes.set_title("Error of each class, %", fontsize=9)


def _write_pairs(axes: Axes, confusion: Confusion) -> None:
    """List the most frequent errors, with their share of the true class's images."""
    hide_axes(axes).set(xlim=(0, 1), ylim=(2 * NUM_PAIRS - 0.5, -0.5))
    axes.set_title("Confused most often", fontsize=9)
    classes = confusion.classes
    images = np.bincount(confusion.labels, minlength=len(classes))
    for row, (true, predicted, count) in enumerate(confusion.pairs[:NUM_PAIRS]):
        y = 2 * row + 0.5
        names = f"{shorten(classes[true], 21)} \N{RIGHTWARDS ARROW} "
        names += shorten(classes[predicted], 21)
        axes.text(0, y, names, fontsize=SMALL_FONT, va="center")
        share = f"{count} of {images[true]}"
        axes.text(1.02, y, share, fontsize=SMALL_FONT, va="center", ha="left", color=GRAY)
