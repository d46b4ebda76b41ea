"""Plot the feature maps of one image: channels of every layer, all units of linear layers.

Each layer output is scaled to its own range around 0: positive is blue, negative rust. The channels
shown are evenly spaced, so that both towers are seen. The outputs are those that
`AlexNet.forward_intermediates` returns for the center crop.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alexnet.analysis.plots.sampling import evenly_spaced
from alexnet.analysis.plots.style import (
    DIVERGING,
    GRAY,
    INK,
    SMALL_FONT,
    figure_style,
    hide_axes,
    show_image,
)
from alexnet.core.device import Runtime
from alexnet.models.model_file import Classifier

NUM_CHANNELS = 16  # shown of a layer output, in one row
UNITS_PER_LINE = 128  # of a linear layer
FRAME_COLOR = "#dddcd6"
THIN_TIMES = "\N{THIN SPACE}×\N{THIN SPACE}"
# In inches:
MAP_SIZE = 0.42
MAP_GAP = 0.03
LABEL_WIDTH = 1.05
ROW_HEIGHT = 0.5
IMAGE_HEIGHT = 1.15  # of the part with the image, above the rows


@dataclass(frozen=True, eq=False)
class FeatureMaps:
    """A crop uint8 (H, W, C) and its layer outputs by name, in the order of the layers.

    An output is float32 (channels, rows, columns), or (units,) after a linear layer.
    """

    crop: np.ndarray
    layers: Mapping[str, np.ndarray]

    def to_json(self) -> dict[str, Any]:
        """Return each layer output's shape, the share of values that are not 0, and its range."""
        return {
            name: {
                "shape": values.shape,
                "active": float((values != 0).mean()),
                "min": float(values.min()),
                "max": float(values.max()),
            }
            for name, values in self.layers.items()
        }


def compute_feature_maps(
    classifier: Classifier, pixels: np.ndarray, runtime: Runtime
) -> FeatureMaps:
    """Compute all layer outputs of a sample uint8 (S, S, C), from its center crop."""
    preprocessor = classifier.preprocessor
    crop = preprocessor.center_crop(pixels[None])
    batch = preprocessor.normalize(crop, runtime.device, runtime.dtype)
    outputs = classifier.model.forward_intermediates(batch)
    layers = {name: values[0].detach().float().cpu().numpy() for name, values in outputs.items()}
    return FeatureMaps(crop[0], layers)


@figure_style()
def plot_feature_maps(maps: FeatureMaps) -> Figure:
    """Plot the crop on top and a row for each layer output."""
    row_heights = [_row_height(values) for values in maps.layers.values()]
    height = IMAGE_HEIGHT + sum(row_heights) + 0.25
    width = LABEL_WIDTH + NUM_CHANNELS * (MAP_SIZE + MAP_GAP) + 0.1
    figure = Figure((width, height))
    image_bottom = 1 - (IMAGE_HEIGHT - 0.1) / height
    show_image(
        figure.add_axes((LABEL_WIDTH / width, image_bottom, 1.0 / width, 1.0 / height)),
        maps.crop,
    )
    figure.text(
        (LABEL_WIDTH + 1.15) / width,
        1 - 0.6 / height,
        "\N{LEFTWARDS ARROW} the crop, before the mean is subtracted",
        fontsize=SMALL_FONT,
        color=GRAY,
        va="center",
    )
    bottom = height - IMAGE_HEIGHT
    for (name, values), row_height in zip(maps.layers.items(), row_heights, strict=True):
        bottom -= row_height
        _draw_layer(figure, name, values, bottom)
    _draw_color_scale(figure)
    return figure


def _row_height(values: np.ndarray) -> float:
    """Return the height in inches of a layer output's row."""
    if values.ndim == 3:
        return ROW_HEIGHT
    return max(0.34, 0.09 + 0.45 * len(values) / 4096)


def _draw_layer(figure: Figure, name: str, values: np.ndarray, bottom: float) -> None:
    """Draw a layer output's name and shape, and its channels or units, from `bottom` inches up."""
    width, height = figure.get_size_inches()
    image_width = NUM_CHANNELS * (MAP_SIZE + MAP_GAP) - MAP_GAP
    if values.ndim == 3:
        pixels = channels_side_by_side(values[evenly_spaced(NUM_CHANNELS, len(values))])
        image_width *= min(1.0, len(values) / NUM_CHANNELS)
        image_height = MAP_SIZE
    else:
        pixels = units_in_lines(values)
        image_height = _row_height(values) - 0.06
    middle = (bottom + image_height / 2) / height
    left = 0.08 / width
    above = middle + 0.075 / height
    below = middle - 0.075 / height
    shape = THIN_TIMES.join(map(str, values.shape))
    figure.text(left, above, name, fontsize=9, weight="bold", va="center")
    figure.text(left, below, shape, fontsize=SMALL_FONT, color=GRAY, va="center")
    rect = (LABEL_WIDTH / width, bottom / height, image_width / width, image_height / height)
    axes: Axes = hide_axes(figure.add_axes(rect))
    limit = float(np.abs(values).max()) or 1.0
    axes.imshow(
        pixels,
        cmap=DIVERGING.with_extremes(bad=FRAME_COLOR),
        vmin=-limit,
        vmax=limit,
        interpolation="nearest",
        aspect="auto",
    )
    axes.spines[:].set(visible=True, color=FRAME_COLOR, linewidth=0.8)


def channels_side_by_side(channels: np.ndarray) -> np.ndarray:
    """Join channels (n, rows, columns) in one row, with gaps of NaN as wide as in the figure."""
    gap = max(1, round(channels.shape[2] * MAP_GAP / MAP_SIZE))
    spaced = np.pad(channels, ((0, 0), (0, 0), (0, gap)), constant_values=np.nan)
    return np.hstack(list(spaced))[:, :-gap]


def units_in_lines(values: np.ndarray) -> np.ndarray:
    """Fold units (n,) into lines of up to UNITS_PER_LINE; the last line is filled up with NaN."""
    length = min(UNITS_PER_LINE, len(values))
    lines = np.full((-(-len(values) // length), length), np.nan)
    lines.flat[: len(values)] = values
    return lines


def _draw_color_scale(figure: Figure) -> None:
    """Draw the color scale in the upper right corner."""
    width, height = figure.get_size_inches()
    rect = ((width - 2.1) / width, (height - 0.62) / height, 1.1 / width, 0.1 / height)
    axes: Axes = hide_axes(figure.add_axes(rect))
    axes.imshow(np.linspace(-1, 1, 65)[None], cmap=DIVERGING, aspect="auto")
    axes.spines[:].set(visible=True, color=FRAME_COLOR, linewidth=0.5)
    for x, text in ((0, "\N{MINUS SIGN}"), (32, "0"), (64, "+")):
        axes.text(x, 0.9, text, fontsize=SMALL_FONT, color=INK, ha="center", va="top")
    label = "range of each layer"
    axes.text(32, -1.0, label, fontsize=SMALL_FONT, color=GRAY, ha="center", va="bottom")
