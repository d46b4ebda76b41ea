"""Any bytes become the right square, or a reason; compared with Pillow's full decoding."""

import random
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from alexnet.core.errors import AlexNetError
from alexnet.data import images as image_io
from alexnet.data.images import (
    BadImage,
    DecodeConfig,
    TooManyPixels,
    decode_record,
    encode_record,
    make_record,
    read_size,
    to_square,
)

RED = (200, 30, 10)
SMALL = DecodeConfig(size=8)


def encode_file(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def draw_scene(width: int, height: int, seed: int = 0) -> Image.Image:
    """Return smooth colors with some detail, so that lossy codecs stay near."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def reference_square(image: Image.Image, size: int) -> np.ndarray:
    """Return the center square of the fully decoded image, without any shortcut."""
    width, height = image.size
    side = min(width, height)
    box = ((width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2)
    return np.asarray(
        image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR, box=box)
    ).astype(float)


MODES = {
    "JPEG": ("RGB", "L", "1", "CMYK"),
    "PNG": ("RGB", "L", "P", "1", "RGBA", "LA"),
    "WEBP": ("RGB", "L", "P", "1", "CMYK", "RGBA", "LA"),
    "BMP": ("RGB", "L", "P", "1", "RGBA"),
    "GIF": ("RGB", "L", "P", "1", "RGBA", "LA"),
    "TIFF": ("RGB", "L", "P", "1", "CMYK", "RGBA", "LA"),
    "PPM": ("RGB", "L", "1", "RGBA"),
}


@pytest.mark.parametrize(
    ("kind", "mode"), [(kind, mode) for kind, modes in MODES.items() for mode in modes]
)
def test_every_format_and_mode_keeps_its_color(kind: str, mode: str) -> None:
    image = (
        Image.new("RGB", (20, 30), RED).convert("L" if mode in ("1", "LA") else "RGB").convert(mode)
    )
    data = encode_file(image, kind)
    expected = np.asarray(image.convert("RGB").resize((8, 8), Image.Resampling.BILINEAR)).astype(
        int
    )
    tolerance = (
        12 if mode == "1" else 3
    )  # the dither's resampling depends on the position of the square
    assert np.abs(to_square(data, SMALL).mean((0, 1)) - expected.mean((0, 1))).max() <= tolerance
    assert to_square(data, DecodeConfig(size=8, channels=1)).shape == (8, 8, 1)


@pytest.mark.parametrize(
    "size", [(300, 200), (201, 333), (64, 64), (1, 40), (5000, 3), (1100, 1300)]
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_the_square_is_the_resized_center(size: tuple[int, int], kind: str) -> None:
    data = encode_file(draw_scene(*size), kind)
    error = to_square(data, DecodeConfig(size=64)) - reference_square(Image.open(BytesIO(data)), 64)
    assert np.sqrt((error**2).mean()) < 1.5


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied_or_left(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    for kind in ("JPEG", "PNG", "WEBP"):
        data = encode_file(draw_scene(90, 60), kind, exif=exif.tobytes())
        upright = ImageOps.exif_transpose(Image.open(BytesIO(data)))
        assert (
            np.abs(to_square(data, DecodeConfig(size=32)) - reference_square(upright, 32)).max()
            <= 3
        )
        assert (
            np.abs(
                to_square(data, DecodeConfig(size=32, exif=False))
                - reference_square(Image.open(BytesIO(data)), 32)
            ).max()
            <= 3
        )


def test_corrupt_exif_changes_nothing() -> None:
    image = draw_scene(40, 40)
    rng = random.Random(0)
    exif = Image.Exif()
    exif[0x010F] = "a maker of cameras"
    complete = exif.tobytes()
    for _ in range(50):
        broken = bytearray(complete)
        for _ in range(3):
            broken[rng.randrange(6, len(broken))] = rng.randrange(256)
        broken = broken[: rng.randrange(7, len(broken) + 1)]
        assert (
            to_square(encode_file(image, "JPEG", exif=bytes(broken)), SMALL)
            == to_square(encode_file(image, "JPEG"), SMALL)
        ).all()


@pytest.mark.parametrize(
    "kind,mode", [("PNG", np.uint16), ("TIFF", np.uint16), ("TIFF", np.int32), ("PPM", np.int32)]
)
def test_sixteen_bits_are_scaled_not_clipped(kind: str, mode: type) -> None:
    ramp: np.ndarray = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(mode)
    pixels = to_square(encode_file(Image.fromarray(ramp), kind), DecodeConfig(size=64))
    assert np.abs(pixels[..., 0] - ramp / 257).max() <= 1


def test_levels_of_unknown_range_are_errors() -> None:
    for levels in (
        np.ones((9, 9), np.float32),
        np.full((9, 9), -1, np.int32),
        np.full((9, 9), 1 << 20, np.int32),
    ):
        with pytest.raises(BadImage, match="expected"):
            to_square(encode_file(Image.fromarray(levels), "TIFF"), SMALL)


def test_alpha_shows_the_background() -> None:
    clear = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    half = Image.new("RGBA", (20, 20), (0, 0, 0, 128))
    for background in ((255, 255, 255), (10, 200, 30)):
        decode_config = DecodeConfig(size=8, background=background)
        assert (to_square(encode_file(clear, "PNG"), decode_config) == background).all()
        assert (
            np.abs(
                to_square(encode_file(half, "PNG"), decode_config)
                - np.array(background) * 127 / 255
            ).max()
            <= 1
        )
        assert (
            to_square(encode_file(clear.convert("LA"), "PNG"), decode_config) == background
        ).all()


def test_transparent_colors_show_the_background() -> None:
    palette = Image.new("P", (20, 20), 3)
    palette.putpalette([50] * 768)
    for image, clear in (
        (palette, 3),
        (palette, bytes([255] * 3 + [0])),
        (Image.new("L", (20, 20), 7), 7),
    ):
        assert (to_square(encode_file(image, "PNG", transparency=clear), SMALL) == 255).all()
    assert (to_square(encode_file(palette, "GIF", transparency=3), SMALL) == 255).all()
    assert (
        to_square(encode_file(Image.new("RGB", (20, 20), RED), "PNG", transparency=RED), SMALL)
        == 255
    ).all()
    grayscale = Image.fromarray(np.full((20, 20), 30000, np.uint16))
    assert (to_square(encode_file(grayscale, "PNG"), SMALL) == 30000 >> 8).all()
    assert (to_square(encode_file(grayscale, "PNG", transparency=30000), SMALL) == 255).all()


def test_gray_is_the_luma_for_every_format() -> None:
    image = draw_scene(100, 80)
    luma = (reference_square(image, 32) @ [0.299, 0.587, 0.114])[..., None]
    for data in (
        encode_file(image, "PNG"),
        encode_file(image, "JPEG", quality=98),
        encode_file(image, "JPEG", quality=98, keep_rgb=True),
    ):
        assert np.abs(to_square(data, DecodeConfig(size=32, channels=1)) - luma).max() <= 4


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (20, 20), color) for color in (RED, (0, 0, 255))]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        data = encode_file(frames[0], kind, save_all=True, append_images=frames[1:])
        assert np.abs(to_square(data, SMALL) - np.array(RED)).max() <= 8


def test_several_images_in_one_jpeg_count_as_the_first() -> None:
    data = encode_file(
        draw_scene(900, 700), "MPO", save_all=True, append_images=[draw_scene(900, 700, 1)]
    )
    assert np.abs(to_square(data, SMALL) - reference_square(draw_scene(900, 700), 8)).max() <= 3


@pytest.mark.parametrize(
    "data,reason",
    [
        (b"", "empty"),
        (b"no image at all", "not an image"),
        (encode_file(draw_scene(99, 99), "JPEG")[:1200], "^damaged: .*truncated"),
        (encode_file(Image.effect_noise((99, 99), 90), "PNG")[:5000], "^damaged: .*truncated"),
        (encode_file(Image.new("1", (13_000, 13_000)), "PNG"), "13000 x 13000"),
        (encode_file(Image.new("1", (9_800, 10_300)), "PNG"), "9800 x 10300"),
        (encode_file(Image.new("1", (33_000, 1)), "PNG"), "33000 x 1"),
        (b"P6\n0 5\n255\n", "decoded|pixels"),
        (encode_file(draw_scene(9, 9), "ICO"), "not an image"),
    ],
)
def test_bad_images_raise_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(BadImage, match=reason) as caught:
        to_square(data, SMALL)
    assert "\n" not in str(caught.value) and " at 0x" not in str(caught.value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_the_size_is_read_from_the_header(kind: str) -> None:
    data = encode_file(draw_scene(60, 40), kind)
    assert read_size(data) == (60, 40)
    if kind not in ("WEBP", "TIFF"):  # these two say in the header where they end
        assert read_size(data[: len(data) * 3 // 4]) == (60, 40)
    with pytest.raises(BadImage, match="not an image"):
        read_size(data[:1])


def test_a_size_beyond_all_limits_is_told_apart() -> None:
    with pytest.raises(TooManyPixels, match="exceeds"):
        read_size(b"P6\n100000 100000\n255\n")


def test_mutated_files_are_images_or_bad_images() -> None:
    rng = random.Random(0)
    seeds = [
        encode_file(draw_scene(40, 30), kind)
        for kind in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM")
    ]
    for _ in range(700):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            assert to_square(bytes(data), SMALL).shape == (8, 8, 3)
        except BadImage as reason:
            assert "\n" not in str(reason)


def test_threads_do_not_disturb_each_others_warning_filters() -> None:
    exif = b"Exif\0\0II*\0\x08\0\0\0\x02\0\x0f\x01\x02\0\xff\xff\0\0\x10\0\0\0"
    data = [encode_file(draw_scene(50, 50, seed), "JPEG", exif=exif) for seed in range(40)]
    alone = [make_record(one, SMALL) for one in data]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda one: make_record(one, SMALL), data)) == alone


@pytest.mark.parametrize("channels", [1, 3])
def test_raw_records_are_decoded_without_copying(channels: int) -> None:
    decode_config = DecodeConfig(size=16, channels=channels, encoding="raw")
    pixels = to_square(encode_file(draw_scene(40, 30), "PNG"), decode_config)
    again = decode_record(encode_record(pixels, decode_config))
    assert (again == pixels).all() and not again.flags.owndata
    opened = np.asarray(Image.open(BytesIO(encode_record(pixels, decode_config)))).reshape(
        pixels.shape
    )
    assert (opened == pixels).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_records_are_close_and_read_by_others(channels: int) -> None:
    decode_config = DecodeConfig(size=64, channels=channels)
    data = encode_file(draw_scene(200, 100), "PNG")
    again = decode_record(make_record(data, decode_config))
    assert (
        again.shape == (64, 64, channels)
        and np.abs(again.astype(int) - to_square(data, decode_config)).mean() < 2
    )
    assert Image.open(BytesIO(make_record(data, decode_config))).format == "JPEG"


def test_damaged_records_are_bad_images() -> None:
    raw = encode_record(np.zeros((8, 8, 3), np.uint8), DecodeConfig(size=8, encoding="raw"))
    for damaged in (raw[:-1], raw[:4], b"P7" + raw[2:], b"", b"\xff\xd8\xff"):
        with pytest.raises(BadImage):
            decode_record(damaged)


def test_a_decode_config_survives_json_and_accepts_no_other_keys() -> None:
    decode_config = DecodeConfig(64, 1, "raw", "bicubic", False, (1, 2, 3))
    assert DecodeConfig.from_json(decode_config.to_json()) == decode_config
    complete = decode_config.to_json()
    wrong = [
        complete | {"crop": 1},
        {"size": 64},
        complete | {"size": 0},
        complete | {"size": "64"},
        complete | {"filter": "nearest"},
    ]
    for value in [
        *wrong,
        complete | {"channels": True},
        complete | {"background": [1, 2]},
        complete | {"encoding": "png"},
    ]:
        with pytest.raises(AlexNetError, match="decode_config"):
            DecodeConfig.from_json(value)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_faster_decoder_gives_the_same_bits(channels: int) -> None:
    assert image_io._simplejpeg_agrees(), "simplejpeg is installed with the development tools"
    pixels = np.random.default_rng(channels).integers(0, 256, (64, 64, channels), dtype=np.uint8)
    record = image_io.encode_record(
        pixels, DecodeConfig(size=64, channels=channels, encoding="jpeg")
    )
    assert np.array_equal(
        image_io._decode_with_simplejpeg(record), image_io._decode_with_pillow(record)
    )
