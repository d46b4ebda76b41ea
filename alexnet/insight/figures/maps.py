"""What a picture becomes on its way through a network: some maps of every station, and all units of the full layers.

Every station is scaled to its own range about 0: what is positive is blue, what is negative rust. The maps shown are spread
evenly over a station's, so that both towers are seen. Stations are the network's own (`AlexNet.stations`), of the centre view.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alexnet.evaluate import Seer
from alexnet.insight.figures.drawing import INK, SIGNED, SMALL, SOFT, bare, show_pixels, styled
from alexnet.insight.figures.predictions import spread
from alexnet.runtime import Runtime

MAPS = 16  # of a station, in one row
SIDE, GAP, LABEL, ROW = 0.42, 0.03, 1.05, 0.5  # inches: a map, between two, the names, from row to row
FRAME = "#dddcd6"
LONG = 128  # units in a line of a full layer


@dataclass(frozen=True, eq=False)
class Passed:
    """A view uint8 (H, W, C) and what its stations hold: float32 (maps, rows, columns), or (units,) of full layers."""

    view: np.ndarray
    stations: Mapping[str, np.ndarray]

    def to_json(self) -> dict[str, Any]:
        """Each station's shape, the share of its values that are not 0, and its range."""
        return {
            name: {
                "shape": values.shape,
                "active": float((values != 0).mean()),
                "least": float(values.min()),
                "most": float(values.max()),
            }
            for name, values in self.stations.items()
        }


def passed(seer: Seer, square: np.ndarray, runtime: Runtime) -> Passed:
    """What a record uint8 (S, S, C) becomes at every station."""
    network, view = seer
    crop = view.centre(square[None])
    found = network.stations(view.tensor(crop, runtime.device, runtime.dtype))
    return Passed(crop[0], {name: values[0].float().cpu().numpy() for name, values in found.items()})


def chosen(values: np.ndarray) -> np.ndarray:
    """The maps that are shown of a station (maps, rows, columns): evenly spread, the first included."""
    return values[spread(MAPS, len(values))]


@styled()
def maps(of: Passed) -> Figure:
    """A row for each station, the picture on top."""
    top = 1.15
    height = top + sum(ROW if values.ndim == 3 else _lines(values) for values in of.stations.values()) + 0.25
    width = LABEL + MAPS * (SIDE + GAP) + 0.1
    figure = Figure((width, height))
    picture = figure.add_axes((LABEL / width, 1 - (top - 0.1) / height, 1.0 / width, 1.0 / height))
    show_pixels(picture, of.view)
    figure.text(
        (LABEL + 1.15) / width,
        1 - 0.6 / height,
        "\u2190 what the network sees, less the mean",
        fontsize=SMALL,
        color=SOFT,
        va="center",
    )
    bottom = height - top
    for name, values in of.stations.items():
        bottom -= ROW if values.ndim == 3 else _lines(values)
        _station(figure, name, values, bottom)
    _legend(figure, width, height)
    return figure


def _lines(values: np.ndarray) -> float:
    """Inches for the units of a full layer."""
    return max(0.34, 0.09 + 0.45 * len(values) / 4096)


def _station(figure: Figure, name: str, values: np.ndarray, bottom: float) -> None:
    """A station's name and shape, and its maps or units."""
    width, height = figure.get_size_inches()
    high = SIDE if values.ndim == 3 else _lines(values) - 0.06
    middle = (bottom + high / 2) / height
    figure.text(0.08 / width, middle + 0.075 / height, name, fontsize=9, weight="bold", va="center")
    shape = "\N{THIN SPACE}×\N{THIN SPACE}".join(map(str, values.shape))
    figure.text(0.08 / width, middle - 0.075 / height, shape, fontsize=SMALL, color=SOFT, va="center")
    limit = float(np.abs(values).max()) or 1.0
    wide = MAPS * (SIDE + GAP) - GAP
    if values.ndim == 3:
        picture, wide = in_a_row(chosen(values)), wide * min(1.0, len(values) / MAPS)
    else:
        picture = in_lines(values)
    axes: Axes = bare(figure.add_axes((LABEL / width, bottom / height, wide / width, high / height)))
    axes.imshow(picture, cmap=SIGNED.with_extremes(bad=FRAME), vmin=-limit, vmax=limit, interpolation="nearest", aspect="auto")
    axes.spines[:].set(visible=True, color=FRAME, linewidth=0.8)


def in_a_row(some: np.ndarray) -> np.ndarray:
    """Maps (n, rows, columns) beside each other, with gaps of nothing (NaN) as wide as they are in the figure, about."""
    gap = max(1, round(some.shape[2] * GAP / SIDE))
    spaced = np.pad(some, ((0, 0), (0, 0), (0, gap)), constant_values=np.nan)
    return np.hstack(list(spaced))[:, :-gap]


def in_lines(values: np.ndarray) -> np.ndarray:
    """Units (n,) in lines of LONG, the last filled up with nothing."""
    long = min(LONG, len(values))
    lines = np.full((-(-len(values) // long), long), np.nan)
    lines.flat[: len(values)] = values
    return lines


def _legend(figure: Figure, width: float, height: float) -> None:
    axes: Axes = bare(figure.add_axes(((width - 2.1) / width, (height - 0.62) / height, 1.1 / width, 0.1 / height)))
    axes.imshow(np.linspace(-1, 1, 65)[None], cmap=SIGNED, aspect="auto")
    axes.spines[:].set(visible=True, color=FRAME, linewidth=0.5)
    for place, text in ((0, "\N{MINUS SIGN}"), (32, "0"), (64, "+")):
        axes.text(place, 0.9, text, fontsize=SMALL, color=INK, ha="center", va="top")
    axes.text(32, -1.0, "range of each station", fontsize=SMALL, color=SOFT, ha="center", va="bottom")
