"""The figures: what they draw is right before it is drawn, and what is drawn can be read."""

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
from alexnet.data.batches import Stream
from alexnet.data.groups import from_split
from alexnet.data.store import Store
from alexnet.data.views import Draws, View
from alexnet.errors import AlexNetError, UsageError
from alexnet.evaluate import predictions
from alexnet.insight.figures import (
    activations,
    blueprint,
    confusion,
    curves,
    drawing,
    filters,
    maps,
    saliency,
    schedule,
    seen,
    step,
)
from alexnet.insight.figures import predictions as pictures
from alexnet.insight.figures.architecture import architecture
from alexnet.insight.figures.characters import Series, cells, plotted
from alexnet.insight.operators import graph
from alexnet.model import read_model, view_of, write_model
from alexnet.network.accounting import costs, totals
from alexnet.network.alexnet import AlexNet, start
from alexnet.recipes.layers import Weighted
from alexnet.recipes.named import MODERN, ORIGINAL, PAPER, RECIPES, SEPARATE, named
from alexnet.recipes.recipe import Recipe, with_epochs
from alexnet.recipes.schedules import Line, PlateauState, Steps
from alexnet.recipes.settings import to_json
from alexnet.training.loop import train
from alexnet.training.tasks import Task
from tests.conftest import CPU, tiny, tiny_task

ALL = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)


def quiet(done: int, total: int) -> None:
    """A progress that nobody watches."""


@pytest.fixture(scope="module")
def model(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file of a small net as it starts, for the shared store."""
    recipe, path = tiny(ORIGINAL), tmp_path_factory.mktemp("model") / "model.safetensors"
    network = start(AlexNet(recipe.network, len(store.classes)), 0)
    write_model(path, dict(network.named_parameters()), view_of(store, recipe), recipe, {"epoch": 0})
    return path


@pytest.fixture
def legible(monkeypatch: pytest.MonkeyPatch) -> Callable[[Figure], None]:
    """A check of a figure: every text that is drawn lies inside it, is not too small, and touches no other.

    Whether they touch is asked of level and upright texts: the boxes of those turned by other angles are mostly empty.
    """
    drawn: list[tuple[Text, Any]] = []
    draw = Text.draw

    def record(text: Text, renderer: Any, *others: Any, **named: Any) -> None:
        if text.get_visible() and text.get_text().strip():
            drawn.append((text, text.get_window_extent(renderer)))
        draw(text, renderer, *others, **named)

    monkeypatch.setattr(Text, "draw", record)

    def check(figure: Figure) -> None:
        drawn.clear()
        drawing.png(figure, 100)
        last = list({id(text): (text, box) for text, box in drawn}.values())
        assert last, "a figure without a word"
        for text, box in last:
            assert float(text.get_fontsize()) >= drawing.SMALL, text
            assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= figure.bbox.width + 1 and box.y1 <= figure.bbox.height + 1, text
        straight = [(text, box) for text, box in last if text.get_rotation() % 90 == 0]
        for (one, a), (two, b) in itertools.combinations(straight, 2):
            wide, high = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
            assert wide < 2 or high < 3, f"{one} over {two}"

    return check


# ---- the network


@ALL
def test_the_boxes_of_a_network_are_to_scale(recipe: Recipe) -> None:
    plan = blueprint.blueprint(recipe.network, 1000)
    for box in plan.boxes:
        stage = plan.stages[box.stage]
        own = stage.shape[0] / stage.parts
        if stage.kind == "full":
            assert box.height == pytest.approx(own * plan.unit)
        else:
            sizes = own * plan.map, stage.shape[1] * plan.pixel, stage.shape[2] * plan.pixel
            assert (box.length, box.height, box.depth) == pytest.approx(sizes)
    for place in range(len(plan.stages) - 1):
        ends = [box.right + blueprint.SLANT[0] * box.depth for box in plan.of(place)]
        assert max(ends) < min(box.left for box in plan.of(place + 1)), "stages stand apart"
    assert all(0 <= box.bottom and box.top + blueprint.SLANT[1] * box.depth <= plan.height + 1e-9 for box in plan.boxes)


@ALL
def test_a_network_is_drawn_whole(recipe: Recipe) -> None:
    plan = blueprint.blueprint(recipe.network, 1000)
    whole = totals(costs(recipe.network, 1000))
    assert sum(stage.parameters for stage in plan.stages) == whole["parameters"]
    assert sum(stage.multiply_adds for stage in plan.stages) == whole["multiply_adds"]
    follow = [layer for layer in recipe.network.layers if not isinstance(layer, Weighted)]
    assert sum(len(stage.then) for stage in plan.stages) == len(follow)


@pytest.mark.parametrize("name", ["original", "paper", "modern", "six", "separate", "owt", "cifar-18pct", "cifar-11pct"])
def test_a_network_is_legible(name: str, legible: Callable[[Figure], None]) -> None:
    legible(architecture(blueprint.blueprint(named(name).network, 1000), name))


def test_towers_meet_where_the_description_says() -> None:
    def sees(recipe: Recipe) -> dict[str, str]:
        return {stage.name: stage.sees for stage in blueprint.stages(recipe.network, 1000)}

    own, both = "own tower", "both towers"
    convolutions = {"input": "", "conv1": "", "conv2": own, "conv3": both, "conv4": own, "conv5": own}
    assert sees(ORIGINAL) == convolutions | {"fc6": both, "fc7": both, "fc8": both}
    assert sees(SEPARATE) == convolutions | {"conv3": own, "fc6": own, "fc7": own, "fc8": both}
    assert sees(named("six"))["conv6"] == both and set(sees(named("single")).values()) == {""}
    mixed = [stage.name for stage in blueprint.stages(PAPER.network, 1000) if stage.mixes]  # section 3.3: over all kernels
    assert mixed == ["conv1", "conv2"] and not any(stage.mixes for stage in blueprint.stages(ORIGINAL.network, 1000))


@ALL
def test_a_step_places_every_operator_beside_its_gradient(recipe: Recipe) -> None:
    placed = step.places(recipe, 10)
    assert sorted(str(one) for each in placed for one in each.operators) == sorted(map(str, graph(recipe, 10, training=True)))
    assert len({(each.column, each.row) for each in placed}) == len(placed), "no two in one place"
    ahead = {each.row: each.operators[0] for each in placed if each.column == step.FORWARD}
    for each in placed:
        (first, *_) = each.operators
        if each.column == step.BACKWARD and each.row in ahead:
            assert first.kind.startswith(ahead[each.row].kind) and f"{ahead[each.row].outputs[0]}_grad" in first.inputs
        if each.column == step.UPDATE:
            assert {one.outputs[-1] for one in each.operators} == set(ahead[each.row].inputs[1:])


@pytest.mark.parametrize("name", ["modern", "figure1-tanh"])
def test_a_step_is_legible(name: str, legible: Callable[[Figure], None]) -> None:
    legible(step.step(step.places(named(name), 1000), name))


# ---- functions, schedules, curves


def test_functions_and_derivatives_are_the_formulas(legible: Callable[[Figure], None]) -> None:
    found = {name: activations.curve(name) for name in ("relu", "tanh", "sigmoid")}
    x = np.array(found["relu"].x)
    s = 1 / (1 + np.exp(-x))
    formulas = {"relu": (np.maximum(x, 0), x > 0), "tanh": (np.tanh(x), 1 - np.tanh(x) ** 2), "sigmoid": (s, s * (1 - s))}
    for name, (value, derivative) in formulas.items():
        assert np.allclose(found[name].value, value) and np.allclose(found[name].derivative, derivative)
    assert activations.used(named("figure1-tanh").network) == ["tanh"]
    legible(activations.activations(list(found.values())))


@ALL
def test_a_schedule_is_what_the_optimizer_will_ask_for(recipe: Recipe) -> None:
    plan = schedule.planned(recipe)
    names = [
        f"{layer.name}.{part}" for layer in recipe.network.layers if isinstance(layer, Weighted) for part in ("weight", "bias")
    ]
    assert sorted(name for group in plan.groups for name in group.parameters) == sorted(names)
    for group in plan.groups:
        for name, (epoch, rate) in itertools.product(group.parameters, zip(plan.epochs[:-1], group.rates, strict=False)):
            assert rate == recipe.training.rate_of(name, epoch, PlateauState())
    assert plan.noise[:-1] == tuple(recipe.views.noise.at(epoch) for epoch in plan.epochs[:-1])


@pytest.mark.parametrize("name", ["original", "paper", "modern", "original-dexp"])
def test_a_schedule_is_legible(name: str, legible: Callable[[Figure], None]) -> None:
    legible(schedule.schedule(schedule.planned(named(name))))


def test_parameters_are_grouped_by_their_rates() -> None:
    called = {group.name: group.parameters for group in schedule.planned(ORIGINAL).groups}
    assert set(called) == {"conv1.weight", "conv1.bias", "the other weights", "the other biases"}
    assert [group.name for group in schedule.planned(named("caffe")).groups] == ["weights", "biases"]
    (only,) = schedule.planned(PAPER).groups
    assert only.levels == pytest.approx((1e-3, 1e-4, 1e-5)) and only.name == "all parameters"


def track(name: str, factor: float = 1.0, rates: Sequence[float] = (0.1, 0.1, 0.01, 0.001)) -> curves.Track:
    steps = [{"epoch": i / 2, "loss": factor * 2 / (1 + i), "rate": rate} for i, rate in enumerate(rates)]
    epochs = [{"epoch": e, "val_loss": factor / e, "val_top1_error": 90 * factor / e, "val_top5_error": 30 / e} for e in (1, 2)]
    return curves.Track(name, steps, epochs)


def test_the_falls_of_a_rate_are_where_it_falls() -> None:
    assert track("run").falls == [1.0, 1.5]
    assert track("line", rates=np.linspace(1, 0, 30).tolist()).falls == [], "not in steps"


@pytest.mark.parametrize("runs", [1, 2, 7])
def test_curves_of_runs_are_legible(runs: int, legible: Callable[[Figure], None]) -> None:
    figure = curves.curves([track(f"run {number} of a long name", 1 - number / 9) for number in range(runs)])
    legible(figure)
    assert len(figure.legends) == (runs > 1)


def test_a_curve_in_characters_goes_through_its_points() -> None:
    assert cells(Series("", (0, 4), (0, 4)), (0, 4), (0, 4), 5, 5) == [(4, 0), (3, 1), (2, 2), (1, 3), (0, 4)]
    text = plotted("rates", [Series("a", (0, 1, 2), (0.1, 0.01, 0.001)), Series("b", (0, 2), (0.0, 0.001))], log=True)
    assert (
        text.startswith("rates") and "● a" in text and "○ b" in text and "0.001" in text and max(map(len, text.split("\n"))) < 121
    )


def test_the_legend_of_curves_in_characters_is_whole() -> None:
    names = ["runs/store-original-with-two-towers", "runs/store-modern-without-its-noise", "a/" + "long/" * 30 + "name"]
    text = plotted("loss", [Series(name, (0, 1), (1, number)) for number, name in enumerate(names)])
    assert max(map(len, text.split("\n"))) <= 80
    legend = "".join(line.strip() for line in text.split("\n")[-5:])
    assert legend == f"● {names[0]}○ {names[1]}▲ {names[2]}"


# ---- pictures


def test_pictures_are_told_what_evaluate_tells(store: Store, model: Path, legible: Callable[[Figure], None]) -> None:
    found, split = read_model(model), store.splits["val"]
    seer = found.network, found.view
    every = torch.cat([part for part, _ in predictions([seer], split, 1, CPU, quiet)]).numpy()
    records = pictures.spread(8, len(split))
    told = pictures.told(seer, next(from_split(split, records, 1)), 1, CPU)
    assert np.allclose([each.probability for each in told], every[records], atol=1e-6)
    assert [each.label for each in told] == split.labels[records].tolist()
    wrong = pictures.errors(seer, split, 3, 1, CPU, quiet)
    mistakes = set(np.array(split.names)[every.argmax(1) != split.labels])
    assert len(wrong) == 3 == len({each.name for each in wrong}) and {each.name for each in wrong} <= mistakes
    everything = pictures.errors(seer, split, 10_000, 1, CPU, quiet)
    assert {each.name for each in everything} == mistakes
    legible(pictures.predictions(told, store.classes))


def test_spread_is_even_and_never_twice() -> None:
    assert pictures.spread(4, 10) == [0, 2, 5, 7] and pictures.spread(8, 3) == [0, 1, 2] and pictures.spread(3, 0) == []


def test_maps_are_the_networks_stations(store: Store, model: Path, legible: Callable[[Figure], None]) -> None:
    found, square = read_model(model), store.splits["val"].pixels(2)
    through = maps.passed((found.network, found.view), square, CPU)
    wanted = found.network.stations(found.view.tensor(found.view.centre(square[None])))
    assert list(through.stations) == list(wanted)
    for name, values in through.stations.items():
        assert np.array_equal(values, wanted[name][0].numpy())
    legible(maps.maps(through))


@pytest.fixture(scope="module")
def small() -> AlexNet:
    """A net in float64, small enough to be differentiated by hand, with inputs in grey levels."""
    recipe = named("cifar-18pct")
    return start(AlexNet(replace(recipe.network, input=(3, 16, 16)), 4), 0).double().eval().requires_grad_(False)


def grey_levels(seed: int = 0) -> torch.Tensor:
    return 60 * torch.randn(1, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_the_gradient_is_a_finite_difference(small: AlexNet) -> None:
    batch, label, h = grey_levels(), 2, 1e-4
    found = saliency.gradient(small, batch, label)[0]
    for row, column in ((3, 5), (8, 8), (12, 2)):
        slopes = []
        for channel in range(3):
            moved = [batch.clone(), batch.clone()]
            moved[0][0, channel, row, column] += h
            moved[1][0, channel, row, column] -= h
            up, down = (small(each)[0, label] for each in moved)
            slopes.append(abs(float(up - down)) / (2 * h))
        assert float(found[row, column]) == pytest.approx(max(slopes), rel=1e-4)


def test_occlusion_is_a_loop_over_places(small: AlexNet) -> None:
    view, (patch, corners) = grey_levels(1)[0], saliency.places(16, saliency.COARSE)
    assert corners[0] == 0 and corners[-1] + patch == 16
    found = saliency.occlusion(small, view, 1, patch, corners)
    whole = small(view[None]).softmax(1)[0, 1]
    for i, j in ((0, 0), (2, 5), (len(corners) - 1, 1)):
        covered = view.clone()
        covered[:, corners[i] : corners[i] + patch, corners[j] : corners[j] + patch] = 0
        assert float(found[i, j]) == pytest.approx(float(whole - small(covered[None]).softmax(1)[0, 1]), abs=1e-6)


def test_where_a_model_looks_is_legible(store: Store, model: Path, legible: Callable[[Figure], None]) -> None:
    found, split = read_model(model), store.splits["val"]
    seer = found.network, found.view
    looked = [saliency.looked(seer, split.names[i], split.pixels(i), label, CPU, 4) for i, label in ((0, None), (1, 3))]
    said = pictures.told(seer, next(from_split(split, [0], 1)), 1, CPU)[0]
    assert looked[0].label == said.likeliest[0] and looked[0].probability == pytest.approx(said.probability.max(), abs=1e-6)
    assert looked[1].label == 3 and looked[0].gradient.shape == found.view.input[1:]
    legible(saliency.saliency(looked, store.classes))


@pytest.mark.parametrize(("lost", "said"), [(0.01, "at most 1\xa0point lost"), (0.234, "at most 23\xa0points lost")])
def test_what_is_lost_is_counted_in_points(lost: float, said: str) -> None:
    map_lost = np.array([[lost, -0.1], [0.0, 0.0]], np.float32)
    looked = saliency.Looked("a", np.zeros((10, 10, 3), np.uint8), 0, 0.5, np.ones((10, 10)), map_lost, 2, (0, 8))
    assert saliency.saliency([looked], ["class"]).axes[2].get_xlabel() == said


def noisy(sizes: bool) -> Recipe:
    recipe = with_epochs(tiny(MODERN if sizes else ORIGINAL), 3)
    views = replace(recipe.views, noise=Steps(((0, 0.1), (1.4, 0.05), (2, 0.0))), rotation=5.0)
    views = replace(views, sizes=Steps(((0, 67.0), (1.4, 83.0), (1.9, 99.0)))) if sizes else views
    return replace(recipe, views=views, training=replace(recipe.training, batch=7))


def fed(task: Task, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, torch.Tensor]]:
    """What training feeds its network, batch by batch: the deviation of the noise, and the views (N, C, side, side)."""
    batches: list[tuple[float, torch.Tensor]] = []
    made = View.training_tensor

    def record(view: View, crops: torch.Tensor, draws: Draws, noise: float, *others: Any) -> torch.Tensor:
        batches.append((noise, made(view, crops, draws, noise, *others)))
        return batches[-1][1]

    monkeypatch.setattr(View, "training_tensor", record)
    train(task, folder, lambda record: None)
    return batches


@pytest.mark.parametrize("sizes", [False, True])
def test_what_is_seen_is_what_a_run_learns_from(
    store: Store, sizes: bool, legible: Callable[[Figure], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Crops, mirrors, turns, noise and size are those of the batches of a run with that seed, also where they change midway."""
    recipe, split = noisy(sizes), store.splits["train"]
    view = view_of(store, recipe)
    stream = Stream(split, view, recipe.training, 5, workers=1)
    batches = fed(tiny_task(store, recipe, 5), tmp_path / "run", monkeypatch)
    watched = seen.watched(split, view, recipe, 5, pictures.spread(6, len(split)))
    assert [glimpse.epoch for glimpse in watched[0].glimpses] == [0, 1, 2]
    met = set()
    for each, glimpse in ((one, glimpse) for one in watched for glimpse in one.glimpses):
        place = int(np.flatnonzero(stream.order(glimpse.epoch) == each.record)[0])
        noise, views = batches[glimpse.epoch * stream.batches_per_epoch + place // 7]
        met.add((glimpse.epoch, noise, views.shape[-1]))
        assert views.shape[-1] == len(glimpse.pixels)
        scale = recipe.views.scale / (1 + noise if recipe.views.noise_divides else 1)
        mean = view.tensor(np.zeros((1, *view.input[1:], 3), np.uint8))[0] / -recipe.views.scale
        mean = mean if len(glimpse.pixels) == view.input[1] else mean.mean((1, 2), keepdim=True)
        levels = (views[place % 7] / scale + mean).clamp(0, 255)
        assert np.abs(levels.permute(1, 2, 0).numpy() - glimpse.pixels).max() < 0.51
    assert len([epoch for epoch, *_ in met if epoch == 1]) > 1, "epoch 1 is seen before and after its break"
    legible(seen.seen(watched, recipe.network.input[1]))


# ---- confusion, filters


def answers(classes: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(classes)
    labels = rng.integers(0, classes, count)
    return labels, np.where(rng.random(count) < 0.7, labels, rng.integers(0, classes, count))


LONG, WIDE = "the very long name of some class {}", "WWWWWWWWWWWWWW MMMMMMMM {}"


@pytest.mark.parametrize(("classes", "name"), [(3, "a {}"), (3, WIDE), (25, LONG), (25, WIDE), (1000, LONG)])
def test_confusion_counts_and_can_be_read(classes: int, name: str, legible: Callable[[Figure], None]) -> None:
    labels, said = answers(classes, 4000)
    matrix = confusion.counted(labels, said, classes)
    wanted = np.zeros((classes, classes), int)
    np.add.at(wanted, (labels, said), 1)
    assert np.array_equal(matrix, wanted)
    sums, side = confusion.blocks(matrix)
    assert sums.sum() == 4000 and len(sums) <= confusion.BLOCKS and sums[0, 1] == wanted[:side, side : 2 * side].sum()
    legible(confusion.confusion(labels, said, [name.format(number) for number in range(classes)]))


@pytest.mark.parametrize("towers", [1, 2])
def test_filters_have_a_picture_for_each_tower(towers: int, legible: Callable[[Figure], None]) -> None:
    weight = np.random.default_rng(0).normal(size=(96, 3, 11, 11)).astype(np.float32)
    figure = filters.filters("conv1", weight, towers)
    assert len(figure.axes) == towers and sum(axes.images[0].get_array().shape[0] > 100 for axes in figure.axes) == towers  # type: ignore[union-attr]
    legible(figure)


# ---- files and verbs


def test_figures_become_files_of_their_kind(tmp_path: Path) -> None:
    figure = activations.activations([activations.curve("relu")])
    drawing.save(tmp_path / "a.png", figure)
    drawing.save(tmp_path / "a.SVG", figure)
    assert Image.open(io.BytesIO((tmp_path / "a.png").read_bytes())).size == (7.0 * drawing.DPI, 2.9 * drawing.DPI)
    assert ElementTree.fromstring((tmp_path / "a.SVG").read_bytes()).tag.endswith("svg")
    with pytest.raises(UsageError, match=r"with \.pdf; expected a name that ends in \.png or \.svg"):
        drawing.save(tmp_path / "a.pdf", figure)
    assert drawing.png(figure) == drawing.png(figure) and not (tmp_path / "a.pdf").exists()


def ask(*words: object) -> Any:
    """What a verb answers with --json."""
    ended = CliRunner().invoke(cli, ["show", *map(str, words), "--json"], catch_exceptions=False, standalone_mode=False)
    assert ended.exception is None
    return json.loads(ended.stdout)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The records of a run that somebody made."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.json").write_text(json.dumps({"recipe": to_json(MODERN)}))
    lines = [{"kind": "step", **one} for one in track("run").steps] + [{"kind": "epoch", **one} for one in track("run").epochs]
    (tmp_path / "run" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path / "run"


def test_verbs_write_where_they_are_told(store: Store, model: Path, run: Path, pictures: Path, tmp_path: Path) -> None:
    file = str(next(pictures.rglob("*.png")))
    asked: list[tuple[object, ...]] = [
        ("network", "cifar-18pct", "--classes", 10),
        ("network", "figure1", "--backward"),
        ("schedule", "modern", "--epochs", 4),
        ("activations", "figure1-sigmoid"),
        ("filters", model),
        ("predictions", model, store.path, "--only-errors", "--count", 2, "--views", 1),
        ("predictions", model, file, "--views", 1),
        ("stations", model, file),
        ("confusion", model, store.path, "--views", 1),
        ("views", store.path, "--recipe", "modern", "--set", "network.input=3,99,99", "--count", 1),
        ("curves", run),
    ]
    for number, words in enumerate(asked):
        path = tmp_path / f"{number}.{'svg' if number % 2 else 'png'}"
        found = ask(*words, "--out", path)
        assert found["figure"] == str(path) and path.stat().st_size > 2000, words
        if path.suffix == ".png":
            Image.open(io.BytesIO(path.read_bytes())).verify()


@pytest.mark.parametrize("words", [("predictions", "--views", 1), ("saliency",)])
def test_a_bad_picture_among_others_spoils_nothing(
    words: tuple[object, ...], model: Path, pictures: Path, tmp_path: Path
) -> None:
    (word, *options), out, bad = words, tmp_path / "a.png", tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    good = [str(file) for file in sorted(pictures.rglob("*.png"))[:2]]
    asked = ["show", str(word), str(model), good[0], str(bad), good[1], *map(str, options), "--out", str(out)]
    ended = CliRunner().invoke(cli, [*asked, "--json"], standalone_mode=False)
    found = json.loads(ended.stdout)
    reason = "cannot be read: not a picture of a kind that can be decoded"
    assert [each["name"] for each in found["pictures"]] == good and found["unread"] == [{"path": str(bad), "error": reason}]
    assert isinstance(ended.exception, AlexNetError) and "1 of 3 pictures could not be read" in str(ended.exception)
    assert ended.exception.status == 1 and out.exists()
    ended = CliRunner().invoke(cli, asked, standalone_mode=False)
    assert ended.stdout.splitlines() == [f"{bad}: {reason}", str(out)]


def test_verbs_say_what_they_draw(store: Store, model: Path, run: Path, tmp_path: Path) -> None:
    found = ask("confusion", model, store.path, "--split", "val", "--views", 1, "--out", tmp_path / "c.png")
    assert sum(map(sum, found["matrix"])) == len(store.splits["val"]) and found["views"] == 1
    found = ask("schedule", "original", "--terminal")
    assert found["figure"] is None and {group["name"] for group in found["groups"]} >= {"conv1.weight", "the other weights"}
    assert ask("curves", run, "--terminal")["runs"][0]["rate_falls"] == [1.0, 1.5]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("network", "--out", "net.pdf"), "expected a name that ends in .png or .svg"),
        (("network", "orignal"), "nearest: original"),
        (("curves", "nowhere"), "not a run's directory"),
        (("saliency", "MODEL", "STORE", "--class", "dot"), "nearest: dots"),
        (("confusion", "MODEL", "PICTURES"), "expected a single store"),
        (("stations", "MODEL", "STORE", "--record", "100000"), "numbered from 0"),
        (("predictions", "MODEL", "PICTURES", "STORE"), "expected a single store or only pictures"),
        (("predictions", "MODEL", "MODEL"), "model.safetensors: cannot be read: not a picture"),
        (("saliency", "MODEL", "MODEL", "MODEL"), "model.safetensors: cannot be read: not a picture"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(
    words: tuple[str, ...], said: str, store: Store, model: Path, pictures: Path
) -> None:
    given = {"MODEL": str(model), "STORE": str(store.path), "PICTURES": str(pictures)}
    with pytest.raises(AlexNetError) as refused:
        ask(*(given.get(word, word) for word in words))
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_a_line_has_no_steps() -> None:
    assert isinstance(MODERN.training.rate, Line)
    plan = schedule.planned(MODERN)
    x, y = schedule.corners(plan, plan.groups[0].rates)
    assert x == list(plan.epochs) and y[0] == MODERN.training.rate.points[0][1]
    x, y = schedule.corners(schedule.planned(named("caffe")), schedule.planned(named("caffe")).groups[0].rates)
    assert x[:4] == [0, 20, 20, 40] and y[:4] == [0.01, 0.01, 0.001, 0.001]
