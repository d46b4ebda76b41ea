"""Plot saliency: which pixels of a crop the probability of a class depends on."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alexnet.analysis.format import format_count
from alexnet.analysis.plots.style import (
    DIVERGING,
    GRAY,
    SMALL_FONT,
    figure_style,
    hide_axes,
    shorten,
    show_image,
)
from alexnet.analysis.saliency import Saliency

ROW_HEIGHT = 1.95  # inches
FIGURE_WIDTH = 6.6


@figure_style()
def plot_saliency(results: Sequence[Saliency], classes: Sequence[str]) -> Figure:
    """Plot a row for each image: the crop, the gradient, and the occlusion map.

    In the occlusion map blue is probability lost and rust is probability gained.
    """
    figure = Figure((FIGURE_WIDTH, ROW_HEIGHT * len(results) + 0.35), layout="constrained")
    grid = figure.subplots(len(results), 3, squeeze=False)
    for (crop_axes, gradient_axes, occlusion_axes), result in zip(grid, results, strict=True):
        show_image(crop_axes, result.crop)
        caption = f"{shorten(classes[result.label])}, {100 * result.probability:.0f} %"
        crop_axes.set_xlabel(caption, fontsize=SMALL_FONT)
        limit = float(np.quantile(result.gradient, 0.995)) or 1.0
        hide_axes(gradient_axes).imshow(result.gradient, cmap="gray_r", vmin=0, vmax=limit)
        _draw_occlusion(occlusion_axes, result)
    for axes, title in zip(grid[0], ("crop", "gradient", "occlusion"), strict=True):
        axes.set_title(title, fontsize=9)
    return figure


def _draw_occlusion(axes: Axes, result: Saliency) -> None:
    """Draw the drop of probability at the patch's center, over the crop in gray.

    The outline of a patch in the upper left corner shows its size.
    """
    side = len(result.crop)
    patch = result.patch
    gray = result.crop.mean(2)
    hide_axes(axes).imshow(255 - (255 - gray) * 0.45, cmap="gray", vmin=0, vmax=255)
    limit = max(float(np.abs(result.probability_drop).max()), 0.01)
    first_center = result.corners[0] + patch / 2
    last_center = result.corners[-1] + patch / 2
    step = (last_center - first_center) / max(1, len(result.corners) - 1)
    low = first_center - step / 2 - 0.5
    high = last_center + step / 2 - 0.5
    axes.imshow(
        result.probability_drop,
        cmap=DIVERGING,
        vmin=-limit,
        vmax=limit,
        alpha=0.65,
        extent=(low, high, high, low),
        interpolation="bilinear",
    )
    axes.set(xlim=(-0.5, side - 0.5), ylim=(side - 0.5, -0.5))
    axes.plot([0, patch, patch, 0, 0], [0, 0, patch, patch, 0], color=GRAY, linewidth=0.8)
    points = format_count(round(100 * float(result.probability_drop.max())), "point")
    axes.set_xlabel(f"at most {points} lost", fontsize=SMALL_FONT)
