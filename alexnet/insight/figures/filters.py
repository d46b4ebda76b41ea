"""The kernels of the first layer as a picture, the towers apart, as in the paper's figure 3."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from alexnet.errors import AlexNetError
from alexnet.insight.figures.drawing import bare, styled
from alexnet.model import Model
from alexnet.recipes.layers import Conv

COLUMNS = 16  # of kernels: three rows for each tower of 48, as in the paper
WIDTH = 768  # pixels the kernels are enlarged to, about
GAP = 1  # pixels of the kernels' own size between two of them
INCHES = 7.0  # of the figure's width


def first_layer(model: Model) -> tuple[str, np.ndarray, int]:
    """Name and weight float32 (maps, channels, rows, columns) of the first convolution, and the towers that share its maps."""
    first = next((layer for layer in model.recipe.network.layers if isinstance(layer, Conv)), None)
    if first is None:
        raise AlexNetError(f"the network of {model.recipe.name} has no convolution, so no filters to show")
    towers = model.recipe.network.towers
    weight = model.network.get_parameter(f"{first.name}.weight").float().cpu().numpy()
    return first.name, weight, towers if len(weight) % towers == 0 else 1


def kernels(weight: np.ndarray, towers: int = 1) -> Image.Image:
    """Kernels (maps, channels, rows, columns) in rows of 16, tower below tower, each scaled to its own range around grey.

    RGB for three channels, else the grey of their mean. Enlarged without smoothing; gaps are white.
    """
    maps, channels, high, wide = weight.shape
    shown = weight if channels == 3 else weight.mean(1, keepdims=True).repeat(3, 1)
    largest = np.maximum(np.abs(shown).max((1, 2, 3), keepdims=True), np.finfo(np.float32).tiny)
    levels = np.rint(127.5 + 127.5 * shown / largest).astype(np.uint8).transpose(0, 2, 3, 1)
    own = -(-maps // towers)
    columns = min(COLUMNS, own)
    rows = -(-own // columns)  # of one tower
    sheet = np.full((towers * rows * (high + GAP) + (towers - 1) * GAP, columns * (wide + GAP), 3), 255, np.uint8)
    for number, kernel in enumerate(levels):
        tower, place = divmod(number, own)
        top = (tower * rows + place // columns) * (high + GAP) + tower * GAP
        left = place % columns * (wide + GAP)
        sheet[top : top + high, left : left + wide] = kernel
    image = Image.fromarray(sheet[:-GAP, :-GAP])
    factor = max(1, WIDTH // image.width)
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


@styled()
def filters(name: str, weight: np.ndarray, towers: int) -> Figure:
    """The kernels as a figure, each tower under its own heading."""
    parts = [np.asarray(kernels(part)) for part in np.split(weight, towers)]
    figure = Figure((INCHES, sum(0.35 + INCHES * len(part) / part.shape[1] for part in parts) + 0.1), layout="constrained")
    maps, channels, high, wide = weight.shape
    each = f"{maps // towers} kernels of {name}, {high} × {wide} × {channels}"
    for tower, (axes, part) in enumerate(zip(figure.subplots(towers, squeeze=False)[:, 0], parts, strict=True)):
        bare(axes).imshow(part, interpolation="nearest")
        axes.set_title(f"tower {tower + 1}: {each}" if towers > 1 else each, fontsize=9)
    return figure


def told(name: str, weight: np.ndarray, towers: int) -> dict[str, Any]:
    """What is drawn, as plain data: each kernel's largest weight is what its colours reach from grey to."""
    return {"layer": name, "shape": weight.shape, "towers": towers, "largest": np.abs(weight).max((1, 2, 3)).tolist()}
