"""The transforms from an image to the tensor a network takes, for inference and for training.

A `Preprocessor` is everything a trained network needs to get images as it was trained on them: how
a file becomes a square record, the size of the crop, the mean, the scale, and the classes. It lives
in the model file, and evaluation, prediction, plots and exports all use that same one. Crops are
cut on the CPU as bytes; the arithmetic runs on whole batches, on the device of the network. Images
and crops are uint8, channels last.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from os import PathLike, fspath
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from alexnet.core.errors import AlexNetError, UsageError, require
from alexnet.data import crop_normalize
from alexnet.data.augmentation import AugmentParams, rotate
from alexnet.data.crop_normalize import CropPlacement, Mean, crop_batch
from alexnet.data.image_input import ImageInput, image_bytes
from alexnet.data.images import BadImage, DecodeConfig, decode_record, make_record
from alexnet.data.statistics import ColorStats
from alexnet.recipes.layers import Shape
from alexnet.recipes.recipe import Augmentation

Offset = tuple[int, int]  # row and column of a crop's top left pixel


@runtime_checkable
class RecordTransform(Protocol):
    """A transform that takes the records of a prepared dataset as they are stored."""

    def from_record(self, pixels: np.ndarray) -> Tensor:
        """Return the tensor (C, H, W) of a decoded record, uint8 (S, S, C)."""
        ...


@dataclass(frozen=True, eq=False)
class Preprocessor:
    """The preprocessing of a network: image -> square record -> center crop -> float32 tensor.

    Called with one image it returns (C, H, W), as torchvision's transforms do; called with a list,
    a batch (N, C, H, W):

        logits = model(preprocess("cat.jpg")[None])
        logits = model(preprocess(["cat.jpg", "dog.jpg"]))

    An image is a path, the bytes of a file, a PIL image, a NumPy array uint8 (H, W, 3) or (H, W),
    or a tensor uint8 (3, H, W). `preprocess.train` is the random transform for training,
    `preprocess.classes` the names of the outputs.
    """

    decode_config: DecodeConfig
    input_shape: Shape
    augmentation: Augmentation
    classes: tuple[str, ...]
    mean: np.ndarray  # float32 (S, S, C), levels 0-255
    color: ColorStats

    def __post_init__(self) -> None:
        channels, height, width = self.input_shape
        config = self.decode_config
        if height != width:
            raise AlexNetError(
                f"the network's input is {height} x {width}, expected a square: set "
                f"network.input={channels},SIZE,SIZE"
            )
        if channels != config.channels or height > config.size:
            raise AlexNetError(
                f"the network's input is {channels} x {height} x {width}, the images are "
                f"{config.channels} x {config.size} x {config.size}; prepare others with --size "
                f"or --grayscale, or --set network.input={config.channels},SIZE,SIZE"
            )

    def __repr__(self) -> str:
        size = self.decode_config.size
        return (
            f"Preprocessor(input {_by(self.input_shape)}, records {size} x {size} x "
            f"{self.decode_config.channels}, {len(self.classes)} classes)"
        )

    def with_classes(self, classes: Sequence[str]) -> "Preprocessor":
        """Return the same preprocessing for a model with other classes, named in its order.

        For a model whose last layer was replaced: `model.reset_classifier(len(classes))`.
        UsageError unless they are names that differ.

        >>> preprocess = preprocess.with_classes(["cat", "dog"])  # doctest: +SKIP
        """
        names = () if isinstance(classes, str) else tuple(classes)
        require(
            bool(names) and all(isinstance(name, str) for name in names),
            "classes: expected a list of names, one for each output of the model",
        )
        require(
            len(set(names)) == len(names),
            f"classes: found {len(names)} names, {len(set(names))} of them different; "
            "expected each once",
        )
        return replace(self, classes=names)

    def __call__(self, image: ImageInput | Sequence[ImageInput]) -> Tensor:
        """Return the network's input for one image, (C, H, W), or for a list, (N, C, H, W).

        The values are float32 and normalized; the crop is the center one. UsageError for a value
        that is no image, AlexNetError for a file that cannot be read or decoded.
        """
        if isinstance(image, Sequence) and not isinstance(image, (str, bytes)):
            require(len(image) > 0, "preprocess: found an empty list, expected one image or more")
            records = np.stack([_decode_named(self, each) for each in image])
            return self.normalize(self.center_crop(records))
        return self.from_record(_decode_named(self, image))

    def from_record(self, pixels: np.ndarray) -> Tensor:
        """Return the network's input (C, H, W) for a decoded record, uint8 (S, S, C)."""
        self.check_record(pixels)
        return self.normalize(self.center_crop(pixels[None]))[0]

    def check_record(self, pixels: np.ndarray) -> None:
        """UsageError unless a decoded record has the size and the channels of the model's own."""
        config = self.decode_config
        expected = (config.size, config.size, config.channels)
        if pixels.shape != expected:
            raise UsageError(
                f"record: found {_by(pixels.shape)} pixels, the model's dataset has "
                f"{_by(expected)}: prepare a dataset with --size {config.size}"
                f"{' --grayscale' if config.channels == 1 else ''}"
            )

    @property
    def train(self) -> "TrainTransform":
        """The random transform for training, with the color jitter of the recipe's first epoch."""
        return TrainTransform(self, self.augmentation.color_jitter.at(0))

    def decode_square(self, image: ImageInput) -> np.ndarray:
        """Return one image as the record a prepared dataset would hold, decoded: uint8 (S, S, C).

        That includes the JPEG compression of records, where the dataset has it.
        """
        return decode_record(make_record(image_bytes(image), self.decode_config))

    @property
    def margin(self) -> int:
        """The largest offset of a crop, pixels: record size - crop size."""
        return self.decode_config.size - self.input_shape[1]

    @cached_property
    def center_mean(self) -> np.ndarray:
        """The mean at test: center crop of the mean image, (H, W, C), or the mean color, (C,)."""
        if self.augmentation.mean == "color":
            return self.mean.mean((0, 1), dtype=np.float64).astype(np.float32)
        return self._crop(self.mean[None], self._center, mirror=False)[0]

    def center_crop(self, images: np.ndarray) -> np.ndarray:
        """Return the center crop of each record uint8 (N, S, S, C): (N, H, W, C)."""
        return self._crop(images, self._center, mirror=False)

    def test_crops(self, images: np.ndarray, count: int) -> np.ndarray:
        """Return 1, 9 or 10 crops of each record uint8 (N, S, S, C): (N, count, H, W, C)."""
        crops = [self._crop(images, offset, mirror) for offset, mirror in self.crop_offsets(count)]
        return np.stack(crops, 1)

    def nine_crops(self, images: np.ndarray) -> np.ndarray:
        """Return a grid of 3 x 3 crops, row by row: (N, 9, H, W, C).

        This is the 2012 program's test on CIFAR-10.
        """
        return self.test_crops(images, 9)

    def ten_crops(self, images: np.ndarray) -> np.ndarray:
        """Return the corners and the center, then the same mirrored: (N, 10, H, W, C).

        The order is top left, top right, center, bottom left, bottom right. Source: paper, section
        4.1.
        """
        return self.test_crops(images, 10)

    def crop_offsets(self, count: int) -> list[tuple[Offset, bool]]:
        """Return the (top, left) of each of 1, 9 or 10 test crops, and whether it is mirrored."""
        low = self.margin
        if count == 1:
            return [(self._center, False)]
        if count == 9:
            grid = (0, low // 2, low)
            return [((top, left), False) for top in grid for left in grid]
        if count == 10:
            offsets = ((0, 0), (0, low), self._center, (low, 0), (low, low))
            return [(offset, mirror) for mirror in (False, True) for offset in offsets]
        raise UsageError(f"test crops: found {count}, expected 1, 9 or 10")

    def normalize(
        self,
        crops: np.ndarray | Tensor,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Return test crops (N, H, W, C) less the mean of the center crop, scaled: (N, C, H, W)."""
        mean = Mean(self.center_mean)
        x = _as_tensor(crops).to(device)
        return crop_normalize.normalize(x, mean, self.augmentation.scale, dtype)

    def normalize_whole(
        self,
        images: np.ndarray,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Return uncropped records (N, S, S, C), normalized, for a dense evaluation: (N, C, S, S).

        A mean image is subtracted from the whole record, so each position loses the mean of its own
        place.
        """
        mean = self.center_mean if self.augmentation.mean == "color" else self.mean
        x = _as_tensor(images).to(device)
        return crop_normalize.normalize(x, Mean(mean), self.augmentation.scale, dtype)

    def augment_and_normalize(
        self,
        crops: Tensor,
        params: AugmentParams,
        color_jitter: float,
        size: int,
        device: torch.device | str,
        dtype: torch.dtype,
    ) -> Tensor:
        """Return training crops (N, H, W, C), jittered and normalized: (N, C, size, size).

        `params` are those the crops were cut with; `color_jitter` is the standard deviation of the
        color jitter.
        """
        crops = crops.to(device)
        if size != crops.shape[2]:
            crops = crop_normalize.resize(crops, size)
        mean = Mean(self.center_mean)
        placement = None
        if self.augmentation.mean == "image" and self.augmentation.mean_at == "crop":
            mean = Mean(self.mean, follows_crop=True)
            placement = CropPlacement(params.offsets, params.mirror)
        shift = self.color_shift(params.color, color_jitter) if color_jitter else None
        scale = self._training_scale(color_jitter)
        return crop_normalize.normalize(crops, mean, scale, dtype, placement, shift)

    def color_shift(self, normals: np.ndarray, color_jitter: float) -> np.ndarray:
        """Return the levels (N, C) to add to every pixel, from normal values (N, 3).

        Along each principal component: `color_jitter` times the root of its eigenvalue, as in the
        2012 program; or times the eigenvalue of levels from 0 to 1, as in the paper, section 4.1
        (it names no unit; white = 1 is assumed).
        """
        eigenvalues = self.color.eigenvalues
        if self.augmentation.color_jitter_unit == "deviation":
            std = np.sqrt(eigenvalues)
        else:
            std = eigenvalues / 255
        return (color_jitter * normals[:, : len(std)] * std) @ self.color.eigenvectors.T

    def _training_scale(self, color_jitter: float) -> float:
        scale = self.augmentation.scale
        return scale / (1 + color_jitter) if self.augmentation.rescale_by_jitter else scale

    @property
    def _center(self) -> Offset:
        """The offset of the center crop."""
        return self.margin // 2, self.margin // 2

    def _crop(self, images: np.ndarray, offset: Offset, mirror: bool) -> np.ndarray:
        """Return the same crop (N, H, W, C) of each image (N, S, S, C)."""
        top, left = offset
        _, height, width = self.input_shape
        crops = images[:, top : top + height, left : left + width]
        return np.ascontiguousarray(crops[:, :, ::-1] if mirror else crops)


@dataclass(frozen=True, eq=False)
class TrainTransform:
    """A network's random training transform: random crop, mirror, rotation and color jitter.

    It is the recipe's augmentation, with the arithmetic of `alexnet train`, for a PyTorch training
    loop. It takes the images that the preprocessor takes and returns float32 tensors of the
    network's own input size. The random numbers come from PyTorch's global generator, so
    `torch.manual_seed` and the workers of a DataLoader act as usual; every image has its own, also
    where the recipe shares one crop among a group. `color_jitter` is the standard deviation; a
    recipe that changes it during training needs another transform from that epoch on.
    """

    preprocessor: Preprocessor
    color_jitter: float

    def __call__(self, image: ImageInput | Sequence[ImageInput]) -> Tensor:
        """Return the augmented input for one image, (C, H, W), or for a list, (N, C, H, W)."""
        if isinstance(image, Sequence) and not isinstance(image, (str, bytes)):
            require(len(image) > 0, "transform: found an empty list, expected one image or more")
            return torch.stack([self(each) for each in image])
        return self.from_record(_decode_named(self.preprocessor, image))

    def from_record(self, pixels: np.ndarray) -> Tensor:
        """Return the augmented input (C, H, W) for a decoded record, uint8 (S, S, C)."""
        preprocessor = self.preprocessor
        preprocessor.check_record(pixels)
        height, width = preprocessor.input_shape[1:]
        params = _random_params(preprocessor.augmentation, preprocessor.margin)
        rotated = rotate(pixels, float(params.angles[0]))
        placement = CropPlacement(params.offsets, params.mirror)
        crops = crop_batch([rotated], placement, (height, width))
        batch = preprocessor.augment_and_normalize(
            crops, params, self.color_jitter, height, "cpu", torch.float32
        )
        return batch[0]


def _random_params(augmentation: Augmentation, margin: int) -> AugmentParams:
    """Draw the parameters of one image from PyTorch's global generator."""
    mirror = torch.randint(2, (1,)).bool().numpy()
    fractions = torch.rand(1, dtype=torch.float64).numpy()
    return AugmentParams(
        offsets=torch.randint(margin + 1, (1, 2)).numpy(),
        mirror=mirror & augmentation.mirror,
        angles=augmentation.rotation * (2 * fractions - 1),
        color=torch.randn(1, 3, dtype=torch.float64).numpy(),
        dropout=np.zeros(1, np.int32),  # a PyTorch training loop draws its own masks
    )


def _decode_named(preprocessor: Preprocessor, image: ImageInput) -> np.ndarray:
    """Decode one image; the AlexNetError for a bad one names its path."""
    name = fspath(image) if isinstance(image, (str, PathLike)) else "image"
    try:
        return preprocessor.decode_square(image)
    except BadImage as error:
        raise BadImage(f"{name}: cannot be read: {error}") from error
    except OSError as error:
        raise AlexNetError(
            f"{name}: cannot be read: {error.strerror or error}; expected an image file"
        ) from error


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _as_tensor(images: np.ndarray | Tensor) -> Tensor:
    """Return images as a tensor, without a copy where they are contiguous and writable."""
    if isinstance(images, Tensor):
        return images
    return torch.from_numpy(np.require(images, requirements=["C", "W"]))
