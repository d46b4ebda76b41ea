"""PyTorch baselines: a recipe's network from torch.nn's modules, its norm, and an image folder.

The network computes what ours does. Dropout that is compensated at test (2012) becomes torch's,
which is compensated in training, by smaller weights in the layer that follows. A norm within towers
is torch's norm of each tower as a separate image.
"""

import math
from collections.abc import Iterator
from math import prod
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from alexnet.benchmark.inputs import CLASSES, SEED, fixed_batch
from alexnet.benchmark.interleaved_timer import Unavailable, Workload, timed_call
from alexnet.core.device import has_bf16
from alexnet.models.alexnet import AlexNet
from alexnet.models.shapes import LayerShape, infer_shapes
from alexnet.recipes.layers import (
    Activation,
    AdaptiveAvgPool,
    Conv,
    Dropout,
    Linear,
    LocalResponseNorm,
    Pool,
    SpatialResponseNorm,
    WeightedLayer,
)
from alexnet.recipes.recipe import Network

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB between 0 and 1
IMAGENET_STD = (0.229, 0.224, 0.225)
ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


class TowerNorm(nn.Module):
    """torch's local response norm within each of several equal groups of channels."""

    def __init__(self, spec: LocalResponseNorm, towers: int) -> None:
        super().__init__()
        self.spec = spec
        self.towers = towers

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x (N, C, H, W)."""
        groups = x.unflatten(1, (self.towers, -1)).flatten(0, 1)  # (N * towers, C / towers, H, W)
        return torch_norm(groups, self.spec).unflatten(0, (-1, self.towers)).flatten(1, 2)


class TorchSpatialNorm(nn.Module):
    """The spatial response norm by an average pool, which divides by the full window's size."""

    def __init__(self, spec: SpatialResponseNorm) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x (N, C, H, W)."""
        spec = self.spec
        means = F.avg_pool2d(x * x, spec.n, 1, spec.n // 2)
        return x / (spec.k + spec.alpha * spec.n**2 * means).pow(spec.beta)


def torch_norm(x: Tensor, spec: LocalResponseNorm) -> Tensor:
    """Apply torch's norm across channels, which divides alpha by n (ours does not)."""
    return F.local_response_norm(x, spec.n, spec.alpha * spec.n, spec.beta, spec.k)


def torch_model(network: Network, classes: int) -> nn.Sequential:
    """Build the network from torch's modules; Unavailable where a layer has none."""
    modules: list[nn.Module] = []
    for step in infer_shapes(network, classes):
        modules += _modules(step, network)
    return nn.Sequential(*modules)


def _modules(step: LayerShape, network: Network) -> Iterator[nn.Module]:
    match step.layer:
        case Conv() as conv:
            yield from _conv_modules(conv, step)
        case Linear(groups=1):
            yield nn.Flatten()
            yield nn.Linear(prod(step.in_shape), step.out_shape[0])
        case LocalResponseNorm(scope="tower") as norm if network.towers > 1:
            yield TowerNorm(norm, network.towers)
        case LocalResponseNorm() as norm:
            yield nn.LocalResponseNorm(norm.n, norm.alpha * norm.n, norm.beta, norm.k)
        case SpatialResponseNorm() as norm:
            yield TorchSpatialNorm(norm)
        case Pool() as pool:
            module = nn.MaxPool2d if pool.mode == "max" else nn.AvgPool2d
            yield module(pool.kernel_size, pool.stride, ceil_mode=network.pool_ceil_mode)
        case Activation(function="relu"):
            yield nn.ReLU(inplace=True)
        case Activation(function=function):
            yield ACTIVATIONS[function]()
        case Dropout() as dropout:
            yield nn.Dropout(dropout.p)
        case AdaptiveAvgPool():
            yield nn.AdaptiveAvgPool2d(step.out_shape[1:])
        case other:
            raise Unavailable(f"torch.nn has no module for {type(other).__name__}")


def _conv_modules(conv: Conv, step: LayerShape) -> Iterator[nn.Module]:
    """Yield a convolution, after the zeros that rounding up adds at the bottom and right."""
    bottom, right = step.extra_padding
    if bottom or right:
        yield nn.ZeroPad2d((0, right, 0, bottom))
    yield nn.Conv2d(
        step.in_shape[0],
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        conv.padding,
        groups=conv.groups,
    )


@torch.no_grad()
def copy_weights(baseline: nn.Sequential, model: AlexNet) -> None:
    """Give the baseline the weights with which it computes what our model does."""
    ours = folded_weights(model).values()
    for target, source in zip(baseline.parameters(), ours, strict=True):
        target.copy_(source)


def folded_weights(model: AlexNet) -> dict[str, Tensor]:
    """Return our weights by name, with dropout's factor at test folded into the layer after it."""
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    factor = 1.0
    for step in model.shapes:
        if isinstance(step.layer, Dropout) and step.layer.rescale == "test":
            factor *= 1 - step.layer.p
        elif isinstance(step.layer, WeightedLayer):
            name = f"{step.layer.name}.weight"
            weights[name] = weights[name] * factor
            factor = 1.0
    return weights


def training_step(
    network: Network, batch_size: int, device: torch.device, autocast: bool
) -> Workload:
    """Build forward, loss, backward and torch's SGD.

    In float32 and NCHW, or with autocast in bf16 and channels last.
    """
    if autocast and not has_bf16(device):
        raise Unavailable("no bf16 units on this machine")
    layout = torch.channels_last if autocast else torch.contiguous_format
    model = torch_model(network, CLASSES).train().to(device)
    model = model.to(memory_format=layout)  # type: ignore[call-overload]
    inputs, labels = fixed_batch(network.input, batch_size, device)
    inputs = inputs.to(memory_format=layout)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            loss = F.cross_entropy(model(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return Workload(timed_call(step, device), batch_size)


def inference(network: Network, batch_size: int, device: torch.device) -> Workload:
    """Build the logits of a fixed batch, float32 and NCHW."""
    model = torch_model(network, CLASSES).to(device).eval()
    inputs, _ = fixed_batch(network.input, batch_size, device)

    @torch.inference_mode()
    def forward() -> None:
        model(inputs)

    return Workload(timed_call(forward, device), batch_size)


def norm(
    spec: LocalResponseNorm,
    shape: tuple[int, int, int, int],
    device: torch.device,
    dtype: torch.dtype,
) -> Workload:
    """Build the forward and backward pass of torch's norm, NCHW.

    Other types than float32 are converted to it and back, as autocast does.
    """
    x, grad = (torch.randn(shape).to(device, dtype) for _ in range(2))
    x.requires_grad_()

    def forward_backward() -> None:
        torch.autograd.grad(torch_norm(x.float(), spec).to(dtype), x, grad)

    return Workload(timed_call(forward_backward, device), shape[0])


def image_folder(images: Path, side: int, batch_size: int) -> Workload:
    """Build batches (batch_size, 3, side, side) from image files, as ImageFolder's users do.

    On one thread.
    """
    files = np.array(sorted(images.rglob("*.jpg")), object)
    random = np.random.default_rng(SEED)

    def load() -> None:
        chosen = random.choice(files, batch_size)
        torch.stack([augmented_crop(file, side, random) for file in chosen])

    return Workload(timed_call(load, torch.device("cpu")), batch_size)


def augmented_crop(file: Path, side: int, random: np.random.Generator) -> Tensor:
    """Return a random resized crop of an image file, randomly mirrored and normalized.

    The result is float32 (3, side, side).
    """
    with Image.open(file) as image:
        box = random_crop_box(image.size, random)
        crop = image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR, box=box)
    if random.random() < 0.5:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pixels = torch.from_numpy(np.array(crop)).permute(2, 0, 1).contiguous()
    mean = torch.tensor(IMAGENET_MEAN)[:, None, None]
    std = torch.tensor(IMAGENET_STD)[:, None, None]
    return pixels.float().div_(255).sub_(mean).div_(std)


def random_crop_box(
    size: tuple[int, int], random: np.random.Generator
) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom of a random part of an image (width, height).

    It covers 8 to 100 % of the area with sides 3:4 to 4:3; the whole image if ten tries do not fit.
    """
    for _ in range(10):
        area = prod(size) * random.uniform(0.08, 1)
        ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        width = round(math.sqrt(area * ratio))
        height = round(math.sqrt(area / ratio))
        if 0 < width <= size[0] and 0 < height <= size[1]:
            left = int(random.integers(size[0] - width + 1))
            top = int(random.integers(size[1] - height + 1))
            return left, top, left + width, top + height
    return 0, 0, *size
