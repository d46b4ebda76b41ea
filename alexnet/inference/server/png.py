"""Pictures in JSON answers: arrays as data URLs of PNG files."""

import base64
import io
from functools import cache

import numpy as np
from PIL import Image

from alexnet.analysis.plots.style import DIVERGING

LEVELS = 255  # of the diverging colors; the middle one is 0


def png_url(pixels: np.ndarray) -> str:
    """Return an image uint8 (H, W), (H, W, 1) or (H, W, 3) as a data URL."""
    gray = pixels.ndim == 3 and pixels.shape[2] == 1
    return _data_url(Image.fromarray(np.ascontiguousarray(pixels[..., 0] if gray else pixels)))


def strength_url(values: np.ndarray, largest: float) -> str:
    """Return values (H, W) from 0 to `largest` as a picture in gray: 0 is black."""
    levels = np.clip(255 * values / (largest or 1.0), 0, 255)
    return png_url(np.rint(levels).astype(np.uint8))


def diverging_url(values: np.ndarray, largest: float) -> str:
    """Return values (H, W) as a picture: blue is positive, rust negative, white is 0."""
    half = LEVELS // 2
    levels = np.clip(half + half * values / (largest or 1.0), 0, LEVELS - 1)
    image = Image.fromarray(np.rint(levels).astype(np.uint8))
    image.putpalette(_diverging_palette())
    return _data_url(image)


@cache
def _diverging_palette() -> bytes:
    colors = DIVERGING(np.linspace(0, 1, LEVELS), bytes=True)[:, :3]
    return bytes(colors.tobytes())


def _data_url(image: Image.Image) -> str:
    data = io.BytesIO()
    image.save(data, "PNG")
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
