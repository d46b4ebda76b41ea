"""Runs that stop, break and continue with the same bits; checks before any work; messages."""

import json
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from alexnet.core.errors import AlexNetError, UsageError
from alexnet.data.prepared import PreparedDataset
from alexnet.distributed.strategies import SingleDevice, StepInput
from alexnet.models.model_file import read_model_file, write_model_file
from alexnet.recipes.overrides import override
from alexnet.recipes.presets import MODERN, ORIGINAL, PAPER, get_recipe
from alexnet.recipes.recipe import Recipe, with_epochs, with_frozen, with_lr
from alexnet.recipes.schedules import PiecewiseConstant, PiecewiseLinear, PlateauState
from alexnet.training import run_config, trainer
from alexnet.training.checkpoint import lock_run
from tests.conftest import tiny, tiny_classifier, tiny_config

RECIPES = [tiny(ORIGINAL), tiny(MODERN)]


def ignore(record: dict[str, Any]) -> None:
    """Do nothing with a run's record."""


def train(
    dataset: PreparedDataset,
    recipe: Recipe,
    folder: Path,
    stop: Callable[[], int] = trainer.never_stop,
    save_every: float = 300.0,
) -> list[Any]:
    """Return a run's summary, followed by its records."""
    records: list[Any] = []
    summary = trainer.train(tiny_config(dataset, recipe), folder, records.append, stop, save_every)
    return [summary, *records]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(read_model_file(folder).model.state_dict())


def losses(folder: Path) -> list[tuple[int, float]]:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(record["step"], record["loss"]) for record in records if record["kind"] == "step"]


def require_same_weights(one: Path, other: Path) -> None:
    expected = weights(one)
    actual = weights(other)
    assert actual.keys() == expected.keys()
    assert all(torch.equal(actual[name], expected[name]) for name in expected)


def warnings(records: list[Any]) -> list[str]:
    return [record["text"] for record in records if record["kind"] == "warning"]


def after(steps: int) -> Callable[[], int]:
    """Return a stop function that asks for SIGTERM from its `steps`-th call on."""
    calls = iter(range(10_000))
    return lambda: signal.SIGTERM if next(calls) + 1 >= steps else 0


def test_original_learning_rates_are_those_of_the_parameter_file() -> None:
    names = ["conv1.weight", "conv1.bias", "fc8.weight", "fc8.bias"]
    at = {
        epoch: ORIGINAL.training.lrs(names, epoch, PlateauState())
        for epoch in (0, 23, 51, 68, 72, 92)
    }
    assert at[0] == {"conv1.weight": 0.01, "conv1.bias": 0.02, "fc8.weight": 0.01, "fc8.bias": 0.02}
    assert [at[epoch]["fc8.weight"] for epoch in (23, 51, 92)] == [0.001, 1e-4, 1e-5]
    assert [at[epoch]["conv1.weight"] for epoch in (51, 68, 72)] == [1e-4, 1e-5, 0.0]
    assert [at[epoch]["conv1.bias"] for epoch in (51, 72)] == [0.002, 0.0]
    assert at[92]["fc8.bias"] == 0.002


# ---- stopping and resuming


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_a_run_stopped_three_times_ends_with_the_same_bits(
    recipe: Recipe, dataset: PreparedDataset, tmp_path: Path
) -> None:
    uninterrupted, *_ = train(dataset, recipe, tmp_path / "whole")
    for steps in (1, 3, 4):  # in the first epoch, at its middle, across its end
        with pytest.raises(trainer.RunStopped, match="--resume") as stopped:
            train(dataset, recipe, tmp_path / "parts", after(steps))
        assert stopped.value.status == 143
    continued, *_ = train(dataset, recipe, tmp_path / "parts")
    require_same_weights(tmp_path / "whole", tmp_path / "parts")
    assert (
        continued["steps"] == uninterrupted["steps"]
        and continued["top1_error"] == uninterrupted["top1_error"]
    )
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    dataset: PreparedDataset, tmp_path: Path
) -> None:
    recipe = RECIPES[1]
    train(dataset, recipe, tmp_path / "whole")
    with pytest.raises(trainer.RunStopped):
        train(dataset, recipe, tmp_path / "run", after(4), save_every=0)
    latest = sorted((tmp_path / "run" / "checkpoints").iterdir())[-1]
    damaged = bytearray(latest.read_bytes())
    damaged[-5] ^= 1
    latest.write_bytes(damaged)
    _, *records = train(dataset, recipe, tmp_path / "run")
    named = [latest.name in text for text in warnings(records) if "damaged" in text]
    assert named == [True]
    require_same_weights(tmp_path / "whole", tmp_path / "run")


def test_only_two_checkpoints_are_kept(dataset: PreparedDataset, tmp_path: Path) -> None:
    train(dataset, RECIPES[0], tmp_path / "run", save_every=0)
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) == 2


def test_another_configuration_cannot_resume_a_run(
    dataset: PreparedDataset, tmp_path: Path
) -> None:
    train(dataset, RECIPES[0], tmp_path / "run")
    with pytest.raises(AlexNetError, match="belongs to another run"):
        train(dataset, with_lr(RECIPES[0], 0.5), tmp_path / "run")


def test_two_runs_cannot_share_a_directory(dataset: PreparedDataset, tmp_path: Path) -> None:
    with lock_run(tmp_path / "run"), pytest.raises(AlexNetError, match="another run is at work"):
        train(dataset, RECIPES[0], tmp_path / "run")


def test_a_run_is_read_again_from_its_directory(dataset: PreparedDataset, tmp_path: Path) -> None:
    train(dataset, RECIPES[0], tmp_path / "run")
    config = run_config.resume_run(tmp_path / "run", workers=1)
    assert config.recipe == RECIPES[0]
    assert config.digest() == tiny_config(dataset, RECIPES[0]).digest()
    with pytest.raises(AlexNetError, match="holds a run already"):
        run_config.require_new(tmp_path / "run")
    with pytest.raises(AlexNetError, match="no run to resume"):
        run_config.resume_run(tmp_path, workers=1)
    shutil.copytree(tmp_path / "run", tmp_path / "other")
    (tmp_path / "other" / "recipe.json").write_text("{")
    with pytest.raises(AlexNetError, match="cannot be used here"):
        run_config.resume_run(tmp_path / "other", workers=1)


def test_a_finished_run_resumed_returns_the_same_summary(
    dataset: PreparedDataset, tmp_path: Path
) -> None:
    first, *_ = train(dataset, RECIPES[0], tmp_path / "run")
    again, *records = train(dataset, RECIPES[0], tmp_path / "run")
    assert again == first and not records
    assert first["best_epoch"] in (1, 2)
    config = tiny_config(dataset, RECIPES[0])
    assert trainer.is_finished(config, tmp_path / "run")
    assert not trainer.is_finished(config, tmp_path / "new")


def test_lost_metrics_do_not_prevent_resuming(dataset: PreparedDataset, tmp_path: Path) -> None:
    with pytest.raises(trainer.RunStopped):
        train(dataset, RECIPES[0], tmp_path / "run", after(3))
    (tmp_path / "run" / "metrics.jsonl").unlink()
    train(dataset, RECIPES[0], tmp_path / "run")
    assert [step for step, _ in losses(tmp_path / "run")][0] == 4


def test_a_run_whose_checkpoints_are_all_damaged_does_not_start_again(
    dataset: PreparedDataset, tmp_path: Path
) -> None:
    train(dataset, RECIPES[0], tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(AlexNetError, match="every checkpoint is damaged"):
        train(dataset, RECIPES[0], tmp_path / "run")


# ---- what is refused, and what is warned of


def test_a_non_finite_loss_stops_before_the_update(
    dataset: PreparedDataset, tmp_path: Path
) -> None:
    schedule = PiecewiseConstant(((0, 1e6),))
    wild = replace(RECIPES[1], training=replace(RECIPES[1].training, lr=schedule))
    message = (
        r"^non-finite loss at step \d+ \(images \d+, \d+, \d+, \d+, \.\.\.\); "
        r"nothing was updated; try a lower --lr \(it was 1e\+06\) or --precision fp32$"
    )
    with pytest.raises(trainer.Diverged, match=message):
        train(dataset, with_epochs(wild, 8), tmp_path / "run")


def test_a_network_that_learns_nothing_is_warned_of(
    dataset: PreparedDataset, tmp_path: Path
) -> None:
    schedule = PiecewiseConstant(((0, 1e-9),))
    training = replace(RECIPES[0].training, lr=schedule, param_groups=())
    _, *records = train(dataset, replace(RECIPES[0], training=training), tmp_path / "run")
    few, first, second = warnings(records)
    assert few.startswith("only ") and " updates in all: too few to learn from; try " in few
    assert first.startswith("not learning yet: ") and "--recipe modern" in first
    assert second.startswith("still not learning: loss ") and len(second) < 60


def test_a_warm_up_is_awaited_and_the_recipe_in_use_not_recommended(
    dataset: PreparedDataset, tmp_path: Path
) -> None:
    schedule = PiecewiseLinear(((0, 1e-10), (1.5, 1e-9), (4, 0.0)))
    recipe = tiny(MODERN, epochs=4, batch_size=32)
    recipe = replace(recipe, training=replace(recipe.training, lr=schedule))
    _, *records = train(dataset, recipe, tmp_path / "run")
    few, first, second = warnings(records)
    assert few == (
        f"only {4 * records[0]['steps_per_epoch']} updates in all: too few to learn from; "
        "try --batch-size 16, more --epochs, or --init-from a trained model"
    )
    assert "after epoch 3" in first and "modern" not in first and "--batch-size 16" in first
    assert "after epoch 4" in second


def test_enough_updates_are_not_warned_of(
    dataset: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "FEW_STEPS", 5)
    _, *records = train(dataset, RECIPES[1], tmp_path / "run")
    assert not any("updates in all" in text for text in warnings(records))


def test_the_plateau_schedule_needs_a_val_split(dataset: PreparedDataset, tmp_path: Path) -> None:
    without = replace(dataset, splits={"train": dataset.splits["train"]})
    with pytest.raises(UsageError, match="has no val split"):
        train(without, tiny(PAPER), tmp_path / "run")


@pytest.mark.parametrize(
    ("recipe", "expected", "flags"),
    [
        ("fashion", "grayscale 224 x 224", "--size 224 --grayscale,"),
        ("original", "RGB 224 x 224", "--size 256,"),
        ("modern", "RGB 227 x 227", "--size 256,"),
    ],
)
def test_images_that_do_not_fit_are_refused_before_any_work(
    recipe: str, expected: str, flags: str, dataset: PreparedDataset, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        train(dataset, get_recipe(recipe), tmp_path / "run")
    message = str(caught.value)
    assert message.startswith(f"recipe {recipe} expects {expected} images")
    assert "has RGB 104 x 104" in message and flags in message
    assert not (tmp_path / "run").exists()


def test_an_input_that_the_images_fill_is_suggested(
    dataset: PreparedDataset, tmp_path: Path
) -> None:
    config = tiny_config(dataset, get_recipe("modern"))
    with pytest.raises(UsageError, match=r"or --set network\.input=3,104,104, or choose"):
        run_config.check_run(config)
    smaller = override(tiny(MODERN), "network.input=3,67,67")
    trained = tiny_classifier(smaller, dataset)
    path = tmp_path / "model.safetensors"
    write_model_file(path, trained.model.state_dict(), trained.preprocessor, smaller, {})
    init = run_config.Init.from_file(path)
    with pytest.raises(UsageError, match=r"or --set network\.input=3,67,67, or choose"):
        run_config.check_run(replace(config, init=init))
    tiny_images = replace(dataset, decode_config=replace(dataset.decode_config, size=40))
    with pytest.raises(UsageError, match="--size 256, or choose another --recipe"):
        run_config.check_run(tiny_config(tiny_images, get_recipe("modern")))


def test_the_resolution_of_a_smaller_input_is_described(dataset: PreparedDataset) -> None:
    config = tiny_config(dataset, override(MODERN, "network.input=3,67,67"))
    assert run_config.describe_run(config)[-1] == "training resolution 67 px"


def test_a_run_is_described_in_words(dataset: PreparedDataset) -> None:
    for name in ("original-dexp", "paper", "modern", "cifar-11pct"):
        lines = run_config.describe_run(tiny_config(dataset, get_recipe(name)))
        assert not any(sign in line for line in lines for sign in "=[]'")
    original = run_config.describe_run(tiny_config(dataset, ORIGINAL))
    assert original[0].startswith("recipe original, 7 classes, images: train ")
    assert original[2:] == [
        "lr 0.01, 0.001 from epoch 23, 0.0001 from epoch 51, 1e-05 from epoch 78",
        "lr of biases: 0.02, 0.002 from epoch 51",
        "lr of conv1.weight: 0.01, 0.001 from epoch 23, 0.0001 from epoch 51, "
        "1e-05 from epoch 68, 0 from epoch 72",
        "lr of conv1.bias: 0.02, 0.002 from epoch 51, 0 from epoch 72",
    ]


# ---- what runs write


def test_bf16_follows_float32(dataset: PreparedDataset, tmp_path: Path) -> None:
    runs = {}
    for dtype in (torch.float32, torch.bfloat16):
        config = tiny_config(dataset, RECIPES[1])
        config = replace(config, runtime=replace(config.runtime, dtype=dtype))
        trainer.train(config, tmp_path / str(dtype), ignore)
        runs[dtype] = losses(tmp_path / str(dtype))
    for (_, exact), (_, rounded) in zip(runs[torch.float32], runs[torch.bfloat16], strict=True):
        assert rounded == pytest.approx(exact, rel=0.05)


def test_an_epoch_of_one_batch_is_an_epoch(dataset: PreparedDataset, tmp_path: Path) -> None:
    recipe = tiny(MODERN, epochs=2, batch_size=500)
    summary, *_ = train(dataset, recipe, tmp_path / "run")
    assert summary["steps"] == 2


def test_without_a_val_split_the_last_model_is_kept(
    dataset: PreparedDataset, tmp_path: Path
) -> None:
    without = replace(dataset, splits={"train": dataset.splits["train"]})
    summary, *_ = train(without, RECIPES[1], tmp_path / "run")
    assert summary["top1_error"] is None
    assert read_model_file(tmp_path / "run" / "model.safetensors").provenance["epoch"] == 2


def test_the_resolution_grows_with_the_epochs(
    dataset: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sides: list[int] = []
    forward_backward = SingleDevice.forward_backward

    def recording(self: SingleDevice, step: StepInput) -> torch.Tensor:
        sides.append(step.images.shape[-1])
        return forward_backward(self, step)

    monkeypatch.setattr(SingleDevice, "forward_backward", recording)
    train(dataset, tiny(MODERN, epochs=4, batch_size=16), tmp_path / "run")
    assert sides == sorted(sides) and len(set(sides)) == 3 and sides[-1] == 99


@pytest.mark.parametrize("start", ["first/model.safetensors", "first"])
def test_a_run_can_start_from_a_model_and_freeze_layers(
    start: str, dataset: PreparedDataset, tmp_path: Path
) -> None:
    train(dataset, RECIPES[0], tmp_path / "first")
    recipe = with_frozen(with_lr(RECIPES[0], 0.001), "conv3")
    init = run_config.Init.from_file(tmp_path / start)
    config = replace(tiny_config(dataset, recipe), init=init)
    with pytest.raises(trainer.RunStopped):
        trainer.train(config, tmp_path / "second", ignore, after(3))
    initial = weights(tmp_path / "first")
    shutil.rmtree(tmp_path / "first")  # a resumed run no longer needs it
    continued = run_config.resume_run(tmp_path / "second", workers=1)
    trainer.train(continued, tmp_path / "second", ignore)
    for name, tensor in weights(tmp_path / "second").items():
        frozen = name[:5] in ("conv1", "conv2", "conv3")
        assert torch.equal(tensor, initial[name]) == frozen, name


def test_weights_that_learned_on_another_scale_are_refused(
    dataset: PreparedDataset, tmp_path: Path
) -> None:
    start = tiny_classifier(tiny(ORIGINAL), dataset)
    path = tmp_path / "model.safetensors"
    write_model_file(path, start.model.state_dict(), start.preprocessor, start.recipe, {})
    init = run_config.Init.from_file(path)
    config = replace(tiny_config(dataset, tiny(MODERN)), init=init)
    advice = r"scaled by 1, .* use --recipe original or --set augmentation\.scale=1\.0$"
    with pytest.raises(UsageError, match=advice):
        trainer.train(config, tmp_path / "run", ignore)
