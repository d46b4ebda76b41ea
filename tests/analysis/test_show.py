"""Figures: the values they plot are correct, and every text in them can be read."""

import io
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from alexnet.__main__ import cli
from alexnet.analysis import saliency
from alexnet.analysis.caffe2_operators import list_operators
from alexnet.analysis.plots import (
    activations,
    arch_layout,
    augmentations,
    confusion,
    curves,
    feature_maps,
    figure_io,
    filters,
    predictions,
    schedule,
    style,
    training_graph,
)
from alexnet.analysis.plots.architecture import plot_architecture
from alexnet.analysis.plots.ascii_plot import Series, plot_ascii, rasterize
from alexnet.analysis.plots.saliency import plot_saliency
from alexnet.analysis.plots.sampling import evenly_spaced
from alexnet.core.errors import AlexNetError, UsageError
from alexnet.data.image_batches import from_split
from alexnet.data.loader import TrainLoader
from alexnet.data.prepared import PreparedDataset
from alexnet.data.transforms import AugmentParams, Preprocessor
from alexnet.evaluation.evaluate import predictions as predict
from alexnet.models.alexnet import AlexNet, init_weights
from alexnet.models.flops import layer_costs, totals
from alexnet.models.model_file import make_preprocessor, read_model_file, write_model_file
from alexnet.recipes.layers import WeightedLayer
from alexnet.recipes.overrides import to_json
from alexnet.recipes.presets import MODERN, ORIGINAL, PAPER, RECIPES, SEPARATE, get_recipe
from alexnet.recipes.recipe import Recipe, with_epochs
from alexnet.recipes.schedules import PiecewiseConstant, PiecewiseLinear, PlateauState
from alexnet.training.run_config import RunConfig
from alexnet.training.trainer import train
from tests.conftest import CPU, tiny, tiny_config

ALL = pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)


def no_progress(done: int, total: int) -> None:
    """Ignore progress."""


@pytest.fixture(scope="module")
def model(dataset: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the model file of a small untrained network for the shared dataset."""
    recipe, path = tiny(ORIGINAL), tmp_path_factory.mktemp("model") / "model.safetensors"
    network = init_weights(AlexNet(recipe.network, len(dataset.classes)), 0)
    write_model_file(
        path,
        dict(network.named_parameters()),
        make_preprocessor(dataset, recipe),
        recipe,
        {"epoch": 0},
    )
    return path


@pytest.fixture
def check_legible(monkeypatch: pytest.MonkeyPatch) -> Callable[[Figure], None]:
    """Return a check of a figure: all text lies inside it, is not too small, and does not overlap.

    Only horizontal and vertical texts are checked for overlap: the bounding boxes of those at other
    angles are mostly empty.
    """
    plotted: list[tuple[Text, Any]] = []
    draw = Text.draw

    def record(text: Text, renderer: Any, *others: Any, **named: Any) -> None:
        if text.get_visible() and text.get_text().strip():
            plotted.append((text, text.get_window_extent(renderer)))
        draw(text, renderer, *others, **named)

    monkeypatch.setattr(Text, "draw", record)

    def check(figure: Figure) -> None:
        plotted.clear()
        figure_io.to_png(figure, 100)
        last = list({id(text): (text, box) for text, box in plotted}.values())
        assert last, "a figure without text"
        for text, box in last:
            assert float(text.get_fontsize()) >= style.SMALL_FONT, text
            assert (
                box.x0 >= -1
                and box.y0 >= -1
                and box.x1 <= figure.bbox.width + 1
                and box.y1 <= figure.bbox.height + 1
            ), text
        straight = [(text, box) for text, box in last if text.get_rotation() % 90 == 0]
        for (one, a), (two, b) in itertools.combinations(straight, 2):
            wide, high = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
            assert wide < 2 or high < 3, f"{one} over {two}"

    return check


# ---- the network


@ALL
def test_boxes_are_to_scale(recipe: Recipe) -> None:
    layout = arch_layout.compute_layout(recipe.network, 1000)
    for box in layout.boxes:
        block = layout.blocks[box.block]
        channels = block.shape[0] / block.towers
        scales = layout.scales
        if block.is_linear:
            assert box.size.height == pytest.approx(channels * scales.unit)
        else:
            _, rows, columns = block.shape
            sizes = (channels * scales.channel, rows * scales.pixel, columns * scales.pixel)
            result = (box.size.length, box.size.height, box.size.depth)
            assert result == pytest.approx(sizes)
    right, up = arch_layout.DEPTH_DIRECTION
    for index in range(len(layout.blocks) - 1):
        ends = [box.right + right * box.size.depth for box in layout.boxes_of(index)]
        assert max(ends) < min(box.left for box in layout.boxes_of(index + 1)), "blocks overlap"
    for box in layout.boxes:
        assert box.bottom >= 0
        assert box.top + up * box.size.depth <= layout.height + 1e-9


@ALL
def test_layout_has_every_layer(recipe: Recipe) -> None:
    layout = arch_layout.compute_layout(recipe.network, 1000)
    total = totals(layer_costs(recipe.network, 1000))
    assert sum(block.parameters for block in layout.blocks) == total["parameters"]
    assert sum(block.multiply_adds for block in layout.blocks) == total["multiply_adds"]
    following = [layer for layer in recipe.network.layers if not isinstance(layer, WeightedLayer)]
    assert sum(len(block.following) for block in layout.blocks) == len(following)


@pytest.mark.parametrize(
    "name", ["original", "paper", "modern", "six", "separate", "owt", "cifar-18pct", "cifar-11pct"]
)
def test_architecture_is_legible(name: str, check_legible: Callable[[Figure], None]) -> None:
    layout = arch_layout.compute_layout(get_recipe(name).network, 1000)
    check_legible(plot_architecture(layout, name))


def reads_by_block(recipe: Recipe) -> dict[str, str]:
    """Return which towers each block reads."""
    return {block.name: block.reads for block in arch_layout.group_layers(recipe.network, 1000)}


def test_blocks_read_the_towers_that_the_recipe_says() -> None:
    own = "own tower"
    both = "both towers"
    convolutions = {
        "input": "",
        "conv1": "",
        "conv2": own,
        "conv3": both,
        "conv4": own,
        "conv5": own,
    }
    linear = {"fc6": both, "fc7": both, "fc8": both}
    assert reads_by_block(ORIGINAL) == convolutions | linear
    separate = {"conv3": own, "fc6": own, "fc7": own, "fc8": both}
    assert reads_by_block(SEPARATE) == convolutions | separate
    assert reads_by_block(get_recipe("six"))["conv6"] == both
    assert set(reads_by_block(get_recipe("single")).values()) == {""}


def test_norms_across_towers_are_those_of_the_paper() -> None:
    paper = arch_layout.group_layers(PAPER.network, 1000)
    across = [block.name for block in paper if block.norm_across_towers]
    assert across == ["conv1", "conv2"]  # section 3.3: over all kernels
    original = arch_layout.group_layers(ORIGINAL.network, 1000)
    assert not any(block.norm_across_towers for block in original)


@ALL
def test_training_graph_has_every_operator_in_its_own_position(recipe: Recipe) -> None:
    nodes = training_graph.compute_training_graph(recipe, 10).nodes
    operators = [operator for node in nodes for operator in node.operators]
    expected = list_operators(recipe, 10, training=True)
    assert sorted(map(str, operators)) == sorted(map(str, expected))
    positions = {(node.column, node.row) for node in nodes}
    assert len(positions) == len(nodes), "two in one position"


@ALL
def test_gradients_and_updates_are_in_the_row_of_their_operator(recipe: Recipe) -> None:
    nodes = training_graph.compute_training_graph(recipe, 10).nodes
    forward = {
        node.row: node.operators[0] for node in nodes if node.column == training_graph.FORWARD
    }
    for node in nodes:
        first = node.operators[0]
        if node.column == training_graph.BACKWARD and node.row in forward:
            operator = forward[node.row]
            assert first.kind.startswith(operator.kind)
            assert f"{operator.outputs[0]}_grad" in first.inputs
        if node.column == training_graph.UPDATE:
            updated = {operator.outputs[-1] for operator in node.operators}
            assert updated == set(forward[node.row].inputs[1:])


@pytest.mark.parametrize("name", ["modern", "figure1-tanh"])
def test_training_graph_is_legible(name: str, check_legible: Callable[[Figure], None]) -> None:
    graph = training_graph.compute_training_graph(get_recipe(name), 1000)
    figure = training_graph.plot_training_graph(graph, name)
    check_legible(figure)
    boxes = [box.get_window_extent() for box in figure.axes[0].patches]
    for text in figure.axes[0].texts:
        extent = text.get_window_extent()
        for box in boxes:
            if text.get_text() and box.contains(extent.x0, (extent.y0 + extent.y1) / 2):
                assert extent.x1 < box.x1, f"{text} is wider than its box"


# ---- activations, schedules, curves


def test_activations_and_derivatives_match_their_formulas(
    check_legible: Callable[[Figure], None],
) -> None:
    names = ("relu", "tanh", "sigmoid")
    result = {name: activations.compute_activation_curve(name) for name in names}
    x = np.array(result["relu"].x)
    s = 1 / (1 + np.exp(-x))
    formulas = {
        "relu": (np.maximum(x, 0), x > 0),
        "tanh": (np.tanh(x), 1 - np.tanh(x) ** 2),
        "sigmoid": (s, s * (1 - s)),
    }
    for name, (value, derivative) in formulas.items():
        assert np.allclose(result[name].value, value)
        assert np.allclose(result[name].derivative, derivative)
    assert activations.activation_names(get_recipe("figure1-tanh").network) == ["tanh"]
    check_legible(activations.plot_activations(list(result.values())))


@ALL
def test_schedules_are_those_of_the_optimizer(recipe: Recipe) -> None:
    schedules = schedule.compute_schedules(recipe)
    names = [
        f"{layer.name}.{part}"
        for layer in recipe.network.layers
        if isinstance(layer, WeightedLayer)
        for part in ("weight", "bias")
    ]
    grouped = [name for group in schedules.groups for name in group.parameters]
    assert sorted(grouped) == sorted(names)
    for group in schedules.groups:
        values = zip(schedules.epochs[:-1], group.lr, strict=False)
        for name, (epoch, lr) in itertools.product(group.parameters, values):
            assert lr == recipe.training.lr_of(name, epoch, PlateauState())
    jitter = recipe.augmentation.color_jitter
    assert schedules.color_jitter[:-1] == tuple(map(jitter.at, schedules.epochs[:-1]))


@pytest.mark.parametrize("name", ["original", "paper", "modern", "original-dexp"])
def test_schedules_are_legible(name: str, check_legible: Callable[[Figure], None]) -> None:
    check_legible(schedule.plot_schedules(schedule.compute_schedules(get_recipe(name))))


def test_parameters_are_grouped_by_learning_rate() -> None:
    original = schedule.compute_schedules(ORIGINAL)
    names = {group.name for group in original.groups}
    assert names == {"conv1.weight", "conv1.bias", "the other weights", "the other biases"}
    caffe = schedule.compute_schedules(get_recipe("caffe"))
    assert [group.name for group in caffe.groups] == ["weights", "biases"]
    (only,) = schedule.compute_schedules(PAPER).groups
    assert only.plateau_levels == pytest.approx((1e-3, 1e-4, 1e-5))
    assert only.name == "all parameters"


def test_frozen_parameters_are_marked_where_they_are_frozen() -> None:
    original = schedule.compute_schedules(ORIGINAL)
    frozen_from = {
        group.name: None if group.frozen_from is None else original.epochs[group.frozen_from]
        for group in original.groups
    }
    assert frozen_from["conv1.weight"] is not None
    assert frozen_from["the other weights"] is None
    epoch = frozen_from["conv1.weight"]
    assert ORIGINAL.training.lr_of("conv1.weight", epoch, PlateauState()) == 0
    assert ORIGINAL.training.lr_of("conv1.weight", epoch - 0.01, PlateauState()) > 0


def make_curves(
    name: str, factor: float = 1.0, lrs: Sequence[float] = (0.1, 0.1, 0.01, 0.001)
) -> curves.RunCurves:
    """Return the curves of an invented run."""
    steps = [{"epoch": i / 2, "loss": factor * 2 / (1 + i), "lr": lr} for i, lr in enumerate(lrs)]
    epochs = [
        {
            "epoch": e,
            "val_loss": factor / e,
            "val_top1_error": 90 * factor / e,
            "val_top5_error": 30 / e,
        }
        for e in (1, 2)
    ]
    return curves.RunCurves(name, steps, epochs)


def test_lr_drops_are_where_a_stepwise_lr_drops() -> None:
    assert make_curves("run").lr_drops == [1.0, 1.5]
    linear = np.linspace(1, 0, 30).tolist()
    assert make_curves("line", lrs=linear).lr_drops == [], "not in steps"


@pytest.mark.parametrize("runs", [1, 2, 7])
def test_curves_of_runs_are_legible(runs: int, check_legible: Callable[[Figure], None]) -> None:
    many = [make_curves(f"run {number} of a long name", 1 - number / 9) for number in range(runs)]
    figure = curves.plot_curves(many)
    check_legible(figure)
    assert len(figure.legends) == (runs > 1)


def test_ascii_curve_passes_through_its_points() -> None:
    diagonal = rasterize(Series("", (0, 4), (0, 4)), (0, 4), (0, 4), 5, 5)
    assert diagonal == [(4, 0), (3, 1), (2, 2), (1, 3), (0, 4)]
    series = [Series("a", (0, 1, 2), (0.1, 0.01, 0.001)), Series("b", (0, 2), (0.0, 0.001))]
    text = plot_ascii("rates", series, log=True)
    assert text.startswith("rates")
    assert "● a" in text
    assert "○ b" in text
    assert "0.001" in text
    assert max(map(len, text.split("\n"))) < 121


def test_ascii_legend_is_complete() -> None:
    names = [
        "runs/dataset-original-with-two-towers",
        "runs/dataset-modern-without-its-noise",
        "a/" + "long/" * 30 + "name",
    ]
    series = [Series(name, (0, 1), (1, number)) for number, name in enumerate(names)]
    text = plot_ascii("loss", series)
    assert max(map(len, text.split("\n"))) <= 80
    legend = "".join(line.strip() for line in text.split("\n")[-5:])
    assert legend == f"● {names[0]}○ {names[1]}▲ {names[2]}"


# ---- images


def test_predictions_are_those_of_evaluate(
    dataset: PreparedDataset, model: Path, check_legible: Callable[[Figure], None]
) -> None:
    classifier = read_model_file(model)
    split = dataset.splits["val"]
    batches = predict([classifier], split, 1, CPU, no_progress)
    every = torch.cat([part for part, _ in batches]).numpy()
    indices = evenly_spaced(8, len(split))
    batch = next(from_split(split, indices, 1))
    images = predictions.predict_images(classifier, batch, 1, CPU)
    assert np.allclose([image.probability for image in images], every[indices], atol=1e-6)
    assert [image.label for image in images] == split.labels[indices].tolist()
    wrong_names = set(np.array(split.names)[every.argmax(1) != split.labels])
    some = predictions.find_errors(classifier, split, 3, 1, CPU, no_progress)
    assert len(some) == 3 == len({image.name for image in some})
    assert {image.name for image in some} <= wrong_names
    all_errors = predictions.find_errors(classifier, split, 10_000, 1, CPU, no_progress)
    assert {image.name for image in all_errors} == wrong_names
    check_legible(predictions.plot_predictions(images, dataset.classes))


def test_evenly_spaced_never_repeats_an_index() -> None:
    assert evenly_spaced(4, 10) == [0, 2, 5, 7]
    assert evenly_spaced(8, 3) == [0, 1, 2]
    assert evenly_spaced(3, 0) == []


def test_feature_maps_are_the_layer_outputs_of_the_model(
    dataset: PreparedDataset, model: Path, check_legible: Callable[[Figure], None]
) -> None:
    classifier = read_model_file(model)
    pixels = dataset.splits["val"].pixels(2)
    maps = feature_maps.compute_feature_maps(classifier, pixels, CPU)
    preprocessor = classifier.preprocessor
    batch = preprocessor.normalize(preprocessor.center_crop(pixels[None]))
    expected = classifier.model.forward_intermediates(batch)
    assert list(maps.layers) == list(expected)
    for name, values in maps.layers.items():
        assert np.array_equal(values, expected[name][0].numpy())
    check_legible(feature_maps.plot_feature_maps(maps))


@pytest.fixture(scope="module")
def small() -> AlexNet:
    """Return a network in float64, small enough for finite differences."""
    network = replace(get_recipe("cifar-18pct").network, input=(3, 16, 16))
    return init_weights(AlexNet(network, 4), 0).double().eval().requires_grad_(False)


def random_batch(seed: int = 0) -> torch.Tensor:
    """Return a batch of one image (1, 3, 16, 16) with the spread of gray levels."""
    generator = torch.Generator().manual_seed(seed)
    return 60 * torch.randn(1, 3, 16, 16, dtype=torch.float64, generator=generator)


def test_input_gradient_is_a_finite_difference(small: AlexNet) -> None:
    batch = random_batch()
    label = 2
    h = 1e-4
    gradient = saliency.input_gradient(small, batch, label)[0]
    for row, column in ((3, 5), (8, 8), (12, 2)):
        slopes = []
        for channel in range(3):
            higher = batch.clone()
            lower = batch.clone()
            higher[0, channel, row, column] += h
            lower[0, channel, row, column] -= h
            difference = small(higher)[0, label] - small(lower)[0, label]
            slopes.append(abs(float(difference)) / (2 * h))
        assert float(gradient[row, column]) == pytest.approx(max(slopes), rel=1e-4)


def test_occlusion_is_a_loop_over_patch_positions(small: AlexNet) -> None:
    crop = random_batch(1)[0]
    patch, corners = saliency.patch_positions(16, saliency.COARSE)
    assert corners[0] == 0
    assert corners[-1] + patch == 16
    drop = saliency.occlusion_map(small, crop, 1, patch, corners)
    unoccluded = small(crop[None]).softmax(1)[0, 1]
    for i, j in ((0, 0), (2, 5), (len(corners) - 1, 1)):
        occluded = crop.clone()
        occluded[:, corners[i] : corners[i] + patch, corners[j] : corners[j] + patch] = 0
        expected = float(unoccluded - small(occluded[None]).softmax(1)[0, 1])
        assert float(drop[i, j]) == pytest.approx(expected, abs=1e-6)


def test_saliency_is_of_the_predicted_class_and_legible(
    dataset: PreparedDataset, model: Path, check_legible: Callable[[Figure], None]
) -> None:
    classifier = read_model_file(model)
    split = dataset.splits["val"]
    first, second = [
        saliency.compute_saliency(classifier, split.names[i], split.pixels(i), label, CPU, 4)
        for i, label in ((0, None), (1, 3))
    ]
    batch = next(from_split(split, [0], 1))
    predicted = predictions.predict_images(classifier, batch, 1, CPU)[0]
    assert first.label == predicted.top_classes[0]
    assert first.probability == pytest.approx(predicted.probability.max(), abs=1e-6)
    assert second.label == 3
    assert first.gradient.shape == classifier.preprocessor.input_shape[1:]
    check_legible(plot_saliency([first, second], dataset.classes))


@pytest.mark.parametrize(
    ("drop", "text"), [(0.01, "at most 1\xa0point lost"), (0.234, "at most 23\xa0points lost")]
)
def test_probability_drop_is_written_in_points(drop: float, text: str) -> None:
    drops = np.array([[drop, -0.1], [0.0, 0.0]], np.float32)
    crop = np.zeros((10, 10, 3), np.uint8)
    result = saliency.Saliency("a", crop, 0, 0.5, np.ones((10, 10)), drops, 2, (0, 8))
    assert plot_saliency([result], ["class"]).axes[2].get_xlabel() == text


def augmented_recipe(with_resolution: bool) -> Recipe:
    """Return a recipe whose jitter, and resolution if asked for, change within an epoch."""
    recipe = with_epochs(tiny(MODERN if with_resolution else ORIGINAL), 3)
    augmentation = replace(
        recipe.augmentation,
        color_jitter=PiecewiseConstant(((0, 0.1), (1.4, 0.05), (2, 0.0))),
        rotation=5.0,
    )
    if with_resolution:
        resolution = PiecewiseConstant(((0, 67.0), (1.4, 83.0), (1.9, 99.0)))
        augmentation = replace(augmentation, resolution_schedule=resolution)
    training = replace(recipe.training, batch_size=7)
    return replace(recipe, augmentation=augmentation, training=training)


def record_training_batches(
    config: RunConfig, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[float, torch.Tensor]]:
    """Return the batches that training feeds its network.

    Each is the deviation of the color jitter and the crops (N, C, side, side).
    """
    batches: list[tuple[float, torch.Tensor]] = []
    augment = Preprocessor.augment_and_normalize

    def record(
        preprocessor: Preprocessor,
        crops: torch.Tensor,
        params: AugmentParams,
        jitter: float,
        *others: Any,
    ) -> torch.Tensor:
        batch = augment(preprocessor, crops, params, jitter, *others)
        batches.append((jitter, batch))
        return batch

    monkeypatch.setattr(Preprocessor, "augment_and_normalize", record)
    train(config, folder, lambda record: None)
    return batches


def expected_pixels(
    preprocessor: Preprocessor, recipe: Recipe, crop: torch.Tensor, jitter: float
) -> torch.Tensor:
    """Undo the normalization of a training crop (C, side, side): gray levels (side, side, C)."""
    augmentation = recipe.augmentation
    scale = augmentation.scale / (1 + jitter if augmentation.rescale_by_jitter else 1)
    black = np.zeros((1, *preprocessor.input_shape[1:], 3), np.uint8)
    mean = preprocessor.normalize(black)[0] / -augmentation.scale
    if crop.shape[-1] != preprocessor.input_shape[1]:
        mean = mean.mean((1, 2), keepdim=True)
    return (crop / scale + mean).clamp(0, 255).permute(1, 2, 0)


@pytest.mark.parametrize("with_resolution", [False, True])
def test_augmented_crops_are_those_that_a_run_trains_on(
    dataset: PreparedDataset,
    with_resolution: bool,
    check_legible: Callable[[Figure], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Offset, mirror, rotation, jitter and resolution match, also where a schedule changes."""
    recipe = augmented_recipe(with_resolution)
    split = dataset.splits["train"]
    preprocessor = make_preprocessor(dataset, recipe)
    loader = TrainLoader(split, preprocessor, recipe.training, 5, workers=1)
    config = tiny_config(dataset, recipe, 5)
    batches = record_training_batches(config, tmp_path / "run", monkeypatch)
    indices = evenly_spaced(6, len(split))
    samples = augmentations.compute_augmented_crops(split, preprocessor, recipe, 5, indices)
    assert [crop.epoch for crop in samples[0].crops] == [0, 1, 2]
    settings = set()
    pairs = [(sample, crop) for sample in samples for crop in sample.crops]
    for sample, crop in pairs:
        position = int(np.flatnonzero(loader.order(crop.epoch) == sample.index)[0])
        jitter, batch = batches[crop.epoch * loader.steps_per_epoch + position // 7]
        settings.add((crop.epoch, jitter, batch.shape[-1]))
        assert batch.shape[-1] == len(crop.pixels)
        levels = expected_pixels(preprocessor, recipe, batch[position % 7], jitter)
        assert np.abs(levels.numpy() - crop.pixels).max() < 0.51
    in_epoch_1 = [epoch for epoch, *_ in settings if epoch == 1]
    assert len(in_epoch_1) > 1, "epoch 1 must be covered before and after the change"
    check_legible(augmentations.plot_augmentations(samples, recipe.network.input[1]))


# ---- confusion, filters


def random_predictions(classes: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return labels, and predictions of which about 70 % are correct."""
    rng = np.random.default_rng(classes)
    labels = rng.integers(0, classes, count)
    predicted = np.where(rng.random(count) < 0.7, labels, rng.integers(0, classes, count))
    return labels, predicted


LONG = "the very long name of some class {}"
WIDE = "WWWWWWWWWWWWWW MMMMMMMM {}"


@pytest.mark.parametrize(
    ("classes", "name"), [(3, "a {}"), (3, WIDE), (25, LONG), (25, WIDE), (1000, LONG)]
)
def test_confusion_matrix_counts_and_is_legible(
    classes: int, name: str, check_legible: Callable[[Figure], None]
) -> None:
    labels, predicted = random_predictions(classes, 4000)
    matrix = confusion.confusion_matrix(labels, predicted, classes)
    expected = np.zeros((classes, classes), int)
    np.add.at(expected, (labels, predicted), 1)
    assert np.array_equal(matrix, expected)
    sums, size = confusion.block_sums(matrix)
    assert sums.sum() == 4000
    assert len(sums) <= confusion.MAX_BLOCKS
    assert sums[0, 1] == expected[:size, size : 2 * size].sum()
    names = tuple(name.format(number) for number in range(classes))
    check_legible(confusion.plot_confusion_matrix(confusion.Confusion(labels, predicted, names)))


@pytest.mark.parametrize("towers", [1, 2])
def test_filters_have_an_image_for_each_tower(
    towers: int, check_legible: Callable[[Figure], None]
) -> None:
    weight = np.random.default_rng(0).normal(size=(96, 3, 11, 11)).astype(np.float32)
    figure = filters.plot_filters(filters.Filters("conv1", weight, towers))
    shown = [axes.images[0].get_array() for axes in figure.axes]
    assert len(shown) == towers
    assert all(pixels is not None and pixels.shape[0] > 100 for pixels in shown)
    check_legible(figure)


# ---- files and commands


def test_figures_are_written_in_the_format_of_their_suffix(tmp_path: Path) -> None:
    figure = activations.plot_activations([activations.compute_activation_curve("relu")])
    figure_io.save_figure(tmp_path / "a.png", figure)
    figure_io.save_figure(tmp_path / "a.SVG", figure)
    size = Image.open(io.BytesIO((tmp_path / "a.png").read_bytes())).size
    assert size == (7.0 * figure_io.DPI, 2.9 * figure_io.DPI)
    assert ElementTree.fromstring((tmp_path / "a.SVG").read_bytes()).tag.endswith("svg")
    with pytest.raises(
        UsageError, match=r"with \.pdf; expected a name that ends in \.png or \.svg"
    ):
        figure_io.save_figure(tmp_path / "a.pdf", figure)
    assert figure_io.to_png(figure) == figure_io.to_png(figure)
    assert not (tmp_path / "a.pdf").exists()


def show(*words: object) -> Any:
    """Return what `alexnet show` prints with --json."""
    ended = CliRunner().invoke(
        cli, ["show", *map(str, words), "--json"], catch_exceptions=False, standalone_mode=False
    )
    assert ended.exception is None
    return json.loads(ended.stdout)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Write the records of an invented run."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.json").write_text(json.dumps({"recipe": to_json(MODERN)}))
    recorded = make_curves("run")
    lines = [{"kind": "step", **step} for step in recorded.steps]
    lines += [{"kind": "epoch", **epoch} for epoch in recorded.epochs]
    (tmp_path / "run" / "metrics.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines)
    )
    return tmp_path / "run"


def test_commands_write_the_file_asked_for(
    dataset: PreparedDataset, model: Path, run: Path, images: Path, tmp_path: Path
) -> None:
    file = str(next(images.rglob("*.png")))
    calls: list[tuple[object, ...]] = [
        ("network", "cifar-18pct", "--classes", 10),
        ("network", "figure1", "--backward"),
        ("schedule", "modern", "--epochs", 4),
        ("activations", "figure1-sigmoid"),
        ("filters", model),
        ("predictions", model, dataset.path, "--only-errors", "--count", 2, "--crops", 1),
        ("predictions", model, file, "--crops", 1),
        ("layers", model, file),
        ("confusion", model, dataset.path, "--crops", 1),
        (
            "augmentations",
            dataset.path,
            "--recipe",
            "modern",
            "--set",
            "network.input=3,99,99",
            "--count",
            1,
        ),
        ("curves", run),
    ]
    for number, words in enumerate(calls):
        path = tmp_path / f"{number}.{'svg' if number % 2 else 'png'}"
        result = show(*words, "--out", path)
        assert result["figure"] == str(path), words
        assert path.stat().st_size > 2000, words
        if path.suffix == ".png":
            Image.open(io.BytesIO(path.read_bytes())).verify()


@pytest.mark.parametrize("words", [("predictions", "--crops", 1), ("saliency",)])
def test_unreadable_image_among_others_is_left_out(
    words: tuple[object, ...], model: Path, images: Path, tmp_path: Path
) -> None:
    word, *options = map(str, words)
    out = tmp_path / "a.png"
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no image")
    good = [str(file) for file in sorted(images.rglob("*.png"))[:2]]
    images_given = [good[0], str(bad), good[1]]
    arguments = ["show", word, str(model), *images_given, *options, "--out", str(out)]
    ended = CliRunner().invoke(cli, [*arguments, "--json"], standalone_mode=False)
    result = json.loads(ended.stdout)
    reason = "cannot be read: not an image of a format that can be decoded"
    assert [image["name"] for image in result["images"]] == good
    assert result["unreadable"] == [{"path": str(bad), "error": reason}]
    assert isinstance(ended.exception, AlexNetError)
    assert "1 of 3 images could not be read" in str(ended.exception)
    assert ended.exception.status == 1
    assert out.exists()
    ended = CliRunner().invoke(cli, arguments, standalone_mode=False)
    assert ended.stdout.splitlines() == [f"{bad}: {reason}", str(out)]


def test_commands_print_the_plotted_values(
    dataset: PreparedDataset, model: Path, run: Path, tmp_path: Path
) -> None:
    options = ("--split", "val", "--crops", 1, "--out", tmp_path / "c.png")
    result = show("confusion", model, dataset.path, *options)
    assert sum(map(sum, result["matrix"])) == len(dataset.splits["val"])
    assert result["crops"] == 1
    result = show("schedule", "original", "--ascii")
    assert result["figure"] is None
    names = {group["name"] for group in result["groups"]}
    assert names >= {"conv1.weight", "the other weights"}
    assert show("curves", run, "--ascii")["runs"][0]["lr_drops"] == [1.0, 1.5]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("network", "--out", "net.pdf"), "expected a name that ends in .png or .svg"),
        (("network", "orignal"), "nearest: original"),
        (("curves", "nowhere"), "not a run's directory"),
        (("saliency", "MODEL", "DATASET", "--class", "dot"), "nearest: dots"),
        (("confusion", "MODEL", "IMAGES"), "expected a single dataset"),
        (("layers", "MODEL", "DATASET", "--record", "100000"), "numbered from 0"),
        (("predictions", "MODEL", "IMAGES", "DATASET"), "expected a single dataset or only images"),
        (("predictions", "MODEL", "MODEL"), "model.safetensors: cannot be read: not an image"),
        (
            ("saliency", "MODEL", "MODEL", "MODEL"),
            "model.safetensors: cannot be read: not an image",
        ),
    ],
)
def test_errors_are_one_line(
    words: tuple[str, ...], text: str, dataset: PreparedDataset, model: Path, images: Path
) -> None:
    paths_by_word = {"MODEL": str(model), "DATASET": str(dataset.path), "IMAGES": str(images)}
    with pytest.raises(AlexNetError) as error:
        show(*(paths_by_word.get(word, word) for word in words))
    assert text in str(error.value)
    assert "\n" not in str(error.value)


def test_linear_schedule_has_no_steps() -> None:
    assert isinstance(MODERN.training.lr, PiecewiseLinear)
    modern = schedule.compute_schedules(MODERN)
    x, y = schedule.line_points(modern, modern.groups[0].lr)
    assert x == list(modern.epochs)
    assert y[0] == MODERN.training.lr.points[0][1]
    caffe = schedule.compute_schedules(get_recipe("caffe"))
    x, y = schedule.line_points(caffe, caffe.groups[0].lr)
    assert x[:4] == [0, 20, 20, 40]
    assert y[:4] == [0.01, 0.01, 0.001, 0.001]


def test_the_bands_of_the_learning_rate_show_the_sizes_that_the_network_sees() -> None:
    schedule = MODERN.augmentation.resolution_schedule
    assert curves.crop_sizes(MODERN) == schedule
    for side, sizes in ((67, None), (150, [131, 150, 150])):
        smaller = replace(MODERN, network=replace(MODERN.network, input=(3, side, side)))
        visible = curves.crop_sizes(smaller)
        assert (visible and [value for _, value in visible.points]) == sizes
    assert curves.crop_sizes(ORIGINAL) is None
