"""How a network is partitioned among shards: what each computes, and what it must fetch before it.

The towers of the paper (figure 2, sections 3.2 and 3.5): each shard holds half the kernels of conv1
to conv5 and half of fc6 and fc7, the first one fc8 too, as in the 2012 program; feature maps are
exchanged only where a layer sees all of them, and a norm across all channels fetches the few beyond
its border. `hybrid` is "One weird trick" (2014): every shard has all the convolutions and computes
its own images with them; the fully connected layers are divided by units, and every shard sees all
images there. `pipeline`: convolutions on one shard, fully connected layers on the other. A
parameter is always divided along its first axis, so shard s has rows bounds[s] to bounds[s + 1] of
it. Nothing is computed here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from alexnet.core.device import ParallelMode
from alexnet.core.errors import UsageError
from alexnet.models.shapes import LayerShape
from alexnet.recipes.layers import (
    Conv,
    Linear,
    LocallyConnected,
    LocalResponseNorm,
    Shape,
    WeightedLayer,
)


@dataclass(frozen=True)
class CommOp:
    """What must be exchanged before a layer can be computed.

    `channels`: the channels (or units) of all towers. `first`: the same, on the first tower alone.
    `border`: `reach` channels of each neighboring tower. `images`: the feature maps of the other
    ranks' images. `logits`: those of all classes, at the end.
    """

    kind: Literal["channels", "first", "border", "images", "logits"]
    into: str  # the layer that needs it
    reach: int = 0


@dataclass(frozen=True)
class PartitionedLayer:
    """A layer of the whole network: what it must fetch, and what every shard computes of it.

    None: nothing.
    """

    comm: CommOp | None
    parts: tuple[LayerShape | None, ...]


@dataclass(frozen=True)
class Partition:
    """A partitioned network. A parameter whose layer has no `bounds` is whole on every shard."""

    mode: ParallelMode
    layers: tuple[PartitionedLayer, ...]
    bounds: Mapping[str, tuple[int, ...]]
    last: CommOp | None = None  # what must be exchanged after all layers

    @property
    def num_shards(self) -> int:
        """How many shards there are."""
        return len(self.layers[0].parts)

    def shapes_of(self, shard: int) -> tuple[LayerShape, ...]:
        """Return what a shard computes, in order."""
        parts = (layer.parts[shard] for layer in self.layers)
        return tuple(part for part in parts if part is not None)

    def rows(self, parameter: str, shard: int) -> tuple[int, int] | None:
        """Return a shard's rows (first, end) of a parameter, such as conv1.weight; None: all."""
        bounds = self.bounds.get(parameter.rpartition(".")[0])
        return None if bounds is None else (bounds[shard], bounds[shard + 1])


def partition(
    shapes: tuple[LayerShape, ...], mode: ParallelMode, num_shards: int, towers: int
) -> Partition:
    """Return the partition of a network in one of the modes; UsageError where it has none.

    `towers`: the recipe's own number.
    """
    if mode == "towers":
        return _towers(shapes, num_shards, towers)
    if mode == "hybrid":
        return _hybrid(shapes, num_shards)
    if mode == "pipeline":
        return _pipeline(shapes, num_shards)
    return Partition(mode, tuple(PartitionedLayer(None, (it,) * num_shards) for it in shapes), {})


def shard_slice(count: int, shard: int, num_shards: int) -> slice:
    """Return the rows of one shard: contiguous, and no two shards differ by more than one."""
    return slice(shard * count // num_shards, (shard + 1) * count // num_shards)


# ---- towers


def _towers(shapes: tuple[LayerShape, ...], num_shards: int, towers: int) -> Partition:
    if towers != num_shards or num_shards < 2:
        count = "1 tower" if towers == 1 else f"{towers} towers"
        raise UsageError(
            f"--parallel towers: the recipe's network has {count}, and {num_shards} "
            f"devices are available; start it with torchrun --nproc-per-node {max(2, towers)}, or "
            "--device with as many, and a recipe of as many towers"
        )
    last = _last_weighted(shapes)
    layers: list[PartitionedLayer] = []
    bounds: dict[str, tuple[int, ...]] = {}
    divided = False  # whether the channels so far are shared among the towers; the image is not
    for shape in shapes[: last.index]:
        parts = tuple(_tower(shape, divided, tower, num_shards) for tower in range(num_shards))
        layers.append(PartitionedLayer(_tower_comm(shape, divided), parts))
        if isinstance(shape.layer, WeightedLayer):
            bounds[shape.name] = _bounds(shape.out_shape[0], num_shards)
            divided = True
    bounds[last.name] = (0, *(last.out_shape[0],) * num_shards)
    on_first = PartitionedLayer(CommOp("first", last.name), (last, *(None,) * (num_shards - 1)))
    return Partition("towers", (*layers, on_first), bounds)


def _tower_comm(shape: LayerShape, divided: bool) -> CommOp | None:
    """Return what a tower must fetch; `divided`: its input is divided among the towers."""
    layer = shape.layer
    if not divided:
        return None
    if isinstance(layer, LocallyConnected):
        return CommOp("channels", layer.name)
    if isinstance(layer, Conv | Linear) and layer.groups == 1:
        return CommOp("channels", layer.name)
    if isinstance(layer, LocalResponseNorm) and layer.scope != "tower":
        return CommOp("border", layer.name, layer.n // 2)
    return None


def _tower(shape: LayerShape, divided: bool, tower: int, towers: int) -> LayerShape:
    """Return what one tower computes of a layer."""
    layer = shape.layer
    own_input = divided  # it takes only its own tower's channels
    if isinstance(layer, LocalResponseNorm):
        # all channels it is given: its own, or those with the neighbors' at the border
        layer = replace(layer, scope="layer")
    elif isinstance(layer, WeightedLayer):
        groups = 1 if isinstance(layer, LocallyConnected) else layer.groups
        _require_towers(shape, groups, divided, towers)
        own_input = groups > 1
        layer = _divided_spec(layer, towers)
    in_shape = _divide(shape.in_shape, towers) if own_input else shape.in_shape
    out_shape = _divide(shape.out_shape, towers)
    return replace(
        shape, layer=layer, in_shape=in_shape, out_shape=out_shape, shard=(tower, towers)
    )


def _require_towers(shape: LayerShape, groups: int, divided: bool, towers: int) -> None:
    """Raise a UsageError where a layer's outputs or groups cannot be shared by the towers."""
    groups_fit = groups == 1 or (groups % towers == 0 and divided)
    if shape.out_shape[0] % towers or not groups_fit:
        raise UsageError(
            f"{shape.name}: {shape.out_shape[0]} channels or units in {groups} groups cannot be "
            f"shared by {towers} towers"
        )


def _divided_spec(layer: WeightedLayer, towers: int) -> WeightedLayer:
    """Return the spec of one tower's part of a layer; a Linear's units follow from its shape."""
    if isinstance(layer, Conv):
        channels = layer.out_channels // towers
        return replace(layer, out_channels=channels, groups=max(1, layer.groups // towers))
    if isinstance(layer, Linear):
        return replace(layer, groups=max(1, layer.groups // towers))
    return layer


# ---- hybrid, pipeline


def _hybrid(shapes: tuple[LayerShape, ...], num_shards: int) -> Partition:
    """All convolutions on every shard; every fully connected layer divided by units."""
    first = _first_linear(shapes)
    last = _last_weighted(shapes)
    layers: list[PartitionedLayer] = []
    bounds: dict[str, tuple[int, ...]] = {}
    for shape in shapes:
        if shape.index < first.index:
            layers.append(PartitionedLayer(None, (shape,) * num_shards))
            continue
        comm = None
        if isinstance(shape.layer, Linear):
            _require_units(shape, shape.layer, num_shards, shape is last)
            comm = CommOp("images" if shape is first else "channels", shape.name)
            bounds[shape.name] = _bounds(shape.out_shape[0], num_shards)
        parts = tuple(
            _units(shape, shape is last, shard, num_shards) for shard in range(num_shards)
        )
        layers.append(PartitionedLayer(comm, parts))
    return Partition("hybrid", tuple(layers), bounds, CommOp("logits", "the loss"))


def _require_units(shape: LayerShape, linear: Linear, num_shards: int, is_last: bool) -> None:
    if linear.groups != 1 or (not is_last and shape.out_shape[0] % num_shards):
        raise UsageError(
            f"{linear.name}: {shape.out_shape[0]} units in {linear.groups} groups cannot be shared "
            f"by {num_shards} ranks"
        )


def _units(shape: LayerShape, is_last: bool, shard: int, num_shards: int) -> LayerShape:
    """Return one shard's units of a fully connected layer, or of what follows one."""
    rows = shard_slice(shape.out_shape[0], shard, num_shards)
    out_shape = (rows.stop - rows.start, *shape.out_shape[1:])
    in_shape = shape.in_shape if isinstance(shape.layer, Linear) else out_shape
    numbered = (0, 1) if is_last else (shard, num_shards)
    return replace(shape, in_shape=in_shape, out_shape=out_shape, shard=numbered)


def _pipeline(shapes: tuple[LayerShape, ...], num_shards: int) -> Partition:
    if num_shards != 2:
        raise UsageError(
            f"--parallel pipeline: {num_shards} ranks; expected 2, one for the convolutions, one "
            "for the fully connected layers"
        )
    first = _first_linear(shapes).index
    layers = tuple(
        PartitionedLayer(None, (shape, None) if shape.index < first else (None, shape))
        for shape in shapes
    )
    bounds = {
        shape.name: (0, shape.out_shape[0] if shape.index < first else 0, shape.out_shape[0])
        for shape in shapes
        if isinstance(shape.layer, WeightedLayer)
    }
    return Partition("pipeline", layers, bounds)


def _first_linear(shapes: tuple[LayerShape, ...]) -> LayerShape:
    return next(shape for shape in shapes if isinstance(shape.layer, Linear))


def _last_weighted(shapes: tuple[LayerShape, ...]) -> LayerShape:
    return [shape for shape in shapes if isinstance(shape.layer, WeightedLayer)][-1]


def _bounds(count: int, num_shards: int) -> tuple[int, ...]:
    return tuple(shard * count // num_shards for shard in range(num_shards + 1))


def _divide(shape: Shape, parts: int) -> Shape:
    return shape[0] // parts, shape[1], shape[2]
