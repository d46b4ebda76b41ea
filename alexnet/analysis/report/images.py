"""Embed images in a page as data URIs, no larger than they need to be."""

import base64
import io

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from alexnet.analysis.plots.figure_io import to_png, to_svg
from alexnet.analysis.plots.style import PIXELATED_BELOW
from alexnet.analysis.report.values import EmbeddedImage

THUMBNAIL_SIZE = 224  # pixels, at most
JPEG_QUALITY = 85
RASTER_DPI = 96  # of figures with photographs
RASTER_COLORS = 256  # all colors would make the page more than twice as heavy


def embed_svg(figure: Figure, alt: str) -> EmbeddedImage:
    """Embed a figure as SVG."""
    return _embed(to_svg(figure), "image/svg+xml", alt)


def embed_raster(figure: Figure, alt: str) -> EmbeddedImage:
    """Embed a figure that shows images as PNG, in a palette.

    Maximum coverage keeps rare colors, such as the strong ends of a color scale: no level is off
    by more than a few. Median cut, for the same size, turns strong rust to gray (off by 100).
    """
    image = Image.open(io.BytesIO(to_png(figure, RASTER_DPI))).convert("RGB")
    return embed_png(image.quantize(RASTER_COLORS, Image.Quantize.MAXCOVERAGE), alt)


def embed_png(image: Image.Image, alt: str, is_pixelated: bool = False) -> EmbeddedImage:
    """Embed an image as PNG."""
    data = io.BytesIO()
    image.save(data, "PNG", optimize=True)
    return _embed(data.getvalue(), "image/png", alt, is_pixelated)


def embed_thumbnail(pixels: np.ndarray, alt: str) -> EmbeddedImage:
    """Embed a sample uint8 (S, S, C) as JPEG; a small one as PNG, with every pixel as it is."""
    image = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
    if image.width < PIXELATED_BELOW:
        return embed_png(image, alt, is_pixelated=True)
    size = min(THUMBNAIL_SIZE, image.width)
    data = io.BytesIO()
    thumbnail = image.resize((size, size), Image.Resampling.LANCZOS)
    thumbnail.save(data, "JPEG", quality=JPEG_QUALITY)
    return _embed(data.getvalue(), "image/jpeg", alt)


def _embed(data: bytes, media_type: str, alt: str, is_pixelated: bool = False) -> EmbeddedImage:
    src = f"data:{media_type};base64,{base64.b64encode(data).decode()}"
    return EmbeddedImage(src, alt, is_pixelated)
