"""How runs went, over each other: the loss, the validation errors and the learning rate over epochs, with the falls of the rate.

Records go in, panels come out, each readable at about a third of a page's width; the report of a run, the page that compares
several and `alexnet show curves` draw these same ones. With one run a colour is a curve; with several it is a run.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from alexnet.errors import AlexNetError
from alexnet.insight.figures.drawing import BLUE, FAINT, INK, RUST, SOFT, series_style, shortened, styled
from alexnet.insight.runs import Course, Record, names
from alexnet.recipes.schedules import Steps

PANEL = (3.5, 2.6)  # inches
STEPWISE = 10  # a rate with no more values than this falls in steps


@dataclass(frozen=True)
class Track:
    """A run's records of steps and of validated epochs, under a name; `smoothed`: its loss is against smoothed labels."""

    name: str
    steps: Sequence[Record]
    epochs: Sequence[Record]
    smoothed: bool = False
    sizes: Steps | None = None

    @property
    def at(self) -> np.ndarray:
        """The epoch of each recorded step."""
        return np.array([step["epoch"] for step in self.steps])

    @property
    def rate(self) -> np.ndarray:
        """The learning rate of each recorded step."""
        return np.array([step["rate"] for step in self.steps], float)

    @property
    def mean_loss(self) -> np.ndarray:
        """The training loss at each recorded step, averaged over half an epoch."""
        window = max(1, round(len(self.steps) / max(1.0, self.at[-1]) / 2))
        return running_mean(np.array([step["loss"] for step in self.steps], float), window)

    def validation(self, what: str) -> tuple[list[float], list[float]]:
        """Epochs and the validation's `loss`, `top1_error` or `top5_error`, where it is known."""
        known = [entry for entry in self.epochs if entry.get(f"val_{what}") is not None]
        return [entry["epoch"] for entry in known], [entry[f"val_{what}"] for entry in known]

    @property
    def stepwise(self) -> bool:
        """Whether the rate keeps a few values instead of changing all the time."""
        return len(np.unique(self.rate)) <= STEPWISE

    @property
    def falls(self) -> list[float]:
        """The epochs at which a stepwise rate fell."""
        lower = np.flatnonzero(np.diff(self.rate) < 0) + 1
        return self.at[lower].tolist() if self.stepwise else []

    def to_json(self) -> dict[str, Any]:
        """What is drawn, as plain data."""
        points = zip(self.at.tolist(), self.mean_loss.tolist(), self.rate.tolist(), strict=True)
        steps = [{"epoch": epoch, "mean_loss": loss, "rate": rate} for epoch, loss, rate in points]
        return {"run": self.name, "steps": steps, "epochs": [dict(entry) for entry in self.epochs], "rate_falls": self.falls}


def track(course: Course, name: str) -> Track:
    """A run's course under a name; AlexNetError where nothing has been recorded yet."""
    steps, recipe = course.of("step"), course.recipe
    if not steps:
        raise AlexNetError(f"{course.folder}: no steps recorded yet; wait until training has begun")
    return Track(name, steps, course.validated, recipe.training.smoothing > 0, recipe.views.sizes)


def tracks(courses: Sequence[Course]) -> list[Track]:
    """Several runs' courses, under names that tell them apart."""
    return [track(course, shortened(name, 30)) for course, name in zip(courses, names(courses), strict=True)]


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """The mean over a window centred on each value, over fewer at the ends."""
    sums = np.concatenate([[0], np.cumsum(values)])
    places = np.arange(len(values))
    first, last = np.maximum(places - window // 2, 0), np.minimum(places + window // 2 + 1, len(values))
    return (sums[last] - sums[first]) / (last - first)


# ---- the figures


Panel = Callable[[Axes, Sequence[Track]], None]


@styled()
def one(panel: Panel, of: Sequence[Track]) -> Figure:
    """One panel by itself."""
    figure = Figure(PANEL, layout="constrained")
    panel(figure.subplots(), of)
    return figure


@styled()
def curves(of: Sequence[Track]) -> Figure:
    """All panels beside each other; with several runs their names stand below."""
    panels: list[Panel] = [loss, *([errors] if any(each.epochs for each in of) else []), rates]
    rows = math.ceil(len(of) / 3) if len(of) > 1 else 0
    figure = Figure((PANEL[0] * len(panels), PANEL[1] + 0.1 + 0.2 * rows), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels)), panels, strict=True):
        panel(axes, of)
    if rows:
        lines = figure.axes[-1].get_lines()[: len(of)]
        figure.legend(lines, [each.name for each in of], loc="outside lower center", ncols=min(3, len(of)))
    return figure


def loss(axes: Axes, of: Sequence[Track]) -> None:
    """The training loss, its mean over half an epoch strong (of one run single batches faint), and the validation loss."""
    alone = len(of) == 1
    tops = []
    for place, each in enumerate(of):
        style, single = series_style(place), np.array([step["loss"] for step in each.steps], float)
        if alone:
            axes.plot(each.at, single, color=BLUE, alpha=0.25, linewidth=0.7)
        label = "training, labels smoothed" if each.smoothed else "training"
        axes.plot(each.at, each.mean_loss, **style, label=label if alone else None)
        x, y = each.validation("loss")
        of_validation = {"color": RUST, "marker": "."} if alone else {"color": style["color"], "linestyle": ":"}
        if x:
            axes.plot(x, y, **of_validation, markersize=4, label="validation" if alone else None)
        tops += [float(np.percentile(single, 99)), *y, 0.01]
    axes.set_ylim(0, 1.3 * max(tops))
    if alone:
        axes.legend(loc="upper right", ncols=2)
    _over_epochs(axes, "Loss" if alone else "Loss (validation dotted)", of)


def errors(axes: Axes, of: Sequence[Track]) -> None:
    """The validation errors after each epoch in percent, the best top-1 ringed; top-5 where there are classes enough."""
    alone, top = len(of) == 1, 0.0
    for place, each in enumerate(of):
        style, (x, y), (x5, y5) = series_style(place), each.validation("top1_error"), each.validation("top5_error")
        if not x:
            continue
        best, top = int(np.argmin(y)), max(top, *y)
        axes.plot(x, y, **style, marker=".", markersize=4, label="top-1" if alone else None)
        if x5:
            faint = {"color": SOFT, "marker": "."} if alone else {"color": style["color"], "linestyle": ":"}
            axes.plot(x5, y5, **faint, markersize=4, label="top-5" if alone else None)
        axes.plot(x[best], y[best], "o", color=style["color"], markersize=9, fillstyle="none", clip_on=False)
        if alone:
            axes.annotate(f"{y[best]:.1f}", (x[best], y[best]), (0, 9), textcoords="offset points", ha="center", color=BLUE)
    axes.set_ylim(0, 1.4 * top or 1)
    axes.set_yticks([tick for tick in axes.get_yticks() if tick <= min(100, 1.4 * top or 1)])
    if alone:
        axes.legend(loc="upper right", ncols=2)
    _over_epochs(axes, "Validation error, %" if alone else "Validation error, % (top-5 dotted)", of)


def rates(axes: Axes, of: Sequence[Track]) -> None:
    """The learning rate, logarithmic where it falls far in steps; of one run, bands say how many pixels a side the views had."""
    for place, each in enumerate(of):
        style = {"color": INK} if len(of) == 1 else series_style(place)
        axes.plot(each.at, each.rate, **style, drawstyle="steps-post" if each.stepwise else "default")
    scale_rates(axes, [value for each in of for value in each.rate.tolist()], all(each.stepwise for each in of))
    sizes = of[0].sizes if len(of) == 1 else None
    if sizes:
        _bands(axes, sizes, max(1, math.ceil(of[0].at[-1])))
    _over_epochs(axes, "Learning rate" + (", and side of the views" if sizes else ""), of)


def scale_rates(axes: Axes, values: Sequence[float], stepwise: bool) -> None:
    """An axis for rates: logarithmic where they fall far in steps, else from 0."""
    positive = [value for value in values if value > 0]
    if stepwise and positive and max(positive) > 20 * min(positive):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
        axes.set_ylim(min(positive) / 3, 3 * max(positive))
    else:
        axes.set_ylim(0, 1.3 * max(1e-9, *values))


def _bands(axes: Axes, sizes: Steps, end: int) -> None:
    """Every other size's epochs shaded, the side in pixels at its top."""
    starts = [start for start, _ in sizes.points if start < end]
    for place, (start, stop) in enumerate(zip(starts, [*starts[1:], end], strict=True)):
        if place % 2 == 0:
            axes.axvspan(start, stop, color="#f0efea", zorder=0, linewidth=0)
        if stop - start > end / 12:  # else its number would touch the next
            middle = (start + stop) / 2
            axes.text(middle, 0.93, f"{sizes.at(start):g}", transform=axes.get_xaxis_transform(), ha="center", color=SOFT)


def _over_epochs(axes: Axes, title: str, of: Sequence[Track]) -> None:
    """Title, an axis of whole epochs, and a mark on it wherever a rate fell."""
    axes.set(title=title, xlabel="epoch")
    axes.set_xlim(0, max(1, math.ceil(axes.dataLim.xmax)))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    for place, each in enumerate(of):
        colour = SOFT if len(of) == 1 else series_style(place)["color"]
        for epoch in each.falls:
            axes.axvline(epoch, color=FAINT, linewidth=0.8, zorder=0)
            axes.plot(epoch, 1, "v", transform=axes.get_xaxis_transform(), color=colour, markersize=5, clip_on=False)
