"""Bytes of pictures on their way to the network: crops cut from squares, and levels less their mean, as numbers.

Each is one pass over memory in C++ where there is a compiler, and the same bits from numpy and torch where there is none.
Crops are cut by the threads that read; levels become numbers where the network computes.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from alexnet.native.arguments import KINDS, at
from alexnet.native.library import library

Places = tuple[np.ndarray, np.ndarray]  # offsets int64 (N, 2): rows, columns; mirrored bool (N,)


@dataclass(frozen=True)
class Mean:
    """What is subtracted: a colour (C,), an image of the crop's size (H, W, C), or of the square's, taken where the crop was."""

    levels: np.ndarray  # float32
    follows: bool = False  # the crop, over a larger image


class _Crop(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int32) for name in ("side", "height", "width", "channels")]


class _Levels(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int32) for name in ("height", "width", "channels", "mean_side", "mean_is_colour")]
    _fields_ += [("scale", ctypes.c_float)]


def cut(square: np.ndarray, offset: Sequence[int], side: Sequence[int], mirror: bool) -> np.ndarray:
    """The crop (H, W, C) of a square at an offset, mirrored left to right or not; a view, no copy."""
    crop = square[offset[0] : offset[0] + side[0], offset[1] : offset[1] + side[1]]
    return crop[:, ::-1] if mirror else crop


def crops(squares: Sequence[np.ndarray], places: Places, side: tuple[int, int], pinned: bool = False) -> Tensor:
    """A crop of each square uint8 (S, S, C), cut at its place: uint8 (N, H, W, C).

    `pinned`: in memory that a GPU can fetch them from by itself, while the host goes on.
    """
    batch = torch.empty((len(squares), *side, squares[0].shape[2]), dtype=torch.uint8, pin_memory=pinned)
    out, found = batch.numpy(), library()
    if found is None:
        for crop, square, offset, mirror in zip(out, squares, *places, strict=True):
            crop[:] = cut(square, offset, side, mirror)
        return batch
    whole = [np.ascontiguousarray(square) for square in squares]
    starts = np.array([square.__array_interface__["data"][0] for square in whole], np.uintp)
    offsets, mirrored = _plain(places)
    rule = _Crop(len(whole[0]), *out.shape[1:])
    found.cut_all(ctypes.byref(rule), at(starts), at(out), at(offsets), at(mirrored), ctypes.c_int64(len(out)))
    return batch


def levels(
    pictures: Tensor, mean: Mean, scale: float, dtype: torch.dtype, places: Places | None = None, shift: np.ndarray | None = None
) -> Tensor:
    """Crops uint8 (N, H, W, C) less the mean, plus a shift (N, C) of each picture's colour, times the scale: (N, C, H, W)."""
    found = library() if pictures.device.type == "cpu" and dtype in KINDS else None
    if found is None:
        return _levels(pictures, mean, scale, dtype, places, shift)
    source, less = pictures.contiguous(), np.ascontiguousarray(mean.levels, np.float32)
    more = None if shift is None else np.ascontiguousarray(shift, np.float32)
    offsets, mirrored = _plain(places) if places is not None else (None, None)
    out = torch.empty(source.shape, dtype=dtype)
    rule = _Levels(*source.shape[1:], len(less) if mean.follows else 0, less.ndim == 1, scale)
    call = getattr(found, f"present_{KINDS[dtype]}")
    addresses = at(source), at(less), at(offsets), at(mirrored), at(more), at(out)
    call(ctypes.byref(rule), *addresses, ctypes.c_int64(len(out)))
    return out.permute(0, 3, 1, 2)


def resized(pictures: Tensor, side: int) -> Tensor:
    """Crops uint8 (N, H, W, C) as squares of another side, bilinear over as many pixels as the factor asks; uint8."""
    maps = pictures.permute(0, 3, 1, 2)
    if maps.device.type == "cpu":  # bytes go ten times faster here than floats
        small = F.interpolate(maps, size=(side, side), mode="bilinear", antialias=True)
    else:
        small = F.interpolate(maps.float(), size=(side, side), mode="bilinear", antialias=True).round_().byte()
    return small.permute(0, 2, 3, 1)


def _levels(
    pictures: Tensor, mean: Mean, scale: float, dtype: torch.dtype, places: Places | None, shift: np.ndarray | None
) -> Tensor:
    x, less = pictures.float(), torch.from_numpy(np.ascontiguousarray(mean.levels, np.float32)).to(pictures.device)
    x -= _beneath(less, places, x.shape[1:3]) if mean.follows and places is not None else less
    if shift is not None:
        x += torch.from_numpy(shift.astype(np.float32))[:, None, None].to(x.device)
    return (x * scale).permute(0, 3, 1, 2).to(dtype)


def _beneath(image: Tensor, places: Places, side: Sequence[int]) -> Tensor:
    """What of an image (S, S, C) lies beneath crops cut at these places, gathered where the image is: (N, H, W, C)."""
    offsets, mirrored = (torch.from_numpy(each).to(image.device) for each in _plain(places))
    rows, columns = (torch.arange(length, device=image.device) for length in side)
    columns = torch.where(mirrored[:, None], columns.flip(0), columns)  # (N, W)
    return image[(rows + offsets[:, :1])[:, :, None], (columns + offsets[:, 1:])[:, None]]


def _plain(places: Places) -> Places:
    """As the kernels read them."""
    return np.ascontiguousarray(places[0], np.int64), np.ascontiguousarray(places[1], bool)
