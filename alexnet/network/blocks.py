"""Which neighbouring layers run as one operation: a norm across maps, the relu before it, the max pool and the relu behind it;
and a fully connected layer with the fit before it.

Only what the description puts side by side is joined, so every recipe's order stays its own. Nothing is computed here.
"""

from dataclasses import dataclass

from alexnet.network.geometry import Planned
from alexnet.recipes.layers import RELU, Fit, Full, Layer, Norm, Pool, Shape

WIDEST_POOL = 15  # places in its window still fit into a byte, with one to spare for "none"


@dataclass(frozen=True)
class Block:
    """A norm across maps and its neighbours."""

    norm: Norm
    relu_before: bool = False
    pool: Pool | None = None
    relu_after: bool = False


@dataclass(frozen=True)
class Fitted:
    """A fully connected layer that may see smaller maps than those of that shape, which it was planned for."""

    full: Full
    planned: Shape


@dataclass(frozen=True)
class Placed:
    """What stands at a place of the plan: a layer, or several that begin there."""

    place: int
    does: Planned | Block | Fitted


def joined(planned: tuple[Planned, ...]) -> tuple[Placed, ...]:
    """The plan with every norm across maps joined to its neighbours, every fit to the full layer behind it."""
    found, place = [], 0
    while place < len(planned):
        does, count = _first(planned[place : place + 4])
        found.append(Placed(place, does))
        place += count
    return tuple(found)


def _first(planned: tuple[Planned, ...]) -> tuple[Planned | Block | Fitted, int]:
    """What runs first of these steps, and how many of them it takes."""
    block, taken = _block(tuple(step.layer for step in planned))
    if block is not None:
        return block, taken
    match planned:
        case (Planned(Fit()), Planned(Full(groups=1) as full, takes=shape), *_):
            return Fitted(full, shape), 2
    return planned[0], 1


def _block(layers: tuple[Layer, ...]) -> tuple[Block | None, int]:
    """The block that these layers begin with, and how many it takes; None and 0 if they begin with none."""
    at = int(layers[0] == RELU)
    norm, pool = layers[at] if at < len(layers) else None, layers[at + 1] if at + 1 < len(layers) else None
    if not isinstance(norm, Norm):
        return None, 0
    if not (isinstance(pool, Pool) and pool.takes == "max" and pool.size <= WIDEST_POOL):
        return Block(norm, bool(at), None, pool == RELU), at + 1 + (pool == RELU)
    last = layers[at + 2] == RELU if at + 2 < len(layers) else False
    return Block(norm, bool(at), pool, last), at + 2 + last
