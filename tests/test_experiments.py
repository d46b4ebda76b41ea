"""The paper's comparisons: what the arms change, the arithmetic of the table against numbers worked out by hand, and tiny
experiments made, stopped, gone on with and shared."""

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch.nn import functional as F

from alexnet.data.batches import Position, Stream
from alexnet.data.store import Store
from alexnet.errors import AlexNetError, UsageError
from alexnet.evaluate import evaluate
from alexnet.insight.experiments import arms
from alexnet.insight.experiments import conduct as room
from alexnet.insight.experiments.arms import EXPERIMENTS, Arm, Experiment, Published
from alexnet.insight.experiments.conduct import Setting, conduct
from alexnet.insight.experiments.outcomes import Outcome, Row, mean, reached_at, spread
from alexnet.insight.experiments.portions import fewer, middles
from alexnet.insight.experiments.runs import Company
from alexnet.insight.experiments.sparsity import rectified, sparsity
from alexnet.model import ready, view_of
from alexnet.network.alexnet import AlexNet, start
from alexnet.network.geometry import plan
from alexnet.recipes import networks
from alexnet.recipes.layers import RELU, Conv, Norm, Pool, SpatialNorm
from alexnet.recipes.named import CIFAR_18, FIGURE1, MODERN, ORIGINAL, PAPER, SINGLE
from alexnet.recipes.recipe import Recipe, with_epochs, with_rate
from alexnet.training.loop import MODEL, Stopped
from alexnet.verbs.experimenting import experiment as verb
from tests.conftest import CPU, tiny

TINY = tiny(MODERN, epochs=1, batch=16)
# Figure 1's net, small, on 32 of 104 pixels.
TINY_FIGURE1 = with_epochs(
    replace(
        FIGURE1,
        network=networks.but(FIGURE1.network, *(Conv(f"conv{n}", 8, 5, pad=2, std="kaiming") for n in (1, 2, 3))),
        training=replace(FIGURE1.training, batch=16),
    ),
    6,
)


# ---- what the arms change


def test_the_programs_own_comparisons_come_out_of_its_net() -> None:
    net = networks.ORIGINAL_NETWORK
    assert arms.without(net, Norm, SpatialNorm) == networks.NO_NORM_NETWORK
    assert arms.without_overlap(net) == networks.NO_OVERLAP_NETWORK
    assert arms.halved(net) == networks.HALF_NETWORK
    assert arms.separated(net) == networks.SEPARATE_NETWORK


@pytest.mark.parametrize("base", [MODERN, ORIGINAL, PAPER], ids=lambda base: base.name)
@pytest.mark.parametrize("one", EXPERIMENTS, ids=lambda one: one.name)
def test_every_arm_builds_a_net_that_takes_a_step(one: Experiment, base: Recipe) -> None:
    small = tiny(base)
    for arm in one.arms:
        recipe = arm.change(small)
        net = start(AlexNet(recipe.network, 7), 0).train()
        logits = net(torch.randn(2, *recipe.network.input), torch.zeros(2, dtype=torch.int32))
        F.cross_entropy(logits, torch.tensor([0, 6])).backward()
        assert logits.shape == (2, 7)
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters()), arm.label


@pytest.mark.parametrize(
    ("name", "base", "found"),
    [
        ("normalisation", FIGURE1, "no norm"),
        ("overlap", replace(MODERN, network=arms.without_overlap(MODERN.network)), "windows of this net overlap"),
        ("dropout", CIFAR_18, "no dropout"),
        ("towers", SINGLE, "two towers"),
        ("depth", FIGURE1, "no conv4"),
        ("initialisation", FIGURE1, "five convolutions"),
        ("weight-decay", FIGURE1, "no weight decay"),
    ],
)
def test_a_change_that_does_not_apply_is_said_before_anything_runs(
    name: str, base: Recipe, found: str, store: Store, tmp_path: Path
) -> None:
    small = replace(base, network=replace(base.network, input=(3, 99, 99)), views=replace(base.views, sizes=None))
    with pytest.raises(UsageError, match=f"{found}.*choose another --recipe"):
        conduct(setting(store, tmp_path, name, small), quiet([]))
    assert not list(tmp_path.iterdir())


def test_an_unknown_experiment_is_told_the_nearest() -> None:
    with pytest.raises(UsageError, match="nearest: normalisation"):
        arms.experiment("normalization")


def test_a_convolution_goes_with_its_norms_and_hands_on_the_exchange() -> None:
    less = {name: arms.without_convolution(name, networks.ORIGINAL_NETWORK) for name in ("conv2", "conv3", "conv5")}
    kept = [getattr(layer, "name", "") for layer in less["conv2"].layers]
    assert not {"conv2", "norm2", "spatial2"} & set(kept) and "pool2" in kept
    assert [step.layer.groups for step in plan(less["conv3"], 10) if isinstance(step.layer, Conv)] == [1, 2, 1, 2]
    for network in less.values():
        assert next(step.takes[1:] for step in plan(network, 10) if getattr(step.layer, "name", "") == "fc6") == (6, 6)


def test_means_are_taken_behind_the_relu() -> None:
    layers = arms.averaging(networks.MODERN_NETWORK).layers
    places = [place for place, layer in enumerate(layers) if isinstance(layer, Pool)]
    assert [layers[place] for place in places] == [Pool(f"pool{n}", 3, 2, "mean") for n in (1, 2, 3)]
    assert all(layers[place - 1] == RELU != layers[place + 1] for place in places)


def test_the_start_of_2012_is_scaled_to_what_the_net_sees() -> None:
    convs = [layer for layer in arms.started(0.03, 1.0, MODERN).network.layers if isinstance(layer, Conv)]
    assert [conv.std for conv in convs] == [0.64, 0.01, 0.03, 0.03, 0.03]  # grey levels / 64: .01 * 64
    assert [conv.bias for conv in convs] == [0, 1, 0, 1, 1]
    assert arms.started(0.03, 1.0, ORIGINAL) == ORIGINAL and arms.started(0.01, 1.0, PAPER) == PAPER


def test_the_programs_noise_ends_at_the_same_part_of_the_run() -> None:
    views = arms.with_noise_of(ORIGINAL, MODERN).views
    assert [views.noise.at(18 * epoch / 93) for epoch in (0, 67.9, 68.1)] == [0.1, 0.1, 0.0]
    assert (views.noise_unit, views.noise_divides) == ("deviation", True)
    assert arms.with_noise_of(PAPER, with_epochs(PAPER, 7)) == with_epochs(PAPER, 7)


# ---- parts of a store


def test_fewer_pictures_are_always_the_same_ones(store: Store) -> None:
    whole, part, again = store.splits["train"], fewer(store, 20).splits["train"], fewer(store, 20).splits["train"]
    assert len(part) == 20 and len(fewer(store, 10**6).splits["train"]) == len(whole)
    assert len(fewer(store, 11).splits["val"]) == 6
    of = {whole.pixels(i).tobytes(): (i, int(whole.labels[i])) for i in range(len(whole))}
    found = [of[part.pixels(i).tobytes()] for i in range(20)]
    assert [label for _, label in found] == part.labels.tolist()
    assert found == sorted(found) == [of[again.pixels(i).tobytes()] for i in range(20)]
    assert len({store.digest, fewer(store, 20).digest, fewer(store, 21).digest, middles(store, 99).digest}) == 4


def test_the_middle_of_pictures_leaves_no_room_for_crops(store: Store) -> None:
    middle, views = middles(store, 99), replace(MODERN.views, mirror=False)
    recipe = replace(TINY, views=views)
    stream = Stream(middle.splits["train"], view_of(middle, recipe), recipe.training, seed=3, workers=1)
    batch = stream.batch(Position(2, 1), stream.order(2))
    squares = np.stack([store.splits["train"].pixels(int(i)) for i in batch.pictures])
    assert np.array_equal(batch.crops.numpy(), view_of(store, recipe).centre(squares))
    with pytest.raises(UsageError, match="no room for crops"):
        middles(store, 104)


# ---- the arithmetic


def test_the_epoch_of_a_level_lies_between_those_around_it() -> None:
    assert reached_at((60, 40, 20), 25, start=90) == 2.75  # 15 of the 20 points from 40 to 20
    assert reached_at((40, 20), 40, start=90) == 1.0
    assert reached_at((20, 30), 25, start=90) == pytest.approx(65 / 70)
    assert reached_at((30, 35, 26), 25, start=90) is None and reached_at((), 25, start=90) is None
    assert reached_at((10,), 95, start=90) == 0.0  # there from the beginning
    assert reached_at((60, 40, 20), 25, start=90, first=0.5) == 2.25  # means of an epoch stand at its middle
    assert reached_at((40,), 65, start=90, first=0.5) == 0.25


def test_means_spreads_and_differences() -> None:
    assert (mean((40.0, 43.0)), spread((40.0, 43.0, 41.0))) == (41.5, (40.0, 43.0))
    assert mean((40.0, None)) is None and mean(()) is None and spread((40.0, None)) is None and spread((40.0,)) is None
    paper = (Published("1.4 / 1.2 points", "section 3.3", 1.4), Published("both", "run #148", 1.37))
    rows = Row("as it is", {"top1": (40.0, 42.0)}), Row("less", {"top1": (42.0, 45.0)}, paper), Row("died", {"top1": (1.0, None)})
    outcome = Outcome("normalisation", "?", {"recipe": "modern"}, {"top1": "error"}, rows)
    assert [outcome.against(row) for row in rows] == [None, 2.5, None]
    assert replace(outcome, compared="times").against(rows[1]) == 43.5 / 41
    assert outcome.table()[1] == [
        ["as it is", 41.0, "40.0–42.0", None, None],
        ["less", 43.5, "42.0–45.0", "+2.50", "+1.40, +1.37"],
        ["died", None, None, None, None],
    ]
    assert outcome.lines() == ["recipe modern", "less: 1.4 / 1.2 points (section 3.3)", "less: both (run #148)"]


def test_sparsity_is_that_of_a_net_computed_here(store: Store) -> None:
    net = start(AlexNet(TINY_FIGURE1.network, 7), 1).eval().requires_grad_(False)
    net.get_parameter("conv2.weight")[3] = 0
    net.get_parameter("conv2.bias")[3] = -1  # a map that never answers
    view, val = view_of(store, TINY_FIGURE1), store.splits["val"]
    found = sparsity((net, view), val, CPU)
    x = view.tensor(view.centre(np.stack([val.pixels(i) for i in range(len(val))])))
    for name, weights in ((name, net.get_submodule(name)) for name in ("conv1", "conv2", "conv3")):
        x = F.relu(F.conv2d(x, weights.weight, weights.bias, padding=2))  # type: ignore[arg-type]
        dead = (x.amax((0, 2, 3)) == 0).float().mean()
        assert found[name] == pytest.approx((100 * float((x == 0).float().mean()), 100 * float(dead)), abs=0.01)
        x = F.max_pool2d(x, 3, 2, ceil_mode=True)
    assert found["conv2"][1] >= 12.5 and list(found) == ["conv1", "conv2", "conv3"]
    assert rectified(MODERN.network) == {
        **{"conv1": "pool1", "conv2": "pool2", "conv3": "conv3", "conv4": "conv4", "conv5": "pool3"},
        **{"fc6": "fc6", "fc7": "fc7"},
    }


# ---- tiny experiments


def setting(store: Store, out: Path, name: str, recipe: Recipe = TINY, seeds: int = 2, **more: Any) -> Setting:
    return Setting(arms.experiment(name), store, recipe, tuple(range(seeds)), "val", 1, CPU, out, **more)


def quiet(begun: list[str], stop: Callable[[], int] = lambda: 0) -> Company:
    """Company that only keeps the titles of the runs that were begun."""

    @contextmanager
    def training(title: str, steps: int) -> Iterator[Callable[[dict[str, Any]], None]]:
        begun.append(title)
        yield lambda record: None

    @contextmanager
    def looking(title: str) -> Iterator[Callable[[int, int], None]]:
        yield lambda done, of: None

    return Company(training, looking, stop)


def test_a_stopped_experiment_goes_on_and_the_next_shares_its_baseline(store: Store, tmp_path: Path) -> None:
    begun: list[str] = []
    asked = iter(range(10_000))
    with pytest.raises(Stopped, match="the same command goes on") as stopped:  # in the third of four runs
        conduct(setting(store, tmp_path, "normalisation"), quiet(begun, lambda: signal.SIGTERM if next(asked) >= 8 else 0))
    assert stopped.value.status == 143 and len(begun) == 3
    finished = [ended.with_name(MODEL) for ended in tmp_path.rglob("ended.json")]
    made = {path: path.stat().st_mtime_ns for path in finished}
    outcome = conduct(setting(store, tmp_path, "normalisation"), quiet(begun))
    assert begun[3:] == ["without norms, seed 0", "without norms, seed 1"]
    assert len(made) == 2 and all(path.stat().st_mtime_ns == when for path, when in made.items())
    assert not list(tmp_path.rglob("checkpoints"))

    again: list[str] = []
    shared = conduct(setting(store, tmp_path, "overlap"), quiet(again))
    assert [title.split(",")[0] for title in again] == ["no overlap"] * 2 + ["average pooling"] * 2
    assert shared.rows[0] == outcome.rows[0]
    assert conduct(setting(store, tmp_path, "normalisation"), quiet(again)) == outcome and len(again) == 4

    told = json.loads((tmp_path / f"{outcome.called}.json").read_text())
    first, second = (row["top1_error"] for row in told["rows"])
    assert second["mean"] - first["mean"] == told["rows"][1]["against"]
    for row in told["rows"]:
        for folder, error in zip(row["runs"], row["top1_error"]["values"], strict=True):
            model = ready(tmp_path / folder / "model.safetensors", CPU)
            assert evaluate([(model.network, model.view)], store.splits["val"], 1, CPU).top1_error == error
    assert (tmp_path / f"{outcome.called}.png").read_bytes().startswith(b"\x89PNG")


def test_what_was_interrupted_ends_as_if_it_had_not_been(store: Store, tmp_path: Path) -> None:
    asked = iter(range(10_000))
    with pytest.raises(Stopped):
        conduct(setting(store, tmp_path / "parts", "sparsity"), quiet([], lambda: 2 if next(asked) >= 2 else 0))
    whole, parts = (conduct(setting(store, tmp_path / name, "sparsity"), quiet([])) for name in ("whole", "parts"))
    assert whole == parts and all(0 < row.values["zeros"][0] < 100 for row in whole.rows)  # type: ignore[operator]


def test_each_net_is_averaged_with_each(store: Store, tmp_path: Path) -> None:
    outcome = conduct(setting(store, tmp_path, "ensemble", seeds=3), quiet([]))
    models = [ready(tmp_path / name / "model.safetensors", CPU) for name in outcome.rows[0].runs]
    for count, row in enumerate(outcome.rows, 1):
        expected = [
            evaluate([(model.network, model.view) for model in chosen], store.splits["val"], 1, CPU)
            for chosen in combinations(models, count)
        ]
        assert row.values["top1_error"] == tuple(one.top1_error for one in expected)
    with pytest.raises(UsageError, match="two or more"):
        conduct(setting(store, tmp_path, "ensemble", seeds=1), quiet([]))


def test_each_function_learns_at_its_best_rate_until_the_level(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "RATES", (0.001, 0.02, 1e6))
    monkeypatch.setattr(room, "TRIAL", 2)
    monkeypatch.setattr(room, "LEVEL", 75.0)
    begun: list[str] = []
    outcome = conduct(setting(store, tmp_path, "relu-vs-tanh", TINY_FIGURE1), quiet(begun))
    relu = outcome.rows[0]
    assert relu.values["rate"] == (0.02, 0.02) and relu.arm == "relu, rate 0.02"
    for course, epochs in zip(relu.courses, relu.values["epochs"], strict=True):
        assert (
            epochs == reached_at(course, 75.0, start=100 * 6 / 7, first=0.5)
            and len(course) < 6
            and min(course[:-1], default=99) > 75
        )
    folders = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert len(folders) == 3 * 3 + 3, "an arm's trials, one of which went on as its first run, and its second run"
    again: list[str] = []
    assert conduct(setting(store, tmp_path, "relu-vs-tanh", TINY_FIGURE1), quiet(again)) == outcome and not again


def test_a_rate_that_is_given_needs_no_trials(store: Store, tmp_path: Path) -> None:
    begun: list[str] = []
    short = with_rate(with_epochs(TINY_FIGURE1, 1), 0.02)
    outcome = conduct(setting(store, tmp_path, "relu-vs-tanh", short, seeds=1, rate=0.02), quiet(begun))
    assert begun == [f"{name}, rate 0.02, seed 0" for name in ("relu", "tanh", "sigmoid")]
    assert all(row.values["epochs"] == (None,) for row in outcome.rows)
    late = [f"{row.arm}: not down to 25 % with seed 0; give it more --epochs" for row in outcome.rows]
    assert list(outcome.notes)[1:] == late and "middle" in outcome.notes[0]


def test_a_run_that_diverges_is_a_result(store: Store, tmp_path: Path) -> None:
    wild = with_epochs(with_rate(TINY_FIGURE1, 0.02), 2)
    asked = arms.experiment("normalisation")
    one = replace(asked, arms=(asked.arms[0], Arm("wild", lambda recipe: with_rate(recipe, 1e9))))
    begun: list[str] = []
    for _ in range(2):
        outcome = conduct(replace(setting(store, tmp_path, "normalisation", wild, seeds=1), experiment=one), quiet(begun))
        assert outcome.rows[1].values["top1_error"] == (None,) and outcome.against(outcome.rows[1]) is None
        assert "wild, seed 0: the" in outcome.notes[-1] and "lower rate" in outcome.notes[-1]
        assert "flattered" in outcome.notes[0], "val has chosen, too"
    assert len(begun) == 2, "and not made twice"
    only = replace(one, arms=one.arms[1:], reads="ensemble")
    with pytest.raises(AlexNetError, match="lower rate"):
        conduct(replace(setting(store, tmp_path, "ensemble", wild), experiment=only), quiet([]))


def test_dropout_and_augmentation_tell_their_pace_and_their_training_error(store: Store, tmp_path: Path) -> None:
    paced = conduct(setting(store, tmp_path, "dropout", seeds=1), quiet([]))
    assert list(paced.measures)[2:] == ["train_error", "epochs_to_val"]
    assert all(0 <= value <= 4 for row in paced.rows for value in row.values["epochs_to_val"])  # type: ignore[operator]
    crops = conduct(setting(store, tmp_path, "augmentation", seeds=1), quiet([]))
    assert crops.rows[0].runs == paced.rows[0].runs, "crops and mirrors are what modern has"
    assert len({row.runs for row in crops.rows}) == 4


def test_the_verb_makes_a_quick_one(store: Store, tmp_path: Path) -> None:
    assert all(one.name in (verb.help or "") for one in EXPERIMENTS)
    small = [f"--set=network.layers.conv{n}.maps={maps}" for n, maps in enumerate((12, 16, 16, 16, 16), 1)]
    small += ["--set=network.layers.fc6.units=32", "--set=network.layers.fc7.units=32", "--set=network.input=3,67,67"]
    words = ["dropout", str(store.path), "--quick", "--epochs", "1", "--out", str(tmp_path), *small]
    ended = CliRunner().invoke(verb, [*words, "--json"])
    told = json.loads(ended.stdout)
    (written,) = tmp_path.glob("dropout-*.json")
    assert told == json.loads(written.read_text())
    assert (told["batch"], told["seeds"], told["views"], told["split"]) == (32, [0], 1, "val")
    assert "section 4.2" in CliRunner().invoke(verb, words).stdout
    CliRunner().invoke(verb, [*words, "--views", "10"])
    assert len(list(tmp_path.glob("dropout-*.json"))) == 2, "what was asked for otherwise does not replace it"
