"""Crops and levels: every form gives the same bits, and those of the plain arithmetic."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet.data import pixels
from alexnet.data.pixels import Mean, cut

random = np.random.default_rng(0)


def places(count: int, margin: int) -> pixels.Places:
    return random.integers(0, margin + 1, (count, 2)), random.integers(0, 2, count).astype(bool)


@settings(max_examples=30, deadline=None)
@given(width=st.integers(1, 40), height=st.integers(1, 12), channels=st.integers(1, 4), margin=st.integers(0, 3))
def test_crops_are_cut_and_mirrored(width: int, height: int, channels: int, margin: int) -> None:
    side = max(width, height) + margin
    squares = list(random.integers(0, 256, (5, side, side, channels), dtype=np.uint8))
    where = places(5, margin)
    by_hand = [cut(square, at, (height, width), flip) for square, at, flip in zip(squares, *where, strict=True)]
    assert np.array_equal(pixels.crops(squares, where, (height, width)), np.stack(by_hand))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["colour", "image", "square"])
@pytest.mark.parametrize("noisy", [False, True])
def test_levels_are_the_same_bits_in_every_form(dtype, channels, kind, noisy, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    size = {"colour": (channels,), "image": (13, 13, channels), "square": (17, 17, channels)}[kind]
    mean = Mean(random.uniform(90, 130, size).astype(np.float32), follows=kind == "square")
    crops = torch.from_numpy(random.integers(0, 256, (6, 13, 13, channels), dtype=np.uint8))
    where, shift = places(6, 4), random.normal(size=(6, channels)) * 12 if noisy else None
    found = pixels.levels(crops, mean, 1 / 58, dtype, where if kind == "square" else None, shift)
    monkeypatch.setenv("ALEXNET_KERNELS", "plain")
    assert torch.equal(found, pixels.levels(crops, mean, 1 / 58, dtype, where if kind == "square" else None, shift))
    cut_out = [cut(mean.levels, at, (13, 13), flip) for at, flip in zip(*where, strict=True)] if mean.follows else []
    less = np.stack(cut_out) if mean.follows else mean.levels
    by_hand = (crops.numpy() - less.astype(np.float64) + (0 if shift is None else shift[:, None, None])) / 58
    assert found.shape == (6, channels, 13, 13) and found.dtype == dtype
    assert np.allclose(found.permute(0, 2, 3, 1).double(), by_hand, atol=1e-5 if dtype == torch.float32 else 0.02)


def test_resized_bytes_are_those_of_exact_arithmetic_rounded() -> None:
    crops = torch.from_numpy(random.integers(0, 256, (3, 50, 50, 3), dtype=np.uint8))
    exact = torch.nn.functional.interpolate(crops.permute(0, 3, 1, 2).double(), size=(31, 31), mode="bilinear", antialias=True)
    found = pixels.resized(crops, 31)
    assert found.shape == (3, 31, 31, 3) and (found.permute(0, 3, 1, 2) - exact).abs().max() <= 1.01
