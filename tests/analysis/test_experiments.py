"""The paper's comparisons: what the ablations change, the arithmetic of the table against numbers
worked out by hand, and tiny experiments that are run, stopped, continued and share runs."""

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
from torch import Tensor
from torch.nn import functional as F

from alexnet.analysis.experiments import ablations, learning_speed
from alexnet.analysis.experiments.ablations import EXPERIMENTS, Ablation, Experiment, Published
from alexnet.analysis.experiments.config import ExperimentConfig
from alexnet.analysis.experiments.results import (
    ExperimentResult,
    Row,
    epochs_to_reach,
    mean,
    value_range,
)
from alexnet.analysis.experiments.runner import run_experiment
from alexnet.analysis.experiments.sparsity import activation_sparsity, relu_inputs
from alexnet.analysis.experiments.subsets import center_squares, limit_images
from alexnet.analysis.experiments.training_runs import FINISHED, ExperimentHooks
from alexnet.cli.experiment import experiment as experiment_command
from alexnet.core.errors import AlexNetError, UsageError
from alexnet.data.loader import LoaderState, TrainLoader
from alexnet.data.prepared import PreparedDataset
from alexnet.evaluation.evaluate import evaluate
from alexnet.models.alexnet import AlexNet, init_weights
from alexnet.models.model_file import MODEL_FILE, Classifier, load_classifier, make_preprocessor
from alexnet.models.shapes import infer_shapes
from alexnet.recipes import ablation_nets, networks
from alexnet.recipes.layers import RELU, Conv, Pool
from alexnet.recipes.presets import CIFAR_18, FIGURE1, MODERN, ORIGINAL, PAPER, SINGLE
from alexnet.recipes.recipe import Network, Recipe, with_epochs, with_lr
from alexnet.training.trainer import RunStopped
from tests.conftest import CPU, tiny

TINY = tiny(MODERN, epochs=1, batch_size=16)


def tiny_figure1() -> Recipe:
    """The network of figure 1 with 8 kernels a layer, for 32 pixels of 104."""
    convs = [Conv(f"conv{i}", 8, 5, padding=2, init_std="kaiming") for i in (1, 2, 3)]
    network = ablation_nets.replace_layers(FIGURE1.network, *convs)
    training = replace(FIGURE1.training, batch_size=16)
    return with_epochs(replace(FIGURE1, network=network, training=training), 6)


TINY_FIGURE1 = tiny_figure1()


def convs_of(network: Network) -> list[Conv]:
    return [layer for layer in network.layers if isinstance(layer, Conv)]


# ---- what the ablations change


def test_the_ablations_of_the_original_network_are_the_programs_own_variants() -> None:
    original = networks.ORIGINAL_NETWORK
    assert ablations.remove_norms(original) == ablation_nets.NO_NORM_NETWORK
    assert ablations.without_pool_overlap(original) == ablation_nets.NO_OVERLAP_NETWORK
    assert ablations.half_width(original) == ablation_nets.HALF_NETWORK
    assert ablations.without_tower_exchange(original) == ablation_nets.SEPARATE_NETWORK


@pytest.mark.parametrize("base", [MODERN, ORIGINAL, PAPER], ids=lambda base: base.name)
@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda experiment: experiment.name)
def test_every_ablation_has_finite_gradients(experiment: Experiment, base: Recipe) -> None:
    small = tiny(base)
    for ablation in experiment.ablations:
        recipe = ablation.change(small)
        model = init_weights(AlexNet(recipe.network, 7), 0).train()
        inputs = torch.randn(2, *recipe.network.input)
        logits = model(inputs, torch.zeros(2, dtype=torch.int32))
        F.cross_entropy(logits, torch.tensor([0, 6])).backward()
        assert logits.shape == (2, 7)
        gradients = [parameter.grad for parameter in model.parameters()]
        assert all(grad is not None and grad.isfinite().all() for grad in gradients), ablation.label


@pytest.mark.parametrize(
    ("name", "base", "message"),
    [
        ("normalization", FIGURE1, "no response normalization"),
        (
            "overlap",
            replace(MODERN, network=ablations.without_pool_overlap(MODERN.network)),
            "windows of this network overlap",
        ),
        ("dropout", CIFAR_18, "no dropout"),
        ("towers", SINGLE, "two towers"),
        ("depth", FIGURE1, "no conv4"),
        ("initialization", FIGURE1, "five convolutions"),
        ("weight-decay", FIGURE1, "no weight decay"),
    ],
)
def test_a_change_that_does_not_apply_is_an_error_before_anything_runs(
    name: str, base: Recipe, message: str, dataset: PreparedDataset, tmp_path: Path
) -> None:
    small = replace(
        base,
        network=replace(base.network, input=(3, 99, 99)),
        augmentation=replace(base.augmentation, resolution_schedule=None),
    )
    with pytest.raises(UsageError, match=f"{message}.*choose another --recipe"):
        run_experiment(make_config(dataset, tmp_path, name, small), make_hooks([]))
    assert not list(tmp_path.iterdir())


def test_an_unknown_experiment_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="nearest: normalization"):
        ablations.get_experiment("normalisation")


def test_removing_a_convolution_removes_its_norms_and_keeps_the_exchange() -> None:
    changed = {
        name: ablations.without_conv(name, networks.ORIGINAL_NETWORK)
        for name in ("conv2", "conv3", "conv5")
    }
    names = {getattr(layer, "name", "") for layer in changed["conv2"].layers}
    assert not {"conv2", "norm2", "spatial2"} & names
    assert "pool2" in names
    assert [conv.groups for conv in convs_of(changed["conv3"])] == [1, 2, 1, 2]
    for network in changed.values():
        (fc6,) = [
            step for step in infer_shapes(network, 10) if getattr(step.layer, "name", "") == "fc6"
        ]
        assert fc6.in_shape[1:] == (6, 6)


def test_average_pooling_comes_after_the_relu() -> None:
    layers = ablations.with_avg_pooling(networks.MODERN_NETWORK).layers
    indices = [i for i, layer in enumerate(layers) if isinstance(layer, Pool)]
    assert [layers[i] for i in indices] == [Pool(f"pool{n}", 3, 2, "avg") for n in (1, 2, 3)]
    assert all(layers[i - 1] == RELU != layers[i + 1] for i in indices)


def test_the_2012_initialization_is_scaled_to_the_networks_inputs() -> None:
    convs = convs_of(ablations.with_2012_init(0.03, 1.0, MODERN).network)
    # The inputs are gray levels / 64: 0.01 * 64.
    assert [conv.init_std for conv in convs] == [0.64, 0.01, 0.03, 0.03, 0.03]
    assert [conv.init_bias for conv in convs] == [0, 1, 0, 1, 1]
    assert ablations.with_2012_init(0.03, 1.0, ORIGINAL) == ORIGINAL
    assert ablations.with_2012_init(0.01, 1.0, PAPER) == PAPER


def test_the_programs_jitter_ends_at_the_same_fraction_of_the_run() -> None:
    augmentation = ablations.with_jitter_of(ORIGINAL, MODERN).augmentation
    jitter = [augmentation.color_jitter.at(18 * epoch / 93) for epoch in (0, 67.9, 68.1)]
    assert jitter == [0.1, 0.1, 0.0]
    assert augmentation.color_jitter_unit == "deviation"
    assert augmentation.rescale_by_jitter
    assert ablations.with_jitter_of(PAPER, with_epochs(PAPER, 7)) == with_epochs(PAPER, 7)


# ---- subsets of a dataset


def test_a_limit_of_images_always_chooses_the_same_images(dataset: PreparedDataset) -> None:
    train = dataset.splits["train"]
    subset = limit_images(dataset, 20).splits["train"]
    again = limit_images(dataset, 20).splits["train"]
    assert len(subset) == 20
    assert len(limit_images(dataset, 10**6).splits["train"]) == len(train)
    assert len(limit_images(dataset, 11).splits["val"]) == 6
    by_pixels = {train.pixels(i).tobytes(): i for i in range(len(train))}
    chosen = [by_pixels[subset.pixels(i).tobytes()] for i in range(20)]
    assert train.labels[chosen].tolist() == subset.labels.tolist()
    assert chosen == sorted(chosen)
    assert chosen == [by_pixels[again.pixels(i).tobytes()] for i in range(20)]
    digests = {
        dataset.digest,
        limit_images(dataset, 20).digest,
        limit_images(dataset, 21).digest,
        center_squares(dataset, 99).digest,
    }
    assert len(digests) == 4


def test_the_centers_of_images_leave_no_room_for_random_crops(dataset: PreparedDataset) -> None:
    centers = center_squares(dataset, 99)
    recipe = replace(TINY, augmentation=replace(MODERN.augmentation, mirror=False))
    loader = TrainLoader(
        centers.splits["train"],
        make_preprocessor(centers, recipe),
        recipe.training,
        seed=3,
        workers=1,
    )
    batch = loader.batch(LoaderState(2, 1), loader.order(2))
    squares = np.stack([dataset.splits["train"].pixels(int(i)) for i in batch.indices])
    expected = make_preprocessor(dataset, recipe).center_crop(squares)
    assert np.array_equal(batch.crops.numpy(), expected)
    with pytest.raises(UsageError, match="no room for crops"):
        center_squares(dataset, 104)


# ---- arithmetic


def test_the_epoch_of_a_target_is_interpolated() -> None:
    # 15 of the 20 points from 40 to 20:
    assert epochs_to_reach((60, 40, 20), 25, initial=90) == 2.75
    assert epochs_to_reach((40, 20), 40, initial=90) == 1.0
    assert epochs_to_reach((20, 30), 25, initial=90) == pytest.approx(65 / 70)
    assert epochs_to_reach((30, 35, 26), 25, initial=90) is None
    assert epochs_to_reach((), 25, initial=90) is None
    assert epochs_to_reach((10,), 95, initial=90) == 0.0  # reached from the beginning
    # Means over an epoch stand for its middle:
    assert epochs_to_reach((60, 40, 20), 25, initial=90, first_epoch=0.5) == 2.25
    assert epochs_to_reach((40,), 65, initial=90, first_epoch=0.5) == 0.25


def test_means_and_ranges_need_all_values() -> None:
    assert mean((40.0, 43.0)) == 41.5
    assert value_range((40.0, 43.0, 41.0)) == (40.0, 43.0)
    assert mean((40.0, None)) is None
    assert mean(()) is None
    assert value_range((40.0, None)) is None
    assert value_range((40.0,)) is None


def test_effects_and_the_table() -> None:
    published = (
        Published("1.4 / 1.2 points", "section 3.3", 1.4),
        Published("both", "run #148", 1.37),
    )
    rows = (
        Row("baseline", {"top1": (40.0, 42.0)}),
        Row("less", {"top1": (42.0, 45.0)}, published),
        Row("diverged", {"top1": (1.0, None)}),
    )
    conditions = {"recipe": "modern"}
    result = ExperimentResult("normalization", "?", conditions, {"top1": "error"}, rows)
    assert [result.effect(row) for row in rows] == [None, 2.5, None]
    assert replace(result, effect_kind="ratio").effect(rows[1]) == 43.5 / 41
    assert result.table()[1] == [
        ["baseline", 41.0, "40.0–42.0", None, None],
        ["less", 43.5, "42.0–45.0", "+2.50", "+1.40, +1.37"],
        ["diverged", None, None, None, None],
    ]
    assert result.footnotes() == [
        "recipe modern",
        "less: 1.4 / 1.2 points (section 3.3)",
        "less: both (run #148)",
    ]


def test_sparsity_equals_that_of_activations_computed_here(dataset: PreparedDataset) -> None:
    model = init_weights(AlexNet(TINY_FIGURE1.network, 7), 1).eval().requires_grad_(False)
    model.get_parameter("conv2.weight")[3] = 0
    model.get_parameter("conv2.bias")[3] = -1  # a channel that is always zero
    preprocessor = make_preprocessor(dataset, TINY_FIGURE1)
    val = dataset.splits["val"]
    result = activation_sparsity(Classifier(model, preprocessor, TINY_FIGURE1, {}), val, CPU)
    squares = np.stack([val.pixels(i) for i in range(len(val))])
    x = preprocessor.normalize(preprocessor.center_crop(squares))
    for name in ("conv1", "conv2", "conv3"):
        weight = model.get_parameter(f"{name}.weight")
        x = F.relu(F.conv2d(x, weight, model.get_parameter(f"{name}.bias"), padding=2))
        assert result[name] == pytest.approx(percentages(x), abs=0.01)
        x = F.max_pool2d(x, 3, 2, ceil_mode=True)
    assert result["conv2"].dead_units >= 12.5
    assert list(result) == ["conv1", "conv2", "conv3"]


def percentages(x: Tensor) -> tuple[float, float]:
    """The percentages of zeros and of dead channels in activations (N, C, H, W)."""
    zeros = (x == 0).float().mean()
    dead = (x.amax((0, 2, 3)) == 0).float().mean()
    return 100 * float(zeros), 100 * float(dead)


def test_the_relus_of_the_modern_network_follow_these_layers() -> None:
    assert relu_inputs(MODERN.network) == {
        "conv1": "pool1",
        "conv2": "pool2",
        "conv3": "conv3",
        "conv4": "conv4",
        "conv5": "pool3",
        "fc6": "fc6",
        "fc7": "fc7",
    }


# ---- tiny experiments


def make_config(
    dataset: PreparedDataset,
    out: Path,
    name: str,
    recipe: Recipe = TINY,
    seeds: int = 2,
    lr: float | None = None,
) -> ExperimentConfig:
    return ExperimentConfig(
        experiment=ablations.get_experiment(name),
        dataset=dataset,
        recipe=recipe,
        seeds=tuple(range(seeds)),
        split="val",
        crops=1,
        runtime=CPU,
        out=out,
        lr=lr,
    )


def make_hooks(titles: list[str], stop: Callable[[], int] = lambda: 0) -> ExperimentHooks:
    """Hooks that only collect the titles of the runs that were trained."""

    @contextmanager
    def training(title: str, steps: int) -> Iterator[Callable[[dict[str, Any]], None]]:
        titles.append(title)
        yield lambda record: None

    @contextmanager
    def scoring(title: str) -> Iterator[Callable[[int, int], None]]:
        yield lambda done, total: None

    return ExperimentHooks(training, scoring, stop)


def stop_after(calls: int, number: int) -> Callable[[], int]:
    """A function that returns 0 for some calls, then a signal's number."""
    counter = iter(range(10_000))
    return lambda: number if next(counter) >= calls else 0


def test_a_stopped_experiment_continues_and_the_next_shares_its_baseline(
    dataset: PreparedDataset, tmp_path: Path
) -> None:
    config = make_config(dataset, tmp_path, "normalization")
    titles: list[str] = []
    stop = stop_after(8, signal.SIGTERM)  # in the third of four runs
    with pytest.raises(RunStopped, match="the same command continues") as stopped:
        run_experiment(config, make_hooks(titles, stop))
    assert stopped.value.status == 143
    assert len(titles) == 3
    finished = [path.with_name(MODEL_FILE) for path in tmp_path.rglob(FINISHED)]
    times = {path: path.stat().st_mtime_ns for path in finished}
    result = run_experiment(config, make_hooks(titles))
    assert titles[3:] == ["without norms, seed 0", "without norms, seed 1"]
    assert len(times) == 2
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    assert not list(tmp_path.rglob("checkpoints"))

    later: list[str] = []
    shared = run_experiment(make_config(dataset, tmp_path, "overlap"), make_hooks(later))
    assert [title.split(",")[0] for title in later] == ["no overlap"] * 2 + ["average pooling"] * 2
    assert shared.rows[0] == result.rows[0]
    assert run_experiment(config, make_hooks(later)) == result
    assert len(later) == 4


def test_the_written_result_holds_the_models_errors(
    dataset: PreparedDataset, tmp_path: Path
) -> None:
    config = make_config(dataset, tmp_path, "normalization")
    result = run_experiment(config, make_hooks([]))
    document = json.loads((tmp_path / f"{result.file_stem}.json").read_text())
    first, second = (row["top1_error"] for row in document["rows"])
    assert second["mean"] - first["mean"] == document["rows"][1]["effect"]
    for row in document["rows"]:
        for folder, error in zip(row["runs"], row["top1_error"]["values"], strict=True):
            model = load_classifier(tmp_path / folder / MODEL_FILE, CPU)
            assert evaluate([model], dataset.splits["val"], 1, CPU).top1_error == error
    assert (tmp_path / f"{result.file_stem}.png").read_bytes().startswith(b"\x89PNG")


def test_an_interrupted_experiment_ends_with_the_same_result(
    dataset: PreparedDataset, tmp_path: Path
) -> None:
    interrupted = make_config(dataset, tmp_path / "interrupted", "sparsity")
    with pytest.raises(RunStopped):
        run_experiment(interrupted, make_hooks([], stop_after(2, signal.SIGINT)))
    uninterrupted = run_experiment(
        make_config(dataset, tmp_path / "whole", "sparsity"), make_hooks([])
    )
    assert uninterrupted == run_experiment(interrupted, make_hooks([]))
    zeros = [value for row in uninterrupted.rows for value in row.values["zeros"]]
    assert all(value is not None and 0 < value < 100 for value in zeros)


def test_an_ensemble_experiment_scores_every_choice_of_models(
    dataset: PreparedDataset, tmp_path: Path
) -> None:
    config = make_config(dataset, tmp_path, "ensemble", seeds=3)
    result = run_experiment(config, make_hooks([]))
    models = [load_classifier(tmp_path / name / MODEL_FILE, CPU) for name in result.rows[0].runs]
    for size, row in enumerate(result.rows, 1):
        expected = [
            evaluate(chosen, dataset.splits["val"], 1, CPU).top1_error
            for chosen in combinations(models, size)
        ]
        assert row.values["top1_error"] == tuple(expected)
    with pytest.raises(UsageError, match="two or more"):
        run_experiment(replace(config, seeds=(0,)), make_hooks([]))


def test_each_activation_learns_at_its_best_lr_until_the_target(
    dataset: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The margins are tens of points, so that no processor's rounding changes the outcome."""
    monkeypatch.setattr(learning_speed, "LRS", (1e-6, 0.005, 1e6))
    monkeypatch.setattr(learning_speed, "TRIAL_EPOCHS", 5)  # errors of about 85 % and 55 %
    monkeypatch.setattr(learning_speed, "TARGET_ERROR", 30.0)  # reached after about 9 epochs
    training = replace(TINY_FIGURE1.training, batch_size=8)
    recipe = with_epochs(replace(TINY_FIGURE1, training=training), 20)
    config = make_config(dataset, tmp_path, "relu-vs-tanh", recipe)
    result = run_experiment(config, make_hooks([]))
    relu = result.rows[0]
    assert relu.values["lr"] == (0.005, 0.005)
    assert relu.label == "relu, lr 0.005"
    for curve, epochs in zip(relu.curves, relu.values["epochs"], strict=True):
        assert epochs == epochs_to_reach(curve, 30.0, initial=100 * 6 / 7, first_epoch=0.5)
        assert epochs is not None
        assert len(curve) < 20
        assert min(curve[:-1], default=99) > 30
    folders = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert len(folders) == 3 * 3 + 3, (
        "an ablation's trials, one of which continued as its first run, and its second run"
    )
    titles: list[str] = []
    assert run_experiment(config, make_hooks(titles)) == result
    assert not titles


def test_a_given_lr_needs_no_trials(dataset: PreparedDataset, tmp_path: Path) -> None:
    titles: list[str] = []
    short = with_lr(with_epochs(TINY_FIGURE1, 1), 0.02)
    config = make_config(dataset, tmp_path, "relu-vs-tanh", short, seeds=1, lr=0.02)
    result = run_experiment(config, make_hooks(titles))
    assert titles == [f"{name}, lr 0.02, seed 0" for name in ("relu", "tanh", "sigmoid")]
    assert all(row.values["epochs"] == (None,) for row in result.rows)
    assert "middle" in result.notes[0]
    assert list(result.notes)[1:] == [
        f"{row.label}: not down to 25 % with seed 0; give it more --epochs" for row in result.rows
    ]


def test_a_run_that_diverges_is_a_result(dataset: PreparedDataset, tmp_path: Path) -> None:
    recipe = with_epochs(with_lr(TINY_FIGURE1, 0.02), 2)
    config = make_config(dataset, tmp_path, "normalization", recipe, seeds=1)
    diverging = Ablation("diverging", lambda recipe: with_lr(recipe, 1e9))
    baseline = config.experiment.ablations[0]
    experiment = replace(config.experiment, ablations=(baseline, diverging))
    titles: list[str] = []
    for _ in range(2):
        result = run_experiment(replace(config, experiment=experiment), make_hooks(titles))
        assert result.rows[1].values["top1_error"] == (None,)
        assert result.effect(result.rows[1]) is None
        assert "diverging, seed 0: non-finite loss at step" in result.notes[-1]
        assert "lower" in result.notes[-1]
        assert result.notes[0].startswith("val has also chosen")
    assert len(titles) == 2, "the runs were trained again"
    only_diverging = replace(experiment, ablations=(diverging,), measure="ensemble")
    ensemble = replace(config, experiment=only_diverging, seeds=(0, 1))
    with pytest.raises(AlexNetError, match="lower"):
        run_experiment(ensemble, make_hooks([]))


def test_convergence_and_training_error_are_measured_with_the_errors(
    dataset: PreparedDataset, tmp_path: Path
) -> None:
    dropout = run_experiment(make_config(dataset, tmp_path, "dropout", seeds=1), make_hooks([]))
    assert list(dropout.metrics)[2:] == ["train_error", "epochs_to_val"]
    epochs = [value for row in dropout.rows for value in row.values["epochs_to_val"]]
    assert all(value is not None and 0 <= value <= 4 for value in epochs)
    config = make_config(dataset, tmp_path, "augmentation", seeds=1)
    augmentation = run_experiment(config, make_hooks([]))
    assert augmentation.rows[0].runs == dropout.rows[0].runs, "modern has crops and mirrors"
    assert len({row.runs for row in augmentation.rows}) == 4


def test_the_experiment_command_runs_a_quick_experiment(
    dataset: PreparedDataset, tmp_path: Path
) -> None:
    help_text = experiment_command.help or ""
    assert all(experiment.name in help_text for experiment in EXPERIMENTS)
    settings = {
        "layers.conv1.out_channels": 12,
        **{f"layers.conv{i}.out_channels": 16 for i in (2, 3, 4, 5)},
        "layers.fc6.out_features": 32,
        "layers.fc7.out_features": 32,
        "input": "3,67,67",
    }
    command = ["dropout", str(dataset.path), "--quick", "--epochs", "1", "--out", str(tmp_path)]
    command += [f"--set=network.{name}={value}" for name, value in settings.items()]
    ended = CliRunner().invoke(experiment_command, [*command, "--json"])
    document = json.loads(ended.stdout)
    (written,) = tmp_path.glob("dropout-*.json")
    assert document == json.loads(written.read_text())
    assert document["batch_size"] == 32
    assert document["seeds"] == [0]
    assert document["crops"] == 1
    assert document["split"] == "val"
    assert "section 4.2" in CliRunner().invoke(experiment_command, command).stdout
    CliRunner().invoke(experiment_command, [*command, "--crops", "10"])
    assert len(list(tmp_path.glob("dropout-*.json"))) == 2, "other options must not overwrite it"
