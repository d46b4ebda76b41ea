"""A network as boxes to scale: what stands where in the drawing of its architecture, in inches, before anything is drawn.

In go the plan and the costs of a network's layers; out come stages, the input and every layer with weights together with what
follows it, and for each stage the boxes its maps fill: one for each tower, as in the paper's figure 2. A box is as long as it has
maps, as high and as deep as its maps have pixels; a full layer is a bar as high as it has units. The three scales are the
drawing's own, chosen so that the largest of each kind fills its room. Nothing is known here of weights or of colours.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from alexnet.network.accounting import Cost, costs
from alexnet.network.geometry import Planned, plan
from alexnet.recipes.layers import Activation, Conv, Dropout, Fit, Full, Layer, Local, Norm, Pool, Shape, SpatialNorm, Weighted
from alexnet.recipes.recipe import Network

PLATE = 2.0  # inches: the highest map
ROD = 0.5  # inches: the most maps of a box
BAR = (1.15, 1.9)  # inches: the most units of a bar, with towers and without
FINEST = 0.02  # inches: a map, a unit; small nets are not blown up beyond it
SLANT = (0.35, 0.28)  # right and up for each inch of depth
PITCH, MARGIN = 1.02, 0.36  # inches: from stage to stage at least, and kept free between two of them
BETWEEN = 0.3  # inches between towers
THICK = 0.07  # inches: a bar


@dataclass(frozen=True)
class Stage:
    """The input, or a layer with weights and what follows it up to the next.

    `does` and `then` say in words what it does and what follows; `leaves` is the shape after that. `parts`: towers that share
    its maps. `sees`: the parts it reads are its own tower's or all. `mixes`: a norm behind it reaches from tower to tower.
    `window`: side of its kernels in pixels of what it reads; 0 where it reads everything.
    """

    name: str
    kind: str
    shape: Shape
    leaves: Shape
    does: tuple[str, ...]
    then: tuple[str, ...]
    parts: int = 1
    sees: str = ""
    mixes: bool = False
    window: int = 0
    parameters: int = 0
    multiply_adds: int = 0


@dataclass(frozen=True)
class Box:
    """One tower's share of a stage: the lower left corner of its front, its length (maps), height and depth (pixels), inches."""

    stage: int
    part: int
    left: float
    bottom: float
    length: float
    height: float
    depth: float

    @property
    def right(self) -> float:
        return self.left + self.length

    @property
    def top(self) -> float:
        return self.bottom + self.height


@dataclass(frozen=True)
class Blueprint:
    """All stages with their boxes; `width` and `height` in inches, and what a pixel, a map and a unit take, in inches each."""

    stages: tuple[Stage, ...]
    boxes: tuple[Box, ...]
    width: float
    height: float
    pixel: float
    map: float
    unit: float

    def of(self, stage: int) -> list[Box]:
        """The boxes of a stage, tower by tower."""
        return [box for box in self.boxes if box.stage == stage]

    def middle(self, stage: int) -> float:
        """Where a stage's column has its middle."""
        boxes = self.of(stage)
        return (boxes[0].left + boxes[0].right + SLANT[0] * boxes[0].depth) / 2

    def to_json(self) -> dict[str, Any]:
        """What is drawn, as plain data."""
        listed = [
            {"name": stage.name, "shape": stage.shape, "towers": stage.parts, "sees": stage.sees or None, "then": stage.then}
            | {"leaves": stage.leaves, "parameters": stage.parameters, "multiply_adds": stage.multiply_adds}
            for stage in self.stages
        ]
        return {"stages": listed, "inches": {"pixel": self.pixel, "map": self.map, "unit": self.unit}}


# ---- what there is


def stages(network: Network, classes: int) -> tuple[Stage, ...]:
    """The input, then every layer with weights. UsageError where the sizes do not fit."""
    planned, spent = plan(network, classes), costs(network, classes)
    found = [Stage("input", "input", network.input, network.input, (), ())]
    for step, cost in zip(planned, spent, strict=True):
        if isinstance(step.layer, Weighted):
            found.append(_stage(step, cost, network.towers, last=found[-1]))
        else:
            mixes = isinstance(step.layer, Norm) and step.layer.within == "layer" and found[-1].parts > 1
            then = (*found[-1].then, _follows(step.layer, mixes))
            found[-1] = replace(found[-1], leaves=step.gives, then=then, mixes=found[-1].mixes or mixes)
    return (*found[:-1], replace(found[-1], parts=1))  # the classes' own layer is one, as in figure 2


def _stage(step: Planned, cost: Cost, towers: int, last: Stage) -> Stage:
    """A layer with weights; its maps are shared by the towers where they can be."""
    layer, parts = step.layer, towers if step.gives[0] % towers == 0 else 1
    apart = last.parts > 1 and getattr(layer, "groups", 1) % last.parts == 0
    sees = "" if last.parts == 1 else "own tower" if apart else "both towers" if towers == 2 else "all towers"
    window = layer.size if isinstance(layer, Conv | Local) else 0
    kind, counted = cost.kind, (cost.parameters, cost.multiply_adds)
    return Stage(cost.name, kind, step.gives, step.gives, _does(step), (), parts, sees, False, window, *counted)


def _does(step: Planned) -> tuple[str, ...]:
    """What a layer with weights does, in lines of a few letters."""
    layer = step.layer
    if isinstance(layer, Full):
        return ("dense", *([f"{layer.groups} groups"] if layer.groups > 1 else []))
    assert isinstance(layer, Conv | Local)
    lines = [f"{layer.size} × {layer.size}", *(["unshared"] if isinstance(layer, Local) else [])]
    lines += [f"stride {layer.stride}"] if isinstance(layer, Conv) and layer.stride > 1 else []
    lines += [f"padding {layer.pad}"] if layer.pad else []
    lines += ["past the edge"] if any(step.overhang) else []
    return (*lines, *([f"{layer.groups} groups"] if isinstance(layer, Conv) and layer.groups > 1 else []))


def _follows(layer: Layer, mixes: bool) -> str:
    match layer:
        case Norm():
            return "norm over all" if mixes else "norm"
        case SpatialNorm():
            return "spatial norm"
        case Pool():
            return f"{'mean ' if layer.takes == 'mean' else ''}pool {layer.size} / {layer.stride}"
        case Activation():
            return layer.function
        case Dropout():
            return f"dropout {layer.p:g}"
        case Fit():
            return "fit"
    raise TypeError(f"{layer} has weights")


# ---- where it stands


def blueprint(network: Network, classes: int) -> Blueprint:
    """The stages of a network and the place of each of their boxes."""
    found = stages(network, classes)
    flat, deep = [each for each in found if each.kind == "full"], [each for each in found if each.kind != "full"]
    towers = max(each.parts for each in found)
    pixel = PLATE / max(max(each.shape[1:]) for each in deep)
    per_map = min(FINEST, ROD / max(each.shape[0] // each.parts for each in deep))
    per_unit = min(FINEST, BAR[towers == 1] / max((each.shape[0] // each.parts for each in flat), default=1))
    sizes = [_size(each, pixel, per_map, per_unit) for each in found]
    heights = [height + SLANT[1] * depth for _, height, depth in sizes]
    room = BETWEEN + max((high for each, high in zip(found, heights, strict=True) if each.parts > 1), default=0.0)  # of a tower
    height = max(room * towers if towers > 1 else 0.0, *heights)
    boxes, left = list[Box](), 0.0
    for place, (each, size) in enumerate(zip(found, sizes, strict=True)):
        wide = size[0] + SLANT[0] * size[2]
        column = max(PITCH, wide + MARGIN)
        boxes += _boxes(place, each.parts, left + (column - wide) / 2, size, room, height)
        left += column
    return Blueprint(found, tuple(boxes), left, height, pixel, per_map, per_unit)


def _size(stage: Stage, pixel: float, per_map: float, per_unit: float) -> tuple[float, float, float]:
    """Length, height and depth of one of a stage's boxes."""
    maps, rows, columns = stage.shape
    own = maps // stage.parts
    return (THICK, own * per_unit, 0.0) if stage.kind == "full" else (own * per_map, rows * pixel, columns * pixel)


def _boxes(stage: int, parts: int, left: float, size: tuple[float, float, float], room: float, height: float) -> Iterable[Box]:
    """The boxes of a stage, the first tower above, all about the drawing's middle."""
    for part in range(parts):
        middle = height / 2 + room * ((parts - 1) / 2 - part)
        yield Box(stage, part, left, middle - (size[1] + SLANT[1] * size[2]) / 2, *size)
