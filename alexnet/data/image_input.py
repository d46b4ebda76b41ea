"""The images that Python code holds, as the bytes of an image file.

A model's preprocessing starts from image files. Arrays, tensors and Pillow images are therefore
written without loss as PPM or PNG files in memory first: so they are read as a file on disk is, and
give the same pixels. A Pillow image keeps its transparency and its EXIF orientation. One exception
to equality: a large JPEG file is decoded at a reduced scale when read by its path, and at full
scale by whoever hands over its pixels, which can differ by a few levels.
"""

from collections.abc import Sequence
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import ExifTags, Image
from torch import Tensor

from alexnet.core.errors import UsageError

ImageInput: TypeAlias = str | PathLike[str] | bytes | Image.Image | np.ndarray | Tensor

PNG_MODES = ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")
EXPECTED = (
    "expected a path, bytes, a PIL image, a uint8 array (H, W, 3) or (H, W), or a uint8 tensor "
    "(3, H, W) or (1, H, W)"
)


def image_bytes(image: ImageInput) -> bytes:
    """Return an image as the bytes of an image file.

    `image`: a path, the bytes of a file, a Pillow image, a NumPy array uint8 (H, W, 3) or (H, W),
    or a tensor uint8 (3, H, W) or (1, H, W). UsageError for any other type, dtype or shape; OSError
    where a path cannot be read.
    """
    if isinstance(image, bytes):
        return image
    if isinstance(image, (str, PathLike)):
        return Path(image).read_bytes()
    if isinstance(image, Image.Image):
        return _encode(image)
    if isinstance(image, np.ndarray):
        return _encode(_from_array(image))
    if isinstance(image, Tensor):
        return _encode(_from_tensor(image))
    raise UsageError(f"image: found {type(image).__name__}, {EXPECTED}")


def _from_array(array: np.ndarray) -> Image.Image:
    """Return an array uint8 (H, W, 3), (H, W, 1) or (H, W) as a Pillow image."""
    right_shape = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3))
    if array.dtype != np.uint8 or not right_shape or not array.size:
        raise _wrong_array("an array", str(array.dtype), array.shape)
    gray = array.ndim == 3 and array.shape[2] == 1
    return Image.fromarray(np.ascontiguousarray(array[..., 0] if gray else array))


def _from_tensor(tensor: Tensor) -> Image.Image:
    """Return a tensor uint8 (3, H, W), (1, H, W) or (H, W) as a Pillow image."""
    dtype = str(tensor.dtype).removeprefix("torch.")
    right_shape = tensor.ndim == 2 or (tensor.ndim == 3 and tensor.shape[0] in (1, 3))
    if dtype != "uint8" or not right_shape or not tensor.numel():
        raise _wrong_array("a tensor", dtype, tensor.shape)
    array = tensor.cpu().numpy()
    return _from_array(array if array.ndim == 2 else array.transpose(1, 2, 0))


def _wrong_array(kind: str, dtype: str, shape: Sequence[int]) -> UsageError:
    problem = f"image: found {kind} {dtype} ({', '.join(map(str, shape))}), {EXPECTED}"
    if len(shape) == 4:
        return UsageError(f"{problem}; pass several images as a list")
    return UsageError(problem)


def _encode(image: Image.Image) -> bytes:
    """Encode a Pillow image without loss, with its orientation and its transparency."""
    orientation = _orientation(image)
    file = BytesIO()
    if image.mode in ("L", "RGB") and "transparency" not in image.info and orientation == 1:
        image.save(file, "PPM")  # ten times faster than PNG
    else:
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        _png_mode(image).save(file, "PNG", compress_level=0, exif=exif)
    return file.getvalue()


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a damaged tag says nothing about the image, which is left as it lies
        return 1


def _png_mode(image: Image.Image) -> Image.Image:
    """Return the image in a mode that PNG can hold."""
    if image.mode in PNG_MODES:
        return image
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _to_16_bits(image)
    if image.mode == "F":
        raise UsageError(
            "image: found a PIL image of floating-point levels (mode F), whose white is unknown, "
            "expected 8 or 16 bits: convert it"
        )
    if image.mode == "La":
        return image.convert("LA")
    return image.convert("RGBA" if image.mode in ("PA", "RGBa") else "RGB")


def _to_16_bits(image: Image.Image) -> Image.Image:
    levels = np.asarray(image)
    if levels.min() < 0 or levels.max() > 65535:
        raise UsageError(
            f"image: found a PIL image of levels from {levels.min()} to {levels.max()}, expected "
            "0 to 65535: convert it"
        )
    return Image.fromarray(levels.astype(np.uint16))
