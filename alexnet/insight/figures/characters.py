"""Curves in characters, for a terminal: every series has a mark of its own, so that colour is not needed to tell them apart.

As wide as the window and a third of its height or so; where output is no terminal, 80 columns without colour.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.text import Text

MARKS = "●○▲△■□◆◇"
COLOURS = ("blue", "red", "green", "magenta", "yellow", "cyan", "white", "bright_black")
GUTTER, WIDEST, LEAST, MOST = 11, 120, 8, 24  # characters: the scale at the left, the widest plot; its lowest and highest


@dataclass(frozen=True)
class Series:
    """A name and the points of a curve, x ascending."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


def plotted(title: str, series: Sequence[Series], log: bool = False) -> str:
    """The curves under a title, over an axis of their x; `log`: on a scale of powers of ten, without what is not above 0."""
    console = Console()
    width = min(WIDEST, console.width - 1) - GUTTER
    known = [_logarithmic(each) if log else each for each in series]
    known = [each for each in known if len(each.x)]
    height = max(LEAST, min(MOST, console.height // 2 - 4))
    with console.capture() as captured:
        console.print(Text(title, style="bold"))
        for line in [*_lines(known, width, height, log), *_legend(known, width, console)]:
            console.print(line, no_wrap=True, overflow="crop")
    return captured.get().rstrip("\n")


def cells(of: Series, x: tuple[float, float], y: tuple[float, float], width: int, height: int) -> list[tuple[int, int]]:
    """(row, column) of the characters a curve goes through, row 0 at the top; between two points it runs straight."""
    scale = (width - 1) / ((x[1] - x[0]) or 1.0)
    columns = np.unique(np.rint((np.asarray(of.x) - x[0]) * scale).astype(int))
    every = np.arange(columns[0], columns[-1] + 1)
    values = np.interp(every / scale + x[0], of.x, of.y)
    share = (values - y[0]) / ((y[1] - y[0]) or 1.0)
    rows = np.rint((1 - share) * (height - 1)).astype(int)
    return [(int(row), int(column)) for row, column in zip(rows, every, strict=True) if 0 <= row < height]


def _lines(known: Sequence[Series], width: int, height: int, log: bool) -> list[Text]:
    """The plot line by line: scale, curves, axis."""
    xs, ys = ([value for each in known for value in getattr(each, axis)] for axis in ("x", "y"))
    x, y = (min(xs), max(xs)), (min(ys), max(ys))
    grid = [[(" ", "")] * width for _ in range(height)]
    for number, each in enumerate(known):
        for row, column in cells(each, x, y, width, height):
            grid[row][column] = MARKS[number % len(MARKS)], COLOURS[number % len(COLOURS)]
    told = {0: y[1], height // 2: (y[0] + y[1]) / 2, height - 1: y[0]}
    lines = []
    for row, line in enumerate(grid):
        scale = f"{10 ** told[row] if log else told[row]:.3g}" if row in told else ""
        lines.append(Text.assemble((f"{scale:>{GUTTER - 2}} ┤", "dim"), *line))
    ends = f"{x[0]:g}", f"{x[1]:g}"
    lines.append(Text(" " * (GUTTER - 1) + "└" + "─" * (width - 1), style="dim"))
    lines.append(Text(" " * GUTTER + ends[0] + " " * (width - len(ends[0]) - len(ends[1])) + ends[1], style="dim"))
    return lines


def _legend(known: Sequence[Series], width: int, console: Console) -> list[Text]:
    """A line for each curve, and more where its name is longer than the plot is wide."""
    lines = []
    for number, each in enumerate(known):
        for place, part in enumerate(Text(each.name).wrap(console, width - 2, overflow="fold")):
            mark = " " if place else MARKS[number % len(MARKS)]
            lines.append(Text(f"{' ' * GUTTER}{mark} {part}", COLOURS[number % len(COLOURS)]))
    return lines


def _logarithmic(of: Series) -> Series:
    points = [(x, math.log10(y)) for x, y in zip(of.x, of.y, strict=True) if y > 0]
    return Series(of.name, [x for x, _ in points], [y for _, y in points])
