"""Plot a recipe's schedules over its epochs: learning rates by parameter group, jitter, resolution.

The learning rates are those the optimizer asks for, parameter by parameter (`Training.lr_of`);
parameters whose rates agree at every epoch share a curve. The reductions of a plateau schedule
depend on the validation error, so its later levels are drawn without a time.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from alexnet.analysis.plots.curves import set_lr_scale
from alexnet.analysis.plots.style import GRAY, INK, SMALL_FONT, figure_style, line_style
from alexnet.data.loader import resolution_at
from alexnet.recipes.layers import WeightedLayer
from alexnet.recipes.recipe import Recipe
from alexnet.recipes.schedules import PiecewiseLinear, PlateauState, ReduceOnPlateau

POINTS_PER_LINE = 200
FIGURE_WIDTH = 7.0  # inches
LR_HEIGHT = 2.7  # of the panel of learning rates
OTHER_HEIGHT = 1.25  # of each other panel
BEFORE_REDUCTIONS = PlateauState()


@dataclass(frozen=True)
class LrGroup:
    """Parameters with the same learning rates: a name for them all, and the rate at each epoch.

    `plateau_levels`: of a plateau schedule, the learning rate after each of its reductions.
    """

    name: str
    parameters: tuple[str, ...]
    lr: tuple[float, ...]
    plateau_levels: tuple[float, ...] = ()

    @property
    def frozen_from(self) -> int | None:
        """Return the index of the epoch from which the rate stays 0, if it was more before."""
        nonzero = [index for index, lr in enumerate(self.lr) if lr]
        if not nonzero or nonzero[-1] + 1 >= len(self.lr):
            return None
        return nonzero[-1] + 1


@dataclass(frozen=True)
class RecipeSchedules:
    """A recipe's schedules, evaluated at `epochs`.

    `color_jitter`: its standard deviation. `resolution`: pixels. `is_smooth`: whether a schedule is
    linear somewhere, so that points are joined by lines instead of steps.
    """

    recipe: str
    epochs: tuple[float, ...]
    groups: tuple[LrGroup, ...]
    color_jitter: tuple[float, ...]
    resolution: tuple[int, ...]
    is_smooth: bool

    def to_json(self) -> dict[str, Any]:
        """Return the plotted values as plain data."""
        groups = [
            {"name": group.name, "parameters": group.parameters, "lr": group.lr}
            for group in self.groups
        ]
        return {
            "recipe": self.recipe,
            "epochs": self.epochs,
            "groups": groups,
            "color_jitter": self.color_jitter,
            "resolution": self.resolution,
        }


def compute_schedules(recipe: Recipe) -> RecipeSchedules:
    """Evaluate a recipe's schedules where a value changes, and often where one changes linearly."""
    training = recipe.training
    augmentation = recipe.augmentation
    schedules = [training.lr, augmentation.color_jitter]
    schedules += [group.lr for group in training.param_groups if group.lr is not None]
    if augmentation.resolution_schedule:
        schedules.append(augmentation.resolution_schedule)
    is_smooth = any(isinstance(schedule, PiecewiseLinear) for schedule in schedules)
    starts = {0.0}
    for schedule in schedules:
        if not isinstance(schedule, ReduceOnPlateau):
            starts |= {start for start, _ in schedule.points}
    if is_smooth:
        starts |= {training.epochs * index / POINTS_PER_LINE for index in range(POINTS_PER_LINE)}
    epochs = sorted(start for start in starts if start < training.epochs)
    # The last value is the one just before the end, since a run is over at its last epoch's end.
    evaluated_at = [*epochs, math.nextafter(training.epochs, 0)]
    return RecipeSchedules(
        recipe.name,
        (*epochs, float(training.epochs)),
        _lr_groups(recipe, evaluated_at),
        tuple(augmentation.color_jitter.at(epoch) for epoch in evaluated_at),
        tuple(resolution_at(recipe, epoch) for epoch in evaluated_at),
        is_smooth,
    )


def _lr_groups(recipe: Recipe, epochs: Sequence[float]) -> tuple[LrGroup, ...]:
    """Group the parameters by their learning rates at all epochs."""
    names = [
        f"{layer.name}.{part}"
        for layer in recipe.network.layers
        if isinstance(layer, WeightedLayer)
        for part in ("weight", "bias")
    ]
    training = recipe.training
    reductions: list[PlateauState] = []
    if isinstance(training.lr, ReduceOnPlateau):
        reductions = [PlateauState(count + 1) for count in range(training.lr.max_reductions)]
    by_lr: dict[tuple[tuple[float, ...], tuple[float, ...]], list[str]] = {}
    for name in names:
        lr = tuple(training.lr_of(name, epoch, BEFORE_REDUCTIONS) for epoch in epochs)
        levels = tuple(training.lr_of(name, 0, state) for state in reductions)
        by_lr.setdefault((lr, levels), []).append(name)
    return tuple(
        LrGroup(_group_name(group, names), tuple(group), lr, levels)
        for (lr, levels), group in by_lr.items()
    )


def _group_name(group: Sequence[str], all_names: Sequence[str]) -> str:
    """Name some parameters: all parameters, weights, the other biases, conv1.weight."""
    if len(group) == len(all_names):
        return "all parameters"
    for ending, plural in ((".weight", "weights"), (".bias", "biases")):
        same_kind = [name for name in all_names if name.endswith(ending)]
        if set(group) == set(same_kind):
            return plural
        if set(group) < set(same_kind):
            return f"the other {plural}" if len(group) > 2 else ", ".join(group)
    return f"the other {len(group)} parameters" if len(group) > 3 else ", ".join(group)


def line_points(
    schedules: RecipeSchedules, values: Sequence[float]
) -> tuple[list[float], list[float]]:
    """Return x and y of a schedule's line; a step is two points at its epoch."""
    if schedules.is_smooth:
        return list(schedules.epochs), list(values)
    x = [epoch for epoch in schedules.epochs for _ in range(2)][1:-1]
    return x, [value for value in values[:-1] for _ in range(2)]


@figure_style()
def plot_schedules(schedules: RecipeSchedules) -> Figure:
    """Plot learning rates on top, and below them color jitter and resolution if used."""
    others: list[tuple[str, Sequence[float]]] = []
    if any(schedules.color_jitter):
        others.append(("color jitter", schedules.color_jitter))
    if len(set(schedules.resolution)) > 1:
        others.append(("size of the crops, pixels", schedules.resolution))
    heights = [LR_HEIGHT, *(OTHER_HEIGHT for _ in others)]
    figure = Figure((FIGURE_WIDTH, sum(heights) + 0.25), layout="constrained")
    grid = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)
    lr_axes, *other_axes = grid[:, 0]
    _draw_lr(lr_axes, schedules)
    lr_axes.set_title(f"{schedules.recipe}: learning rate")
    for axes, (title, values) in zip(other_axes, others, strict=True):
        axes.plot(schedules.epochs, values, color=INK, drawstyle="steps-post")
        axes.set_ylim(0, 1.25 * max(values))
        axes.set_title(title)
    figure.legend(loc="outside lower center", ncols=min(4, len(schedules.groups)))
    bottom = grid[-1, 0]
    bottom.set(xlabel="epoch", xlim=(0, schedules.epochs[-1]))
    bottom.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    return figure


def _draw_lr(axes: Axes, schedules: RecipeSchedules) -> None:
    """Draw a curve for each group, later ones thinner so that those below them can be seen."""
    count = len(schedules.groups)
    for index, group in enumerate(schedules.groups):
        style = line_style(index) | {"linewidth": 1.3 + 1.4 * min(3, count - 1 - index)}
        _draw_lr_group(axes, schedules, group, style)
        _draw_plateau_levels(axes, schedules.epochs[-1], group)
    values = [value for group in schedules.groups for value in (*group.lr, *group.plateau_levels)]
    set_lr_scale(axes, values, not schedules.is_smooth)


def _draw_lr_group(
    axes: Axes, schedules: RecipeSchedules, group: LrGroup, style: dict[str, Any]
) -> None:
    """Draw a group's learning rate; a cross marks where its parameters are frozen."""
    frozen_from = None if schedules.is_smooth else group.frozen_from
    epochs: Sequence[float] = schedules.epochs
    lr: Sequence[float] = group.lr
    if frozen_from is not None:
        epochs = epochs[: frozen_from + 1]
        lr = [*lr[:frozen_from], lr[frozen_from - 1]]
    axes.plot(
        epochs,
        lr,
        **style,
        label=group.name,
        drawstyle="default" if schedules.is_smooth else "steps-post",
        solid_capstyle="butt",
    )
    if frozen_from is not None:
        _mark_frozen(axes, epochs[-1], lr[-1], style["color"])


def _mark_frozen(axes: Axes, epoch: float, lr: float, color: str) -> None:
    axes.plot(epoch, lr, "x", color=color, markersize=8, markeredgewidth=1.8, zorder=5)
    axes.annotate(
        f"frozen from {epoch:g}",
        (epoch, lr),
        (-4, -5),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=SMALL_FONT,
        color=color,
    )


def _draw_plateau_levels(axes: Axes, end: float, group: LrGroup) -> None:
    """Draw a dotted line at the learning rate after each reduction."""
    for reduction, level in enumerate(group.plateau_levels, 1):
        axes.axhline(level, color=GRAY, linewidth=0.8, linestyle=":")
        text = f"after reduction {reduction}, when the validation error stops improving"
        axes.text(0.02 * end, 1.15 * level, text, fontsize=SMALL_FONT, color=GRAY)
