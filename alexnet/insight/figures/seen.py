"""What a recipe lets the network see of some records, epoch by epoch: crops, mirrors, colour noise, sizes, as they will be drawn.

Crops and draws come from the training stream itself, and noise and side are asked for at the batch in which a record comes, so
they are those of a run with this seed, also in an epoch in which a schedule changes. They are shown before the mean is taken off,
which no eye could judge; a side smaller than the network's own is shown as coarse as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from alexnet.data import pixels
from alexnet.data.batches import Position, Stream, side_at
from alexnet.data.store import Split
from alexnet.data.views import View
from alexnet.insight.figures.drawing import RUST, SMALL, bare, shortened, show_pixels, styled
from alexnet.recipes.recipe import Recipe

EPOCHS, SIDE = 6, 1.3  # views of each record, and inches of each


@dataclass(frozen=True, eq=False)
class Glimpse:
    """What is seen of a record in an epoch: uint8 (side, side, C), and the draws that made it.

    `shift`: grey levels (C,) added to every pixel; `angle`: degrees the record was turned by before the crop.
    """

    epoch: int
    pixels: np.ndarray
    offset: tuple[int, int]
    mirrored: bool
    angle: float
    shift: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """The draws, as plain data."""
        return {
            "epoch": self.epoch, "side": len(self.pixels), "offset": self.offset, "mirrored": self.mirrored,
            "angle": self.angle, "shift": self.shift,
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class Watched:
    """A record uint8 (S, S, C), its class, and what is seen of it."""

    record: int
    name: str
    square: np.ndarray
    glimpses: tuple[Glimpse, ...]

    def to_json(self) -> dict[str, Any]:
        """The record and its draws, as plain data."""
        return {"record": self.record, "class": self.name, "views": [each.to_json() for each in self.glimpses]}


def watched(split: Split, view: View, recipe: Recipe, seed: int, records: Sequence[int]) -> list[Watched]:
    """What a run with this seed sees of some records in epochs spread over its length, the first and the last included."""
    stream = Stream(split, view, recipe.training, seed, workers=1)
    glimpses: dict[int, list[Glimpse]] = {record: [] for record in records}
    last = recipe.training.epochs - 1
    for epoch in sorted({round(last * number / (EPOCHS - 1)) for number in range(EPOCHS)}):
        order = stream.order(epoch)
        place_of = np.argsort(order)
        for record in records:
            glimpses[record].append(glimpse(stream, recipe, epoch, int(place_of[record]), order))
    classes = view.classes
    return [Watched(record, classes[split.labels[record]], split.pixels(record), tuple(glimpses[record])) for record in records]


def glimpse(stream: Stream, recipe: Recipe, epoch: int, place: int, order: np.ndarray) -> Glimpse:
    """What is seen of the picture at a place of an epoch's order; of its batch, it alone is cut."""
    number, row = divmod(place, recipe.training.batch)
    position = Position(epoch, number)
    batch = replace(stream, rows=lambda pictures: slice(row, row + 1)).batch(position, order)
    draws, at = batch.draws.of(batch.rows), stream.epoch(position)
    side, noise = side_at(recipe, at), recipe.views.noise.at(at)
    shift = stream.view.colour_shift(draws.colour, noise)[0] if noise else np.zeros(batch.crops.shape[3])
    crop = batch.crops if side == batch.crops.shape[2] else pixels.resized(batch.crops, side)
    levels = (crop[0].float() + torch.from_numpy(shift)).round().clamp(0, 255).byte().numpy()
    offset = int(draws.offsets[0, 0]), int(draws.offsets[0, 1])
    return Glimpse(epoch, levels, offset, bool(draws.mirror[0]), float(draws.angles[0]), tuple(shift.tolist()))


@styled()
def seen(of: Sequence[Watched], crop: int) -> Figure:
    """A row for each record: whole, with the places of its crops of `crop` pixels, then what is seen in each epoch."""
    columns = 1 + len(of[0].glimpses)
    figure = Figure((SIDE * columns + 0.1, (SIDE + 0.35) * len(of) + 0.2), layout="constrained")
    grid = figure.subplots(len(of), columns, squeeze=False)
    for row, (axes, each) in enumerate(zip(grid, of, strict=True)):
        _record(axes[0], each, crop)
        for place, found in zip(axes[1:], each.glimpses, strict=True):
            show_pixels(place, found.pixels)
            place.set_xlabel(_caption(found, crop), fontsize=SMALL)
            if row == 0:
                place.set_title(f"epoch {found.epoch}", fontsize=9)
        if row == 0:
            axes[0].set_title("record", fontsize=9)
    return figure


def _record(axes: Axes, of: Watched, crop: int) -> None:
    show_pixels(bare(axes), of.square)
    for each in of.glimpses:
        top, left = each.offset
        axes.add_patch(Rectangle((left - 0.5, top - 0.5), crop, crop, fill=False, edgecolor=RUST, linewidth=0.6, alpha=0.8))
    axes.set_xlabel(shortened(of.name, 18), fontsize=SMALL)


def _caption(of: Glimpse, crop: int) -> str:
    """Where it was cut, whether it is mirrored, and its side if it is smaller than the crop."""
    place = f"{of.offset[0]}, {of.offset[1]}"
    words = [place, *(["mirrored"] if of.mirrored else []), *([f"{of.angle:+.0f}°"] if of.angle else [])]
    side = f"\n{len(of.pixels)} px" if len(of.pixels) != crop else ""
    return ", ".join(words) + side
