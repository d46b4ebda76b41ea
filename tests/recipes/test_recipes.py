"""Recipes: strict JSON in both directions, overrides, and schedules against their definitions."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alexnet.core.errors import UsageError
from alexnet.recipes.describe import describe_augmentation, describe_lr, describe_training
from alexnet.recipes.overrides import from_json, override, to_json
from alexnet.recipes.presets import MODERN, ORIGINAL, PAPER, RECIPES, get_recipe
from alexnet.recipes.recipe import Recipe, with_epochs, with_frozen, with_lr
from alexnet.recipes.schedules import (
    PiecewiseConstant,
    PiecewiseLinear,
    PlateauState,
    ReduceOnPlateau,
    exponential_steps,
)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_json_round_trip_gives_the_same_recipe(recipe: Recipe) -> None:
    assert from_json(json.loads(json.dumps(to_json(recipe)))) == recipe


def test_json_of_another_version_is_refused() -> None:
    text = to_json(MODERN)
    with pytest.raises(UsageError, match="another version"):
        from_json(text | {"color": 3})
    with pytest.raises(UsageError, match="kind Recipes"):
        from_json(text | {"kind": "Recipes"})
    with pytest.raises(UsageError, match="expected float"):
        from_json(text | {"training": text["training"] | {"momentum": "much"}})


def test_overrides_change_values_at_every_depth() -> None:
    assert override(MODERN, "training.batch_size=32").training.batch_size == 32
    assert override(MODERN, "training.weight_decay=1").training.weight_decay == 1.0
    changed = override(ORIGINAL, "network.layers.conv1.init_std=.02").network.layers[0]
    assert getattr(changed, "init_std") == 0.02  # noqa: B009 (a union of layers)
    assert override(PAPER, "training.lr.patience=3").training.lr == ReduceOnPlateau(patience=3)
    assert override(MODERN, "network.input=3,99,99").network.input == (3, 99, 99)
    assert override(MODERN, "augmentation.mirror=false").augmentation.mirror is False
    schedule = PiecewiseConstant(((0, 0.1), (5, 0.01)))
    text = json.dumps(to_json(schedule))
    assert override(PAPER, f"training.lr={text}").training.lr == schedule


@pytest.mark.parametrize(
    "setting",
    [
        "network.layers.norm1.k=1.0",
        "network.layers.norm1.k=1",
        "training.batch_size=64",
        "training.weight_decay=.0005",
    ],
)
def test_overriding_a_value_with_itself_changes_nothing(setting: str) -> None:
    assert to_json(override(MODERN, setting)) == to_json(MODERN)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.bacth=3", "nearest: batch"),
        ("network.layers.conv9.init_std=1", "nearest: conv"),
        ("training.batch_size=many", "expected int"),
        ("training.batch_size=2.5", "expected int"),
        ("augmentation.mean=median", "'image' or 'color'"),
        ("training", "expected name=value"),
        ("training=3", "name one of its parts"),
        ("training.lr={", "not JSON"),
        ('training.lr={"kind": "Cosine"}', "expected one of"),
        (
            f"training.lr={json.dumps(to_json(MODERN.augmentation))}",
            "found Augmentation, expected PiecewiseConstant",
        ),
        ("training.batch_size.size=3", "one name too many"),
    ],
)
def test_wrong_override_is_an_error_that_names_what_is_expected(setting: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        override(MODERN, setting)


def test_unknown_recipe_is_an_error_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="nearest: original"):
        get_recipe("orginal")


def test_schedules_at_and_between_their_points() -> None:
    constant = PiecewiseConstant(((0, 1.0), (2, 0.1)))
    linear = PiecewiseLinear(((0, 0.0), (1, 1.0), (3, 0.0)))
    assert [constant.at(epoch) for epoch in (0, 1.99, 2, 9)] == [1.0, 1.0, 0.1, 0.1]
    assert [linear.at(epoch) for epoch in (0, 0.5, 1, 2, 3, 9)] == [0.0, 0.5, 1.0, 0.5, 0.0, 0.0]


def test_exponential_steps_fall_by_equal_factors_over_equal_times() -> None:
    schedule = exponential_steps(0.01, 0.00004, levels=4, epochs=90)
    values = [round(schedule.at(epoch), 5) for epoch in (0, 22.4, 22.5, 45, 67.5, 90)]
    assert values == [0.01, 0.01, 0.00159, 0.00025, 4e-5, 4e-5]


@given(st.integers(1, 500), st.floats(0, 0.999))
def test_schedule_stretches_with_the_epochs(epochs: int, fraction: float) -> None:
    original = ORIGINAL.training.lr
    stretched = with_epochs(ORIGINAL, epochs).training.lr
    assert isinstance(original, PiecewiseConstant)
    assert isinstance(stretched, PiecewiseConstant)
    distance = min(abs(fraction * 93 - start) for start, _ in original.points)
    if distance > 1e-6:  # at a breakpoint itself, rounding decides
        assert stretched.at(fraction * epochs) == original.at(fraction * 93)


def test_with_lr_scales_all_schedules_alike() -> None:
    training = with_lr(ORIGINAL, 0.02).training
    assert training.lr.largest == pytest.approx(0.02)
    group_lr = training.param_groups[0].lr
    assert group_lr is not None
    assert group_lr.largest == pytest.approx(0.04)


def test_plateau_reduces_at_most_max_reductions_times() -> None:
    plateau = ReduceOnPlateau(patience=2, threshold=0.1, max_reductions=3)
    state = PlateauState()
    reductions = []
    for error in (50.0, 50.0, 49.95, 49.0, 49.0, 49.0, 48.95, 49.0, 60.0, 60.0, 60.0):
        state = state.after(error, plateau)
        reductions.append(state.reductions)
    assert reductions == [0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 3]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("batch_size=3", r"^unknown setting batch_size: did you mean training\.batch_size\?$"),
        ("bacth_size=3", r"did you mean training\.batch_size\?$"),
        ("norm1.k=3", r"did you mean network\.layers\.norm1\.k\?$"),
        ("epochs=3", "use --epochs"),
        ("training.epochs=3", "use --epochs"),
        ("training.lr=0.1", "use --lr"),
        ("zzz=3", "expected one of network.NAME, augmentation.NAME, training.NAME$"),
        ("network.input=67", "^network.input=67: expected three numbers, for instance 3,67,67$"),
        ("training.lr.points=3", "expected pairs of numbers"),
        ("network.layers=3", "expected several, each Conv or "),
    ],
)
def test_a_setting_without_its_group_or_its_parts_names_what_was_meant(
    setting: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        override(MODERN, setting)
    assert "tuple" not in str(caught.value) and "class" not in str(caught.value)


def test_the_training_resolution_ends_at_the_networks_input() -> None:
    def resolution(side: int) -> str:
        return dict(describe_augmentation(MODERN.augmentation, side))["Training resolution"]

    assert resolution(227) == "131 px, 163 px from epoch 14.4, 227 px from epoch 16.4"
    assert resolution(150) == "131 px, 150 px from epoch 14.4"
    assert resolution(67) == "67 px"


def test_frozen_layers_are_one_line() -> None:
    assert describe_lr(with_frozen(MODERN, "conv5").training)[1:] == ["frozen: conv1 to conv5"]
    assert describe_lr(with_frozen(MODERN, "conv2").training)[1:] == ["frozen: conv1, conv2"]
    pairs = dict(describe_training(with_frozen(ORIGINAL, "conv3").training))
    assert pairs["Frozen layers"] == "conv1 to conv3"
    assert not any("conv" in name for name in pairs)
