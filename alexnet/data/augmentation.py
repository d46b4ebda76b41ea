"""The random parameters of training: crop offset, mirror, rotation, color jitter, dropout key.

They are counter-based, not drawn from a generator: each is a function of (seed, epoch, image), or
of (seed, epoch, group of images) where a recipe shares one crop and mirror among a group
(`convdata_jpeg.py` of the 2012 program: 32). So workers, ranks and a resumed run get the same
parameters, and no generator state has to be saved. See the paper, section 4.1, for crops, mirrors
and color jitter.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from alexnet.core.rng import key, normal, randint, uniform
from alexnet.recipes.recipe import Augmentation


@dataclass(frozen=True)
class AugmentParams:
    """The random parameters of N images in one epoch."""

    offsets: np.ndarray  # int64 (N, 2): row and column of the crop
    mirror: np.ndarray  # bool (N,)
    angles: np.ndarray  # float64 (N,), degrees
    color: np.ndarray  # float64 (N, 3), standard normal, along the principal components
    dropout: np.ndarray  # int32 (N,), keys of the dropout masks

    def rows(self, rows: slice) -> "AugmentParams":
        """Return the parameters of some of the images."""
        return AugmentParams(
            self.offsets[rows],
            self.mirror[rows],
            self.angles[rows],
            self.color[rows],
            self.dropout[rows],
        )


def draw_augment_params(
    augmentation: Augmentation,
    margin: int,
    seed: int,
    epoch: int,
    images: np.ndarray,
    positions: np.ndarray,
) -> AugmentParams:
    """Return the parameters of `images` (indices in the split) at `positions` of the epoch's order.

    Crop offsets run from 0 to `margin` pixels, both included.
    """
    crop_key: tuple[int | str | np.ndarray, ...] = (epoch, images)
    if augmentation.crop_group_size > 1:
        crop_key = (epoch, positions // augmentation.crop_group_size, "group")
    rows = randint(key(seed, "row", *crop_key), margin + 1)
    columns = randint(key(seed, "column", *crop_key), margin + 1)
    mirror = randint(key(seed, "mirror", *crop_key), 2).astype(bool) & augmentation.mirror
    fractions = uniform(key(seed, "angle", epoch, images))
    dropout = key(seed, "dropout", epoch, images) >> np.uint64(32)
    return AugmentParams(
        offsets=np.stack(np.broadcast_arrays(rows, columns), 1),
        mirror=mirror,
        angles=augmentation.rotation * (2 * fractions - 1),
        color=normal(key(seed, "colour", epoch, images), 3),
        dropout=dropout.astype(np.uint32).view(np.int32),
    )


def rotate(image: np.ndarray, angle: float) -> np.ndarray:
    """Return an image (S, S, C) rotated about its center, counterclockwise by an angle in degrees.

    Empty corners are filled with the nearest edge pixels.
    """
    if not angle:
        return image
    size = len(image)
    padded = np.pad(image, ((size, size), (size, size), (0, 0)), "edge").squeeze()
    rotated = Image.fromarray(padded).rotate(angle, Image.Resampling.BILINEAR)
    center = rotated.crop((size, size, 2 * size, 2 * size))
    return np.asarray(center).reshape(image.shape)
