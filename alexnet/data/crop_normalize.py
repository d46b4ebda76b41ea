"""The pixel operations of the input pipeline: crop uint8 images, normalize and resize crops.

Each is one pass over memory in C++ where there is a compiler, and gives the same bits with NumPy
and PyTorch where there is none. Crops are cut by the threads that read, as bytes, which are a
quarter of the size of float32; the arithmetic runs on the device of the network. Images and crops
are channels last, as they are stored: (N, H, W, C).
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from alexnet.core.kernels.library import load_library
from alexnet.core.kernels.pointers import DTYPE_SUFFIX, data_pointer


class CropPlacement(NamedTuple):
    """Where crops are cut from their images, and which of them are mirrored left to right."""

    offsets: np.ndarray  # int64 (N, 2): row and column of the top left pixel
    mirror: np.ndarray  # bool (N,)


@dataclass(frozen=True)
class Mean:
    """The mean to subtract from crops: a color (C,), or an image (H, W, C) of the crop's size.

    With `follows_crop` it is an image (S, S, C) of the uncropped size, and the part under each crop
    is subtracted.
    """

    values: np.ndarray  # float32, levels 0-255
    follows_crop: bool = False


class CropArgs(ctypes.Structure):
    """The kernels' struct of the same name."""

    _fields_ = [
        ("side", ctypes.c_int32),
        ("height", ctypes.c_int32),
        ("width", ctypes.c_int32),
        ("channels", ctypes.c_int32),
    ]


class NormalizeArgs(ctypes.Structure):
    """The kernels' struct of the same name."""

    _fields_ = [
        ("height", ctypes.c_int32),
        ("width", ctypes.c_int32),
        ("channels", ctypes.c_int32),
        ("mean_side", ctypes.c_int32),
        ("mean_is_color", ctypes.c_int32),
        ("scale", ctypes.c_float),
    ]


def crop_image(
    image: np.ndarray, offset: Sequence[int], shape: Sequence[int], mirror: bool
) -> np.ndarray:
    """Return the crop (H, W, C) of an image at an offset, as a view; `shape` is (H, W)."""
    top, left = offset
    height, width = shape
    crop = image[top : top + height, left : left + width]
    return crop[:, ::-1] if mirror else crop


def crop_batch(
    images: Sequence[np.ndarray],
    placement: CropPlacement,
    shape: tuple[int, int],
    pinned: bool = False,
) -> Tensor:
    """Cut one crop from each image uint8 (S, S, C): uint8 (N, H, W, C).

    `pinned`: in page-locked memory, from which a GPU copies while the host goes on.
    """
    size = (len(images), *shape, images[0].shape[2])
    crops = torch.empty(size, dtype=torch.uint8, pin_memory=pinned)
    library = load_library()
    if library is None:
        _crop_batch_plain(images, placement, shape, crops.numpy())
    else:
        _crop_batch_native(library, images, placement, crops.numpy())
    return crops


def _crop_batch_plain(
    images: Sequence[np.ndarray],
    placement: CropPlacement,
    shape: tuple[int, int],
    out: np.ndarray,
) -> None:
    for i, image in enumerate(images):
        out[i] = crop_image(image, placement.offsets[i], shape, placement.mirror[i])


def _crop_batch_native(
    library: ctypes.CDLL,
    images: Sequence[np.ndarray],
    placement: CropPlacement,
    out: np.ndarray,
) -> None:
    sources = [np.ascontiguousarray(image) for image in images]
    addresses = np.array([image.__array_interface__["data"][0] for image in sources], np.uintp)
    offsets, mirror = _contiguous(placement)
    args = CropArgs(len(sources[0]), *out.shape[1:])
    library.crop_images(
        ctypes.byref(args),
        data_pointer(addresses),
        data_pointer(out),
        data_pointer(offsets),
        data_pointer(mirror),
        ctypes.c_int64(len(out)),
    )


def normalize(
    crops: Tensor,
    mean: Mean,
    scale: float,
    dtype: torch.dtype,
    placement: CropPlacement | None = None,
    shift: np.ndarray | None = None,
) -> Tensor:
    """Return (crops - mean + shift) * scale in `dtype`: (N, C, H, W), channels last in memory.

    `crops` is uint8 (N, H, W, C); `shift` (N, C) is added to every pixel of a crop, in levels.
    `placement` says where the crops come from and is needed where the mean follows the crop.
    """
    use_native = crops.device.type == "cpu" and dtype in DTYPE_SUFFIX
    library = load_library() if use_native else None
    if library is None:
        return _normalize_plain(crops, mean, scale, dtype, placement, shift)
    return _normalize_native(library, crops, mean, scale, dtype, placement, shift)


def _normalize_native(
    library: ctypes.CDLL,
    crops: Tensor,
    mean: Mean,
    scale: float,
    dtype: torch.dtype,
    placement: CropPlacement | None,
    shift: np.ndarray | None,
) -> Tensor:
    source = crops.contiguous()
    mean_values = np.ascontiguousarray(mean.values, np.float32)
    shift_values = None if shift is None else np.ascontiguousarray(shift, np.float32)
    offsets, mirror = (None, None) if placement is None else _contiguous(placement)
    out = torch.empty(source.shape, dtype=dtype)
    mean_side = len(mean_values) if mean.follows_crop else 0
    args = NormalizeArgs(*source.shape[1:], mean_side, mean_values.ndim == 1, scale)
    kernel = getattr(library, f"normalize_{DTYPE_SUFFIX[dtype]}")
    kernel(
        ctypes.byref(args),
        data_pointer(source),
        data_pointer(mean_values),
        data_pointer(offsets),
        data_pointer(mirror),
        data_pointer(shift_values),
        data_pointer(out),
        ctypes.c_int64(len(out)),
    )
    return out.permute(0, 3, 1, 2)


def _normalize_plain(
    crops: Tensor,
    mean: Mean,
    scale: float,
    dtype: torch.dtype,
    placement: CropPlacement | None,
    shift: np.ndarray | None,
) -> Tensor:
    x = crops.float()
    mean_values = torch.from_numpy(np.ascontiguousarray(mean.values, np.float32)).to(x.device)
    if mean.follows_crop and placement is not None:
        mean_values = _gather_crops(mean_values, placement, x.shape[1:3])
    x -= mean_values
    if shift is not None:
        x += torch.from_numpy(shift.astype(np.float32))[:, None, None].to(x.device)
    return (x * scale).permute(0, 3, 1, 2).to(dtype)


def _gather_crops(image: Tensor, placement: CropPlacement, shape: Sequence[int]) -> Tensor:
    """Return crops (N, H, W, C) of one image (S, S, C), gathered on the image's device."""
    contiguous = _contiguous(placement)
    offsets = torch.from_numpy(contiguous.offsets).to(image.device)
    mirror = torch.from_numpy(contiguous.mirror).to(image.device)
    rows = torch.arange(shape[0], device=image.device)
    columns = torch.arange(shape[1], device=image.device)
    columns = torch.where(mirror[:, None], columns.flip(0), columns)  # (N, W)
    return image[(rows + offsets[:, :1])[:, :, None], (columns + offsets[:, 1:])[:, None]]


def _contiguous(placement: CropPlacement) -> CropPlacement:
    """Return the placement in the memory layout that the kernels read."""
    offsets = np.ascontiguousarray(placement.offsets, np.int64)
    mirror = np.ascontiguousarray(placement.mirror, bool)
    return CropPlacement(offsets, mirror)


def resize(crops: Tensor, size: int) -> Tensor:
    """Resize crops uint8 (N, H, W, C) to squares (N, size, size, C), bilinear with antialiasing."""
    x = crops.permute(0, 3, 1, 2)
    if x.device.type == "cpu":  # uint8 is ten times faster here than float32
        resized = _interpolate(x, size)
    else:
        resized = _interpolate(x.float(), size).round_().byte()
    return resized.permute(0, 2, 3, 1)


def _interpolate(x: Tensor, size: int) -> Tensor:
    return F.interpolate(x, size=(size, size), mode="bilinear", antialias=True)
