"""Plot the filters of the first convolution, tower by tower, as in the paper's figure 3.

Each filter is scaled to its own range around gray, and enlarged without smoothing.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from alexnet.analysis.plots.style import figure_style, hide_axes
from alexnet.core.errors import AlexNetError
from alexnet.models.alexnet import AlexNet
from alexnet.models.model_file import Classifier
from alexnet.recipes.layers import Conv

FILTERS_PER_ROW = 16  # three rows for each tower of 48, as in the paper
IMAGE_WIDTH = 768  # pixels the filters are enlarged to, about
GAP = 1  # pixels between filters, at the filters' own size
FIGURE_WIDTH = 7.0  # inches


@dataclass(frozen=True, eq=False)
class Filters:
    """The name and the weight float32 (out_channels, in_channels, rows, columns) of a convolution.

    `towers`: how many towers share its output channels.
    """

    layer: str
    weight: np.ndarray
    towers: int

    def to_json(self) -> dict[str, Any]:
        """Return the shape and each filter's largest weight, which has the strongest color."""
        return {
            "layer": self.layer,
            "shape": self.weight.shape,
            "towers": self.towers,
            "largest": np.abs(self.weight).max((1, 2, 3)).tolist(),
        }


def first_layer_filters(classifier: Classifier) -> Filters:
    """Return the filters of a network's first convolution; AlexNetError if it has none."""
    filters = find_filters(classifier.model)
    if filters is None:
        raise AlexNetError(
            f"the network of {classifier.recipe.name} has no convolution, so no filters to show"
        )
    return filters


def find_filters(model: AlexNet) -> Filters | None:
    """Return the filters of a model's first convolution; None if it has none."""
    network = model.spec
    convolutions = [layer for layer in network.layers if isinstance(layer, Conv)]
    if not convolutions:
        return None
    name = convolutions[0].name
    weight = model.get_parameter(f"{name}.weight").detach().float().cpu().numpy()
    return Filters(name, weight, network.towers if len(weight) % network.towers == 0 else 1)


def tile_filters(weight: np.ndarray, towers: int = 1) -> Image.Image:
    """Arrange filters (out_channels, in_channels, rows, columns) in rows of 16, tower below tower.

    In color for three input channels, else the mean over them in gray; gaps are white.
    """
    count, _, height, width = weight.shape
    levels = gray_levels(weight)
    per_tower = -(-count // towers)
    columns = min(FILTERS_PER_ROW, per_tower)
    rows = -(-per_tower // columns)  # of one tower
    sheet_height = towers * rows * (height + GAP) + (towers - 1) * GAP
    sheet = np.full((sheet_height, columns * (width + GAP), 3), 255, np.uint8)
    for number, pixels in enumerate(levels):
        tower, index = divmod(number, per_tower)
        top = (tower * rows + index // columns) * (height + GAP) + tower * GAP
        left = index % columns * (width + GAP)
        sheet[top : top + height, left : left + width] = pixels
    image = Image.fromarray(sheet[:-GAP, :-GAP])
    factor = max(1, IMAGE_WIDTH // image.width)
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def gray_levels(weight: np.ndarray) -> np.ndarray:
    """Scale each filter to its own range around 127.5: uint8 (out_channels, rows, columns, 3)."""
    channels = weight.shape[1]
    rgb = weight if channels == 3 else weight.mean(1, keepdims=True).repeat(3, 1)
    largest = np.maximum(np.abs(rgb).max((1, 2, 3), keepdims=True), np.finfo(np.float32).tiny)
    return np.rint(127.5 + 127.5 * rgb / largest).astype(np.uint8).transpose(0, 2, 3, 1)


@figure_style()
def plot_filters(filters: Filters) -> Figure:
    """Plot the filters, each tower under its own heading."""
    towers = filters.towers
    parts = [np.asarray(tile_filters(part)) for part in np.split(filters.weight, towers)]
    figure_height = sum(0.35 + FIGURE_WIDTH * len(part) / part.shape[1] for part in parts) + 0.1
    figure = Figure((FIGURE_WIDTH, figure_height), layout="constrained")
    count, channels, height, width = filters.weight.shape
    size = f"{height} × {width} × {channels}"
    title = f"{count // towers} filters of {filters.layer}, {size}"
    column = figure.subplots(towers, squeeze=False)[:, 0]
    for tower, (axes, part) in enumerate(zip(column, parts, strict=True), 1):
        hide_axes(axes).imshow(part, interpolation="nearest")
        axes.set_title(f"tower {tower}: {title}" if towers > 1 else title, fontsize=9)
    return figure
