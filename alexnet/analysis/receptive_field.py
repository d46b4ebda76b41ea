"""Compute receptive fields: which pixels of the input a unit sees, by arithmetic on the specs.

Going back from the unit, each layer widens the rows and columns by its window. A unit's field may
reach past the edges, where there is padding or nothing at all; clipped to each layer's input on the
way, it is exactly what the unit's value can depend on. Fully connected units see all that the maps
before them see. A norm across channels sees no further than its own position.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from alexnet.core.errors import UsageError
from alexnet.models.shapes import LayerShape


class Box(NamedTuple):
    """A rectangle of input pixels: rows top to bottom - 1, columns left to right - 1."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        """Return height and width."""
        return self.bottom - self.top, self.right - self.left


class ReceptiveField(NamedTuple):
    """What a unit sees, in pixels of the network's input.

    `box` is the same size for all units of a layer and may reach past the input; `clipped` is the
    part that holds pixels.
    """

    box: Box
    clipped: Box


def receptive_field(
    shapes: Sequence[LayerShape], layer: str, row: int = 0, column: int = 0
) -> ReceptiveField:
    """Return the receptive field of the unit at (row, column) of a layer's output.

    `shapes`: those of the whole network. UsageError where it has no such layer or position.
    """
    before = shapes_up_to(shapes, layer)
    _, height, width = before[-1].out_shape
    if not (0 <= row < height and 0 <= column < width):
        raise UsageError(f"{layer}: no position {row}, {column}; it has {height} x {width}")
    box = Box(row, column, row + 1, column + 1)
    clipped = box
    for shape in reversed(before):
        box = seen_by(box, shape)
        clipped = clip(seen_by(clipped, shape), *shape.in_shape[1:])
    return ReceptiveField(box, clipped)


def shapes_up_to(shapes: Sequence[LayerShape], layer: str) -> Sequence[LayerShape]:
    """Return the shapes up to and including a named layer's; UsageError where there is none."""
    names = [shape.name for shape in shapes]
    if not layer or layer not in names:
        known = ", ".join(filter(None, names))
        raise UsageError(f"layer {layer!r}: not in this network; it has {known}")
    return shapes[: names.index(layer) + 1]


def seen_by(box: Box, shape: LayerShape) -> Box:
    """Return the part of a layer's input from which a part of its output is computed."""
    window = shape.layer.window(shape.in_shape)
    top = box.top * window.stride - window.padding
    left = box.left * window.stride - window.padding
    bottom = (box.bottom - 1) * window.stride - window.padding + window.height
    right = (box.right - 1) * window.stride - window.padding + window.width
    return Box(top, left, bottom, right)


def clip(box: Box, height: int, width: int) -> Box:
    """Return the part of a box inside a map of this size."""
    return Box(
        min(max(box.top, 0), height),
        min(max(box.left, 0), width),
        max(min(box.bottom, height), 0),
        max(min(box.right, width), 0),
    )


def stretch(maps: np.ndarray, shapes: Sequence[LayerShape], layer: str) -> np.ndarray:
    """Return a layer's map (rows, columns) at the size of the input, float64 (H, W).

    Each value stands at the center of its unit's receptive field; between them it is interpolated
    linearly, and towards the edges it stays as it is.
    """
    _, height, width = shapes[0].in_shape
    rows, columns = maps.shape
    down = _interpolation([_center(shapes, layer, row, 0)[0] for row in range(rows)], height)
    along = _interpolation([_center(shapes, layer, 0, col)[1] for col in range(columns)], width)
    return down.T @ maps @ along


def _center(shapes: Sequence[LayerShape], layer: str, row: int, column: int) -> tuple[float, float]:
    """Return the middle of a unit's receptive field, in pixels down and along."""
    box = receptive_field(shapes, layer, row, column).box
    return (box.top + box.bottom) / 2, (box.left + box.right) / 2


def _interpolation(centers: Sequence[float], side: int) -> np.ndarray:
    """Return the weight of each center for each pixel: float64 (centers, side)."""
    pixels = np.arange(side) + 0.5
    return np.stack([np.interp(pixels, centers, weights) for weights in np.eye(len(centers))])
