"""What the network sees of a record: a crop, perhaps mirrored, less the mean, perhaps with colour noise.

Crops are cut on the host, as bytes; arithmetic is done on the device, on whole batches. A `View` is everything a trained
network needs to see a picture the way it was taught to: it lives in the model file, and evaluate, predict and the pictures of
insight all use that same one. Draws for training are counted: functions of (seed, epoch, picture), or of (seed, epoch, group of
pictures) where a recipe shares one crop among 32 (paper, section 4.1, and convdata_jpeg.py of the 2012 program).
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from alexnet.data import images, pixels
from alexnet.data.images import Policy
from alexnet.data.pixels import Mean
from alexnet.data.store import Colour
from alexnet.errors import AlexNetError
from alexnet.randomness import below, key, normal, uniform
from alexnet.recipes.layers import Shape
from alexnet.recipes.recipe import Views

Squares = np.ndarray  # uint8 (N, S, S, C): records as stored
Crops = np.ndarray  # uint8 (N, H, W, C): what is cut from them


@dataclass(frozen=True)
class Draws:
    """One epoch's random choices for some pictures."""

    offsets: np.ndarray  # int64 (N, 2): rows, columns
    mirror: np.ndarray  # bool (N,)
    angles: np.ndarray  # float64 (N,), degrees
    colour: np.ndarray  # float64 (N, 3), standard normal
    dropout: np.ndarray  # int32 (N,), keys

    def of(self, rows: slice) -> "Draws":
        """The choices for some of the pictures."""
        return Draws(self.offsets[rows], self.mirror[rows], self.angles[rows], self.colour[rows], self.dropout[rows])


def draw(views: Views, margin: int, seed: int, epoch: int, pictures: np.ndarray, places: np.ndarray) -> Draws:
    """The choices for `pictures` that stand at `places` of the epoch's order; crops move by 0..margin, both included."""
    sharers = (epoch, places // views.shared_by, "group") if views.shared_by > 1 else (epoch, pictures)
    rows, columns = below(key(seed, "row", *sharers), margin + 1), below(key(seed, "column", *sharers), margin + 1)
    mirror = below(key(seed, "mirror", *sharers), 2).astype(bool) & views.mirror
    return Draws(
        offsets=np.stack(np.broadcast_arrays(rows, columns), 1),
        mirror=mirror,
        angles=views.rotation * (2 * uniform(key(seed, "angle", epoch, pictures)) - 1),
        colour=normal(key(seed, "colour", epoch, pictures), 3),
        dropout=(key(seed, "dropout", epoch, pictures) >> np.uint64(32)).astype(np.uint32).view(np.int32),
    )


def turned(square: np.ndarray, angle: float) -> np.ndarray:
    """A square (S, S, C) turned about its middle by an angle in degrees; corners left empty take the nearest edge's pixels."""
    if not angle:
        return square
    side = len(square)
    image = Image.fromarray(np.pad(square, ((side, side), (side, side), (0, 0)), "edge").squeeze())
    image = image.rotate(angle, Image.Resampling.BILINEAR).crop((side, side, 2 * side, 2 * side))
    return np.asarray(image).reshape(square.shape)


@dataclass(frozen=True, eq=False)
class View:
    """How a network sees pictures: file -> square (policy) -> crop (input) -> less the mean, scaled (views); and the classes."""

    policy: Policy
    input: Shape
    views: Views
    classes: tuple[str, ...]
    mean: np.ndarray  # float32 (S, S, C), grey levels 0-255
    colour: Colour

    def __post_init__(self) -> None:
        channels, height, width = self.input
        if height != width:
            raise AlexNetError(f"the network sees {height} x {width}; views are squares: set network.input={channels},SIDE,SIDE")
        found = f"{self.policy.channels} x {self.policy.size} x {self.policy.size}"
        if channels != self.policy.channels or height > self.policy.size:
            raise AlexNetError(
                f"the network sees {channels} x {height} x {width}, the pictures are {found}; "
                f"prepare others with --size or --grey, or --set network.input={self.policy.channels},SIDE,SIDE"
            )

    def __call__(self, *pictures: str | Path | bytes) -> Tensor:
        """Picture files, or their bytes, as the network's centre views (N, C, H, W), float32."""
        return self.tensor(self.centre(np.stack([self.square(picture) for picture in pictures])))

    def square(self, picture: str | Path | bytes) -> np.ndarray:
        """A picture file, or its bytes, as the record a store would hold: uint8 (S, S, C)."""
        data = picture if isinstance(picture, bytes) else Path(picture).read_bytes()
        return images.decode(images.record(data, self.policy))

    def centre(self, squares: Squares) -> Crops:
        """The middle of each square: (N, H, W, C)."""
        return self._cut(squares, self._middle, False)

    def of(self, squares: Squares, count: int) -> Crops:
        """So many views of each square, 1, 9 or 10: (N, count, H, W, C)."""
        return {1: lambda: self.centre(squares)[:, None], 9: lambda: self.nine(squares), 10: lambda: self.ten(squares)}[count]()

    def nine(self, squares: Squares) -> Crops:
        """A grid of three by three crops, row by row (the 2012 program's CIFAR-10 test): (N, 9, H, W, C)."""
        low = self.policy.size - self.input[1]
        places = (0, low // 2, low)
        return np.stack([self._cut(squares, (top, left), False) for top in places for left in places], 1)

    def ten(self, squares: Squares) -> Crops:
        """Four corners and the centre, then the same mirrored (paper, section 4.1): (N, 10, H, W, C), in the order
        top left, top right, centre, bottom left, bottom right."""
        low, right = self.policy.size - self.input[1], self.policy.size - self.input[2]
        corners = ((0, 0), (0, right), self._middle, (low, 0), (low, right))
        return np.stack([self._cut(squares, corner, mirror) for mirror in (False, True) for corner in corners], 1)

    def tensor(
        self, crops: np.ndarray | Tensor, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Crops (N, H, W, C) as the network sees them at test: less the mean of the centre, scaled; (N, C, H, W)."""
        return pixels.levels(_tensor(crops).to(device), Mean(self._mean_view), self.views.scale, dtype)

    def whole(self, squares: Squares, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Tensor:
        """Whole squares as the network would see them at test, at every place at once: (N, C, S, S)."""
        mean = self._mean_view if self.views.mean == "colour" else self.mean
        return pixels.levels(_tensor(squares).to(device), Mean(mean), self.views.scale, dtype)

    def training_tensor(
        self, crops: Tensor, draws: Draws, noise: float, side: int, device: torch.device | str, dtype: torch.dtype
    ) -> Tensor:
        """Crops (N, H, W, C) as the network sees them while training, with colour noise of that deviation; (N, C, side, side)."""
        follows = self.views.mean == "image" and self.views.mean_at == "crop"
        mean = Mean(self.mean, follows=True) if follows else Mean(self._mean_view)
        shift = self.colour_shift(draws.colour, noise) if noise else None
        crops = crops.to(device)
        crops = crops if side == crops.shape[2] else pixels.resized(crops, side)
        places = (draws.offsets, draws.mirror) if follows else None
        return pixels.levels(crops, mean, self._training_scale(noise), dtype, places, shift)

    def colour_shift(self, normals: np.ndarray, noise: float) -> np.ndarray:
        """Grey levels (N, C) to add to every pixel of a picture, from normal draws (N, 3) (paper, section 4.1).

        Along each eigenvector by noise times the root of its eigenvalue, as the 2012 program does; or times the eigenvalue of
        levels from 0 to 1, as the text says (white = 1 is assumed: the text names no unit).
        """
        values = self.colour.eigenvalues
        along = np.sqrt(values) if self.views.noise_unit == "deviation" else values / 255
        return (noise * normals[:, : len(values)] * along) @ self.colour.eigenvectors.T

    @property
    def margin(self) -> int:
        """How far a random crop can move."""
        return self.policy.size - self.input[1]

    def _training_scale(self, noise: float) -> float:
        return self.views.scale / (1 + noise) if self.views.noise_divides else self.views.scale

    @property
    def _middle(self) -> tuple[int, int]:
        return (self.policy.size - self.input[1]) // 2, (self.policy.size - self.input[2]) // 2

    @cached_property
    def _mean_view(self) -> np.ndarray:
        """What is subtracted from a view at test: the mean image's centre (H, W, C), or the mean colour (C,)."""
        if self.views.mean == "colour":
            return self.mean.mean((0, 1), dtype=np.float64).astype(np.float32)
        return self._cut(self.mean[None], self._middle, False)[0]

    def _cut(self, squares: np.ndarray, offset: tuple[int, int], mirror: bool) -> np.ndarray:
        (top, left), (_, height, width) = offset, self.input
        crops = squares[:, top : top + height, left : left + width]
        return np.ascontiguousarray(crops[:, :, ::-1] if mirror else crops)


def _tensor(crops: np.ndarray | Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(crops)) if isinstance(crops, np.ndarray) else crops
