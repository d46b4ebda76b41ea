"""The report of a real, very small run.

It is complete, harmless whatever the classes are called, and its scores are those of `evaluate`.
"""

import base64
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from markupsafe import Markup
from PIL import Image

from alexnet.analysis.format import (
    NBSP,
    describe_layer,
    format_probability,
    format_time,
)
from alexnet.analysis.plots.confusion import (
    Confusion,
    class_errors,
    confused_pairs,
    plot_confusion_matrix,
)
from alexnet.analysis.plots.curves import (
    Panel,
    RunCurves,
    draw_errors,
    draw_loss,
    draw_lr,
    plot_panel,
    running_mean,
)
from alexnet.analysis.plots.feature_maps import FeatureMaps, plot_feature_maps
from alexnet.analysis.plots.figure_io import to_png, to_svg
from alexnet.analysis.plots.filters import tile_filters
from alexnet.analysis.plots.style import shorten
from alexnet.analysis.report.comparison import (
    ComparisonPage,
    recipe_differences,
    write_comparison,
)
from alexnet.analysis.report.images import RASTER_DPI, embed_raster
from alexnet.analysis.report.render import render_page, template_environment
from alexnet.analysis.report.run_report import render_run, write_report
from alexnet.analysis.report.scoring import analyze_run
from alexnet.analysis.report.sections import worst_errors
from alexnet.analysis.report.summary import training_warnings
from alexnet.analysis.report.values import EmbeddedImage, Table
from alexnet.core.device import Runtime
from alexnet.core.errors import AlexNetError, UsageError
from alexnet.data.build import prepare
from alexnet.data.images import DecodeConfig
from alexnet.data.prepared import open_dataset
from alexnet.data.readers import SplitFractions, open_source
from alexnet.evaluation.evaluate import evaluate
from alexnet.models.model_file import read_model_file
from alexnet.recipes.describe import (
    describe_augmentation,
    describe_network,
    describe_schedule,
    describe_training,
)
from alexnet.recipes.layers import NUM_CLASSES, RELU, Conv, Dropout, Linear, LocalResponseNorm, Pool
from alexnet.recipes.presets import RECIPES
from alexnet.recipes.recipe import Augmentation, Network, Recipe, Training
from alexnet.recipes.schedules import PiecewiseConstant, PiecewiseLinear, ReduceOnPlateau
from alexnet.training.run_config import RunConfig
from alexnet.training.run_dir import display_names, read_run
from alexnet.training.trainer import train

NASTY = "<img src=x onerror=alert(1)>"
NAMES = (NASTY, "\"&amp;' $a$ %s {0}", "猫 " + "long " * 12)
CPU = Runtime(torch.device("cpu"), torch.float32, 1)
TINY = Recipe(
    "tiny",
    Network(
        (3, 67, 67),
        (
            Conv("conv1", 8, 11, stride=4),
            LocalResponseNorm("norm1"),
            Pool("pool1"),
            RELU,
            Linear("fc8", NUM_CLASSES),
        ),
        towers=2,
    ),
    Augmentation(color_jitter=PiecewiseConstant(((0, 0.1),))),
    Training(
        epochs=2, batch_size=8, lr=PiecewiseLinear(((0, 0.001), (2, 0.0))), label_smoothing=0.1
    ),
)


def no_progress(done: int, total: int) -> None:
    """Ignore progress."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train two epochs on sixty noisy images in three classes with troublesome names."""
    folder = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(0)
    for label, name in enumerate(NAMES):
        (folder / "images" / name).mkdir(parents=True)
        for number in range(20):
            levels = rng.integers(0, 256, (72, 72, 3), np.uint8) // 2 + np.uint8(40 * label)
            Image.fromarray(levels).save(folder / "images" / name / f"{number}<b>.png")
    with open_source(str(folder / "images")) as source:
        prepare(
            source,
            folder / "my dataset",
            DecodeConfig(size=72),
            SplitFractions(0.2, 0.3),
            on_error="fail",
            workers=1,
            progress=no_progress,
        )
    train(
        RunConfig(open_dataset(folder / "my dataset"), TINY, 3, CPU),
        folder / "run",
        lambda record: None,
    )
    return folder / "run"


@pytest.fixture(scope="module")
def report(trained: Path) -> str:
    """Write the run's report; return its HTML."""
    return write_report(trained, None, None, CPU, no_progress)[0].read_text("utf-8")


class PageReader(HTMLParser):
    """Read a page's tags, attributes, and visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text.replace(NBSP, " "))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page_refers_to_nothing_outside_and_is_small(report: str) -> None:
    read = PageReader(report)
    assert not {"script", "link", "iframe", "object", "a", "base", "form"} & set(read.tags)
    assert not [
        name
        for name, _ in read.attributes
        if name.startswith("on") or name in ("href", "srcset", "action")
    ]
    assert all(value.startswith("data:image/") for name, value in read.attributes if name == "src")
    assert "url(" not in report
    assert "@import" not in report
    assert "http://" not in report.replace("http://www.w3.org", "")
    assert len(report) < 2_500_000


def test_class_names_are_escaped(report: str) -> None:
    read = PageReader(report)
    assert "<img src=x" not in report
    assert ("src", "x") not in read.attributes
    assert all(name in read.text for name in NAMES)


def test_images_have_alternative_texts(report: str) -> None:
    read = PageReader(report)
    texts = [value for name, value in read.attributes if name == "alt" and value]
    assert read.tags.count("img") == len(texts)


def test_headline_is_that_of_evaluate(trained: Path, report: str) -> None:
    dataset = open_dataset(trained.parent / "my dataset")
    split = dataset.splits["test"]
    scores = evaluate([read_model_file(trained / "model.safetensors")], split, 10, CPU)
    text = PageReader(report).text
    assert f"{scores.top1_error:.1f} %top-1 error" in text
    assert f"{scores.loss:.3f}loss" in text
    assert f"test, {len(split)} images" in text
    assert "top-5 error" not in text  # three classes
    assert "2 of 2" in text
    assert "Seed3" in text


@pytest.mark.parametrize(
    ("crops", "text"), [(1, "the center crop"), (9, "nine crops, on a grid of 3 x 3")]
)
def test_page_says_how_many_crops(trained: Path, tmp_path: Path, crops: int, text: str) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    path, _ = write_report(run, None, crops, CPU, no_progress)
    assert text in PageReader(path.read_text("utf-8")).text


def test_sections_come_in_order(report: str) -> None:
    text = PageReader(report).text
    titles = [
        "Training curves",
        "Filters of the first layer",
        "Predictions",
        "Worst errors",
        "Confusion",
        "Saliency and feature maps",
        "Recipe: tiny",
    ]
    assert sorted(titles, key=text.index) == titles
    assert "conv1" in text
    assert "8 kernels of 11 × 11, stride 4" in text
    assert "8 × 15 × 15" in text
    assert "alexnet evaluate model.safetensors '../my dataset' --split test --crops 10" in text


def test_same_run_gives_the_same_bytes(trained: Path, report: str) -> None:
    assert write_report(trained, "test", 10, CPU, no_progress)[0].read_text("utf-8") == report


def test_page_of_many_classes_before_the_first_record(trained: Path) -> None:
    """With 40 classes the confusion becomes tables; without records there are no curves."""
    run = read_run(trained)
    analysis = analyze_run(run, "val", 1, CPU, no_progress)
    names = tuple(f"class {label}" for label in range(40))
    dataset = replace(run.dataset, classes=names, warnings=("class x has no images",))
    probability = np.pad(analysis.predictions.probability, ((0, 0), (0, 37)))
    predictions = replace(analysis.predictions, probability=probability)
    many = replace(analysis, predictions=predictions)
    text = PageReader(render_run(replace(run, dataset=dataset, records=()), many).decode()).text
    assert "Hardest classes" in text
    assert "Training curves" not in text
    assert "class x has no images" in text
    assert "top-5 error" in text


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda run: (run / "recipe.json").unlink(), "not a run's directory"),
        (lambda run: (run / "recipe.json").write_text("{"), "not a run's directory"),
        (lambda run: (run / "model.safetensors").unlink(), "model.safetensors"),
        (
            lambda run: (run / "recipe.json").write_text(
                json.dumps({"dataset": str(run / "gone")})
            ),
            "is not there",
        ),
    ],
)
def test_missing_parts_are_named_in_one_line(
    trained: Path, tmp_path: Path, damage: Callable[[Path], object], text: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    damage(run)
    with pytest.raises(AlexNetError, match=text) as error:
        write_report(run, None, None, CPU, no_progress)
    assert "\n" not in str(error.value)


def test_comparison_has_the_scores_of_each_report_and_the_differences(
    trained: Path, tmp_path: Path
) -> None:
    lr = PiecewiseLinear(((0, 0.0001), (1, 0.0)))
    second = replace(TINY, name="slow", training=replace(TINY.training, epochs=1, lr=lr))
    train(
        RunConfig(open_dataset(trained.parent / "my dataset"), second, 4, CPU),
        tmp_path / "run",
        lambda record: None,
    )
    folders = [trained, tmp_path / "run"]
    out = tmp_path / "both.html"
    compared = write_comparison(folders, out, "test", 1, CPU, no_progress, None)
    alone = [write_report(folder, "test", 1, CPU, no_progress)[1] for folder in folders]
    assert [scores for _, scores in compared] == alone
    text = out.read_text("utf-8")
    read = PageReader(text)
    for name, scores in compared:
        assert f"{scores.top1_error:.2f} %" in read.text
        assert name in read.text
    assert len(text) < 300_000
    assert not {"script", "link", "a"} & set(read.tags)
    assert "http://" not in text
    settings = [row[0] for row in recipe_differences([TINY, second])]
    assert settings == ["recipe", "training.epochs", "training.lr"]
    assert all(name in read.text for name in settings)
    assert "augmentation.color_jitter" not in read.text
    assert len({name for name, _ in compared}) == 2


def test_runs_of_the_same_name_get_different_names(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "run")
    run_names = display_names([read_run(trained), read_run(tmp_path / "run")])
    assert run_names == [f"{trained.parent.name}/run", f"{tmp_path.name}/run"]


def test_unusable_splits_and_crops_are_errors(trained: Path) -> None:
    with pytest.raises(AlexNetError, match="no images in a split dev; it has train, val, test"):
        write_report(trained, "dev", None, CPU, no_progress)
    with pytest.raises(UsageError, match="7 crops"):
        write_report(trained, None, 7, CPU, no_progress)


def test_record_that_is_still_being_written_is_left_out(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "st')
    assert read_run(run).records == read_run(trained).records


# ---- figures


def test_filters_are_scaled_to_their_own_range_around_gray() -> None:
    weight = np.zeros((96, 3, 11, 11), np.float32)
    weight[0, 0, 0, 0] = 0.001
    weight[48, 2, 10, 10] = -7
    sheet = np.asarray(tile_filters(weight, 2))
    factor = sheet.shape[1] // (16 * 12 - 1)
    small = sheet[::factor, ::factor]
    assert small.shape == (6 * 12, 16 * 12 - 1, 3)  # one more row between the towers
    assert small[0, 0].tolist() == [255, 128, 128]
    # The second tower begins in a row of its own.
    assert small[3 * 12 + 1 + 10, 10].tolist() == [128, 128, 0]
    assert (small[11] == 255).all()
    assert (small[:, 11] == 255).all()


@pytest.mark.parametrize(
    ("shape", "towers", "rows", "columns"),
    [((8, 1, 5, 5), 1, 1, 8), ((10, 3, 3, 3), 2, 2, 5), ((1, 1, 1, 1), 1, 1, 1)],
)
def test_filters_of_other_first_layers(
    shape: tuple[int, ...], towers: int, rows: int, columns: int
) -> None:
    image = tile_filters(np.random.default_rng(0).normal(size=shape), towers)
    height = rows * (shape[2] + 1) - 1 + (towers - 1)
    width = columns * (shape[3] + 1) - 1
    assert image.width * height == image.height * width
    assert image.width > 384


def steps(count: int) -> list[dict[str, float]]:
    """Return the records of some invented steps."""
    return [
        {"epoch": i / 10, "loss": 2 / (1 + i), "lr": 0.01 if i < 20 else 1e-4} for i in range(count)
    ]


def test_curves_are_small_svg_and_always_the_same_bytes() -> None:
    epochs = [
        {"epoch": e, "val_loss": 1 / e, "val_top1_error": 50 / e, "val_top5_error": None}
        for e in (1, 2, 3)
    ]
    resolutions = PiecewiseConstant(((0, 131.0), (2, 227.0)))
    no_error = [epochs[0] | {"val_top1_error": 0.0}]
    panels: list[tuple[Panel, RunCurves]] = [
        (draw_loss, RunCurves("run", steps(30), epochs, label_smoothing=True)),
        (draw_loss, RunCurves("run", steps(1), [])),
        (draw_errors, RunCurves("run", steps(30), epochs)),
        (draw_errors, RunCurves("run", steps(30), no_error)),
        (draw_lr, RunCurves("run", steps(30), epochs, resolution_schedule=resolutions)),
        (draw_lr, RunCurves("run", steps(1), epochs)),
    ]
    for panel, run in panels:
        data = to_svg(plot_panel(panel, [run]))
        assert ElementTree.fromstring(data).tag.endswith("svg")
        assert data == to_svg(plot_panel(panel, [run]))
        assert len(data) < 60_000


def test_running_mean_is_the_mean_of_neighbors() -> None:
    values = np.arange(9.0) ** 2
    expected = [np.mean(values[max(0, i - 2) : i + 3]) for i in range(9)]
    assert np.allclose(running_mean(values, 5), expected)
    assert np.allclose(running_mean(values, 1), values)


def test_confusion_matrix_has_counts_and_names() -> None:
    labels = np.array([0] * 10 + [2] * 38)
    predicted = np.array([0] * 8 + [1] * 2 + [0] + [2] * 37)
    figure = plot_confusion_matrix(Confusion(labels, predicted, NAMES))
    root = ElementTree.fromstring(to_svg(figure))
    texts = {text.text or "" for text in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"8", "2", "1", "37", "20 %", "3 %", "–", shorten(NASTY)} <= texts


# ---- derived values


def test_pairs_and_errors_agree_with_counting() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 30, 500)
    probability = rng.dirichlet(np.ones(30), 500).astype(np.float32)
    predicted = probability.argmax(1)
    pairs = confused_pairs(labels, predicted)
    counts = [count for *_, count in pairs]
    assert sum(counts) == (labels != predicted).sum()
    assert counts == sorted(counts, reverse=True)
    for true, other, count in pairs[:20]:
        assert ((labels == true) & (predicted == other)).sum() == count
    for label, errors, images in class_errors(labels, predicted):
        assert images == (labels == label).sum()
        assert errors == ((labels == label) & (predicted != labels)).sum()
    worst = worst_errors(probability, labels)
    assert len(worst) == (labels != predicted).sum()
    assert (np.diff(probability[worst].max(1)) <= 0).all()
    assert confused_pairs(labels, labels) == []


def test_repeated_training_warnings_are_listed_once() -> None:
    records: list[dict[str, Any]] = [
        {"kind": "warning", "text": "few steps: 24"},
        {"kind": "epoch", "epoch": 1},
        {"kind": "warning", "text": "no progress: 90 %"},
        {"kind": "epoch", "epoch": 2},
        {"kind": "warning", "text": "no progress: 89 %"},
        {"kind": "warning", "text": "disk: nearly full"},
    ]
    expected = [
        ("At the start", "few steps: 24"),
        ("After each of epochs 1 to 2", "no progress: 89 %"),
        ("After epoch 2", "disk: nearly full"),
    ]
    assert training_warnings(records) == expected


# ---- text and markup


def test_templates_escape_text_and_not_markup() -> None:
    template = template_environment().from_string('<p title="{{ title }}">{{ text }}{{ html }}</p>')
    html = template.render(title='"&', text="<b>", html=Markup("<i>"))
    assert html == '<p title="&#34;&amp;">&lt;b&gt;<i></p>'


def test_pages_escape_every_value() -> None:
    table = Table((NASTY, NASTY), [(NASTY, NASTY)], (NASTY, NASTY))
    image = EmbeddedImage('"><script>', NASTY)
    page = ComparisonPage(NASTY, NASTY, [NASTY], table, image, table)
    html = render_page("comparison.html.j2", page).decode()
    read = PageReader(html)
    assert "<img src=x" not in html
    assert "script" not in read.tags
    assert ("alt", NASTY) in read.attributes
    assert read.text.count(NASTY) == 15


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (200, "3 min 20 s"),
        (3599.6, "1 h 00 min"),
        (90061, "25 h 01 min"),
    ],
)
def test_times(seconds: float, text: str) -> None:
    assert format_time(seconds).replace(NBSP, " ") == text


def test_only_exact_probabilities_are_written_as_0_and_100() -> None:
    values = (0.0, 0.0004, 0.1234, 0.9999, 1.0)
    texts = [format_probability(value).replace(NBSP, " ") for value in values]
    assert texts == ["0.0 %", "< 0.1 %", "12.3 %", "> 99.9 %", "100.0 %"]


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_every_recipe_can_be_described(recipe: Recipe) -> None:
    texts = [describe_layer(layer) for layer in recipe.network.layers]
    for name, value in describe_augmentation(recipe.augmentation, recipe.network.input[1]):
        texts += [name, value]
    for name, value in describe_training(recipe.training):
        texts += [name, value]
    assert "None" not in " ".join(texts)
    assert describe_network(recipe.network)


def test_schedules_and_dropout_in_words() -> None:
    steps = PiecewiseConstant(((0, 0.01), (23, 0.001)))
    assert describe_schedule(steps) == "0.01, 0.001 from epoch 23"
    line = PiecewiseLinear(((0, 0.1), (2, 0.0)))
    assert describe_schedule(line) == "0.1, linearly to 0 at epoch 2"
    assert "at most 3 times" in describe_schedule(ReduceOnPlateau())
    assert describe_layer(Dropout()) == "dropout of 0.5, rescaled at test time"


def test_images_in_the_page_are_readable(report: str) -> None:
    sources = [value for name, value in PageReader(report).attributes if name == "src"]
    png_images = [source for source in sources if source.startswith("data:image/png")]
    assert len(png_images) >= 9  # eight examples of 72 pixels and the filters
    for source in png_images:
        Image.open(BytesIO(base64.b64decode(source.partition(",")[2]))).verify()


def test_long_names_keep_both_their_ends() -> None:
    short = shorten("great long-haired shepherd of kind 12")
    assert len(short) <= 22
    assert short.startswith("great long")
    assert short.endswith("kind 12")
    assert shorten("cat") == "cat"


def test_figures_of_images_keep_their_rare_strong_colors() -> None:
    rng = np.random.default_rng(0)
    maps = rng.normal(0, 0.02, (16, 13, 13)).astype(np.float32)
    maps[3, 5:7, 5:7] = (-1, 1)  # the ends of the color scale
    crop = np.repeat(rng.integers(0, 256, (67, 67, 1), np.uint8), 3, axis=2)
    figure = plot_feature_maps(FeatureMaps(crop, {"conv1": maps}))
    palette_png = base64.b64decode(embed_raster(figure, "maps").src.partition(",")[2])
    full_png = to_png(figure, RASTER_DPI)
    actual, expected = (
        np.asarray(Image.open(BytesIO(data)).convert("RGB")).astype(int)
        for data in (palette_png, full_png)
    )
    assert np.abs(actual - expected).max() <= 12
    assert len(palette_png) < len(full_png)
