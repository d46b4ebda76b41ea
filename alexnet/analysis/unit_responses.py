"""Describe how the units of a layer respond to one image: their maps, and where each is strongest.

Values are those of `AlexNet.forward_intermediates`: convolutions before their activation function.
"""

from dataclasses import dataclass

import numpy as np

from alexnet.analysis.plots.filters import gray_levels
from alexnet.analysis.receptive_field import ReceptiveField, receptive_field
from alexnet.core.errors import UsageError
from alexnet.models.alexnet import AlexNet


@dataclass(frozen=True, eq=False)
class UnitResponse:
    """A unit's largest value for an image, its position (row, column) and what it sees there.

    `map` float32 (rows, columns); None for a fully connected unit.
    """

    value: float
    position: tuple[int, int]
    receptive_field: ReceptiveField
    map: np.ndarray | None


def layer_output(layers: dict[str, np.ndarray], layer: str) -> np.ndarray:
    """Return the output of a layer by its name; UsageError where there is none."""
    if layer not in layers:
        raise UsageError(f"layer {layer!r}: expected one of {', '.join(layers)}")
    return layers[layer]


def strongest_first(output: np.ndarray) -> np.ndarray:
    """Return the units of a layer's output, (units, ...), the largest value first."""
    largest = output.reshape(len(output), -1).max(1)
    return np.argsort(-largest, kind="stable")


def unit_response(model: AlexNet, output: np.ndarray, layer: str, unit: int) -> UnitResponse:
    """Return the response of a unit from its layer's output; UsageError for an unknown unit."""
    if not 0 <= unit < len(output):
        raise UsageError(f"{layer}: no unit {unit}; it has {len(output)}")
    values = output[unit]
    row, column = (0, 0) if values.ndim == 0 else divmod(int(values.argmax()), values.shape[1])
    return UnitResponse(
        float(values.max()),
        (row, column),
        receptive_field(model.shapes, layer, row, column),
        None if values.ndim == 0 else values,
    )


def kernel_images(model: AlexNet, layer: str) -> np.ndarray | None:
    """Return the kernels of a layer as images uint8 (units, rows, columns, 3), each to its range.

    None for a layer that does not see the pixels themselves.
    """
    first = model.shapes[0]
    if layer != first.name or not hasattr(first.layer, "kernel_size"):
        return None
    weight = model.get_parameter(f"{layer}.weight").detach().float().cpu().numpy()
    return gray_levels(weight) if weight.ndim == 4 else None
