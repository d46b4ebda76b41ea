"""Figures from numbers: the kernels of the first layer, the curves of a run, the confusion of classes.

Pure functions from arrays to pictures, each readable on white at about a third of a page's width or at its own size. Curves are
drawn by matplotlib's objects, without its global state; the confusion matrix is written as SVG directly, because class
names can be in any script and matplotlib's own font is not. Where the numbers come from is not known here.
"""

import io
import math
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from alexnet.recipes.schedules import Steps

COLUMNS = 16  # of kernels: three rows for each tower of 48, as in the paper's figure 3
WIDTH = 768  # pixels the kernels are enlarged to, about
GAP = 1  # pixels of the kernels' own size between two of them

INK, SOFT, BLUE, RUST = "#222222", "#8a8a86", "#2b6490", "#b3552d"
STYLE: Any = {
    "svg.fonttype": "none",  # text stays text, in the reader's own font
    "svg.hashsalt": "alexnet",  # the same numbers give the same bytes
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.4,
    "legend.frameon": False,
    "legend.fontsize": 8,
}
PANEL = (3.5, 2.6)  # inches, at 96 pixels each

Record = Mapping[str, Any]


# ---- the first layer


def kernels(weight: np.ndarray, towers: int = 1) -> Image.Image:
    """Kernels (maps, channels, rows, columns) in rows of 16, tower below tower, each scaled to its own range around grey.

    RGB for three channels, else the grey of their mean. Enlarged without smoothing; gaps are white.
    """
    maps, channels, high, wide = weight.shape
    shown = weight if channels == 3 else weight.mean(1, keepdims=True).repeat(3, 1)
    largest = np.maximum(np.abs(shown).max((1, 2, 3), keepdims=True), np.finfo(np.float32).tiny)
    levels = np.rint(127.5 + 127.5 * shown / largest).astype(np.uint8).transpose(0, 2, 3, 1)
    own = -(-maps // towers)
    columns = min(COLUMNS, own)
    rows = -(-own // columns)  # of one tower
    sheet = np.full((towers * rows * (high + GAP) + (towers - 1) * GAP, columns * (wide + GAP), 3), 255, np.uint8)
    for number, kernel in enumerate(levels):
        tower, place = divmod(number, own)
        top = (tower * rows + place // columns) * (high + GAP) + tower * GAP
        left = place % columns * (wide + GAP)
        sheet[top : top + high, left : left + wide] = kernel
    image = Image.fromarray(sheet[:-GAP, :-GAP])
    factor = max(1, WIDTH // image.width)
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


# ---- the curves


def loss_curve(steps: Sequence[Record], epochs: Sequence[Record], smoothed: bool) -> bytes:
    """SVG of the training loss, of single batches faint and their mean over half an epoch, and of the validation loss.

    `smoothed`: the training loss is against smoothed labels, which the legend then says.
    """
    at = np.array([step["epoch"] for step in steps])
    loss = np.array([step["loss"] for step in steps], float)
    window = max(1, round(len(steps) / max(1.0, at[-1]) / 2))
    validated = [entry for entry in epochs if entry.get("val_loss") is not None]

    def draw(axes: Axes) -> None:
        axes.plot(at, loss, color=BLUE, alpha=0.25, linewidth=0.7)
        axes.plot(at, running_mean(loss, window), color=BLUE, label="training, labels smoothed" if smoothed else "training")
        if validated:
            x, y = [entry["epoch"] for entry in validated], [entry["val_loss"] for entry in validated]
            axes.plot(x, y, color=RUST, marker=".", markersize=4, label="validation")
        axes.set_ylim(0, 1.15 * max(np.percentile(loss, 99), *(entry["val_loss"] for entry in validated), 0.01))
        axes.legend(loc="upper right")

    return _panel("Loss", draw)


def error_curve(epochs: Sequence[Record]) -> bytes:
    """SVG of the validation errors after each epoch, in percent, the best one ringed."""
    x = [entry["epoch"] for entry in epochs]
    top1 = np.array([entry["val_top1_error"] for entry in epochs])
    top5 = [entry["val_top5_error"] for entry in epochs]
    best = int(top1.argmin())

    def draw(axes: Axes) -> None:
        axes.plot(x, top1, color=BLUE, marker=".", markersize=4, label="top-1")
        if None not in top5:
            axes.plot(x, top5, color=SOFT, marker=".", markersize=4, label="top-5")
        axes.plot(x[best], top1[best], "o", color=BLUE, markersize=9, fillstyle="none", clip_on=False)
        axes.annotate(f"{top1[best]:.1f}", (x[best], top1[best]), (0, 9), textcoords="offset points", ha="center", color=BLUE)
        axes.set_ylim(0, min(104, 1.25 * max(top1)) or 1)
        axes.legend(loc="upper right")

    return _panel("Validation error, %", draw)


def rate_curve(steps: Sequence[Record], sizes: Steps | None) -> bytes:
    """SVG of the learning rate, logarithmic where it falls far in steps; bands say how many pixels a side the views had."""
    at = np.array([step["epoch"] for step in steps])
    rate = np.array([step["rate"] for step in steps], float)
    positive = rate[rate > 0]
    stepwise = len(np.unique(rate)) <= 10

    def draw(axes: Axes) -> None:
        axes.plot(at, rate, color=INK, drawstyle="steps-post" if stepwise else "default")
        if stepwise and len(positive) and positive.max() > 20 * positive.min():
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.set_ylim(top=3 * positive.max())
        else:
            axes.set_ylim(0, 1.3 * max(rate.max(), 1e-9))
        if sizes:
            _bands(axes, sizes, max(1, math.ceil(at[-1])))

    return _panel("Learning rate" + (", and side of the views" if sizes else ""), draw)


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """The mean over a window centred on each value, over fewer at the ends."""
    sums = np.concatenate([[0], np.cumsum(values)])
    places = np.arange(len(values))
    first, last = np.maximum(places - window // 2, 0), np.minimum(places + window // 2 + 1, len(values))
    return (sums[last] - sums[first]) / (last - first)


def _bands(axes: Axes, sizes: Steps, end: int) -> None:
    """Every other size's epochs shaded, the side in pixels at its top."""
    starts = [start for start, _ in sizes.points if start < end]
    for place, (start, stop) in enumerate(zip(starts, [*starts[1:], end], strict=True)):
        if place % 2 == 0:
            axes.axvspan(start, stop, color="#f0efea", zorder=0, linewidth=0)
        if stop - start > end / 12:  # else its number would touch the next
            middle = (start + stop) / 2
            axes.text(middle, 0.93, f"{sizes.at(start):g}", transform=axes.get_xaxis_transform(), ha="center", color=SOFT)


def _panel(title: str, draw: Callable[[Axes], None]) -> bytes:
    """One small figure over epochs as SVG."""
    with rc_context(STYLE):
        figure = Figure(PANEL, layout="constrained")
        axes = figure.subplots()
        draw(axes)
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.set_xlim(0, max(1, math.ceil(axes.dataLim.xmax)))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.grid(axis="y", color="#e8e7e2", linewidth=0.6)
        axes.set_axisbelow(True)
        data = io.BytesIO()
        figure.savefig(data, format="svg", metadata={"Date": None, "Creator": None})
    return data.getvalue().replace(b"'DejaVu Sans'", b"system-ui, sans-serif")


# ---- the confusion


def confusion(matrix: np.ndarray, classes: Sequence[str]) -> bytes:
    """SVG of counts (true, said), tinted by their share of the true class, blue if right, rust if not; errors at the end."""
    cell = 36 if len(classes) <= 15 else 28
    names = [shortened(name) for name in classes]
    label = max(84, 14 + max(map(_width, names)))
    top = round(0.75 * label) + 24
    side = cell * len(classes)
    parts = [f'<text x="{label - 10}" y="{top - 10}" text-anchor="end" fill="{SOFT}">said \u2192</text>']
    parts.append(f'<text x="{label + side + 54}" y="{top - 10}" text-anchor="end" fill="{SOFT}">error</text>')
    for row, name in enumerate(names):
        parts += _row(matrix[row], row, name, cell, label, top)
        x = label + (row + 0.6) * cell
        parts.append(f'<text transform="translate({x:.1f} {top - 8}) rotate(-45)">{escape(name)}</text>')
    width, height = max(label + side + 60, label + side + round(0.75 * label)), top + side + 4
    style = 'font-family="system-ui, sans-serif" font-size="12" fill="#222222"'
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" {style}>'
    return "\n".join([opening, *parts, "</svg>"]).encode()


def shortened(name: str, length: int = 22) -> str:
    """The name, without its middle where it is too long for a figure: names that are alike often differ at the end."""
    kept = length - 1
    return name if len(name) <= length else f"{name[: kept - kept // 3].rstrip()}\u2026{name[-(kept // 3) :].lstrip()}"


def _row(counts: np.ndarray, row: int, name: str, cell: int, label: int, top: int) -> list[str]:
    """The cells of one true class, its name before them and its error behind."""
    total = max(1, int(counts.sum()))
    y = top + row * cell
    middle = y + cell / 2 + 4
    parts = [f'<text x="{label - 10}" y="{middle}" text-anchor="end">{escape(name)}</text>']
    for column, count in enumerate(counts.tolist()):
        share = count / total
        fill = _tint(BLUE if column == row else RUST, share if column == row else share**0.6)
        x = label + column * cell
        parts.append(f'<rect x="{x}" y="{y}" width="{cell - 1}" height="{cell - 1}" fill="{fill}"/>')
        if count:
            ink = "#ffffff" if share > 0.55 else INK
            parts.append(f'<text x="{x + (cell - 1) / 2}" y="{middle}" text-anchor="middle" fill="{ink}">{count}</text>')
    error = f"{100 * (1 - counts[row] / total):.0f} %" if counts.sum() else "\u2013"
    return [*parts, f'<text x="{label + len(counts) * cell + 54}" y="{middle}" text-anchor="end" fill="{SOFT}">{error}</text>']


def _tint(colour: str, share: float) -> str:
    """The colour laid on near-white paper, more of it the larger the share."""
    target = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return "#" + "".join(f"{round(level):02x}" for level in 246 + (target - 246) * min(1.0, share))


def _width(name: str) -> int:
    """About how many pixels a name takes at 12 pixels; scripts of wide letters take twice as much."""
    return sum(13 if unicodedata.east_asian_width(letter) in "WF" else 7 for letter in name)
