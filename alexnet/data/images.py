"""Decode the bytes of any image file to a square of pixels, and encode and decode records.

An image's short side is resized to the given size and the center is kept, as in 2012 (paper,
section 2), but in one resampling step and from a JPEG decoded no larger than needed. Everything
that decides a pixel is in `DecodeConfig`, which the prepared dataset and the model file both
carry, so an image has the same pixels in a dataset and when a model predicts. Whatever is wrong
with a file becomes `BadImage` with the reason. Color profiles are ignored: levels are used as
stored, as in 2012.
"""

import functools
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from importlib.util import find_spec
from io import BytesIO
from typing import Any

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from alexnet.core.errors import AlexNetError, require

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
FILTERS = {
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
EXIF_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
MAX_PIXELS = 100_000_000
MAX_SIDE = 32_768

# An image is first reduced by an integer factor (by libjpeg if it is a JPEG) to no less than
# this times the size of the square.
REDUCING_GAP = 2

_warnings_lock = threading.Lock()


class BadImage(AlexNetError):
    """A file that cannot be decoded; the text is the reason."""


class TooManyPixels(BadImage):
    """An image so large that it is not decoded; the text is its size."""


@dataclass(frozen=True)
class DecodeConfig:
    """How an image file becomes a record; carried by the prepared dataset and the model file."""

    size: int = 256  # side of the square, pixels
    channels: int = 3  # 3 = RGB, 1 = gray (ITU-R 601 luma)
    encoding: str = "jpeg"  # of the record: "jpeg" (quality 95, 4:2:0) or "raw" (PPM, PGM)
    filter: str = "bilinear"  # resampling; its support is widened when shrinking
    exif: bool = True  # apply the camera's rotation (ImageNet: False, as in 2012)
    background: tuple[int, int, int] = (255, 255, 255)  # what is seen through alpha

    def __post_init__(self) -> None:
        size_is_valid = type(self.size) is int and 1 <= self.size <= 4096
        channels_are_valid = type(self.channels) is int and self.channels in (1, 3)
        _require_field("size", self.size, size_is_valid, "an integer from 1 to 4096")
        _require_field("channels", self.channels, channels_are_valid, "1 or 3")
        _require_field("encoding", self.encoding, self.encoding in ("jpeg", "raw"), "jpeg or raw")
        _require_field("filter", self.filter, self.filter in FILTERS, ", ".join(FILTERS))
        _require_field("exif", self.exif, type(self.exif) is bool, "true or false")
        _require_field(
            "background",
            self.background,
            _is_color(self.background),
            "three levels from 0 to 255",
        )

    def to_json(self) -> dict[str, Any]:
        """Return the configuration as a JSON object."""
        return asdict(self) | {"background": list(self.background)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "DecodeConfig":
        """Return the configuration that `to_json` wrote.

        Raises AlexNetError unless exactly its keys are there, with valid values.
        """
        expected = {field.name for field in fields(cls)}
        if not isinstance(value, dict):
            raise AlexNetError(f"decode_config: found {value}, expected a JSON object")
        if set(value) != expected:
            unexpected = ", ".join(sorted(set(value) - expected)) or "none"
            missing = ", ".join(sorted(expected - set(value))) or "none"
            raise AlexNetError(f"decode_config: unexpected keys: {unexpected}; missing: {missing}")
        background = value["background"]
        if isinstance(background, list):
            background = tuple(background)
        return cls(**value | {"background": background})


def make_record(data: bytes, decode_config: DecodeConfig) -> bytes:
    """Return the record of an image file's bytes; BadImage."""
    return encode_record(to_square(data, decode_config), decode_config)


def to_square(data: bytes, decode_config: DecodeConfig) -> np.ndarray:
    """Return the center square of an image file's bytes, uint8 (size, size, channels); BadImage."""
    try:
        return _decode_square(data, decode_config)
    except BadImage:
        raise
    except Exception as error:  # Pillow's decoders raise a dozen kinds
        raise BadImage(_one_line(error)) from error


def read_size(data: bytes) -> tuple[int, int]:
    """Return the (width, height) that the header of an image file's bytes tells; BadImage.

    Nothing is decoded. TooManyPixels where they are so many that Pillow does not open the file.
    """
    try:
        with _without_warnings():
            return Image.open(BytesIO(data), formats=FORMATS).size
    except Image.DecompressionBombError as error:
        raise TooManyPixels(" ".join(str(error).split())) from error
    except Exception as error:  # as in `to_square`
        raise BadImage(_one_line(error)) from error


def encode_record(pixels: np.ndarray, decode_config: DecodeConfig) -> bytes:
    """Return pixels, uint8 (size, size, channels), as a record: JPEG, or PPM or PGM."""
    height, width, channels = pixels.shape
    if decode_config.encoding == "raw":
        header = f"P{6 if channels == 3 else 5}\n{width} {height}\n255\n"
        return header.encode() + pixels.tobytes()
    image = Image.fromarray(pixels if channels == 3 else pixels[..., 0])
    file = BytesIO()
    image.save(file, "JPEG", quality=95, subsampling="4:2:0")
    return file.getvalue()


def decode_record(record: bytes | memoryview) -> np.ndarray:
    """Return a record's pixels, uint8 (size, size, channels); BadImage.

    Raw pixels are a view of the record, not a copy.
    """
    try:
        return _decode_raw(record) if record[:1] == b"P" else _decode_jpeg(record)
    except Exception as error:  # as in `to_square`
        raise BadImage(f"record: {_one_line(error)}") from error


def _decode_square(data: bytes, decode_config: DecodeConfig) -> np.ndarray:
    image = _open(data)
    width, height = _request_small_jpeg(image, decode_config)
    image.load()
    transpose = _exif_transpose(image) if decode_config.exif else None
    side = min(width, height)
    left = (width - side) / 2
    top = (height - side) / 2
    size = decode_config.size
    image = _to_resizable_mode(image).resize(
        (size, size),
        FILTERS[decode_config.filter],
        box=(left, top, left + side, top + side),
        reducing_gap=REDUCING_GAP,
    )
    image = _remove_alpha(image, decode_config.background)
    image = image.convert("RGB" if decode_config.channels == 3 else "L")
    pixels = np.asarray(image if transpose is None else image.transpose(transpose))
    return pixels.reshape(size, size, decode_config.channels)


def _open(data: bytes) -> Image.Image:
    """Read the header and refuse what should not be decoded.

    The pixels are decoded later, except for TIFF.
    """
    if not data:
        raise BadImage("the file is empty")
    with _without_warnings():
        image = Image.open(BytesIO(data), formats=FORMATS)
        width, height = image.size
        if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and width * height <= MAX_PIXELS):
            raise BadImage(
                f"it is {width} x {height} pixels, expected 1 to {MAX_SIDE} pixels a side "
                f"and {MAX_PIXELS // 1_000_000} million in all"
            )
        if image.format == "TIFF":  # its loader reads tags, and may warn about them
            image.load()
    return image


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Silence Pillow's warnings, which are about metadata or about sizes that `_open` checks.

    The warning filters belong to the whole process, so one thread at a time changes them; decoding
    is done outside.
    """
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _request_small_jpeg(image: Image.Image, decode_config: DecodeConfig) -> tuple[float, float]:
    """Ask libjpeg for the smallest scale that suffices.

    Return the image's (width, height) in the pixels that will be decoded.
    """
    if image.format not in ("JPEG", "MPO"):
        return image.size
    min_side = REDUCING_GAP * decode_config.size
    # libjpeg's own gray is the stored Y: the luma before color is rounded and clipped
    mode = "L" if decode_config.channels == 1 else "RGB"
    draft = image.draft(mode, (min_side, min_side))
    return draft[1][2:] if draft else image.size


def _exif_transpose(image: Image.Image) -> Image.Transpose | None:
    """Return what the EXIF or XMP data says to do; None if it says nothing or is unreadable."""
    if not image.info.keys() & {"exif", "xmp", "Raw profile type exif", "XML:com.adobe.xmp"}:
        return None
    try:
        with _without_warnings():
            return EXIF_TRANSPOSES.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged metadata: the image itself may be fine
        return None


def _to_resizable_mode(image: Image.Image) -> Image.Image:
    """Convert any of Pillow's modes to L, RGB or RGBA, which can be resized.

    The full 16-bit range becomes the full 8-bit range.
    """
    if image.mode in ("L", "RGB") and "transparency" not in image.info:
        return image
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _from_16_bits(image)
    if image.mode == "F":
        raise BadImage("it has floating-point levels of unknown range, expected 8 or 16 bits")
    transparent = "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa")
    if image.mode == "La":
        image = image.convert("LA")
    if transparent:
        return image.convert("RGBA")
    return image.convert("L" if image.mode == "1" else "RGB")


def _from_16_bits(image: Image.Image) -> Image.Image:
    levels = np.asarray(image)
    if levels.min() < 0 or levels.max() > 65535:
        raise BadImage(f"its levels run from {levels.min()} to {levels.max()}, expected 0 to 65535")
    gray = Image.fromarray((levels >> 8).astype(np.uint8))
    if "transparency" not in image.info:
        return gray
    alpha = np.where(levels == image.info["transparency"], 0, 255).astype(np.uint8)
    gray.putalpha(Image.fromarray(alpha))
    return gray.convert("RGBA")


def _remove_alpha(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """Lay an image with alpha on the background."""
    if image.mode != "RGBA":
        return image
    canvas = Image.new("RGBA", image.size, (*background, 255))
    return Image.alpha_composite(canvas, image).convert("RGB")


def _decode_raw(record: bytes | memoryview) -> np.ndarray:
    magic, sizes, levels = bytes(record[:32]).split(b"\n", 3)[:3]
    width, height = map(int, sizes.split())
    channels = {b"P6": 3, b"P5": 1}[magic]
    start = len(magic) + len(sizes) + len(levels) + 3
    pixels = np.frombuffer(record, np.uint8, width * height * channels, start)
    return pixels.reshape(height, width, channels)


def _decode_jpeg(record: bytes | memoryview) -> np.ndarray:
    if _simplejpeg_agrees():
        return _decode_with_simplejpeg(record)
    return _decode_with_pillow(record)


def _decode_with_pillow(record: bytes | memoryview) -> np.ndarray:
    pixels = np.asarray(Image.open(BytesIO(record), formats=("JPEG",)))
    return pixels.reshape(*pixels.shape[:2], -1)


def _decode_with_simplejpeg(record: bytes | memoryview) -> np.ndarray:
    import simplejpeg

    colorspace = simplejpeg.decode_jpeg_header(record)[2]
    return simplejpeg.decode_jpeg(record, "GRAY" if colorspace == "Gray" else "RGB")


@functools.cache
def _simplejpeg_agrees() -> bool:
    """Whether simplejpeg is installed and gives Pillow's pixels, bit for bit, on a test image.

    It is 1.5 times as fast or more, and comes with the extra `fast`.
    """
    if find_spec("simplejpeg") is None:
        return False
    y, x = np.mgrid[0:97, 0:89]
    planes = [(x * x + 3 * y) % 256, (5 * x ^ y) % 256, (x * y) % 251]
    pixels = np.stack(planes, -1).astype(np.uint8)
    for channels in (1, 3):
        decode_config = DecodeConfig(size=97, channels=channels, encoding="jpeg")
        record = encode_record(pixels[..., :channels], decode_config)
        if not np.array_equal(_decode_with_pillow(record), _decode_with_simplejpeg(record)):
            return False
    return True


def _one_line(error: Exception) -> str:
    # Pillow names the in-memory file by its address, which would differ from run to run
    if isinstance(error, UnidentifiedImageError):
        return "not an image of a format that can be decoded"
    return f"damaged: {' '.join(str(error).split()) or type(error).__name__}"


def _is_color(value: object) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 3
        and all(type(level) is int and 0 <= level <= 255 for level in value)
    )


def _require_field(name: str, value: object, is_valid: bool, expected: str) -> None:
    require(is_valid, f"decode_config: {name} is {value}, expected {expected}")
