"""Compute Grad-CAM: where in an image a layer found what speaks for a class.

Selvaraju et al. 2017 (arXiv:1610.02391): each map of a layer is weighted by the mean of the
gradient of the class's logit over it; of the weighted sum, only what speaks for the class is kept.
"""

import torch
from torch import Tensor

from alexnet.core.errors import UsageError
from alexnet.models.alexnet import AlexNet
from alexnet.recipes.layers import Conv, LocallyConnected


def last_convolution(model: AlexNet) -> str:
    """Return the name of a network's last convolution; UsageError where it has none."""
    convolutions = [
        shape.name for shape in model.shapes if isinstance(shape.layer, Conv | LocallyConnected)
    ]
    if not convolutions:
        raise UsageError("this network has no convolution, so no maps to look at")
    return convolutions[-1]


def gradcam(model: AlexNet, batch: Tensor, label: int, layer: str) -> Tensor:
    """Return how strongly each position of a layer's maps speaks for a class: (N, rows, columns).

    `batch` (N, C, H, W) is normalized; `layer` a named layer with maps. UsageError for another.
    """
    batch = batch.detach().clone().requires_grad_()  # frozen weights alone would give no graph
    with torch.enable_grad():
        outputs = model.forward_intermediates(batch)
        if layer not in outputs or outputs[layer].dim() != 4:
            names = ", ".join(name for name, maps in outputs.items() if maps.dim() == 4)
            raise UsageError(f"layer {layer!r}: has no maps; expected one of {names}")
        *_, logits, _ = outputs.values()
        (gradient,) = torch.autograd.grad(logits[:, label].sum(), outputs[layer])
    weights = gradient.mean((2, 3), keepdim=True)
    return (weights * outputs[layer].detach()).sum(1).relu()
