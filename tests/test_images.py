"""Any bytes become the right square, or a reason; compared with Pillow's own full decoding and with formulas."""

import random
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from alexnet.data import images
from alexnet.data.images import BadPicture, Policy, decode, encode, record, square
from alexnet.errors import AlexNetError

RED = (200, 30, 10)
SMALL = Policy(size=8)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def scene(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth colours with some detail, so that lossy codecs stay near."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def plainly(image: Image.Image, size: int) -> np.ndarray:
    """The centre square of the whole decoded picture, with none of our short cuts."""
    width, height = image.size
    side = min(width, height)
    box = ((width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2)
    return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR, box=box)).astype(float)


MODES = {
    "JPEG": ("RGB", "L", "1", "CMYK"),
    "PNG": ("RGB", "L", "P", "1", "RGBA", "LA"),
    "WEBP": ("RGB", "L", "P", "1", "CMYK", "RGBA", "LA"),
    "BMP": ("RGB", "L", "P", "1", "RGBA"),
    "GIF": ("RGB", "L", "P", "1", "RGBA", "LA"),
    "TIFF": ("RGB", "L", "P", "1", "CMYK", "RGBA", "LA"),
    "PPM": ("RGB", "L", "1", "RGBA"),
}


@pytest.mark.parametrize(("kind", "mode"), [(kind, mode) for kind, modes in MODES.items() for mode in modes])
def test_every_format_and_mode_keeps_its_colour(kind: str, mode: str) -> None:
    image = Image.new("RGB", (20, 30), RED).convert("L" if mode in ("1", "LA") else "RGB").convert(mode)
    data = saved(image, kind)
    wanted = np.asarray(image.convert("RGB").resize((8, 8), Image.Resampling.BILINEAR)).astype(int)
    tolerance = 12 if mode == "1" else 3  # the dither's resampling depends on where the square is cut
    assert np.abs(square(data, SMALL).mean((0, 1)) - wanted.mean((0, 1))).max() <= tolerance
    assert square(data, Policy(size=8, channels=1)).shape == (8, 8, 1)


@pytest.mark.parametrize("size", [(300, 200), (201, 333), (64, 64), (1, 40), (5000, 3), (1100, 1300)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_square_is_the_resized_middle(size: tuple[int, int], kind: str) -> None:
    data = saved(scene(*size), kind)
    error = square(data, Policy(size=64)) - plainly(Image.open(BytesIO(data)), 64)
    assert np.sqrt((error**2).mean()) < 1.5


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_rotation_is_applied_or_left(turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    for kind in ("JPEG", "PNG", "WEBP"):
        data = saved(scene(90, 60), kind, exif=exif.tobytes())
        upright = ImageOps.exif_transpose(Image.open(BytesIO(data)))
        assert np.abs(square(data, Policy(size=32)) - plainly(upright, 32)).max() <= 3
        assert np.abs(square(data, Policy(size=32, exif=False)) - plainly(Image.open(BytesIO(data)), 32)).max() <= 3


def test_corrupt_exif_changes_nothing() -> None:
    image, chance = scene(40, 40), random.Random(0)
    exif = Image.Exif()
    exif[0x010F] = "a maker of cameras"
    whole = exif.tobytes()
    for _ in range(50):
        broken = bytearray(whole)
        for _ in range(3):
            broken[chance.randrange(6, len(broken))] = chance.randrange(256)
        broken = broken[: chance.randrange(7, len(broken) + 1)]
        assert (square(saved(image, "JPEG", exif=bytes(broken)), SMALL) == square(saved(image, "JPEG"), SMALL)).all()


@pytest.mark.parametrize("kind,mode", [("PNG", np.uint16), ("TIFF", np.uint16), ("TIFF", np.int32), ("PPM", np.int32)])
def test_sixteen_bits_are_scaled_not_clipped(kind: str, mode: type) -> None:
    ramp: np.ndarray = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(mode)
    found = square(saved(Image.fromarray(ramp), kind), Policy(size=64))
    assert np.abs(found[..., 0] - ramp / 257).max() <= 1


def test_levels_without_a_known_white_are_refused() -> None:
    for levels in (np.ones((9, 9), np.float32), np.full((9, 9), -1, np.int32), np.full((9, 9), 1 << 20, np.int32)):
        with pytest.raises(BadPicture, match="expected"):
            square(saved(Image.fromarray(levels), "TIFF"), SMALL)


def test_alpha_shows_the_background() -> None:
    clear = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    half = Image.new("RGBA", (20, 20), (0, 0, 0, 128))
    for background in ((255, 255, 255), (10, 200, 30)):
        policy = Policy(size=8, background=background)
        assert (square(saved(clear, "PNG"), policy) == background).all()
        assert np.abs(square(saved(half, "PNG"), policy) - np.array(background) * 127 / 255).max() <= 1
        assert (square(saved(clear.convert("LA"), "PNG"), policy) == background).all()


def test_transparent_colours_show_the_background() -> None:
    palette = Image.new("P", (20, 20), 3)
    palette.putpalette([50] * 768)
    for image, clear in ((palette, 3), (palette, bytes([255] * 3 + [0])), (Image.new("L", (20, 20), 7), 7)):
        assert (square(saved(image, "PNG", transparency=clear), SMALL) == 255).all()
    assert (square(saved(palette, "GIF", transparency=3), SMALL) == 255).all()
    assert (square(saved(Image.new("RGB", (20, 20), RED), "PNG", transparency=RED), SMALL) == 255).all()
    grey = Image.fromarray(np.full((20, 20), 30000, np.uint16))
    assert (square(saved(grey, "PNG"), SMALL) == 30000 >> 8).all()
    assert (square(saved(grey, "PNG", transparency=30000), SMALL) == 255).all()


def test_grey_is_the_luma_for_every_format() -> None:
    image = scene(100, 80)
    luma = (plainly(image, 32) @ [0.299, 0.587, 0.114])[..., None]
    for data in (saved(image, "PNG"), saved(image, "JPEG", quality=98), saved(image, "JPEG", quality=98, keep_rgb=True)):
        assert np.abs(square(data, Policy(size=32, channels=1)) - luma).max() <= 4


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in (RED, (0, 0, 255))]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
        assert np.abs(square(data, SMALL) - np.array(RED)).max() <= 8


def test_several_pictures_in_one_jpeg_count_as_the_first() -> None:
    data = saved(scene(900, 700), "MPO", save_all=True, append_images=[scene(900, 700, 1)])
    assert np.abs(square(data, SMALL) - plainly(scene(900, 700), 8)).max() <= 3


@pytest.mark.parametrize(
    "data,reason",
    [
        (b"", "empty"),
        (b"no picture at all", "not a picture"),
        (saved(scene(99, 99), "JPEG")[:1200], "truncated"),
        (saved(Image.effect_noise((99, 99), 90), "PNG")[:5000], "truncated"),
        (saved(Image.new("1", (13_000, 13_000)), "PNG"), "13000 x 13000"),
        (saved(Image.new("1", (9_800, 10_300)), "PNG"), "9800 x 10300"),
        (saved(Image.new("1", (33_000, 1)), "PNG"), "33000 x 1"),
        (b"P6\n0 5\n255\n", "decoded|pixels"),
        (saved(scene(9, 9), "ICO"), "not a picture"),
    ],
)
def test_bad_pictures_are_named_by_their_reason(data: bytes, reason: str) -> None:
    with pytest.raises(BadPicture, match=reason) as caught:
        square(data, SMALL)
    assert "\n" not in str(caught.value) and " at 0x" not in str(caught.value)


def test_mutated_files_are_pictures_or_bad_pictures() -> None:
    chance = random.Random(0)
    seeds = [saved(scene(40, 30), kind) for kind in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM")]
    for _ in range(700):
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.randrange(1, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            assert square(bytes(data), SMALL).shape == (8, 8, 3)
        except BadPicture as reason:
            assert "\n" not in str(reason)


def test_threads_and_their_warnings_do_not_meet() -> None:
    exif = b"Exif\0\0II*\0\x08\0\0\0\x02\0\x0f\x01\x02\0\xff\xff\0\0\x10\0\0\0"
    data = [saved(scene(50, 50, seed), "JPEG", exif=exif) for seed in range(40)]
    alone = [record(one, SMALL) for one in data]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda one: record(one, SMALL), data)) == alone


@pytest.mark.parametrize("channels", [1, 3])
def test_raw_records_give_back_the_pixels_without_copying(channels: int) -> None:
    policy = Policy(size=16, channels=channels, encoding="raw")
    pixels = square(saved(scene(40, 30), "PNG"), policy)
    again = decode(encode(pixels, policy))
    assert (again == pixels).all() and not again.flags.owndata
    opened = np.asarray(Image.open(BytesIO(encode(pixels, policy)))).reshape(pixels.shape)
    assert (opened == pixels).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_records_are_close_and_read_by_others(channels: int) -> None:
    policy = Policy(size=64, channels=channels)
    data = saved(scene(200, 100), "PNG")
    again = decode(record(data, policy))
    assert again.shape == (64, 64, channels) and np.abs(again.astype(int) - square(data, policy)).mean() < 2
    assert Image.open(BytesIO(record(data, policy))).format == "JPEG"


def test_damaged_records_are_bad_pictures() -> None:
    raw = encode(np.zeros((8, 8, 3), np.uint8), Policy(size=8, encoding="raw"))
    for damaged in (raw[:-1], raw[:4], b"P7" + raw[2:], b"", b"\xff\xd8\xff"):
        with pytest.raises(BadPicture):
            decode(damaged)


def test_policy_survives_json_and_knows_no_other_keys() -> None:
    policy = Policy(64, 1, "raw", "bicubic", False, (1, 2, 3))
    assert Policy.from_json(policy.to_json()) == policy
    whole = policy.to_json()
    wrong = [whole | {"crop": 1}, {"size": 64}, whole | {"size": 0}, whole | {"size": "64"}, whole | {"filter": "nearest"}]
    for value in [*wrong, whole | {"channels": True}, whole | {"background": [1, 2]}, whole | {"encoding": "png"}]:
        with pytest.raises(AlexNetError, match="policy"):
            Policy.from_json(value)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_faster_decoder_gives_the_same_bits(channels: int) -> None:
    assert images._simplejpeg_agrees(), "simplejpeg is installed with the development tools"
    pixels = np.random.default_rng(channels).integers(0, 256, (64, 64, channels), dtype=np.uint8)
    record = images.encode(pixels, Policy(size=64, channels=channels, encoding="jpeg"))
    assert np.array_equal(images._by_simplejpeg(record), images._by_pillow(record))
