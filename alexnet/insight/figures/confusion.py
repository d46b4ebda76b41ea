"""Which classes a network takes for which: counted, and drawn so that it can be read with ten classes and with a thousand.

Few classes: every count in its cell. Many: the counts in blocks of neighbouring classes, darker where more, beside the pairs
taken for each other most often and the errors of all classes in order, for of a million cells nearly all are empty. Rows are what
it was, columns what it said; blue is right, rust is wrong.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure

from alexnet.insight.figures.drawing import BLUE, INK, RUST, SMALL, SOFT, bare, shortened, styled, tint, width_of

FEW = 25  # classes whose counts are all written out
BLOCKS = 125  # to a side, at most
PAIRS = 20  # named in the figure
CELL = 0.36  # inches


# ---- counted


def counted(labels: np.ndarray, said: np.ndarray, classes: int) -> np.ndarray:
    """Pictures int64 (true class, class said)."""
    return np.bincount(labels * classes + said, minlength=classes**2).reshape(classes, classes)


def confused_pairs(labels: np.ndarray, said: np.ndarray) -> list[tuple[int, int, int]]:
    """(true class, class said, pictures) of all mistakes, the most frequent first; ties by class."""
    wrong = labels != said
    pairs, counts = np.unique(np.stack([labels[wrong], said[wrong]], 1), axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return [(int(true), int(other), int(count)) for (true, other), count in zip(pairs[order], counts[order], strict=True)]


def class_errors(labels: np.ndarray, said: np.ndarray) -> list[tuple[int, int, int]]:
    """(class, mistakes, pictures) of the classes that occur, the largest error first; ties by class."""
    pictures = np.bincount(labels)
    mistakes = np.bincount(labels[labels != said], minlength=len(pictures))
    present = np.flatnonzero(pictures)
    order = present[np.argsort(-mistakes[present] / pictures[present], kind="stable")]
    return [(int(label), int(mistakes[label]), int(pictures[label])) for label in order]


def blocks(matrix: np.ndarray) -> tuple[np.ndarray, int]:
    """The counts summed over squares of so many classes a side, as few as make no more than BLOCKS: (sums, classes a side)."""
    side = -(-len(matrix) // BLOCKS)
    starts = np.arange(0, len(matrix), side)
    return np.add.reduceat(np.add.reduceat(matrix, starts, 0), starts, 1), side


def told(labels: np.ndarray, said: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """What is drawn, as plain data: the matrix itself where it is small, and the pairs."""
    pairs = [
        {"true": classes[true], "said": classes[other], "pictures": count} for true, other, count in confused_pairs(labels, said)
    ]
    matrix = counted(labels, said, len(classes)).tolist() if len(classes) <= FEW else None
    return {"classes": list(classes), "matrix": matrix, "pairs": pairs}


# ---- drawn


def confusion(labels: np.ndarray, said: np.ndarray, classes: Sequence[str], pairs: bool = True) -> Figure:
    """The figure for that many classes; of many, the `pairs` can be left to a table of one's own."""
    if len(classes) <= FEW:
        return matrix_of_few(counted(labels, said, len(classes)), classes)
    return matrix_of_many(labels, said, classes, pairs)


@styled()
def matrix_of_few(matrix: np.ndarray, classes: Sequence[str]) -> Figure:
    """Every count (true, said), tinted by its share of the true class, the error of each class behind its row."""
    count, names = len(classes), [shortened(name) for name in classes]
    wide = width_of(names, SMALL)
    slant = (wide + SMALL / 72) / 2**0.5  # inches: how far a name above goes up, and to the right of its column
    right_of = max(0.9 * CELL, slant - 0.5 * CELL)  # the errors stand there too
    figure = Figure((wide + 0.4 + CELL * count + right_of + 0.1, slant + 0.35 + CELL * count + 0.1), layout="constrained")
    axes = bare(figure.subplots())
    shares = matrix / np.maximum(1, matrix.sum(1, keepdims=True))
    right = np.eye(count, dtype=bool)
    fills = np.where(right, shares, shares**0.6)
    colours = [to_rgb(tint(BLUE if own else RUST, share)) for own, share in zip(right.flat, fills.flat, strict=True)]
    axes.imshow(np.reshape(colours, (count, count, 3)), interpolation="nearest", extent=(-0.5, count - 0.5, count - 0.5, -0.5))
    axes.set(xlim=(-0.5, count + 0.9), ylim=(count - 0.5, -0.5))
    axes.hlines(np.arange(count + 1) - 0.5, -0.5, count - 0.5, colors="white", linewidth=1.6)
    axes.vlines(np.arange(count + 1) - 0.5, -0.5, count - 0.5, colors="white", linewidth=1.6)
    for row, column in np.argwhere(matrix).tolist():
        ink = "white" if fills[row, column] > 0.55 else INK
        cell = axes.text(column, row, str(matrix[row, column]), ha="center", va="center", fontsize=SMALL, color=ink)
        cell.set_in_layout(False)  # it lies inside: the layout need not measure it
    for row, total in enumerate(matrix.sum(1)):
        error = f"{100 * (1 - shares[row, row]):.0f} %" if total else "\u2013"
        axes.text(count + 0.85, row, error, ha="right", va="center", fontsize=SMALL, color=SOFT)
    axes.text(count + 0.85, -0.75, "error", ha="right", va="bottom", fontsize=SMALL, color=SOFT)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.set_yticks(range(count), names)
    axes.set_xticks(range(count), names, rotation=45, ha="left", rotation_mode="anchor")
    axes.set_ylabel("what it was", color=SOFT)
    axes.set_xlabel("what it said", color=SOFT)
    return figure


@styled()
def matrix_of_many(labels: np.ndarray, said: np.ndarray, classes: Sequence[str], pairs: bool = True) -> Figure:
    """Blocks of counts, the errors of all classes in order, and the pairs most often confused."""
    figure = Figure((10.2 if pairs else 7.0, 4.6 if pairs else 4.0), layout="constrained")
    widths = (4.4, 2.2, 3.6) if pairs else (4.4, 2.6)
    left, middle, *rest = figure.subplots(1, len(widths), width_ratios=widths)
    _blocks(left, counted(labels, said, len(classes)))
    _errors(middle, labels, said)
    for axes in rest:
        _pairs(axes, labels, said, classes)
    return figure


def _blocks(axes: Axes, matrix: np.ndarray) -> None:
    """The blocks as a picture: the diagonal blue, the rest rust, both on a scale of roots, for a single picture must be seen."""
    sums, side = blocks(matrix)
    wrong = sums - blocks(np.diag(np.diag(matrix)))[0]
    right = sums - wrong
    shares = [np.sqrt(part / max(1, part.max())) for part in (right, wrong)]
    blue, rust = (LinearSegmentedColormap.from_list("", [tint(colour, 0), colour]) for colour in (BLUE, RUST))
    picture = np.where((right >= np.maximum(1, wrong))[..., None], blue(shares[0]), rust(shares[1]))
    edge = len(sums) * side - 0.5
    axes.imshow(picture, interpolation="nearest", extent=(-0.5, edge, edge, -0.5))
    axes.set(xlim=(-0.5, len(matrix) - 0.5), ylim=(len(matrix) - 0.5, -0.5), xlabel="class said", ylabel="true class")
    axes.grid(False)
    axes.spines[:].set_visible(True)
    each = f"each point {side} × {side} classes" if side > 1 else "each point a pair of classes"
    axes.set_title(f"{int(matrix.sum()):,} pictures, {len(matrix):,} classes; {each}", fontsize=9)


def _errors(axes: Axes, labels: np.ndarray, said: np.ndarray) -> None:
    """The error of every class, the largest first."""
    errors = [100 * mistakes / pictures for _, mistakes, pictures in class_errors(labels, said)]
    axes.fill_between(range(len(errors)), errors, color=RUST, alpha=0.35, linewidth=0, step="mid")
    axes.plot(range(len(errors)), errors, color=RUST, drawstyle="steps-mid")
    axes.set(xlim=(0, max(1, len(errors) - 1)), ylim=(0, 100), xlabel="classes, hardest first")
    axes.set_title("Error of each class, %", fontsize=9)


def _pairs(axes: Axes, labels: np.ndarray, said: np.ndarray, classes: Sequence[str]) -> None:
    """The most frequent mistakes by name, with the share of the true class's pictures that went astray."""
    bare(axes).set(xlim=(0, 1), ylim=(2 * PAIRS - 0.5, -0.5))
    axes.set_title("Taken for each other most often", fontsize=9)
    pictures = np.bincount(labels, minlength=len(classes))
    for row, (true, other, count) in enumerate(confused_pairs(labels, said)[:PAIRS]):
        names = f"{shortened(classes[true], 21)} \u2192 {shortened(classes[other], 21)}"
        axes.text(0, 2 * row + 0.5, names, fontsize=SMALL, va="center")
        axes.text(1.02, 2 * row + 0.5, f"{count} of {pictures[true]}", fontsize=SMALL, va="center", ha="left", color=SOFT)
