"""Lay out a network's architecture to scale, in inches, before anything is drawn.

Layers are grouped in blocks: the input, and every layer with weights together with the layers
that follow it. Each block has one box for each tower, as in the paper's figure 2: a box is as
long as it has channels, as high and as deep as its output has pixels; a linear layer is a bar as
high as it has units. The three scales are chosen so that the largest of each kind fills the space
there is. Weights and colors are not known here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from alexnet.models.flops import LayerCost, layer_costs
from alexnet.models.shapes import LayerShape, infer_shapes
from alexnet.recipes.layers import (
    Activation,
    AdaptiveAvgPool,
    Conv,
    Dropout,
    Layer,
    Linear,
    LocallyConnected,
    LocalResponseNorm,
    Pool,
    Shape,
    SpatialResponseNorm,
    WeightedLayer,
)
from alexnet.recipes.recipe import Network

# In inches:
MAX_MAP_HEIGHT = 2.0  # of the largest feature map
MAX_BOX_LENGTH = 0.5  # of the box with the most channels
MAX_BAR_HEIGHT = 1.9  # of the bar with the most units
MAX_TOWER_BAR_HEIGHT = 1.15  # the same where there are towers
MAX_UNIT = 0.02  # of a channel or a unit: small networks are not enlarged beyond it
BAR_WIDTH = 0.07
MIN_COLUMN_WIDTH = 1.02
MIN_COLUMN_GAP = 0.36
TOWER_GAP = 0.3
DEPTH_DIRECTION = (0.35, 0.28)  # right and up for each inch of depth


@dataclass(frozen=True)
class Block:
    """The input, or a layer with weights and the layers that follow it up to the next such layer.

    `shape`: of the layer's own output; `out_shape`: after the layers that follow. `description`:
    the layer in short lines; `following`: each following layer in a few words. `towers`: how many
    share its channels. `reads`: "own tower", "both towers", "all towers", or "" where there is
    one input only. `norm_across_towers`: a norm that follows sums over all towers. `kernel_size`:
    0 where the layer reads everything.
    """

    name: str
    shape: Shape
    out_shape: Shape
    is_linear: bool = False
    description: tuple[str, ...] = ()
    following: tuple[str, ...] = ()
    towers: int = 1
    reads: str = ""
    norm_across_towers: bool = False
    kernel_size: int = 0
    parameters: int = 0
    multiply_adds: int = 0

    @property
    def channels_per_tower(self) -> int:
        return self.shape[0] // self.towers

    def to_json(self) -> dict[str, Any]:
        """Return the block as plain data."""
        return {
            "name": self.name,
            "shape": self.shape,
            "towers": self.towers,
            "reads": self.reads or None,
            "following": self.following,
            "out_shape": self.out_shape,
            "parameters": self.parameters,
            "multiply_adds": self.multiply_adds,
        }


@dataclass(frozen=True)
class BoxSize:
    """Length (channels), height and depth (pixels) of a box, in inches."""

    length: float
    height: float
    depth: float

    @property
    def outer_width(self) -> float:
        """Return the width of the whole drawn box, depth included."""
        return self.length + DEPTH_DIRECTION[0] * self.depth

    @property
    def outer_height(self) -> float:
        """Return the height of the whole drawn box, depth included."""
        return self.height + DEPTH_DIRECTION[1] * self.depth


@dataclass(frozen=True)
class Box:
    """One tower's share of a block; `left` and `bottom` of its front, in inches."""

    block: int
    tower: int
    left: float
    bottom: float
    size: BoxSize

    @property
    def right(self) -> float:
        return self.left + self.size.length

    @property
    def top(self) -> float:
        return self.bottom + self.size.height

    @property
    def outer_right(self) -> float:
        return self.left + self.size.outer_width

    @property
    def outer_top(self) -> float:
        return self.bottom + self.size.outer_height


@dataclass(frozen=True)
class Scales:
    """Inches for each pixel, channel and unit."""

    pixel: float
    channel: float
    unit: float


@dataclass(frozen=True)
class ArchitectureLayout:
    """All blocks with their boxes; `width` and `height` of the drawing in inches."""

    blocks: tuple[Block, ...]
    boxes: tuple[Box, ...]
    width: float
    height: float
    scales: Scales

    def boxes_of(self, block: int) -> list[Box]:
        """Return the boxes of a block, tower by tower."""
        return [box for box in self.boxes if box.block == block]

    def column_center(self, block: int) -> float:
        """Return the x position of the center of a block's column."""
        box = self.boxes_of(block)[0]
        return (box.left + box.outer_right) / 2

    def to_json(self) -> dict[str, Any]:
        """Return the drawn values as plain data."""
        return {
            "blocks": [block.to_json() for block in self.blocks],
            "inches": {
                "pixel": self.scales.pixel,
                "channel": self.scales.channel,
                "unit": self.scales.unit,
            },
        }


# ---- blocks


def group_layers(network: Network, num_classes: int) -> tuple[Block, ...]:
    """Group the layers in blocks: the input, then one for every layer with weights.

    Raises UsageError where the sizes do not fit.
    """
    shapes = infer_shapes(network, num_classes)
    costs = layer_costs(network, num_classes)
    blocks = [Block("input", network.input, network.input)]
    for step, cost in zip(shapes, costs, strict=True):
        if isinstance(step.layer, WeightedLayer):
            blocks.append(_weighted_block(step, cost, network.towers, blocks[-1]))
        else:
            blocks[-1] = _with_following(blocks[-1], step)
    # The last layer computes the classes' logits and is not divided, as in figure 2.
    return (*blocks[:-1], replace(blocks[-1], towers=1))


def _with_following(block: Block, step: LayerShape) -> Block:
    """Add a layer without weights to a block."""
    across = (
        isinstance(step.layer, LocalResponseNorm)
        and step.layer.scope == "layer"
        and block.towers > 1
    )
    return replace(
        block,
        out_shape=step.out_shape,
        following=(*block.following, _short_description(step.layer, across)),
        norm_across_towers=block.norm_across_towers or across,
    )


def _weighted_block(step: LayerShape, cost: LayerCost, towers: int, previous: Block) -> Block:
    """Return the block of a layer with weights; towers share its channels where they can."""
    layer = step.layer
    return Block(
        cost.name,
        step.out_shape,
        step.out_shape,
        is_linear=isinstance(layer, Linear),
        description=_weighted_description(step),
        towers=towers if step.out_shape[0] % towers == 0 else 1,
        reads=_towers_read(layer, towers, previous),
        kernel_size=layer.kernel_size if isinstance(layer, Conv | LocallyConnected) else 0,
        parameters=cost.parameters,
        multiply_adds=cost.multiply_adds,
    )


def _towers_read(layer: Layer, towers: int, previous: Block) -> str:
    """Say which towers of the previous block a layer reads."""
    if previous.towers == 1:
        return ""
    if getattr(layer, "groups", 1) % previous.towers == 0:
        return "own tower"
    return "both towers" if towers == 2 else "all towers"


def _weighted_description(step: LayerShape) -> tuple[str, ...]:
    """Describe a layer with weights in short lines."""
    layer = step.layer
    lines = []
    if isinstance(layer, Linear):
        lines.append("linear")
    if isinstance(layer, Conv | LocallyConnected):
        lines.append(f"{layer.kernel_size} × {layer.kernel_size}")
    if isinstance(layer, LocallyConnected):
        lines.append("unshared")
    if isinstance(layer, Conv) and layer.stride > 1:
        lines.append(f"stride {layer.stride}")
    if isinstance(layer, Conv | LocallyConnected) and layer.padding:
        lines.append(f"padding {layer.padding}")
    if any(step.extra_padding):
        lines.append("rounded up")
    if isinstance(layer, Conv | Linear) and layer.groups > 1:
        lines.append(f"{layer.groups} groups")
    return tuple(lines)


def _short_description(layer: Layer, across_towers: bool) -> str:
    """Describe a layer without weights in two or three words."""
    match layer:
        case LocalResponseNorm():
            return "norm over all" if across_towers else "norm"
        case SpatialResponseNorm():
            return "spatial norm"
        case Pool():
            average = "avg " if layer.mode == "avg" else ""
            return f"{average}pool {layer.kernel_size} / {layer.stride}"
        case Activation():
            return layer.function
        case Dropout():
            return f"dropout {layer.p:g}"
        case AdaptiveAvgPool():
            return "adaptive pool"
    raise TypeError(f"{type(layer).__name__}: expected a layer without weights")


# ---- positions


def compute_layout(network: Network, num_classes: int) -> ArchitectureLayout:
    """Lay out a network: its blocks, and the position of each of their boxes."""
    blocks = group_layers(network, num_classes)
    scales = _choose_scales(blocks)
    sizes = [_box_size(block, scales) for block in blocks]
    tower_height = TOWER_GAP + max(
        (size.outer_height for block, size in zip(blocks, sizes, strict=True) if block.towers > 1),
        default=0.0,
    )
    towers = max(block.towers for block in blocks)
    height = max(size.outer_height for size in sizes)
    if towers > 1:
        height = max(height, tower_height * towers)
    boxes: list[Box] = []
    left = 0.0
    for index, (block, size) in enumerate(zip(blocks, sizes, strict=True)):
        column = max(MIN_COLUMN_WIDTH, size.outer_width + MIN_COLUMN_GAP)
        box_left = left + (column - size.outer_width) / 2
        for tower, middle in enumerate(_tower_centers(block.towers, tower_height, height)):
            boxes.append(Box(index, tower, box_left, middle - size.outer_height / 2, size))
        left += column
    return ArchitectureLayout(blocks, tuple(boxes), left, height, scales)


def _choose_scales(blocks: Sequence[Block]) -> Scales:
    """Choose the scales at which the largest block of each kind fills its space."""
    linear = [block for block in blocks if block.is_linear]
    spatial = [block for block in blocks if not block.is_linear]
    has_towers = any(block.towers > 1 for block in blocks)
    bar_height = MAX_TOWER_BAR_HEIGHT if has_towers else MAX_BAR_HEIGHT
    most_units = max((block.channels_per_tower for block in linear), default=1)
    return Scales(
        pixel=MAX_MAP_HEIGHT / max(max(block.shape[1:]) for block in spatial),
        channel=min(MAX_UNIT, MAX_BOX_LENGTH / max(block.channels_per_tower for block in spatial)),
        unit=min(MAX_UNIT, bar_height / most_units),
    )


def _box_size(block: Block, scales: Scales) -> BoxSize:
    """Return the size of each of a block's boxes."""
    channels = block.channels_per_tower
    if block.is_linear:
        return BoxSize(BAR_WIDTH, channels * scales.unit, 0.0)
    _, rows, columns = block.shape
    return BoxSize(channels * scales.channel, rows * scales.pixel, columns * scales.pixel)


def _tower_centers(towers: int, tower_height: float, height: float) -> Iterator[float]:
    """Yield the y position of each tower's center, the first tower on top."""
    for tower in range(towers):
        yield height / 2 + tower_height * ((towers - 1) / 2 - tower)
