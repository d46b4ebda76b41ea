"""Activation sparsity: the share of zeros after each relu, and of units that are always zero.

A unit is a channel of a convolution, over all positions, or a unit of a linear layer. The input of
a relu says which values it lets through, so the model's intermediates suffice and no layer is
computed twice. Center crops, preprocessed as at test.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from alexnet.core.device import Runtime
from alexnet.core.errors import UsageError
from alexnet.data.loader import iterate_split
from alexnet.data.prepared import Split
from alexnet.evaluation.evaluate import ProgressFn
from alexnet.models.model_file import Classifier
from alexnet.recipes.layers import RELU, WeightedLayer
from alexnet.recipes.recipe import Network

BATCH_SIZE = 64


class Sparsity(NamedTuple):
    """Percentages of a layer after its relu."""

    zeros: float
    dead_units: float


def relu_inputs(network: Network) -> dict[str, str]:
    """Return the layer before its relu for every weighted layer with one.

    UsageError if there is none.
    """
    inputs: dict[str, str] = {}
    weighted = ""
    previous = ""
    for layer in network.layers:
        if isinstance(layer, WeightedLayer):
            weighted = layer.name
        previous = getattr(layer, "name", previous)
        if layer == RELU:
            inputs[weighted] = previous
    if not inputs:
        raise UsageError(
            "this network has no relu after which activations could be zero; "
            "choose another --recipe"
        )
    return inputs


@torch.inference_mode()
def activation_sparsity(
    classifier: Classifier,
    split: Split,
    runtime: Runtime,
    progress: ProgressFn = lambda done, total: None,
) -> dict[str, Sparsity]:
    """Return the sparsity of a network's layers over a split."""
    preprocessor = classifier.preprocessor
    layers = relu_inputs(classifier.model.spec)
    zeros = dict.fromkeys(layers, 0)
    values = dict.fromkeys(layers, 0)
    active: dict[str, Tensor] = {}  # bool (units,)
    done = 0
    for squares, _ in iterate_split(split, BATCH_SIZE, runtime.workers):
        crops = preprocessor.center_crop(squares)
        inputs = preprocessor.normalize(crops, runtime.device, runtime.dtype)
        outputs = classifier.model.forward_intermediates(inputs)
        for layer, source in layers.items():
            positive = outputs[source] > 0  # (N, channels, H, W) or (N, units)
            zeros[layer] += int((~positive).sum())
            values[layer] += positive.numel()
            if positive.ndim == 4:
                positive = positive.flatten(2).any(2)
            units = positive.any(0)
            active[layer] = active.get(layer, units) | units
        done += len(squares)
        progress(done, len(split))
    return {
        layer: Sparsity(
            zeros=100 * zeros[layer] / values[layer],
            dead_units=100 * float((~active[layer]).float().mean()),
        )
        for layer in layers
    }
