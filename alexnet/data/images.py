"""Bytes of any picture file -> the centre square as pixels -> the bytes of a record, and back.

A picture's short side is resized to the wanted size and the middle is kept, as in 2012, but in one resampling step and from a
JPEG decoded no larger than needed. Everything that decides a pixel is in `Policy`, which the store and the model file both
carry; so decode(record(file)) is the same when a store is prepared and when a model predicts. Whatever is wrong with a file
becomes `BadPicture` with the reason. It knows nothing of colour profiles: levels are taken as stored, as in 2012.
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

from alexnet.errors import AlexNetError, UsageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
FILTERS = {
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
MOST_PIXELS = 100_000_000
LONGEST_SIDE = 32_768
REDUCING_GAP = 2  # a picture is first shrunk by a whole factor (by libjpeg if it is a JPEG) to no less than twice the square

_one_at_a_time = threading.Lock()


class BadPicture(AlexNetError):
    """A file that cannot be turned into pixels; the text is the reason."""


@dataclass(frozen=True)
class Policy:
    """How a picture file becomes a record; kept in the store and in every model file."""

    size: int = 256  # side of the square, pixels
    channels: int = 3  # 3 = RGB, 1 = grey (ITU-R 601 luma)
    encoding: str = "jpeg"  # of the record: "jpeg" (quality 95, 4:2:0) or "raw" (PPM, PGM)
    filter: str = "bilinear"  # resampling, always with the support widened when shrinking
    exif: bool = True  # apply the camera's rotation (ILSVRC sources: False, as in 2012)
    background: tuple[int, int, int] = (255, 255, 255)  # what shows through alpha

    def __post_init__(self) -> None:
        _expect("size", self.size, type(self.size) is int and 1 <= self.size <= 4096, "a whole number from 1 to 4096")
        _expect("channels", self.channels, self.channels in (1, 3) and type(self.channels) is int, "1 or 3")
        _expect("encoding", self.encoding, self.encoding in ("jpeg", "raw"), "jpeg or raw")
        _expect("filter", self.filter, self.filter in FILTERS, ", ".join(FILTERS))
        _expect("exif", self.exif, type(self.exif) is bool, "true or false")
        _expect("background", self.background, _is_colour(self.background), "three levels from 0 to 255")

    def to_json(self) -> dict[str, Any]:
        """The policy as a JSON object."""
        return asdict(self) | {"background": list(self.background)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Policy":
        """The policy that `to_json` wrote; every key must be there and no other (AlexNetError)."""
        known = {field.name for field in fields(cls)}
        if not isinstance(value, dict) or set(value) != known:
            strange = sorted(set(value) ^ known) if isinstance(value, dict) else value
            raise AlexNetError(f"preprocessing policy: found or missing {strange}, expected exactly {sorted(known)}")
        background = value["background"]
        return cls(**value | {"background": tuple(background) if isinstance(background, list) else background})


def record(data: bytes, policy: Policy) -> bytes:
    """A picture file's bytes -> its record's bytes; BadPicture."""
    return encode(square(data, policy), policy)


def square(data: bytes, policy: Policy) -> np.ndarray:
    """A picture file's bytes -> its centre square, uint8 (size, size, channels); BadPicture."""
    try:
        return _square(data, policy)
    except BadPicture:
        raise
    except Exception as reason:  # Pillow's decoders raise a dozen kinds, of which the text is all a user can use
        raise BadPicture(_one_line(reason)) from reason


def encode(pixels: np.ndarray, policy: Policy) -> bytes:
    """Pixels uint8 (size, size, channels) -> record bytes: JPEG, or PPM / PGM with a header of fixed form."""
    height, width, channels = pixels.shape
    if policy.encoding == "raw":
        header = f"P{6 if channels == 3 else 5}\n{width} {height}\n255\n"
        return header.encode() + pixels.tobytes()
    file = BytesIO()
    Image.fromarray(pixels if channels == 3 else pixels[..., 0]).save(file, "JPEG", quality=95, subsampling="4:2:0")
    return file.getvalue()


def decode(record: bytes | memoryview) -> np.ndarray:
    """Record bytes -> uint8 (size, size, channels); raw pixels are a view of the record, not a copy. BadPicture."""
    try:
        return _decode_raw(record) if record[:1] == b"P" else _decode_jpeg(record)
    except Exception as reason:  # as in `square`
        raise BadPicture(f"damaged record: {_one_line(reason)}") from reason


def _square(data: bytes, policy: Policy) -> np.ndarray:
    image = _open(data)
    width, height = _shrink_on_load(image, policy)
    image.load()
    turn = _turn(image) if policy.exif else None
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    image = _plain_mode(image).resize(
        (policy.size, policy.size),
        FILTERS[policy.filter],
        box=(left, top, left + side, top + side),
        reducing_gap=REDUCING_GAP,
    )
    image = _opaque(image, policy.background).convert("RGB" if policy.channels == 3 else "L")
    pixels = np.asarray(image if turn is None else image.transpose(turn))
    return pixels.reshape(policy.size, policy.size, policy.channels)


def _open(data: bytes) -> Image.Image:
    """Read the header and refuse what should not be decoded; the pixels are still to come, but for TIFF."""
    if not data:
        raise BadPicture("the file is empty")
    with _quiet():
        image = Image.open(BytesIO(data), formats=FORMATS)
        width, height = image.size
        if not (0 < width <= LONGEST_SIDE and 0 < height <= LONGEST_SIDE and width * height <= MOST_PIXELS):
            limits = f"1 to {LONGEST_SIDE} pixels a side and {MOST_PIXELS // 1_000_000} million in all"
            raise BadPicture(f"it is {width} x {height} pixels, expected {limits}")
        if image.format == "TIFF":  # its loader reads tags, and may warn of them
            image.load()
    return image


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Pillow's warnings: all are of metadata we do not need, or of sizes that `_open` judges itself.

    The filters belong to the whole process, so one thread at a time changes them; decoding stays outside.
    """
    with _one_at_a_time, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _shrink_on_load(image: Image.Image, policy: Policy) -> tuple[float, float]:
    """Ask libjpeg for the smallest scale that serves; -> (width, height) of the picture in the pixels it will decode to."""
    wanted = REDUCING_GAP * policy.size
    # libjpeg's own grey is the Y that was stored: the luma before colour is rounded and clipped
    drafted = image.draft("L" if policy.channels == 1 else "RGB", (wanted, wanted)) if image.format in ("JPEG", "MPO") else None
    return drafted[1][2:] if drafted else image.size


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What the camera asks to be done to the picture in its EXIF or XMP data; None where it asks nothing or is unreadable."""
    if not image.info.keys() & {"exif", "xmp", "Raw profile type exif", "XML:com.adobe.xmp"}:
        return None
    try:
        with _quiet():
            return TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a damaged tag says nothing of the picture, which is then left as it lies
        return None


def _plain_mode(image: Image.Image) -> Image.Image:
    """Any of Pillow's modes -> L, RGB or RGBA, which can be resampled; full 16-bit range becomes full 8-bit range."""
    if image.mode in ("L", "RGB") and "transparency" not in image.info:
        return image
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _from_16_bits(image)
    if image.mode == "F":
        raise BadPicture("it holds floating-point levels, whose white is unknown; expected 8 or 16 bits")
    transparent = "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa")
    if image.mode == "La":
        image = image.convert("LA")
    return image.convert("RGBA" if transparent else "L" if image.mode == "1" else "RGB")


def _from_16_bits(image: Image.Image) -> Image.Image:
    levels = np.asarray(image)
    if levels.min() < 0 or levels.max() > 65535:
        raise BadPicture(f"its levels run from {levels.min()} to {levels.max()}, expected 0 to 65535")
    grey = Image.fromarray((levels >> 8).astype(np.uint8))
    if "transparency" not in image.info:
        return grey
    grey.putalpha(Image.fromarray(np.where(levels == image.info["transparency"], 0, 255).astype(np.uint8)))
    return grey.convert("RGBA")


def _opaque(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    if image.mode != "RGBA":
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, (*background, 255)), image).convert("RGB")


def _decode_raw(record: bytes | memoryview) -> np.ndarray:
    kind, sizes, levels = bytes(record[:32]).split(b"\n", 3)[:3]
    width, height = map(int, sizes.split())
    channels = {b"P6": 3, b"P5": 1}[kind]
    start = len(kind) + len(sizes) + len(levels) + 3
    return np.frombuffer(record, np.uint8, width * height * channels, start).reshape(height, width, channels)


def _decode_jpeg(record: bytes | memoryview) -> np.ndarray:
    return _by_simplejpeg(record) if _simplejpeg_agrees() else _by_pillow(record)


def _by_pillow(record: bytes | memoryview) -> np.ndarray:
    pixels = np.asarray(Image.open(BytesIO(record), formats=("JPEG",)))
    return pixels.reshape(*pixels.shape[:2], -1)


def _by_simplejpeg(record: bytes | memoryview) -> np.ndarray:
    import simplejpeg

    stored = simplejpeg.decode_jpeg_header(record)[2]
    return simplejpeg.decode_jpeg(record, "GRAY" if stored == "Gray" else "RGB")


@functools.cache
def _simplejpeg_agrees() -> bool:
    """Whether simplejpeg, half again as fast and more, is installed and gives Pillow's very bits on a drawn picture."""
    if find_spec("simplejpeg") is None:  # it comes with the extra `fast`
        return False
    y, x = np.mgrid[0:97, 0:89]
    drawn = np.stack([(x * x + 3 * y) % 256, (5 * x ^ y) % 256, (x * y) % 251], -1).astype(np.uint8)
    records = [encode(drawn[..., :channels], Policy(size=97, channels=channels, encoding="jpeg")) for channels in (1, 3)]
    return all(np.array_equal(_by_pillow(record), _by_simplejpeg(record)) for record in records)


def _one_line(reason: Exception) -> str:
    # Pillow names the in-memory file by its address, which would differ from run to run
    text = "not a picture of a kind that can be decoded" if isinstance(reason, UnidentifiedImageError) else str(reason)
    return " ".join(text.split()) or type(reason).__name__


def _is_colour(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 3 and all(type(level) is int and 0 <= level <= 255 for level in value)


def _expect(name: str, found: object, right: bool, wanted: str) -> None:
    if not right:
        raise UsageError(f"preprocessing policy: {name} is {found!r}, expected {wanted}")
