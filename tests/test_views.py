"""What the network sees, against crops cut by hand and the formulas of the paper's section 4.1."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from alexnet.data.images import Policy
from alexnet.data.store import Colour, Store
from alexnet.data.views import Draws, View, draw, turned
from alexnet.errors import AlexNetError
from alexnet.model import view_of
from alexnet.recipes.named import MODERN, ORIGINAL, PAPER
from alexnet.recipes.recipe import Views
from tests.conftest import tiny

VECTORS = np.linalg.qr(np.array([[2.0, 1, 0], [1, 3, 1], [0, 1, 5]]))[0]
COLOUR = Colour(np.array([120.0, 110, 100]), np.array([14000.0, 1400, 400]), VECTORS)
SQUARES = np.random.default_rng(0).integers(0, 256, (4, 72, 72, 3)).astype(np.uint8)
MEAN = np.random.default_rng(1).uniform(90, 130, (72, 72, 3)).astype(np.float32)


def view_with(views: Views) -> View:
    return View(Policy(size=72, encoding="raw"), (3, 64, 64), views, ("a", "b"), MEAN, COLOUR)


def no_draws(count: int) -> Draws:
    return Draws(np.full((count, 2), 4), np.zeros(count, bool), np.zeros(count), np.zeros((count, 3)), np.zeros(count, np.int32))


def test_ten_views_are_ten_crops_in_their_order() -> None:
    crops = view_with(Views()).ten(SQUARES)
    corners = [(0, 0), (0, 8), (4, 4), (8, 0), (8, 8)]
    for place, (top, left) in enumerate(corners):
        by_hand = SQUARES[:, top : top + 64, left : left + 64]
        assert np.array_equal(crops[:, place], by_hand)
        assert np.array_equal(crops[:, place + 5], by_hand[:, :, ::-1])


def test_at_test_the_mean_of_the_centre_is_subtracted() -> None:
    view = view_with(Views(mean="image", scale=0.5))
    expected = (SQUARES[:, 4:68, 4:68].astype(np.float32) - MEAN[4:68, 4:68]) * 0.5
    assert np.allclose(view.tensor(view.centre(SQUARES)).permute(0, 2, 3, 1), expected)
    colour = view_with(Views(mean="colour"))
    assert np.allclose(
        colour.tensor(colour.centre(SQUARES)).permute(0, 2, 3, 1),
        SQUARES[:, 4:68, 4:68] - MEAN.mean((0, 1), dtype=np.float64),
        atol=1e-4,
    )


@pytest.mark.parametrize("place", ["crop", "centre"])
def test_while_training_the_mean_follows_the_crop_or_stays(place) -> None:  # type: ignore[no-untyped-def]
    view = view_with(Views(mean_at=place))
    draws = replace(no_draws(2), offsets=np.array([[1, 7], [3, 2]]), mirror=np.array([False, True]))
    crops = np.stack([SQUARES[0, 1:65, 7:71], SQUARES[1, 3:67, 2:66][:, ::-1]])
    means = np.stack([MEAN[1:65, 7:71], MEAN[3:67, 2:66][:, ::-1]]) if place == "crop" else MEAN[4:68, 4:68]
    seen = view.training_tensor(torch.from_numpy(crops), draws, 0.0, 64, "cpu", torch.float32)
    assert np.allclose(seen.permute(0, 2, 3, 1), crops - means)


@pytest.mark.parametrize(("unit", "power"), [("deviation", 0.5), ("variance", 1.0)])
def test_colour_noise_has_the_stated_covariance(unit, power) -> None:  # type: ignore[no-untyped-def]
    view = view_with(Views(noise_unit=unit))
    normals = draw(Views(), 8, 0, 0, np.arange(100_000), np.arange(100_000)).colour
    scale = 1.0 if unit == "deviation" else 1 / 255
    expected = VECTORS @ np.diag((0.1 * scale * COLOUR.eigenvalues**power) ** 2) @ VECTORS.T
    found = np.cov(view.colour_shift(normals, 0.1).T)
    assert np.linalg.norm(found - expected) < 0.02 * np.linalg.norm(expected)


def test_noise_is_one_colour_a_picture_and_may_divide() -> None:
    view = view_with(Views(noise_divides=True, mean="colour"))
    draws = replace(no_draws(1), colour=np.array([[1.0, -1.0, 0.5]]))
    crops = torch.from_numpy(SQUARES[:1, 4:68, 4:68].copy())
    still = view.training_tensor(crops, draws, 0.0, 64, "cpu", torch.float32)
    noisy = view.training_tensor(crops, draws, 0.1, 64, "cpu", torch.float32)
    shift = noisy * 1.1 - still
    assert np.allclose(shift[0, :, 0, 0], view.colour_shift(draws.colour, 0.1)[0], atol=1e-3)
    assert float((shift - shift[:, :, :1, :1]).abs().max()) < 1e-3


def test_draws_depend_on_nothing_but_seed_epoch_and_picture() -> None:
    pictures, places = np.arange(50), np.arange(50)
    whole = draw(Views(), 8, 1, 2, pictures, places)
    part = draw(Views(), 8, 1, 2, pictures[20:30], places[:10])
    assert np.array_equal(whole.offsets[20:30], part.offsets) and np.array_equal(whole.colour[20:30], part.colour)
    assert whole.offsets.min() == 0 and whole.offsets.max() == 8
    assert 10 < whole.mirror.sum() < 40
    other = draw(Views(), 8, 1, 3, pictures, places)
    assert not np.array_equal(whole.offsets, other.offsets)


def test_thirty_two_in_a_row_share_a_crop_in_the_original() -> None:
    drawn = draw(ORIGINAL.views, 8, 1, 0, np.arange(128)[::-1], np.arange(128))
    groups = drawn.offsets.reshape(4, 32, 2)
    assert (groups == groups[:, :1]).all() and len(np.unique(groups[:, 0], axis=0)) > 1
    assert len(np.unique(drawn.colour, axis=0)) == 128


def test_a_view_larger_than_the_pictures_is_refused(store: Store) -> None:
    with pytest.raises(AlexNetError, match="prepare others with --size"):
        view_of(store, PAPER)
    assert view_of(store, tiny(MODERN)).margin == 5


def test_nine_views_are_a_grid() -> None:
    crops = view_with(Views()).nine(SQUARES)
    assert np.array_equal(crops[:, 5], SQUARES[:, 4:68, 8:72]) and crops.shape == (4, 9, 64, 64, 3)


def test_a_quarter_turn_is_exact_and_no_turn_is_no_work() -> None:
    square = SQUARES[0]
    assert turned(square, 0.0) is square
    assert np.array_equal(turned(square, 90.0), np.rot90(square))
    angles = draw(replace(Views(), rotation=15.0), 8, 0, 0, np.arange(1000), np.arange(1000)).angles
    assert angles.min() < -14 and angles.max() > 14 and abs(angles).max() <= 15 and abs(angles.mean()) < 1
