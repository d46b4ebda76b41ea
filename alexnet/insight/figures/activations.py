"""The functions of a unit's value and their derivatives: what the network computes, and what its gradient is multiplied by."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from matplotlib.figure import Figure

from alexnet.errors import UsageError
from alexnet.insight.figures.drawing import SERIES, SOFT, STYLES, styled
from alexnet.network.alexnet import ACTIVATIONS
from alexnet.recipes.layers import Activation
from alexnet.recipes.recipe import Network

REACH, POINTS = 5.0, 401  # how far to either side, and in how many points


@dataclass(frozen=True)
class Curve:
    """A function's values and derivatives at x."""

    name: str
    x: tuple[float, ...]
    value: tuple[float, ...]
    derivative: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """What is drawn, as plain data."""
        return asdict(self)


def used(network: Network) -> list[str]:
    """The functions a network has, in the order in which they first occur; UsageError if it has none."""
    found: list[str] = list(dict.fromkeys(layer.function for layer in network.layers if isinstance(layer, Activation)))
    if not found:
        raise UsageError("this recipe's network has no activation to draw; leave the recipe out to see all there are")
    return found


def curve(name: str) -> Curve:
    """The function as the network computes it, and its derivative as autograd does."""
    x = torch.linspace(-REACH, REACH, POINTS, dtype=torch.float64).requires_grad_()
    value = ACTIVATIONS[name](x)
    (derivative,) = torch.autograd.grad(value.sum(), x)
    return Curve(name, *(tuple(each.tolist()) for each in (x, value, derivative)))


@styled()
def activations(of: Sequence[Curve]) -> Figure:
    """Values on the left, derivatives on the right."""
    figure = Figure((7.0, 2.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    for place, each in enumerate(of):
        style = {"color": SERIES[place], "linestyle": STYLES[place]}
        left.plot(each.x, each.value, **style, label=each.name)
        right.plot(each.x, each.derivative, **style, label=each.name)
    for axes, title, limits in ((left, "f(x)", (-1.25, 2.5)), (right, "f\u2032(x)", (-0.1, 1.2))):
        axes.set(title=title, xlabel="x", xlim=(-REACH, REACH), ylim=limits)
        axes.axhline(0, color=SOFT, linewidth=0.6, zorder=0)
        axes.axvline(0, color=SOFT, linewidth=0.6, zorder=0)
    left.legend(loc="upper left")
    return figure
