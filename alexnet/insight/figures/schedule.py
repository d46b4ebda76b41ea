"""A recipe's schedules over its epochs, before anything is trained: rates by group of parameters, noise, side of the views.

The rates are those the optimizer would ask for, parameter by parameter (`Training.rate_of`); parameters whose rates agree at
every epoch share a curve. A plateau's cuts wait for the validation error, so its later rates are drawn as levels without a time.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from alexnet.data.batches import side_at
from alexnet.insight.figures.curves import scale_rates
from alexnet.insight.figures.drawing import INK, SMALL, SOFT, series_style, styled
from alexnet.recipes.layers import Weighted
from alexnet.recipes.recipe import Recipe
from alexnet.recipes.schedules import Line, Plateau, PlateauState

FINE = 200  # points of a line
WIDTH, TALL, LOW = 7.0, 2.7, 1.25  # inches
NEVER = PlateauState()


@dataclass(frozen=True)
class Group:
    """Parameters whose rates agree at all `epochs`: what they are called together, and the rates."""

    name: str
    parameters: tuple[str, ...]
    rates: tuple[float, ...]
    levels: tuple[float, ...] = ()  # of a plateau, after each of its cuts


@dataclass(frozen=True)
class Plan:
    """A recipe's schedules at `epochs`: rates by group, deviation of the colour noise, side of the views in pixels."""

    recipe: str
    epochs: tuple[float, ...]
    groups: tuple[Group, ...]
    noise: tuple[float, ...]
    sides: tuple[int, ...]
    smooth: bool  # a rate runs in straight lines somewhere

    def to_json(self) -> dict[str, Any]:
        """What is drawn, as plain data."""
        groups = [{"name": group.name, "parameters": group.parameters, "rates": group.rates} for group in self.groups]
        return {"recipe": self.recipe, "epochs": self.epochs, "groups": groups, "noise": self.noise, "sides": self.sides}


def planned(recipe: Recipe) -> Plan:
    """All schedules of a recipe at the epochs where something happens, and between them where something runs straight."""
    training, views = recipe.training, recipe.views
    own = [training.rate, *(apart.rate for apart in training.apart if apart.rate is not None), views.noise]
    schedules = [*own, *([views.sizes] if views.sizes else [])]
    smooth = any(isinstance(each, Line) for each in schedules)
    points = {start for each in schedules if not isinstance(each, Plateau) for start, _ in each.points}
    points |= {training.epochs * number / FINE for number in range(FINE)} if smooth else set()
    epochs = (*sorted(point for point in points | {0.0} if point < training.epochs), float(training.epochs))
    within = (*epochs[:-1], math.nextafter(training.epochs, 0))  # at its very end a run has just ended
    return Plan(
        recipe.name,
        epochs,
        _groups(recipe, within),
        tuple(views.noise.at(epoch) for epoch in within),
        tuple(side_at(recipe, epoch) for epoch in within),
        smooth,
    )


def _groups(recipe: Recipe, epochs: Sequence[float]) -> tuple[Group, ...]:
    names = [
        f"{layer.name}.{part}" for layer in recipe.network.layers if isinstance(layer, Weighted) for part in ("weight", "bias")
    ]
    training = recipe.training
    cuts = [PlateauState(cuts=cut) for cut in range(1, getattr(training.rate, "cuts", 0) + 1)]
    together: dict[tuple[tuple[float, ...], ...], list[str]] = {}
    for name in names:
        rates = tuple(training.rate_of(name, epoch, NEVER) for epoch in epochs)
        levels = tuple(training.rate_of(name, 0, state) for state in cuts)
        together.setdefault((rates, levels), []).append(name)
    return tuple(Group(_called(group, names), tuple(group), rates, levels) for (rates, levels), group in together.items())


def _called(group: Sequence[str], everything: Sequence[str]) -> str:
    """What some parameters are called together: all parameters, weights, the other biases, conv1.weight."""
    if len(group) == len(everything):
        return "all parameters"
    for ending, called in ((".weight", "weights"), (".bias", "biases")):
        alike = [name for name in everything if name.endswith(ending)]
        if all(name in alike for name in group):
            return called if len(group) == len(alike) else f"the other {called}" if len(group) > 2 else ", ".join(group)
    return f"the other {len(group)} parameters" if len(group) > 3 else ", ".join(group)


def corners(plan: Plan, values: Sequence[float]) -> tuple[list[float], list[float]]:
    """x and y of a schedule's course; a step is two points at its epoch."""
    if plan.smooth:
        return list(plan.epochs), list(values)
    x = [epoch for epoch in plan.epochs for _ in range(2)][1:-1]
    return x, [value for value in values[:-1] for _ in range(2)]


@styled()
def schedule(plan: Plan) -> Figure:
    """The figure: rates on top, below them noise and side where they change or are not nothing."""
    below = [("colour noise", plan.noise)] if any(plan.noise) else []
    below += [("side of the views, pixels", plan.sides)] if len(set(plan.sides)) > 1 else []
    heights = [TALL, *(LOW for _ in below)]
    figure = Figure((WIDTH, sum(heights) + 0.25), layout="constrained")
    axes = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    _rates(axes[0], plan)
    axes[0].set_title(f"{plan.recipe}: learning rate")
    for panel, (title, values) in zip(axes[1:], below, strict=True):
        panel.plot(plan.epochs, values, color=INK, drawstyle="steps-post")
        panel.set_ylim(0, 1.25 * max(values))
        panel.set_title(title)
    figure.legend(loc="outside lower center", ncols=min(4, len(plan.groups)))
    axes[-1].set(xlabel="epoch", xlim=(0, plan.epochs[-1]))
    axes[-1].xaxis.set_major_locator(MaxNLocator(10, integer=True))
    return figure


def _rates(axes: Axes, plan: Plan) -> None:
    """A curve for each group, the later ones thinner so that those below show; the levels of a plateau dotted."""
    for place, group in enumerate(plan.groups):
        style = series_style(place) | {"linewidth": 1.3 + 1.4 * min(3, len(plan.groups) - 1 - place)}
        held = None if plan.smooth else _held(group)
        end = len(plan.epochs) if held is None else held + 1
        rates = group.rates[:end] if held is None else (*group.rates[:held], group.rates[held - 1])
        drawn: dict[str, Any] = {
            "label": group.name,
            "drawstyle": "default" if plan.smooth else "steps-post",
            "solid_capstyle": "butt",
        }
        axes.plot(plan.epochs[:end], rates, **style, **drawn)
        if held is not None:
            _mark_held(axes, plan.epochs[held], rates[-1], style["color"])
        for cut, level in enumerate(group.levels, 1):
            axes.axhline(level, color=SOFT, linewidth=0.8, linestyle=":")
            text = f"after cut {cut}, when the validation error asks for it"
            axes.text(0.02 * plan.epochs[-1], 1.15 * level, text, fontsize=SMALL, color=SOFT)
    values = [value for group in plan.groups for value in (*group.rates, *group.levels)]
    scale_rates(axes, values, not plan.smooth)


def _held(group: Group) -> int | None:
    """The place of the epoch from which a group's rate is 0 to the end, if it was more before."""
    last = max((place for place, rate in enumerate(group.rates) if rate), default=len(group.rates))
    return last + 1 if last + 1 < len(group.rates) else None


def _mark_held(axes: Axes, epoch: float, rate: float, colour: str) -> None:
    axes.plot(epoch, rate, "x", color=colour, markersize=8, markeredgewidth=1.8, zorder=5)
    said: dict[str, Any] = {"textcoords": "offset points", "ha": "right", "va": "top", "fontsize": SMALL, "color": colour}
    axes.annotate(f"held from {epoch:g}", (epoch, rate), (-4, -5), **said)
