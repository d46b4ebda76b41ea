"""The usual ways in PyTorch: a recipe's net from torch.nn's own modules, its norm, and a loader that reads a class folder.

The net computes what ours does: dropout that is made up for at test (2012) becomes torch's own, which is made up for in training,
by smaller weights behind it. A norm within towers is torch's norm of each tower as a picture for itself.
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

from alexnet.measure.inputs import CLASSES, SEED, fixed_batch
from alexnet.measure.rounds import Missing, Work, clocked
from alexnet.network.alexnet import AlexNet
from alexnet.network.geometry import Planned, plan
from alexnet.recipes.layers import Activation, Conv, Dropout, Fit, Full, Norm, Pool, SpatialNorm, Weighted
from alexnet.recipes.recipe import Network
from alexnet.runtime import has_bf16

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's colours, white = 1


class TowerNorm(nn.Module):
    """torch's norm across maps within each of several equal parts of them."""

    def __init__(self, rule: Norm, towers: int) -> None:
        super().__init__()
        self.rule, self.towers = rule, towers

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, H, W)."""
        parts = x.unflatten(1, (self.towers, -1)).flatten(0, 1)  # (N * towers, C / towers, H, W)
        return torch_norm(parts, self.rule).unflatten(0, (-1, self.towers)).flatten(1, 2)


class OverSpace(nn.Module):
    """The spatial norm by an average pool, which divides by the window's size wherever it stands."""

    def __init__(self, rule: SpatialNorm) -> None:
        super().__init__()
        self.rule = rule

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, H, W)."""
        rule = self.rule
        means = F.avg_pool2d(x * x, rule.n, 1, rule.n // 2)
        return x / (rule.k + rule.alpha * rule.n**2 * means).pow(rule.beta)


def torch_norm(x: Tensor, rule: Norm) -> Tensor:
    """torch's norm across maps; it divides alpha by n, ours does not."""
    return F.local_response_norm(x, rule.n, rule.alpha * rule.n, rule.beta, rule.k)


def net(network: Network, classes: int) -> nn.Sequential:
    """The described net from torch's own modules; Missing where a layer has none."""
    return nn.Sequential(*(module for step in plan(network, classes) for module in _modules(step, network)))


def _modules(step: Planned, network: Network) -> Iterator[nn.Module]:
    up = network.round_pool == "up"
    match step.layer:
        case Conv() as conv:
            down, right = step.overhang
            if down or right:
                yield nn.ZeroPad2d((0, right, 0, down))
            yield nn.Conv2d(step.takes[0], conv.maps, conv.size, conv.stride, conv.pad, groups=conv.groups)
        case Full(groups=1):
            yield nn.Flatten()
            yield nn.Linear(prod(step.takes), step.gives[0])
        case Norm(within="tower") as rule if network.towers > 1:
            yield TowerNorm(rule, network.towers)
        case Norm() as rule:
            yield nn.LocalResponseNorm(rule.n, rule.alpha * rule.n, rule.beta, rule.k)
        case SpatialNorm() as rule:
            yield OverSpace(rule)
        case Pool() as pool:
            yield (nn.MaxPool2d if pool.takes == "max" else nn.AvgPool2d)(pool.size, pool.stride, ceil_mode=up)
        case Activation(function="relu"):
            yield nn.ReLU(inplace=True)
        case Activation(function=function):
            yield nn.Tanh() if function == "tanh" else nn.Sigmoid()
        case Dropout() as dropout:
            yield nn.Dropout(dropout.p)
        case Fit():
            yield nn.AdaptiveAvgPool2d(step.gives[1:])
        case other:
            raise Missing(f"torch has no module for {other}")


@torch.no_grad()
def adopt(stock: nn.Sequential, ours: AlexNet) -> None:
    """Give the stock net weights with which it computes what ours does."""
    for mine, theirs in zip(stock.parameters(), weights(ours).values(), strict=True):
        mine.copy_(theirs)


def weights(network: AlexNet) -> dict[str, Tensor]:
    """Our weights by name, the share that dropout leaves at test taken into the weights behind it."""
    found, share = {name: parameter.detach() for name, parameter in network.named_parameters()}, 1.0
    for step in network.planned:
        if isinstance(step.layer, Dropout) and step.layer.rescale == "test":
            share *= 1 - step.layer.p
        elif isinstance(step.layer, Weighted):
            found[f"{step.layer.name}.weight"] = found[f"{step.layer.name}.weight"] * share
            share = 1.0
    return found


def training_step(network: Network, batch: int, device: torch.device, autocast: bool) -> Work:
    """Forward, loss, backward and torch's SGD: float32 and NCHW, or with autocast bf16 and channels last."""
    if autocast and not has_bf16(device):
        raise Missing("no bf16 units here")
    layout = torch.channels_last if autocast else torch.contiguous_format
    stock = net(network, CLASSES).train().to(device).to(memory_format=layout)  # type: ignore[call-overload]
    views, labels = fixed_batch(network.input, batch, device)
    views = views.to(memory_format=layout)
    optimizer = torch.optim.SGD(stock.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            loss = F.cross_entropy(stock(views), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return Work(clocked(step, device), batch)


def inference(network: Network, batch: int, device: torch.device) -> Work:
    """The logits of a fixed batch, float32 and NCHW."""
    stock = net(network, CLASSES).to(device).eval()
    views, _ = fixed_batch(network.input, batch, device)

    @torch.inference_mode()
    def forward() -> None:
        stock(views)

    return Work(clocked(forward, device), batch)


def norm(rule: Norm, shape: tuple[int, int, int, int], device: torch.device, dtype: torch.dtype) -> Work:
    """torch's norm forward and backward, NCHW; other dtypes by way of float32, as autocast does."""
    x, g = (torch.randn(shape).to(device, dtype) for _ in range(2))
    x.requires_grad_()
    return Work(clocked(lambda: torch.autograd.grad(torch_norm(x.float(), rule).to(dtype), x, g), device), shape[0])


def class_folder(pictures: Path, side: int, batch: int) -> Work:
    """Batches of float views (batch, 3, side, side) from picture files, on one thread: what an image folder's loader does."""
    files = np.array(sorted(pictures.rglob("*.jpg")), object)
    random = np.random.default_rng(SEED)
    made = clocked(lambda: torch.stack([view(file, side, random) for file in random.choice(files, batch)]), torch.device("cpu"))
    return Work(made, batch)


def view(file: Path, side: int, random: np.random.Generator) -> Tensor:
    """A picture file decoded, cropped and resized at random, mirrored half of the time, as numbers (3, side, side)."""
    with Image.open(file) as image:
        crop = image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR, box=random_box(image.size, random))
    if random.random() < 0.5:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    levels = torch.from_numpy(np.array(crop)).permute(2, 0, 1).contiguous()
    mean, deviation = (torch.tensor(colour)[:, None, None] for colour in (MEAN, DEVIATION))
    return levels.float().div_(255).sub_(mean).div_(deviation)


def random_box(size: tuple[int, int], random: np.random.Generator) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of 8 to 100 % of a picture (width, height), sides 3:4 to 4:3; all of it if ten tries fail."""
    for _ in range(10):
        area, ratio = prod(size) * random.uniform(0.08, 1), math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < width <= size[0] and 0 < height <= size[1]:
            left, top = int(random.integers(size[0] - width + 1)), int(random.integers(size[1] - height + 1))
            return left, top, left + width, top + height
    return 0, 0, *size
