"""Crops and normalization: the same bits in all implementations, and those of plain arithmetic."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet.data.crop_normalize import (
    CropPlacement,
    Mean,
    crop_batch,
    crop_image,
    normalize,
    resize,
)

random = np.random.default_rng(0)


def random_placement(count: int, margin: int) -> CropPlacement:
    offsets = random.integers(0, margin + 1, (count, 2))
    return CropPlacement(offsets, random.integers(0, 2, count).astype(bool))


@settings(max_examples=30, deadline=None)
@given(
    width=st.integers(1, 40),
    height=st.integers(1, 12),
    channels=st.integers(1, 4),
    margin=st.integers(0, 3),
)
def test_crops_are_cut_and_mirrored(width: int, height: int, channels: int, margin: int) -> None:
    size = max(width, height) + margin
    images = list(random.integers(0, 256, (5, size, size, channels), dtype=np.uint8))
    placement = random_placement(5, margin)
    expected = [
        crop_image(image, offset, (height, width), mirror)
        for image, offset, mirror in zip(images, *placement, strict=True)
    ]
    crops = crop_batch(images, placement, (height, width))
    assert np.array_equal(crops, np.stack(expected))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["color", "image", "uncropped image"])
@pytest.mark.parametrize("jitter", [False, True])
def test_normalize_gives_the_same_bits_in_every_implementation(
    dtype: torch.dtype,
    channels: int,
    kind: str,
    jitter: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shape: dict[str, tuple[int, ...]] = {
        "color": (channels,),
        "image": (13, 13, channels),
        "uncropped image": (17, 17, channels),
    }
    values = random.uniform(90, 130, shape[kind]).astype(np.float32)
    mean = Mean(values, follows_crop=kind == "uncropped image")
    crops = torch.from_numpy(random.integers(0, 256, (6, 13, 13, channels), dtype=np.uint8))
    placement = random_placement(6, 4)
    used_placement = placement if mean.follows_crop else None
    shift = random.normal(size=(6, channels)) * 12 if jitter else None
    actual = normalize(crops, mean, 1 / 58, dtype, used_placement, shift)
    monkeypatch.setenv("ALEXNET_KERNELS", "plain")
    assert torch.equal(actual, normalize(crops, mean, 1 / 58, dtype, used_placement, shift))
    subtracted = mean.values
    if mean.follows_crop:
        subtracted = np.stack(
            [
                crop_image(mean.values, offset, (13, 13), mirror)
                for offset, mirror in zip(*placement, strict=True)
            ]
        )
    added = 0 if shift is None else shift[:, None, None]
    expected = (crops.numpy() - subtracted.astype(np.float64) + added) / 58
    assert actual.shape == (6, channels, 13, 13)
    assert actual.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 0.02
    assert np.allclose(actual.permute(0, 2, 3, 1).double(), expected, atol=tolerance)


def test_resized_levels_are_exact_arithmetic_rounded() -> None:
    crops = torch.from_numpy(random.integers(0, 256, (3, 50, 50, 3), dtype=np.uint8))
    exact = torch.nn.functional.interpolate(
        crops.permute(0, 3, 1, 2).double(), size=(31, 31), mode="bilinear", antialias=True
    )
    actual = resize(crops, 31)
    assert actual.shape == (3, 31, 31, 3)
    assert (actual.permute(0, 3, 1, 2) - exact).abs().max() <= 1.01
