"""Where a network looks: how an answer depends on every pixel of a view, and what it loses where a patch is covered.

The gradient (Simonyan, Vedaldi and Zisserman 2013): of the class's logit with respect to the input, the largest magnitude over
the channels. Occlusion (Zeiler and Fergus 2013): how much of the class's probability goes when a square of the view is replaced
by the mean that the view subtracts, that is by zeros. Both are of the centre view; the second costs one forward pass for each
place of the patch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from alexnet.evaluate import VIEWS_AT_ONCE, Seer
from alexnet.insight.figures.drawing import SIGNED, SMALL, SOFT, bare, shortened, show_pixels, styled
from alexnet.insight.words import number
from alexnet.network.alexnet import AlexNet
from alexnet.runtime import Runtime

PATCH = 5  # the patch is a fifth of the view's side
FINE, COARSE = 20, 10  # and goes on by a twentieth of it, or by a tenth, which takes a quarter of the time
ROW, WIDE = 1.95, 6.6  # inches: a picture's row


@dataclass(frozen=True, eq=False)
class Looked:
    """A view uint8 (H, W, C), the class asked about and its probability, and the two maps.

    `gradient` float32 (H, W); `lost` float32 (places, places): probability lost with the patch's corner at `corners` of a side.
    """

    name: str
    view: np.ndarray
    label: int
    probability: float
    gradient: np.ndarray
    lost: np.ndarray
    patch: int
    corners: tuple[int, ...]

    def to_json(self, classes: Sequence[str]) -> dict[str, Any]:
        """What is drawn, as plain data; the gradient's map is left out for its size."""
        asked = {"name": self.name, "class": classes[self.label], "probability": self.probability}
        return asked | {"patch": self.patch, "corners": self.corners, "lost": self.lost.tolist()}


def looked(seer: Seer, name: str, square: np.ndarray, label: int | None, runtime: Runtime, steps: int = FINE) -> Looked:
    """Both maps of a record uint8 (S, S, C) for a class; None: for the likeliest one."""
    network, view = seer
    crop = view.centre(square[None])
    batch = view.tensor(crop, runtime.device, runtime.dtype)
    probability = shares(network, batch)[0]
    asked = int(probability.argmax()) if label is None else label
    patch, corners = places(batch.shape[-1], steps)
    maps = gradient(network, batch, asked)[0], occlusion(network, batch[0], asked, patch, corners)
    found = [each.float().cpu().numpy() for each in maps]
    return Looked(name, crop[0], asked, float(probability[asked]), found[0], found[1], patch, corners)


def places(side: int, fineness: int) -> tuple[int, tuple[int, ...]]:
    """The patch's side and where its upper left corner stands along a side of the view, evenly, both ends included."""
    patch = max(1, side // PATCH)
    steps = max(1, round((side - patch) / max(1, side // fineness)))
    return patch, tuple(dict.fromkeys(round((side - patch) * step / steps) for step in range(steps + 1)))


@torch.no_grad()
def shares(network: AlexNet, batch: Tensor) -> Tensor:
    """Class probabilities float32 (N, classes) of a batch (N, C, H, W)."""
    return network(batch).float().softmax(1)


def gradient(network: AlexNet, batch: Tensor, label: int) -> Tensor:
    """The largest magnitude over the channels of d logit / d input: (N, H, W) for a batch (N, C, H, W)."""
    batch = batch.detach().clone().requires_grad_()
    with torch.enable_grad():
        (found,) = torch.autograd.grad(network(batch)[:, label].sum(), batch)
    return found.abs().amax(1)


def occlusion(network: AlexNet, view: Tensor, label: int, patch: int, corners: Sequence[int]) -> Tensor:
    """The probability lost with the patch at every (row, column) of the corners: (places, places), for a view (C, H, W)."""
    whole = shares(network, view[None])[0, label]
    spots = [(row, column) for row in corners for column in corners]
    left = torch.cat([shares(network, batch)[:, label] for batch in _covered(view, spots, patch)])
    return (whole - left).view(len(corners), len(corners))


def _covered(view: Tensor, spots: Sequence[tuple[int, int]], patch: int) -> Iterator[Tensor]:
    """Batches of the view, in each a patch of zeros somewhere else."""
    for first in range(0, len(spots), VIEWS_AT_ONCE // 2):
        some = spots[first : first + VIEWS_AT_ONCE // 2]
        batch = view.repeat(len(some), 1, 1, 1)
        for covered, (row, column) in zip(batch, some, strict=True):
            covered[:, row : row + patch, column : column + patch] = 0
        yield batch


@styled()
def saliency(of: Sequence[Looked], classes: Sequence[str]) -> Figure:
    """A row for each picture: the view, the gradient, and the occlusion, where blue is lost and rust is gained."""
    figure = Figure((WIDE, ROW * len(of) + 0.35), layout="constrained")
    grid = figure.subplots(len(of), 3, squeeze=False)
    for row, (axes, each) in enumerate(zip(grid, of, strict=True)):
        show_pixels(axes[0], each.view)
        axes[0].set_xlabel(f"{shortened(classes[each.label])}, {100 * each.probability:.0f} %", fontsize=SMALL)
        limit = float(np.quantile(each.gradient, 0.995)) or 1.0
        bare(axes[1]).imshow(each.gradient, cmap="gray_r", vmin=0, vmax=limit)
        _occlusion(axes[2], each)
        if row == 0:
            for place, title in enumerate(("view", "gradient", "occlusion")):
                axes[place].set_title(title, fontsize=9)
    return figure


def _occlusion(axes: Axes, of: Looked) -> None:
    """The probability lost, each value where the patch had its middle, over the view in grey; the patch's size in a corner."""
    side = len(of.view)
    grey = of.view.mean(2)
    bare(axes).imshow(255 - (255 - grey) * 0.45, cmap="gray", vmin=0, vmax=255)
    limit = max(float(np.abs(of.lost).max()), 0.01)
    low, high = of.corners[0] + of.patch / 2, of.corners[-1] + of.patch / 2
    step = (high - low) / max(1, len(of.corners) - 1)
    extent = (low - step / 2 - 0.5, high + step / 2 - 0.5, high + step / 2 - 0.5, low - step / 2 - 0.5)
    axes.imshow(of.lost, cmap=SIGNED, vmin=-limit, vmax=limit, alpha=0.65, extent=extent, interpolation="bilinear")
    axes.set(xlim=(-0.5, side - 0.5), ylim=(side - 0.5, -0.5))
    axes.plot([0, of.patch, of.patch, 0, 0], [0, 0, of.patch, of.patch, 0], color=SOFT, linewidth=0.8)
    axes.set_xlabel(f"at most {number(round(100 * float(of.lost.max())), 'point')} lost", fontsize=SMALL)
