"""Plot training curves of one or several runs: loss, validation error and learning rate.

Each panel is readable at about a third of a page's width; a run's report, the comparison of
several and `alexnet show curves` use the same ones. With one run a color is a curve, with several
it is a run.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from alexnet.analysis.plots.style import (
    BLUE,
    GRAY,
    INK,
    LIGHT_GRAY,
    RUST,
    figure_style,
    line_style,
    shorten,
)
from alexnet.core.errors import AlexNetError
from alexnet.recipes.recipe import Recipe
from alexnet.recipes.schedules import PiecewiseConstant
from alexnet.training.run_dir import Record, RunHistory, display_names

PANEL_SIZE = (3.5, 2.6)  # inches
MAX_STEPWISE_VALUES = 10  # a learning rate with no more different values than this is stepwise


@dataclass(frozen=True)
class RunCurves:
    """A run's records of training steps and of validated epochs, under a name.

    `label_smoothing`: whether the training loss is against smoothed labels. `resolution_schedule`:
    the size in pixels of what the network sees during training, where it changes.
    """

    name: str
    steps: Sequence[Record]
    epochs: Sequence[Record]
    label_smoothing: bool = False
    resolution_schedule: PiecewiseConstant | None = None

    @property
    def step_epochs(self) -> np.ndarray:
        """Return the (fractional) epoch of each recorded step."""
        return np.array([step["epoch"] for step in self.steps])

    @property
    def loss(self) -> np.ndarray:
        """Return the training loss of each recorded step."""
        return np.array([step["loss"] for step in self.steps], float)

    @property
    def lr(self) -> np.ndarray:
        """Return the learning rate of each recorded step."""
        return np.array([step["lr"] for step in self.steps], float)

    @property
    def mean_loss(self) -> np.ndarray:
        """Return the training loss at each recorded step, averaged over half an epoch."""
        window = max(1, round(len(self.steps) / max(1.0, self.step_epochs[-1]) / 2))
        return running_mean(self.loss, window)

    def validation(self, metric: str) -> tuple[list[float], list[float]]:
        """Return epochs and values of `loss`, `top1_error` or `top5_error`, where recorded."""
        key = f"val_{metric}"
        recorded = [epoch for epoch in self.epochs if epoch.get(key) is not None]
        return [epoch["epoch"] for epoch in recorded], [epoch[key] for epoch in recorded]

    @property
    def is_stepwise(self) -> bool:
        """Return whether the learning rate has few values instead of changing all the time."""
        return len(np.unique(self.lr)) <= MAX_STEPWISE_VALUES

    @property
    def lr_drops(self) -> list[float]:
        """Return the epochs at which a stepwise learning rate dropped."""
        lower = np.flatnonzero(np.diff(self.lr) < 0) + 1
        return self.step_epochs[lower].tolist() if self.is_stepwise else []

    def to_json(self) -> dict[str, Any]:
        """Return the plotted values as plain data."""
        points = zip(
            self.step_epochs.tolist(), self.mean_loss.tolist(), self.lr.tolist(), strict=True
        )
        return {
            "run": self.name,
            "steps": [{"epoch": epoch, "mean_loss": loss, "lr": lr} for epoch, loss, lr in points],
            "epochs": [dict(epoch) for epoch in self.epochs],
            "lr_drops": self.lr_drops,
        }


def run_curves(run: RunHistory, name: str) -> RunCurves:
    """Collect a run's curves under a name; AlexNetError where nothing has been recorded yet."""
    steps = run.of("step")
    if not steps:
        raise AlexNetError(f"{run.folder}: no steps recorded yet; wait until training has begun")
    recipe = run.recipe
    return RunCurves(
        name,
        steps,
        run.validated,
        recipe.training.label_smoothing > 0,
        crop_sizes(recipe),
    )


def crop_sizes(recipe: Recipe) -> PiecewiseConstant | None:
    """Return the sizes of the crops, at most the network's input; None where they never change."""
    schedule = recipe.augmentation.resolution_schedule
    if schedule is None:
        return None
    sizes = schedule.capped(recipe.network.input[1])
    return sizes if len({size for _, size in sizes.points}) > 1 else None


def compute_curves(runs: Sequence[RunHistory]) -> list[RunCurves]:
    """Collect the curves of several runs, under names that tell them apart."""
    return [
        run_curves(run, shorten(name, 30))
        for run, name in zip(runs, display_names(runs), strict=True)
    ]


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Average over a window centered on each value; the window is smaller at both ends."""
    sums = np.concatenate([[0], np.cumsum(values)])
    indices = np.arange(len(values))
    first = np.maximum(indices - window // 2, 0)
    last = np.minimum(indices + window // 2 + 1, len(values))
    return (sums[last] - sums[first]) / (last - first)


# ---- the figures


Panel = Callable[[Axes, Sequence[RunCurves]], None]


@figure_style()
def plot_panel(panel: Panel, runs: Sequence[RunCurves]) -> Figure:
    """Plot a single panel."""
    figure = Figure(PANEL_SIZE, layout="constrained")
    panel(figure.subplots(), runs)
    return figure


@figure_style()
def plot_curves(runs: Sequence[RunCurves]) -> Figure:
    """Plot all panels side by side; the names of several runs are below."""
    panels: list[Panel] = [draw_loss]
    if any(run.epochs for run in runs):
        panels.append(draw_errors)
    panels.append(draw_lr)
    legend_rows = math.ceil(len(runs) / 3) if len(runs) > 1 else 0
    width, height = PANEL_SIZE
    size = (width * len(panels), height + 0.1 + 0.2 * legend_rows)
    figure = Figure(size, layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels)), panels, strict=True):
        panel(axes, runs)
    if legend_rows:
        figure.legend(
            figure.axes[-1].get_lines()[: len(runs)],
            [run.name for run in runs],
            loc="outside lower center",
            ncols=min(3, len(runs)),
        )
    return figure


def draw_loss(axes: Axes, runs: Sequence[RunCurves]) -> None:
    """Draw the mean training loss and the validation loss; of one run also single batches."""
    single = len(runs) == 1
    tops = [0.01]
    for index, run in enumerate(runs):
        style = line_style(index)
        loss = run.loss
        if single:
            axes.plot(run.step_epochs, loss, color=BLUE, alpha=0.25, linewidth=0.7)
        label = "training, labels smoothed" if run.label_smoothing else "training"
        axes.plot(run.step_epochs, run.mean_loss, **style, label=label if single else None)
        x, y = run.validation("loss")
        if x:
            _draw_secondary(axes, x, y, style, RUST, "validation", single)
        tops += [float(np.percentile(loss, 99)), *y]
    axes.set_ylim(0, 1.3 * max(tops))
    if single:
        axes.legend(loc="upper right", ncols=2)
    _set_epoch_axis(axes, "Loss" if single else "Loss (validation dotted)", runs)


def draw_errors(axes: Axes, runs: Sequence[RunCurves]) -> None:
    """Draw the validation errors in percent, the best top-1 marked; top-5 where recorded."""
    single = len(runs) == 1
    top = 0.0
    for index, run in enumerate(runs):
        style = line_style(index)
        x, y = run.validation("top1_error")
        if not x:
            continue
        top = max(top, *y)
        axes.plot(x, y, **style, marker=".", markersize=4, label="top-1" if single else None)
        x5, y5 = run.validation("top5_error")
        if x5:
            _draw_secondary(axes, x5, y5, style, GRAY, "top-5", single)
        _mark_best(axes, x, y, style["color"], single)
    limit = 1.4 * top or 1
    axes.set_ylim(0, limit)
    axes.set_yticks([position for position in axes.get_yticks() if position <= min(100, limit)])
    if single:
        axes.legend(loc="upper right", ncols=2)
    title = "Validation error, %" if single else "Validation error, % (top-5 dotted)"
    _set_epoch_axis(axes, title, runs)


def _draw_secondary(
    axes: Axes,
    x: Sequence[float],
    y: Sequence[float],
    style: dict[str, Any],
    color: str,
    label: str,
    single: bool,
) -> None:
    """Draw a run's second curve: in `color` with points for a single run, else dotted."""
    if single:
        axes.plot(x, y, color=color, marker=".", markersize=4, label=label)
    else:
        axes.plot(x, y, color=style["color"], linestyle=":", markersize=4)


def _mark_best(
    axes: Axes, x: Sequence[float], y: Sequence[float], color: str, with_value: bool
) -> None:
    """Draw a ring around the lowest value, with the value above it if asked for."""
    best = int(np.argmin(y))
    point = (x[best], y[best])
    axes.plot(*point, "o", color=color, markersize=9, fillstyle="none", clip_on=False)
    if with_value:
        axes.annotate(
            f"{y[best]:.1f}",
            point,
            (0, 9),
            textcoords="offset points",
            ha="center",
            color=BLUE,
        )


def draw_lr(axes: Axes, runs: Sequence[RunCurves]) -> None:
    """Draw the learning rate; of one run also bands with the image size of its crops."""
    single = len(runs) == 1
    for index, run in enumerate(runs):
        style = {"color": INK} if single else line_style(index)
        drawstyle = "steps-post" if run.is_stepwise else "default"
        axes.plot(run.step_epochs, run.lr, **style, drawstyle=drawstyle)
    values = [value for run in runs for value in run.lr.tolist()]
    set_lr_scale(axes, values, all(run.is_stepwise for run in runs))
    resolutions = runs[0].resolution_schedule if single else None
    title = "Learning rate"
    if resolutions:
        _draw_resolution_bands(axes, resolutions, max(1, math.ceil(runs[0].step_epochs[-1])))
        title += ", and size of the crops"
    _set_epoch_axis(axes, title, runs)


def set_lr_scale(axes: Axes, values: Sequence[float], stepwise: bool) -> None:
    """Set the y axis for learning rates: logarithmic where they drop far in steps, else from 0."""
    positive = [value for value in values if value > 0]
    if stepwise and positive and max(positive) > 20 * min(positive):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
        axes.set_ylim(min(positive) / 3, 3 * max(positive))
    else:
        axes.set_ylim(0, 1.3 * max(1e-9, *values))


def _draw_resolution_bands(axes: Axes, resolutions: PiecewiseConstant, end: int) -> None:
    """Shade the epochs of every other image size, the size in pixels at the top."""
    starts = [start for start, _ in resolutions.points if start < end]
    for index, (start, stop) in enumerate(zip(starts, [*starts[1:], end], strict=True)):
        if index % 2 == 0:
            axes.axvspan(start, stop, color="#f0efea", zorder=0, linewidth=0)
        if stop - start > end / 12:  # else the number would touch the next one
            axes.text(
                (start + stop) / 2,
                0.93,
                f"{resolutions.at(start):g}",
                transform=axes.get_xaxis_transform(),
                ha="center",
                color=GRAY,
            )


def _set_epoch_axis(axes: Axes, title: str, runs: Sequence[RunCurves]) -> None:
    """Set the title and an axis of whole epochs, and mark where a learning rate dropped."""
    axes.set(title=title, xlabel="epoch")
    last = math.ceil(axes.dataLim.xmax - 1e-6)  # the edge of a band may be rounded up
    axes.set_xlim(0, max(1, last))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    for index, run in enumerate(runs):
        color = GRAY if len(runs) == 1 else line_style(index)["color"]
        for epoch in run.lr_drops:
            axes.axvline(epoch, color=LIGHT_GRAY, linewidth=0.8, zorder=0)
            axes.plot(
                epoch,
                1,
                "v",
                transform=axes.get_xaxis_transform(),
                color=color,
                markersize=5,
                clip_on=False,
            )
