"""The update rule against its formula, and runs that stop, break and go on with the same bits."""

import json
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from alexnet.data.store import Store
from alexnet.errors import AlexNetError, UsageError
from alexnet.model import read_model
from alexnet.network.alexnet import AlexNet
from alexnet.recipes.named import MODERN, ORIGINAL, PAPER
from alexnet.recipes.recipe import Recipe, with_epochs, with_frozen, with_rate
from alexnet.recipes.schedules import PlateauState, Steps
from alexnet.training import loop, tasks
from alexnet.training.checkpoint import locked
from tests.conftest import tiny, tiny_task

RECIPES = [tiny(ORIGINAL), tiny(MODERN)]


def train(
    store: Store, recipe: Recipe, folder: Path, stop: Callable[[], int] = lambda: 0, save_every: float = 300.0
) -> list[Any]:
    """A run's summary, then its records."""
    records: list[Any] = []
    summary = loop.train(tiny_task(store, recipe), folder, records.append, stop, save_every)
    return [summary, *records]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(read_model(folder / "model.safetensors").network.state_dict())


def after(steps: int) -> Callable[[], int]:
    """A stop that asks to stop, by SIGTERM, once it has been asked so many times."""
    asked = iter(range(10_000))
    return lambda: signal.SIGTERM if next(asked) + 1 >= steps else 0


def test_original_rates_are_those_of_the_parameter_file() -> None:
    names = ["conv1.weight", "conv1.bias", "fc8.weight", "fc8.bias"]
    at = {epoch: ORIGINAL.training.rates(names, epoch, PlateauState()) for epoch in (0, 23, 51, 68, 72, 92)}
    assert at[0] == {"conv1.weight": 0.01, "conv1.bias": 0.02, "fc8.weight": 0.01, "fc8.bias": 0.02}
    assert [at[epoch]["fc8.weight"] for epoch in (23, 51, 92)] == [0.001, 1e-4, 1e-5]
    assert [at[epoch]["conv1.weight"] for epoch in (51, 68, 72)] == [1e-4, 1e-5, 0.0]
    assert [at[epoch]["conv1.bias"] for epoch in (51, 72)] == [0.002, 0.0] and at[92]["fc8.bias"] == 0.002


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_a_run_stopped_three_times_ends_with_the_same_bits(recipe: Recipe, store: Store, tmp_path: Path) -> None:
    whole, *_ = train(store, recipe, tmp_path / "whole")
    for steps in (1, 3, 4):  # in the first epoch, at its middle, across its end
        with pytest.raises(loop.Stopped, match="--resume") as stopped:
            train(store, recipe, tmp_path / "parts", after(steps))
        assert stopped.value.status == 143
    resumed, *_ = train(store, recipe, tmp_path / "parts")
    assert all(
        torch.equal(a, b) for a, b in zip(weights(tmp_path / "whole").values(), weights(tmp_path / "parts").values(), strict=True)
    )
    assert resumed["steps"] == whole["steps"] and resumed["top1_error"] == whole["top1_error"]
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def losses(folder: Path) -> list[tuple[int, float]]:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(record["step"], record["loss"]) for record in records if record["kind"] == "step"]


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(store: Store, tmp_path: Path) -> None:
    recipe = RECIPES[1]
    train(store, recipe, tmp_path / "whole")
    with pytest.raises(loop.Stopped):
        train(store, recipe, tmp_path / "run", after(4), save_every=0)
    newest = sorted((tmp_path / "run" / "checkpoints").iterdir())[-1]
    damaged = bytearray(newest.read_bytes())
    damaged[-5] ^= 1
    newest.write_bytes(damaged)
    _, *records = train(store, recipe, tmp_path / "run")
    assert [newest.name in record["text"] for record in records if "damaged" in record.get("text", "")] == [True]
    assert all(
        torch.equal(a, b) for a, b in zip(weights(tmp_path / "whole").values(), weights(tmp_path / "run").values(), strict=True)
    )


def test_only_two_checkpoints_are_kept(store: Store, tmp_path: Path) -> None:
    train(store, RECIPES[0], tmp_path / "run", save_every=0)
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) == 2


def test_another_task_cannot_go_on_with_a_run(store: Store, tmp_path: Path) -> None:
    train(store, RECIPES[0], tmp_path / "run")
    with pytest.raises(AlexNetError, match="belongs to another run"):
        train(store, with_rate(RECIPES[0], 0.5), tmp_path / "run")


def test_two_runs_cannot_share_a_directory(store: Store, tmp_path: Path) -> None:
    with locked(tmp_path / "run"), pytest.raises(AlexNetError, match="another run is at work"):
        train(store, RECIPES[0], tmp_path / "run")


def test_a_loss_that_is_not_finite_stops_before_the_update(store: Store, tmp_path: Path) -> None:
    wild = replace(RECIPES[1], training=replace(RECIPES[1].training, rate=Steps(((0, 1e6),))))
    with pytest.raises(AlexNetError, match=r"loss became (nan|inf) at step \d+.*lower rate"):
        train(store, with_epochs(wild, 8), tmp_path / "run")


def test_a_net_that_learns_nothing_is_told_so(store: Store, tmp_path: Path) -> None:
    still = replace(RECIPES[0], training=replace(RECIPES[0].training, rate=Steps(((0, 1e-9),)), apart=()))
    _, *records = train(store, still, tmp_path / "run")
    assert ["not learning yet" in record["text"] for record in records if record["kind"] == "warning"] == [True, True]


def test_the_plateau_needs_a_val_split(store: Store, tmp_path: Path) -> None:
    without = replace(store, splits={"train": store.splits["train"]})
    with pytest.raises(UsageError, match="has no val split"):
        train(without, tiny(PAPER), tmp_path / "run")


def test_a_run_is_found_again_by_its_directory(store: Store, tmp_path: Path) -> None:
    train(store, RECIPES[0], tmp_path / "run")
    task = tasks.resumed(tmp_path / "run", workers=1)
    assert task.recipe == RECIPES[0] and task.digest() == tiny_task(store, RECIPES[0]).digest()
    with pytest.raises(AlexNetError, match="holds a run already"):
        tasks.must_be_new(tmp_path / "run")
    with pytest.raises(AlexNetError, match="no run to resume"):
        tasks.resumed(tmp_path, workers=1)
    shutil.copytree(tmp_path / "run", tmp_path / "other")
    (tmp_path / "other" / "recipe.json").write_text("{")
    with pytest.raises(AlexNetError, match="cannot be used here"):
        tasks.resumed(tmp_path / "other", workers=1)


def test_bf16_follows_float32(store: Store, tmp_path: Path) -> None:
    runs = {}
    for dtype in (torch.float32, torch.bfloat16):
        task = tiny_task(store, RECIPES[1])
        task = replace(task, runtime=replace(task.runtime, dtype=dtype))
        loop.train(task, tmp_path / str(dtype), lambda record: None)
        runs[dtype] = losses(tmp_path / str(dtype))
    for (_, exact), (_, rounded) in zip(runs[torch.float32], runs[torch.bfloat16], strict=True):
        assert rounded == pytest.approx(exact, rel=0.05)


def test_an_epoch_of_one_batch_is_an_epoch(store: Store, tmp_path: Path) -> None:
    recipe = tiny(MODERN, epochs=2, batch=500)
    summary, *_ = train(store, recipe, tmp_path / "run")
    assert summary["steps"] == 2


def test_a_finished_run_resumed_says_the_same_again(store: Store, tmp_path: Path) -> None:
    first, *_ = train(store, RECIPES[0], tmp_path / "run")
    again, *records = train(store, RECIPES[0], tmp_path / "run")
    assert again == first and not records


def test_without_a_val_split_the_last_model_is_kept(store: Store, tmp_path: Path) -> None:
    without = replace(store, splits={"train": store.splits["train"]})
    summary, *_ = train(without, RECIPES[1], tmp_path / "run")
    assert summary["top1_error"] is None and read_model(tmp_path / "run" / "model.safetensors").made["epoch"] == 2


def test_lost_records_do_not_hinder_a_resumption(store: Store, tmp_path: Path) -> None:
    with pytest.raises(loop.Stopped):
        train(store, RECIPES[0], tmp_path / "run", after(3))
    (tmp_path / "run" / "metrics.jsonl").unlink()
    train(store, RECIPES[0], tmp_path / "run")
    assert [step for step, _ in losses(tmp_path / "run")][0] == 4


def test_a_run_whose_checkpoints_are_all_damaged_is_not_begun_anew(store: Store, tmp_path: Path) -> None:
    train(store, RECIPES[0], tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(AlexNetError, match="no checkpoint is whole"):
        train(store, RECIPES[0], tmp_path / "run")


def test_views_grow_with_the_epochs(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    forward = AlexNet.forward

    def watched(self: AlexNet, batch: torch.Tensor, keys: torch.Tensor | None = None) -> torch.Tensor:
        if self.training:
            seen.append(batch.shape[-1])
        return forward(self, batch, keys)

    monkeypatch.setattr(AlexNet, "forward", watched)
    train(store, tiny(MODERN, epochs=4, batch=16), tmp_path / "run")
    assert seen == sorted(seen) and len(set(seen)) == 3 and seen[-1] == 99


def test_a_run_can_begin_with_a_models_layers_and_hold_some(store: Store, tmp_path: Path) -> None:
    train(store, RECIPES[0], tmp_path / "first")
    first = tmp_path / "first" / "model.safetensors"
    recipe = with_frozen(with_rate(RECIPES[0], 0.001), "conv3")
    task = replace(tiny_task(store, recipe), init=tasks.Init.of(first))
    with pytest.raises(loop.Stopped):
        loop.train(task, tmp_path / "second", lambda record: None, after(3))
    begun = weights(tmp_path / "first")
    first.unlink()  # a resumed run no longer needs it
    loop.train(tasks.resumed(tmp_path / "second", workers=1), tmp_path / "second", lambda record: None)
    ended = weights(tmp_path / "second")
    for name, tensor in ended.items():
        assert torch.equal(tensor, begun[name]) == (name[:5] in ("conv1", "conv2", "conv3")), name
