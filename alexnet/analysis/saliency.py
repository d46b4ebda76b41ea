"""Compute saliency: which pixels of a crop the probability of a class depends on.

Input gradient (Simonyan, Vedaldi and Zisserman 2013): of the class's logit with respect to the
input, the largest magnitude over the channels. Occlusion (Zeiler and Fergus 2013): how much of
the class's probability is lost when a square patch is replaced by the mean that preprocessing
subtracts, that is by zeros. Both use the center crop; occlusion takes one forward pass for each
position of the patch, and can be had coarse to fine, as an interlaced image is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from alexnet.core.device import Runtime
from alexnet.evaluation.evaluate import CROPS_PER_BATCH
from alexnet.models.alexnet import AlexNet
from alexnet.models.model_file import Classifier

PATCHES_PER_SIDE = 5  # the patch is a fifth of the crop's side
FINE = 20  # the patch moves by a twentieth of the side
COARSE = 10  # or by a tenth, which takes a quarter of the time


@dataclass(frozen=True, eq=False)
class Saliency:
    """A crop uint8 (H, W, C), a class and its probability, and the two maps.

    `gradient` float32 (H, W). `probability_drop` float32 (positions, positions): the probability
    lost with the patch's upper left corner at each of `corners` down and along.
    """

    name: str
    crop: np.ndarray
    label: int
    probability: float
    gradient: np.ndarray
    probability_drop: np.ndarray
    patch: int
    corners: tuple[int, ...]

    def to_json(self, classes: Sequence[str]) -> dict[str, Any]:
        """Return the plotted values as plain data; the gradient is left out for its size."""
        return {
            "name": self.name,
            "class": classes[self.label],
            "probability": self.probability,
            "patch": self.patch,
            "corners": self.corners,
            "probability_drop": self.probability_drop.tolist(),
        }


def compute_saliency(
    classifier: Classifier,
    name: str,
    pixels: np.ndarray,
    label: int | None,
    runtime: Runtime,
    steps_per_side: int = FINE,
) -> Saliency:
    """Compute both maps of a sample uint8 (S, S, C) for a class, by default its most likely one."""
    model = classifier.model
    preprocessor = classifier.preprocessor
    crop = preprocessor.center_crop(pixels[None])
    batch = preprocessor.normalize(crop, runtime.device, runtime.dtype)
    probability = class_probabilities(model, batch)[0]
    target = int(probability.argmax()) if label is None else label
    patch, corners = patch_positions(batch.shape[-1], steps_per_side)
    gradient = input_gradient(model, batch, target)[0]
    drop = occlusion_map(model, batch[0], target, patch, corners)
    return Saliency(
        name,
        crop[0],
        target,
        float(probability[target]),
        gradient.float().cpu().numpy(),
        drop.float().cpu().numpy(),
        patch,
        corners,
    )


def patch_positions(side: int, steps_per_side: int) -> tuple[int, tuple[int, ...]]:
    """Return the patch's size, and the evenly spaced positions of its corner along a side."""
    patch = max(1, side // PATCHES_PER_SIDE)
    steps = max(1, round((side - patch) / max(1, side // steps_per_side)))
    corners = [round((side - patch) * step / steps) for step in range(steps + 1)]
    return patch, tuple(dict.fromkeys(corners))


@torch.no_grad()
def class_probabilities(model: AlexNet, batch: Tensor) -> Tensor:
    """Return class probabilities float32 (N, classes) of a batch (N, C, H, W)."""
    return model(batch).float().softmax(1)


def input_gradient(model: AlexNet, batch: Tensor, label: int) -> Tensor:
    """Return the largest magnitude over the channels of d logit / d input: (N, H, W)."""
    batch = batch.detach().clone().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(model(batch)[:, label].sum(), batch)
    return gradient.abs().amax(1)


def occlusion_map(
    model: AlexNet, crop: Tensor, label: int, patch: int, corners: Sequence[int]
) -> Tensor:
    """Return the probability that a crop (C, H, W) loses, for the patch at each pair of corners.

    The shape is (positions, positions): rows, then columns.
    """
    *_, drop = occlusion_steps(model, crop, label, patch, corners, CROPS_PER_BATCH // 2)
    return drop


def occlusion_steps(
    model: AlexNet, crop: Tensor, label: int, patch: int, corners: Sequence[int], batch_size: int
) -> Iterator[Tensor]:
    """Yield the occlusion map (positions, positions) after each batch, coarse to fine.

    Positions that are not computed yet have the value of the last one up and to the left that is.
    There are `occlusion_batches` steps; the last is the map itself.
    """
    unoccluded = class_probabilities(model, crop[None])[0, label].cpu()
    drop = torch.zeros(len(corners), len(corners))
    positions = coarse_to_fine(len(corners))
    for first in range(0, len(positions), batch_size):
        chunk = positions[first : first + batch_size]
        batch = _occlude(crop, [(corners[row], corners[column]) for row, column, _ in chunk], patch)
        lost = unoccluded - class_probabilities(model, batch)[:, label].cpu()
        for (row, column, size), value in zip(chunk, lost, strict=True):
            drop[row : row + size, column : column + size] = value
        yield drop.clone()


def occlusion_batches(positions: int, batch_size: int) -> int:
    """Return the number of steps of `occlusion_steps` for this many positions along a side."""
    return -(-(positions**2) // batch_size)


def coarse_to_fine(count: int) -> list[tuple[int, int, int]]:
    """Return (row, column, size) of all positions of a square grid, every fourth one first.

    A position stands for the `size` x `size` positions from it on, until they have their own turn.
    """
    order: dict[tuple[int, int], int] = {}
    for size in (4, 2, 1):
        steps = range(0, count, size)
        order |= {(r, c): size for r in steps for c in steps if (r, c) not in order}
    return [(row, column, size) for (row, column), size in order.items()]


def _occlude(crop: Tensor, corners: Sequence[tuple[int, int]], patch: int) -> Tensor:
    """Return copies of a crop (C, H, W), each with a patch of zeros at another corner."""
    batch = crop.repeat(len(corners), 1, 1, 1)
    for occluded, (row, column) in zip(batch, corners, strict=True):
        occluded[:, row : row + patch, column : column + patch] = 0
    return batch
