"""How sparse a net's answers are: the share of zeros behind each relu, and of units that never answer to any picture.

A unit is a map of a convolution, over all its places, or a unit of a full layer. What stands before a relu says which values it
lets through, so the stations of the network suffice, and no layer is computed a second way. Centre views, at test scaling.
"""

import torch
from torch import Tensor

from alexnet.data.batches import in_order
from alexnet.data.store import Split
from alexnet.errors import UsageError
from alexnet.evaluate import Seer, Tick
from alexnet.recipes.layers import RELU, Weighted
from alexnet.recipes.recipe import Network
from alexnet.runtime import Runtime

AT_ONCE = 64  # pictures
Shares = dict[str, tuple[float, float]]  # of zeros and of dead units, in percent, by layer


def rectified(network: Network) -> dict[str, str]:
    """The station before its relu, of every weighted layer that has one; UsageError if none has."""
    found, layer, station = {}, "", ""
    for each in network.layers:
        layer = each.name if isinstance(each, Weighted) else layer
        station = getattr(each, "name", station)
        if each == RELU:
            found[layer] = station
    if not found:
        raise UsageError("this net has no relu behind which values could be zero; choose another --recipe")
    return found


@torch.inference_mode()
def sparsity(seer: Seer, split: Split, runtime: Runtime, progress: Tick = lambda done, of: None) -> Shares:
    """The shares of a network over a split."""
    network, view = seer
    wanted = rectified(network.description)
    zeros, values = dict.fromkeys(wanted, 0), dict.fromkeys(wanted, 0)
    alive: dict[str, Tensor] = {}
    done = 0
    for squares, _ in in_order(split, AT_ONCE, runtime.workers):
        stations = network.stations(view.tensor(view.centre(squares), runtime.device, runtime.dtype))
        for layer, station in wanted.items():
            positive = stations[station] > 0  # (N, maps, H, W) or (N, units)
            zeros[layer] += int((~positive).sum())
            values[layer] += positive.numel()
            answers = positive.flatten(2).any(2).any(0) if positive.ndim == 4 else positive.any(0)  # (maps,) or (units,)
            alive[layer] = alive.get(layer, answers) | answers
        done += len(squares)
        progress(done, len(split))
    return {layer: (100 * zeros[layer] / values[layer], 100 * float((~alive[layer]).float().mean())) for layer in wanted}
