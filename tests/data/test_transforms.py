"""Preprocessing and augmentation, against crops cut by hand and the formulas of the paper (4.1)."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image

from alexnet.core.errors import AlexNetError
from alexnet.data.augmentation import AugmentParams, draw_augment_params, rotate
from alexnet.data.images import BadImage, DecodeConfig, make_record
from alexnet.data.images import decode_record as decode
from alexnet.data.prepared import PreparedDataset
from alexnet.data.statistics import ColorStats
from alexnet.data.transforms import Preprocessor
from alexnet.models.model_file import make_preprocessor
from alexnet.recipes.presets import MODERN, ORIGINAL, PAPER
from alexnet.recipes.recipe import Augmentation
from alexnet.recipes.schedules import PiecewiseConstant
from tests.conftest import tiny

EIGENVECTORS = np.linalg.qr(np.array([[2.0, 1, 0], [1, 3, 1], [0, 1, 5]]))[0]
COLOR = ColorStats(np.array([120.0, 110, 100]), np.array([14000.0, 1400, 400]), EIGENVECTORS)
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 72, 72, 3)).astype(np.uint8)
MEAN = np.random.default_rng(1).uniform(90, 130, (72, 72, 3)).astype(np.float32)


def preprocessor_with(
    augmentation: Augmentation, encoding: str = "raw", channels: int = 3
) -> Preprocessor:
    config = DecodeConfig(size=72, channels=channels, encoding=encoding)
    mean = MEAN[..., :channels]
    return Preprocessor(config, (channels, 64, 64), augmentation, ("a", "b"), mean, COLOR)


def center_params(count: int) -> AugmentParams:
    """The parameters of center crops without any augmentation."""
    return AugmentParams(
        np.full((count, 2), 4),
        np.zeros(count, bool),
        np.zeros(count),
        np.zeros((count, 3)),
        np.zeros(count, np.int32),
    )


def test_ten_crops_are_the_corners_and_the_center_and_their_mirrors() -> None:
    crops = preprocessor_with(Augmentation()).ten_crops(IMAGES)
    offsets = [(0, 0), (0, 8), (4, 4), (8, 0), (8, 8)]
    for i, (top, left) in enumerate(offsets):
        expected = IMAGES[:, top : top + 64, left : left + 64]
        assert np.array_equal(crops[:, i], expected)
        assert np.array_equal(crops[:, i + 5], expected[:, :, ::-1])


def test_nine_crops_are_a_grid() -> None:
    crops = preprocessor_with(Augmentation()).nine_crops(IMAGES)
    assert np.array_equal(crops[:, 5], IMAGES[:, 4:68, 8:72])
    assert crops.shape == (4, 9, 64, 64, 3)


def test_test_crops_refuse_another_count() -> None:
    with pytest.raises(AlexNetError, match="found 5, expected 1, 9 or 10"):
        preprocessor_with(Augmentation()).test_crops(IMAGES, 5)


def test_at_test_the_mean_of_the_center_is_subtracted() -> None:
    with_image = preprocessor_with(Augmentation(mean="image", scale=0.5))
    expected = (IMAGES[:, 4:68, 4:68].astype(np.float32) - MEAN[4:68, 4:68]) * 0.5
    actual = with_image.normalize(with_image.center_crop(IMAGES))
    assert np.allclose(actual.permute(0, 2, 3, 1), expected)
    with_color = preprocessor_with(Augmentation(mean="color"))
    assert np.allclose(
        with_color.normalize(with_color.center_crop(IMAGES)).permute(0, 2, 3, 1),
        IMAGES[:, 4:68, 4:68] - MEAN.mean((0, 1), dtype=np.float64),
        atol=1e-4,
    )


@pytest.mark.parametrize("mean_at", ["crop", "center"])
def test_in_training_the_mean_follows_the_crop_or_stays(
    mean_at: Literal["crop", "center"],
) -> None:
    preprocessor = preprocessor_with(Augmentation(mean_at=mean_at))
    params = replace(
        center_params(2), offsets=np.array([[1, 7], [3, 2]]), mirror=np.array([False, True])
    )
    crops = np.stack([IMAGES[0, 1:65, 7:71], IMAGES[1, 3:67, 2:66][:, ::-1]])
    means = MEAN[4:68, 4:68]
    if mean_at == "crop":
        means = np.stack([MEAN[1:65, 7:71], MEAN[3:67, 2:66][:, ::-1]])
    actual = preprocessor.augment_and_normalize(
        torch.from_numpy(crops), params, 0.0, 64, "cpu", torch.float32
    )
    assert np.allclose(actual.permute(0, 2, 3, 1), crops - means)


@pytest.mark.parametrize(("unit", "power"), [("deviation", 0.5), ("variance", 1.0)])
def test_color_jitter_has_the_stated_covariance(
    unit: Literal["deviation", "variance"], power: float
) -> None:
    preprocessor = preprocessor_with(Augmentation(color_jitter_unit=unit))
    images = np.arange(100_000)
    normals = draw_augment_params(Augmentation(), 8, 0, 0, images, images).color
    scale = 1.0 if unit == "deviation" else 1 / 255
    variances = (0.1 * scale * COLOR.eigenvalues**power) ** 2
    expected = EIGENVECTORS @ np.diag(variances) @ EIGENVECTORS.T
    actual = np.cov(preprocessor.color_shift(normals, 0.1).T)
    assert np.linalg.norm(actual - expected) < 0.02 * np.linalg.norm(expected)


def test_color_jitter_is_one_color_per_image_and_may_rescale() -> None:
    preprocessor = preprocessor_with(Augmentation(rescale_by_jitter=True, mean="color"))
    params = replace(center_params(1), color=np.array([[1.0, -1.0, 0.5]]))
    crops = torch.from_numpy(IMAGES[:1, 4:68, 4:68].copy())
    plain = preprocessor.augment_and_normalize(crops, params, 0.0, 64, "cpu", torch.float32)
    jittered = preprocessor.augment_and_normalize(crops, params, 0.1, 64, "cpu", torch.float32)
    shift = jittered * 1.1 - plain
    expected = preprocessor.color_shift(params.color, 0.1)[0]
    assert np.allclose(shift[0, :, 0, 0], expected, atol=1e-3)
    assert float((shift - shift[:, :, :1, :1]).abs().max()) < 1e-3


def test_params_depend_on_nothing_but_seed_epoch_and_image() -> None:
    images = np.arange(50)
    params = draw_augment_params(Augmentation(), 8, 1, 2, images, np.arange(50))
    part = draw_augment_params(Augmentation(), 8, 1, 2, images[20:30], np.arange(10))
    assert np.array_equal(params.offsets[20:30], part.offsets)
    assert np.array_equal(params.color[20:30], part.color)
    assert params.offsets.min() == 0
    assert params.offsets.max() == 8
    assert 10 < params.mirror.sum() < 40
    other = draw_augment_params(Augmentation(), 8, 1, 3, images, np.arange(50))
    assert not np.array_equal(params.offsets, other.offsets)


def test_groups_of_32_share_a_crop_in_the_original() -> None:
    images = np.arange(128)[::-1]
    params = draw_augment_params(ORIGINAL.augmentation, 8, 1, 0, images, np.arange(128))
    groups = params.offsets.reshape(4, 32, 2)
    assert (groups == groups[:, :1]).all()
    assert len(np.unique(groups[:, 0], axis=0)) > 1
    assert len(np.unique(params.color, axis=0)) == 128


def test_an_input_larger_than_the_images_is_refused(dataset: PreparedDataset) -> None:
    with pytest.raises(AlexNetError, match="prepare others with --size"):
        make_preprocessor(dataset, PAPER)
    assert make_preprocessor(dataset, tiny(MODERN)).margin == 5


def test_an_input_that_is_no_square_is_refused() -> None:
    preprocessor = preprocessor_with(Augmentation())
    with pytest.raises(AlexNetError, match="64 x 32, expected a square"):
        replace(preprocessor, input_shape=(3, 64, 32))


def test_a_quarter_rotation_is_exact_and_none_does_nothing() -> None:
    image = IMAGES[0]
    assert rotate(image, 0.0) is image
    assert np.array_equal(rotate(image, 90.0), np.rot90(image))
    images = np.arange(1000)
    rotation = Augmentation(rotation=15.0)
    angles = draw_augment_params(rotation, 8, 0, 0, images, images).angles
    assert angles.min() < -14
    assert angles.max() > 14
    assert abs(angles).max() <= 15
    assert abs(angles.mean()) < 1


# ---- what a user may pass as an image


def photo(height: int = 90, width: int = 140) -> np.ndarray:
    """A smooth image, so that compression changes it little: uint8 (height, width, 3)."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x, 2 * y, 255 - x], 2).astype(np.uint8)


def png(image: Image.Image, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_every_kind_of_image_gives_what_its_file_gives(encoding: str, tmp_path: Path) -> None:
    preprocess = preprocessor_with(Augmentation(), encoding)
    array = photo()
    data = png(Image.fromarray(array))
    (tmp_path / "photo.png").write_bytes(data)
    record = decode(make_record(data, preprocess.decode_config))
    expected = preprocess.normalize(preprocess.center_crop(record[None]))[0]
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    images: list[Any] = [tmp_path / "photo.png", str(tmp_path / "photo.png"), data, array, tensor]
    images += [Image.fromarray(array), Image.open(tmp_path / "photo.png"), np.asfortranarray(array)]
    for image in images:
        actual = preprocess(image)
        assert actual.shape == (3, 64, 64)
        assert actual.dtype == torch.float32
        assert torch.equal(actual, expected)
    batch = preprocess(images)
    assert batch.shape == (len(images), 3, 64, 64)
    assert torch.equal(batch, torch.stack([expected] * len(images)))


@pytest.mark.parametrize("channels", [1, 3])
def test_gray_images_come_in_all_their_shapes(channels: int) -> None:
    preprocess = preprocessor_with(Augmentation(mean="color"), channels=channels)
    gray = photo()[..., 0]
    expected = preprocess(png(Image.fromarray(gray)))
    tensor = torch.from_numpy(gray)
    for image in (gray, gray[..., None], tensor, tensor[None], Image.fromarray(gray)):
        assert torch.equal(preprocess(image), expected)


def test_pil_images_of_any_mode_give_what_their_file_gives() -> None:
    preprocess = preprocessor_with(Augmentation())
    rgb = Image.fromarray(photo())
    transparent = rgb.copy()
    transparent.putalpha(Image.fromarray(photo()[..., 1]))
    deep = Image.fromarray(photo()[..., 0].astype(np.uint16) * 256)
    modes = [rgb.convert("P"), rgb.convert("1"), transparent, transparent.convert("LA"), deep]
    for image in modes:
        assert torch.equal(preprocess(image), preprocess(png(image)))
    assert torch.equal(preprocess(deep.convert("I")), preprocess(deep))
    for mode in ("CMYK", "YCbCr", "HSV", "RGBX"):
        assert preprocess(rgb.convert(mode)).shape == (3, 64, 64)
    for mode in ("RGBa", "La"):
        assert preprocess(transparent.convert("LA" if mode == "La" else "RGBA").convert(mode)).any()
    with pytest.raises(AlexNetError, match="mode F"):
        preprocess(Image.fromarray(np.zeros((9, 9), np.float32)))
    with pytest.raises(AlexNetError, match="levels from 0 to 70000, expected 0 to 65535"):
        preprocess(Image.fromarray(np.array([[0, 70000]], np.int32)))


def test_pil_images_are_rotated_as_their_exif_says() -> None:
    preprocess = preprocessor_with(Augmentation())
    exif = Image.Exif()
    exif[0x0112] = 6
    data = png(Image.fromarray(photo()), exif=exif)
    opened = Image.open(BytesIO(data))
    assert torch.equal(preprocess(opened), preprocess(data))
    assert not torch.equal(preprocess(opened), preprocess(photo()))


def test_what_is_no_image_is_refused_in_one_line(tmp_path: Path) -> None:
    preprocess = preprocessor_with(Augmentation())
    floats = photo() / 255
    wrong = [
        (floats, r"found an array float64 \(90, 140, 3\)"),
        (torch.from_numpy(floats).permute(2, 0, 1), r"a tensor float64 \(3, 90, 140\)"),
        (torch.from_numpy(photo()), r"a tensor uint8 \(90, 140, 3\), .*tensor \(3, H, W\)"),
        (photo().transpose(2, 0, 1), r"an array uint8 \(3, 90, 140\)"),
        (np.stack([photo(), photo()]), "pass several images as a list"),
        (np.zeros((0, 5, 3), np.uint8), r"an array uint8 \(0, 5, 3\)"),
        (None, "found NoneType, expected a path"),
        (3, "found int, expected a path"),
        ([], "empty list"),
        (b"text", "image: cannot be read"),
    ]
    for image, text in wrong:
        for transform in (preprocess, preprocess.train):
            with pytest.raises(AlexNetError, match=text) as error:
                transform(image)  # type: ignore[arg-type]
            assert "\n" not in str(error.value)
    (tmp_path / "bad.jpg").write_bytes(b"text")
    with pytest.raises(BadImage, match=r"bad\.jpg: cannot be read: "):
        preprocess([tmp_path / "bad.jpg"])
    with pytest.raises(AlexNetError, match=r"nowhere\.jpg: cannot be read: No such file"):
        preprocess(tmp_path / "nowhere.jpg")


# ---- the random transform for training


def test_the_train_transform_does_the_arithmetic_of_the_trainer() -> None:
    augmentation = Augmentation(color_jitter=PiecewiseConstant(((0, 0.1),)), rotation=10.0)
    preprocess = preprocessor_with(augmentation)
    torch.manual_seed(3)
    actual = preprocess.train.from_record(IMAGES[0])
    torch.manual_seed(3)
    mirror = torch.randint(2, (1,)).bool().numpy()
    angle = 10.0 * (2 * torch.rand(1, dtype=torch.float64).numpy() - 1)
    top, left = torch.randint(9, (1, 2))[0].tolist()
    normals = torch.randn(1, 3, dtype=torch.float64).numpy()
    crop = rotate(IMAGES[0], float(angle[0]))[top : top + 64, left : left + 64]
    crop = crop[:, ::-1] if mirror[0] else crop
    params = AugmentParams(np.array([[top, left]]), mirror, angle, normals, np.zeros(1, np.int32))
    crops = torch.from_numpy(crop[None].copy())
    expected = preprocess.augment_and_normalize(crops, params, 0.1, 64, "cpu", torch.float32)
    assert torch.equal(actual, expected[0])
    assert actual.shape == (3, 64, 64)


def test_the_train_transform_follows_the_recipe() -> None:
    still = preprocessor_with(Augmentation(mirror=False))
    one_place = replace(still, input_shape=(3, 72, 72)).train
    assert torch.equal(one_place(IMAGES[0]), one_place(IMAGES[0]))
    assert still.train.color_jitter == 0.0
    crops = {tuple(still.train(IMAGES[0])[0, 0, :4].tolist()) for _ in range(20)}
    assert len(crops) > 5, "crops are random"
    batch = still.train([IMAGES[0], IMAGES[1]])
    assert batch.shape == (2, 3, 64, 64)
