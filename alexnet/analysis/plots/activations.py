"""Plot the activation functions and their derivatives (paper, section 3.1).

Values are those that the network computes; derivatives are those that autograd gives, since they
are what a gradient is multiplied by on its way back.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from matplotlib.figure import Figure

from alexnet.analysis.plots.style import GRAY, LINE_STYLES, SERIES_COLORS, figure_style
from alexnet.core.errors import UsageError
from alexnet.models.layers import ACTIVATIONS
from alexnet.recipes.layers import Activation
from alexnet.recipes.recipe import Network

X_LIMIT = 5.0  # the functions are evaluated from -X_LIMIT to X_LIMIT
NUM_POINTS = 401


@dataclass(frozen=True)
class ActivationCurve:
    """An activation function's values and derivatives at the points x."""

    name: str
    x: tuple[float, ...]
    value: tuple[float, ...]
    derivative: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the plotted values as plain data."""
        return asdict(self)


def activation_names(network: Network) -> list[str]:
    """List a network's activation functions in the order of first use; UsageError if none."""
    names: list[str] = [layer.function for layer in network.layers if isinstance(layer, Activation)]
    if not names:
        raise UsageError(
            "this recipe's network has no activation function; leave the recipe out to plot all"
        )
    return list(dict.fromkeys(names))


def compute_activation_curve(name: str) -> ActivationCurve:
    """Evaluate an activation function and its derivative, in float64."""
    x = torch.linspace(-X_LIMIT, X_LIMIT, NUM_POINTS, dtype=torch.float64).requires_grad_()
    value = ACTIVATIONS[name]()(x)
    (derivative,) = torch.autograd.grad(value.sum(), x)
    return ActivationCurve(
        name, tuple(x.tolist()), tuple(value.tolist()), tuple(derivative.tolist())
    )


@figure_style()
def plot_activations(curves: Sequence[ActivationCurve]) -> Figure:
    """Plot values on the left and derivatives on the right."""
    figure = Figure((7.0, 2.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    for index, curve in enumerate(curves):
        style = {"color": SERIES_COLORS[index], "linestyle": LINE_STYLES[index]}
        left.plot(curve.x, curve.value, **style, label=curve.name)
        right.plot(curve.x, curve.derivative, **style, label=curve.name)
    left.set(title="f(x)", ylim=(-1.25, 2.5))
    right.set(title="f\N{PRIME}(x)", ylim=(-0.1, 1.2))
    for axes in (left, right):
        axes.set(xlabel="x", xlim=(-X_LIMIT, X_LIMIT))
        axes.axhline(0, color=GRAY, linewidth=0.6, zorder=0)
        axes.axvline(0, color=GRAY, linewidth=0.6, zorder=0)
    left.legend(loc="upper left")
    return figure
