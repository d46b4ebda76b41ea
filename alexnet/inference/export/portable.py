"""The network in torch's own operations only, so that what is exported needs no `alexnet` to run.

The model's response norms call operations of this package where there is a compiler; here they are
written with torch's pooling. Everything else of the network is torch's own already.
"""

from collections import OrderedDict
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alexnet.data.transforms import Preprocessor
from alexnet.inference.export.options import ExportOptions
from alexnet.models.alexnet import AlexNet
from alexnet.models.layers import LocalResponseNorm, SpatialResponseNorm


class PortableResponseNorm(nn.Module):
    """Response normalization across channels by average pooling over them (paper, section 3.3)."""

    def __init__(self, norm: LocalResponseNorm) -> None:
        super().__init__()
        self.n = norm.n
        self.k = norm.k
        self.alpha = norm.alpha
        self.beta = norm.beta
        self.towers = norm.towers

    def forward(self, x: Tensor) -> Tensor:
        squares = (x * x).unflatten(1, (self.towers, -1))  # (N, towers, C / towers, H, W)
        padded = F.pad(squares, (0, 0, 0, 0, self.n // 2, self.n // 2))
        means = F.avg_pool3d(padded, (self.n, 1, 1), stride=1).flatten(1, 2)
        return x / (self.k + self.alpha * self.n * means) ** self.beta


class PortableSpatialNorm(nn.Module):
    """The same formula over n x n pixels of each channel, by average pooling (2012 program)."""

    def __init__(self, norm: SpatialResponseNorm) -> None:
        super().__init__()
        self.n = norm.n
        self.k = norm.k
        self.alpha = norm.alpha
        self.beta = norm.beta

    def forward(self, x: Tensor) -> Tensor:
        means = F.avg_pool2d(x * x, self.n, stride=1, padding=self.n // 2)  # zeros count
        return x / (self.k + self.alpha * self.n**2 * means) ** self.beta


class PortableClassifier(nn.Module):
    """A model with its preprocessing, in eval mode: from the input that the options name.

    `square` uint8 (N, S, S, C) or `crop` uint8 (N, H, W, C) to probabilities (N, classes), averaged
    over the crops; `tensor` float32 (N, C, H, W), normalized, to logits (N, classes).
    """

    def __init__(self, model: AlexNet, preprocessor: Preprocessor, options: ExportOptions) -> None:
        super().__init__()
        self.mean: Tensor
        self.network = portable_network(model)
        self.input = options.input
        self.crop_offsets = preprocessor.crop_offsets(options.crops)
        self.side = preprocessor.input_shape[1]
        self.scale = preprocessor.augmentation.scale
        self.register_buffer("mean", torch.from_numpy(preprocessor.center_mean.copy()))
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        if self.input == "tensor":
            logits: Tensor = self.network(images)
            return logits
        crops = images[:, None] if self.input == "crop" else self.crops(images)
        x = (crops.flatten(0, 1).float() - self.mean) * self.scale
        probabilities = self.network(x.permute(0, 3, 1, 2)).softmax(1)
        return probabilities.unflatten(0, (-1, len(self.crop_offsets))).mean(1)

    def crops(self, squares: Tensor) -> Tensor:
        """Return the test crops (N, count, H, W, C) of squares (N, S, S, C)."""
        crops = []
        for (top, left), mirror in self.crop_offsets:
            crop = squares[:, top : top + self.side, left : left + self.side]
            crops.append(crop.flip(2) if mirror else crop)
        return torch.stack(crops, 1)


def portable_network(model: AlexNet) -> nn.Sequential:
    """Return a copy of the network as a sequence of the same children, its norms replaced.

    It maps normalized images (N, C, H, W) to logits (N, classes), in eval mode; its weights are
    contiguous, as torch's file formats expect them.
    """
    children = OrderedDict((name, _portable(module)) for name, module in model.named_children())
    network = deepcopy(nn.Sequential(children)).eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.data = parameter.data.contiguous()
    return network


def _portable(module: nn.Module) -> nn.Module:
    match module:
        case LocalResponseNorm():
            return PortableResponseNorm(module)
        case SpatialResponseNorm():
            return PortableSpatialNorm(module)
    return module
