"""Recipes as values: strict text both ways, schedules against their definitions."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alexnet.errors import UsageError
from alexnet.recipes.named import MODERN, ORIGINAL, PAPER, RECIPES, named
from alexnet.recipes.recipe import with_epochs, with_rate
from alexnet.recipes.schedules import Line, Plateau, PlateauState, Steps, exponential_steps
from alexnet.recipes.settings import from_json, override, to_json


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_a_recipe_comes_back_from_its_text(recipe) -> None:  # type: ignore[no-untyped-def]
    assert from_json(json.loads(json.dumps(to_json(recipe)))) == recipe


def test_text_of_another_version_is_refused() -> None:
    text = to_json(MODERN)
    with pytest.raises(UsageError, match="another version"):
        from_json(text | {"colour": 3})
    with pytest.raises(UsageError, match="kind 'Recipes'"):
        from_json(text | {"kind": "Recipes"})
    with pytest.raises(UsageError, match="expected float"):
        from_json(text | {"training": text["training"] | {"momentum": "much"}})


def test_settings_reach_every_depth() -> None:
    assert override(MODERN, "training.batch=32").training.batch == 32
    assert override(MODERN, "training.decay=1").training.decay == 1.0
    for same in ("network.layers.norm1.k=1.0", "network.layers.norm1.k=1", "training.batch=64", "training.decay=.0005"):
        assert to_json(override(MODERN, same)) == to_json(MODERN), same
    changed = override(ORIGINAL, "network.layers.conv1.std=.02").network.layers[0]
    assert getattr(changed, "std") == 0.02  # noqa: B009 (a union of layers)
    assert override(PAPER, "training.rate.patience=3").training.rate == Plateau(patience=3)
    assert override(MODERN, "network.input=3,99,99").network.input == (3, 99, 99)
    assert override(MODERN, "views.mirror=false").views.mirror is False
    steps = json.dumps(to_json(Steps(((0, 0.1), (5, 0.01)))))
    assert override(PAPER, f"training.rate={steps}").training.rate == Steps(((0, 0.1), (5, 0.01)))


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("training.bacth=3", "nearest: batch"),
        ("network.layers.conv9.std=1", "nearest: conv"),
        ("training.batch=many", "expected int"),
        ("training.batch=2.5", "expected int"),
        ("views.mean=median", "'image' or 'colour'"),
        ("training", "expected name=value"),
        ("training=3", "name one of its parts"),
        ("training.rate={", "not JSON"),
        ('training.rate={"kind": "Cosine"}', "expected one of"),
        (f"training.rate={json.dumps(to_json(MODERN.views))}", "expected .*Steps"),
        ("training.batch.size=3", "one name too many"),
    ],
)
def test_a_wrong_setting_says_what_would_be_right(setting: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        override(MODERN, setting)


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="nearest: original"):
        named("orginal")


def test_schedules_hold_and_run_between_their_points() -> None:
    steps, line = Steps(((0, 1.0), (2, 0.1))), Line(((0, 0.0), (1, 1.0), (3, 0.0)))
    assert [steps.at(epoch) for epoch in (0, 1.99, 2, 9)] == [1.0, 1.0, 0.1, 0.1]
    assert [line.at(epoch) for epoch in (0, 0.5, 1, 2, 3, 9)] == [0.0, 0.5, 1.0, 0.5, 0.0, 0.0]


def test_the_discrete_exponential_falls_by_equal_factors_over_equal_times() -> None:
    course = exponential_steps(0.01, 0.00004, levels=4, epochs=90)
    assert [round(course.at(epoch), 5) for epoch in (0, 22.4, 22.5, 45, 67.5, 90)] == [0.01, 0.01, 0.00159, 0.00025, 4e-5, 4e-5]


@given(st.integers(1, 500), st.floats(0, 0.999))
def test_stretching_keeps_the_course(epochs: int, share: float) -> None:
    original = ORIGINAL.training.rate
    stretched = with_epochs(ORIGINAL, epochs).training.rate
    assert isinstance(original, Steps) and isinstance(stretched, Steps)
    distance = min(abs(share * 93 - start) for start, _ in original.points)
    if distance > 1e-6:  # at a breakpoint itself, rounding decides
        assert stretched.at(share * epochs) == original.at(share * 93)


def test_a_rate_scales_all_schedules_alike() -> None:
    faster = with_rate(ORIGINAL, 0.02).training
    assert faster.rate.largest == pytest.approx(0.02)
    assert faster.apart[0].rate is not None and faster.apart[0].rate.largest == pytest.approx(0.04)


def test_the_plateau_cuts_three_times_and_no_more() -> None:
    plateau, state = Plateau(patience=2, threshold=0.1, cuts=3), PlateauState()
    cuts = []
    for error in (50.0, 50.0, 49.95, 49.0, 49.0, 49.0, 48.95, 49.0, 60.0, 60.0, 60.0):
        state = state.after(error, plateau)
        cuts.append(state.cuts)
    assert cuts == [0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 3]
