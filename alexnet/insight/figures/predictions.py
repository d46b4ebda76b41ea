"""What a network says of some pictures: each with its five likeliest classes as bars, the true one marked (paper, figure 4).

The probabilities are those of `evaluate`, over the model's own views. Pictures of a store are spread evenly over a split, not
picked; of the mistakes, as many as asked for are looked for in a fixed shuffle of the split, until there are enough.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alexnet.data.groups import Group, from_split
from alexnet.data.store import Split
from alexnet.evaluate import VIEWS_AT_ONCE, Seer, Tick, probabilities
from alexnet.insight.figures.drawing import BLUE, INK, RUST, SMALL, bare, shortened, show_pixels, styled
from alexnet.randomness import key, permutation
from alexnet.runtime import Runtime

BARS = 5
COLUMNS, WIDE, TALL = 4, 1.75, 2.95  # pictures in a row, and inches for each
OTHER = "#d9d8d2"  # bars of the classes that are neither said nor true


@dataclass(frozen=True, eq=False)
class Told:
    """A picture uint8 (S, S, C), the probability of every class (classes,), and its true class, if it is known."""

    name: str
    square: np.ndarray
    probability: np.ndarray
    label: int | None = None

    @property
    def likeliest(self) -> list[int]:
        """The likeliest classes, at most five."""
        return [int(place) for place in np.argsort(-self.probability, kind="stable")[:BARS]]

    @property
    def wrong(self) -> bool:
        """Whether the likeliest class is not the true one."""
        return self.label is not None and self.likeliest[0] != self.label

    def to_json(self, classes: Sequence[str]) -> dict[str, Any]:
        """What is drawn, as plain data."""
        top = [{"class": classes[place], "probability": float(self.probability[place])} for place in self.likeliest]
        return {"name": self.name, "true": None if self.label is None else classes[self.label], "top": top}


def spread(count: int, over: int) -> list[int]:
    """So many numbers below `over`, evenly spread; all of them where there are no more."""
    return [number * over // min(count, over) for number in range(min(count, over))]


def told(seer: Seer, pictures: Group, views: int, runtime: Runtime) -> list[Told]:
    """What is said of some pictures, all of which could be read."""
    said = probabilities(seer, np.stack(pictures.readable), views, runtime).numpy()
    return [Told(*each) for each in zip(pictures.names, pictures.readable, said, pictures.labels, strict=True)]


def errors(seer: Seer, split: Split, count: int, views: int, runtime: Runtime, progress: Tick) -> list[Told]:
    """The first mistakes in a shuffle of the split; fewer than `count` where there are no more."""
    order, found = permutation(key("show", "errors"), len(split)).tolist(), list[Told]()
    size = max(1, VIEWS_AT_ONCE // views)
    for first in range(0, len(order), size):
        (some,) = from_split(split, order[first : first + size], runtime.workers)
        found += [each for each in told(seer, some, views, runtime) if each.wrong]
        progress(min(first + size, len(order)), len(order))
        if len(found) >= count:
            break
    return found[:count]


@styled()
def predictions(of: Sequence[Told], classes: Sequence[str]) -> Figure:
    """The pictures in rows of four, each over its bars: blue the true class, rust a wrong first answer, grey all others."""
    columns = min(COLUMNS, len(of))
    rows = -(-len(of) // columns)
    figure = Figure((WIDE * columns, TALL * rows), layout="constrained")
    grid = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=(1.75, 1.0) * rows)
    for axes in grid.flat:
        bare(axes)
    for number, told in enumerate(of):
        row, column = divmod(number, columns)
        _picture(grid[2 * row, column], told, classes)
        _bars(grid[2 * row + 1, column], told, classes)
    return figure


def _picture(axes: Axes, told: Told, classes: Sequence[str]) -> None:
    show_pixels(axes, told.square)
    name = told.name.rsplit("/", 1)[-1] if told.label is None else classes[told.label]
    axes.set_title(shortened(name, 20), fontsize=9, weight="bold", loc="center")


def _bars(axes: Axes, told: Told, classes: Sequence[str]) -> None:
    """The likeliest classes with their probabilities; the true class is marked by a tick as well as by its colour."""
    for row, place in enumerate(told.likeliest):
        share = float(told.probability[place])
        true = place == told.label
        colour = BLUE if true else RUST if row == 0 and told.label is not None else OTHER
        axes.barh(row, share, height=0.84, color=colour, alpha=1 if colour == OTHER else 0.45, linewidth=0)
        weight = "bold" if true else "normal"
        axes.text(
            0.02, row, ("\u2713 " if true else "") + shortened(classes[place], 15), va="center", fontsize=SMALL, weight=weight
        )
        axes.text(0.99, row, f"{100 * share:.0f} %", va="center", ha="right", fontsize=SMALL, color=INK)
    axes.set(xlim=(0, 1), ylim=(BARS - 0.5, -0.5))
