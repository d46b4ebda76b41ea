"""Plot curves in characters, for a terminal.

Every series has its own marker, so that color is not needed to tell them apart. The plot is as
wide as the window and about a third as high; where output is no terminal, it has 80 columns and
no color.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.text import Text

MARKERS = "●○▲△■□◆◇"
COLORS = ("blue", "red", "green", "magenta", "yellow", "cyan", "white", "bright_black")
# In characters:
LABEL_WIDTH = 11  # of the scale on the left
MAX_WIDTH = 120
MIN_HEIGHT = 8
MAX_HEIGHT = 24


@dataclass(frozen=True)
class Series:
    """A name and the points of a curve, x ascending."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class _Limits:
    """The ranges that the axes cover."""

    x: tuple[float, float]
    y: tuple[float, float]


def plot_ascii(title: str, series: Sequence[Series], log: bool = False) -> str:
    """Return a plot of the curves as text, title first and legend last.

    `log`: use a logarithmic y axis; points that are not positive are left out.
    """
    console = Console()
    width = min(MAX_WIDTH, console.width - 1) - LABEL_WIDTH
    height = max(MIN_HEIGHT, min(MAX_HEIGHT, console.height // 2 - 4))
    plotted = [_log10(one) if log else one for one in series]
    plotted = [one for one in plotted if len(one.x)]
    with console.capture() as captured:
        console.print(Text(title, style="bold"))
        lines = _plot_lines(plotted, width, height, log) + _legend_lines(plotted, width, console)
        for line in lines:
            console.print(line, no_wrap=True, overflow="crop")
    return captured.get().rstrip("\n")


def rasterize(
    series: Series, x: tuple[float, float], y: tuple[float, float], width: int, height: int
) -> list[tuple[int, int]]:
    """Return (row, column) of each character that a curve passes through, row 0 at the top.

    `x` and `y` are the ranges of the axes. Between two points the curve is a straight line.
    """
    scale = (width - 1) / ((x[1] - x[0]) or 1.0)
    point_columns = np.unique(np.rint((np.asarray(series.x) - x[0]) * scale).astype(int))
    columns = np.arange(point_columns[0], point_columns[-1] + 1)
    values = np.interp(columns / scale + x[0], series.x, series.y)
    fractions = (values - y[0]) / ((y[1] - y[0]) or 1.0)
    rows = np.rint((1 - fractions) * (height - 1)).astype(int)
    return [
        (int(row), int(column))
        for row, column in zip(rows, columns, strict=True)
        if 0 <= row < height
    ]


def _plot_lines(plotted: Sequence[Series], width: int, height: int, log: bool) -> list[Text]:
    """Return the plot line by line: scale and curves, then the x axis."""
    limits = _limits(plotted)
    grid = [[(" ", "")] * width for _ in range(height)]
    for number, series in enumerate(plotted):
        for row, column in rasterize(series, limits.x, limits.y, width, height):
            marker = MARKERS[number % len(MARKERS)]
            grid[row][column] = (marker, COLORS[number % len(COLORS)])
    low, high = limits.y
    labels = {0: high, height // 2: (low + high) / 2, height - 1: low}
    lines = []
    for row, cells in enumerate(grid):
        label = ""
        if row in labels:
            label = f"{10 ** labels[row] if log else labels[row]:.3g}"
        lines.append(Text.assemble((f"{label:>{LABEL_WIDTH - 2}} ┤", "dim"), *cells))
    return lines + _axis_lines(limits.x, width)


def _limits(plotted: Sequence[Series]) -> _Limits:
    x = [value for series in plotted for value in series.x]
    y = [value for series in plotted for value in series.y]
    return _Limits((min(x), max(x)), (min(y), max(y)))


def _axis_lines(x: tuple[float, float], width: int) -> list[Text]:
    """Return the x axis and the labels of its two ends."""
    first = f"{x[0]:g}"
    last = f"{x[1]:g}"
    gap = " " * (width - len(first) - len(last))
    return [
        Text(" " * (LABEL_WIDTH - 1) + "└" + "─" * (width - 1), style="dim"),
        Text(" " * LABEL_WIDTH + first + gap + last, style="dim"),
    ]


def _legend_lines(plotted: Sequence[Series], width: int, console: Console) -> list[Text]:
    """Return a line for each curve, several where its name is wider than the plot."""
    lines = []
    for number, series in enumerate(plotted):
        marker = MARKERS[number % len(MARKERS)]
        color = COLORS[number % len(COLORS)]
        for index, part in enumerate(Text(series.name).wrap(console, width - 2, overflow="fold")):
            mark = " " if index else marker
            lines.append(Text(f"{' ' * LABEL_WIDTH}{mark} {part}", color))
    return lines


def _log10(series: Series) -> Series:
    points = [(x, math.log10(y)) for x, y in zip(series.x, series.y, strict=True) if y > 0]
    return Series(series.name, [x for x, _ in points], [y for _, y in points])
