"""The report of a real, very small run: complete, harmless whatever the classes are called, and true to evaluate's scores."""

import base64
import json
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from alexnet.data.images import Policy
from alexnet.data.prepare import prepare
from alexnet.data.sources import Fractions, open_source
from alexnet.data.store import open_store
from alexnet.errors import AlexNetError, UsageError
from alexnet.evaluate import evaluate
from alexnet.insight import words
from alexnet.insight.figures.confusion import class_errors, confused_pairs, confusion
from alexnet.insight.figures.curves import Panel, Track, errors, loss, one, rates, running_mean
from alexnet.insight.figures.drawing import shortened, svg
from alexnet.insight.figures.filters import kernels
from alexnet.insight.report.comparison import differences, write_comparison
from alexnet.insight.report.page import Html, element
from alexnet.insight.report.single import look, page, worst_mistakes, write_report
from alexnet.insight.runs import names, read_run
from alexnet.model import load
from alexnet.recipes.layers import CLASSES, RELU, Conv, Dropout, Full, Norm, Pool
from alexnet.recipes.named import RECIPES
from alexnet.recipes.recipe import Network, Recipe, Training, Views
from alexnet.recipes.schedules import Line, Plateau, Steps
from alexnet.runtime import Runtime
from alexnet.training.loop import train
from alexnet.training.tasks import Task

NASTY = "<img src=x onerror=alert(1)>"
NAMES = (NASTY, "\"&amp;' $a$ %s {0}", "猫 " + "long " * 12)
CPU = Runtime(torch.device("cpu"), torch.float32, 1)
TINY = Recipe(
    "tiny",
    Network(
        (3, 67, 67),
        (Conv("conv1", 8, 11, stride=4), Norm("norm1"), Pool("pool1"), RELU, Full("fc8", CLASSES)),
        towers=2,
    ),
    Views(noise=Steps(((0, 0.1),))),
    Training(epochs=2, batch=8, rate=Line(((0, 0.001), (2, 0.0))), smoothing=0.1),
)


def quiet(done: int, total: int) -> None:
    """A progress that nobody watches."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs on sixty noisy squares in three classes with troublesome names."""
    folder = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(0)
    for label, name in enumerate(NAMES):
        (folder / "pictures" / name).mkdir(parents=True)
        for number in range(20):
            levels = rng.integers(0, 256, (72, 72, 3), np.uint8) // 2 + np.uint8(40 * label)
            Image.fromarray(levels).save(folder / "pictures" / name / f"{number}<b>.png")
    with open_source(str(folder / "pictures")) as source:
        prepare(source, folder / "my store", Policy(size=72), Fractions(0.2, 0.3), on_bad="fail", workers=1, progress=quiet)
    train(Task(open_store(folder / "my store"), TINY, 3, CPU), folder / "run", lambda record: None)
    return folder / "run"


@pytest.fixture(scope="module")
def report(trained: Path) -> str:
    """Its report."""
    return write_report(trained, None, None, CPU, quiet)[0].read_text("utf-8")


class Reader(HTMLParser):
    """What is in a page: tags, attributes, and the text that is seen."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text.replace(words.NBSP, " "))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_it_refers_to_nothing_outside_and_stays_small(report: str) -> None:
    read = Reader(report)
    assert not {"script", "link", "iframe", "object", "a", "base", "form"} & set(read.tags)
    assert not [name for name, _ in read.attributes if name.startswith("on") or name in ("href", "srcset", "action")]
    assert all(value.startswith("data:image/") for name, value in read.attributes if name == "src")
    assert "url(" not in report and "@import" not in report and "http://" not in report.replace("http://www.w3.org", "")
    assert len(report) < 2_500_000


def test_class_names_are_text_whatever_they_say(report: str) -> None:
    read = Reader(report)
    assert "<img src=x" not in report
    assert ("src", "x") not in read.attributes
    assert all(name in read.text for name in NAMES)


def test_pictures_have_descriptions(report: str) -> None:
    read = Reader(report)
    assert read.tags.count("img") == len([value for name, value in read.attributes if name == "alt" and value])


def test_the_headline_is_what_evaluate_says(trained: Path, report: str) -> None:
    store = open_store(trained.parent / "my store")
    scores = evaluate([load(trained / "model.safetensors")], store.splits["test"], 10, CPU)
    text = Reader(report).text
    assert f"{scores.top1_error:.1f} %top-1 error" in text and f"{scores.loss:.3f}loss" in text
    assert f"test, {len(store.splits['test'])} pictures" in text
    assert "top-5 error" not in text  # three classes
    assert "2 of 2" in text and "Seed3" in text


@pytest.mark.parametrize(("views", "said"), [(1, "1 (the centre alone)"), (9, "9 (a grid of three by three crops)")])
def test_the_views_are_told_as_they_were(trained: Path, tmp_path: Path, views: int, said: str) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    assert said in Reader(write_report(run, None, views, CPU, quiet)[0].read_text("utf-8")).text


def test_the_sections_come_in_order(report: str) -> None:
    text = Reader(report).text
    titles = [
        "How it learnt",
        "What the first layer",
        "What it says",
        "Its worst mistakes",
        "What it confuses",
        "What happens inside",
        "The recipe: tiny",
    ]
    assert sorted(titles, key=text.index) == titles
    assert "conv1" in text and "8 kernels of 11 × 11, stride 4" in text and "8 × 15 × 15" in text
    assert "alexnet evaluate model.safetensors '../my store' --split test --views 10" in text


def test_the_same_run_gives_the_same_page(trained: Path, report: str) -> None:
    assert write_report(trained, "test", 10, CPU, quiet)[0].read_text("utf-8") == report


def test_many_classes_and_no_epoch_yet(trained: Path) -> None:
    """The page of a run with 40 classes (the confusion becomes tables) whose records are not there yet."""
    run = read_run(trained)
    seen = look(run, "val", 1, CPU, quiet)
    names = tuple(f"class {label}" for label in range(40))
    store = replace(run.store, classes=names, warnings=("class x has no pictures",))
    wide = replace(seen, probability=np.pad(seen.probability, ((0, 0), (0, 37))))
    text = Reader(page(replace(run, store=store, records=()), wide).decode()).text
    assert (
        "Hardest classes" in text and "How it learnt" not in text and "class x has no pictures" in text and "top-5 error" in text
    )


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda run: (run / "recipe.json").unlink(), "not a run's directory"),
        (lambda run: (run / "recipe.json").write_text("{"), "not a run's directory"),
        (lambda run: (run / "model.safetensors").unlink(), "model.safetensors"),
        (lambda run: (run / "recipe.json").write_text(json.dumps({"store": str(run / "gone")})), "is not there"),
    ],
)
def test_what_is_missing_is_named_in_one_line(trained: Path, tmp_path: Path, damage, said: str) -> None:  # type: ignore[no-untyped-def]
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    damage(run)
    with pytest.raises(AlexNetError, match=said) as error:
        write_report(run, None, None, CPU, quiet)
    assert "\n" not in str(error.value)


def test_several_runs_make_one_page(trained: Path, tmp_path: Path) -> None:
    """The numbers of each run's own report, and the settings in which they differ, no others."""
    second = replace(TINY, name="slow", training=replace(TINY.training, epochs=1, rate=Line(((0, 0.0001), (1, 0.0)))))
    train(Task(open_store(trained.parent / "my store"), second, 4, CPU), tmp_path / "run", lambda record: None)
    folders = [trained, tmp_path / "run"]
    found = write_comparison(folders, tmp_path / "both.html", "test", 1, CPU, quiet, None)
    alone = [write_report(folder, "test", 1, CPU, quiet)[1] for folder in folders]
    assert [scores for _, scores in found] == alone
    text = (tmp_path / "both.html").read_text("utf-8")
    read = Reader(text)
    assert all(f"{scores.top1_error:.2f} %" in read.text and name in read.text for name, scores in found)
    assert len(text) < 300_000 and not {"script", "link", "a"} & set(read.tags) and "http://" not in text
    told = [row[0] for row in differences([TINY, second])]
    assert told == ["recipe", "training.epochs", "training.rate"] and all(name in read.text for name in told)
    assert "views.noise" not in read.text and len({name for name, _ in found}) == 2


def test_runs_of_the_same_name_are_told_apart(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "run")
    called = names([read_run(trained), read_run(tmp_path / "run")])
    assert called == [f"{trained.parent.name}/run", f"{tmp_path.name}/run"]


def test_splits_and_views_it_cannot_use_are_refused(trained: Path) -> None:
    with pytest.raises(AlexNetError, match="no pictures in a split dev; it has train, val, test"):
        write_report(trained, "dev", None, CPU, quiet)
    with pytest.raises(UsageError, match="7 views"):
        write_report(trained, None, 7, CPU, quiet)


def test_a_record_half_written_is_left_out(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "st')
    assert read_run(run).records == read_run(trained).records


# ---- figures


def test_kernels_are_scaled_to_their_own_range_around_grey() -> None:
    weight = np.zeros((96, 3, 11, 11), np.float32)
    weight[0, 0, 0, 0] = 0.001
    weight[48, 2, 10, 10] = -7
    sheet = np.asarray(kernels(weight, 2))
    factor = sheet.shape[1] // (16 * 12 - 1)
    small = sheet[::factor, ::factor]
    assert small.shape == (6 * 12, 16 * 12 - 1, 3)  # one more row between the towers
    assert small[0, 0].tolist() == [255, 128, 128]
    assert small[3 * 12 + 1 + 10, 10].tolist() == [128, 128, 0]  # the second tower begins a row of its own
    assert (small[11] == 255).all() and (small[:, 11] == 255).all()


@pytest.mark.parametrize(
    ("shape", "towers", "rows", "columns"), [((8, 1, 5, 5), 1, 1, 8), ((10, 3, 3, 3), 2, 2, 5), ((1, 1, 1, 1), 1, 1, 1)]
)
def test_other_first_layers_can_be_shown(shape: tuple[int, ...], towers: int, rows: int, columns: int) -> None:
    image = kernels(np.random.default_rng(0).normal(size=shape), towers)
    high, wide = rows * (shape[2] + 1) - 1 + (towers - 1), columns * (shape[3] + 1) - 1
    assert image.width * high == image.height * wide and image.width > 384


def steps(count: int) -> list[dict[str, float]]:
    return [{"epoch": i / 10, "loss": 2 / (1 + i), "rate": 0.01 if i < 20 else 1e-4} for i in range(count)]


def test_curves_are_svg_and_the_same_each_time() -> None:
    epochs = [{"epoch": e, "val_loss": 1 / e, "val_top1_error": 50 / e, "val_top5_error": None} for e in (1, 2, 3)]
    drawn: list[tuple[Panel, Track]] = [
        (loss, Track("run", steps(30), epochs, smoothed=True)),
        (loss, Track("run", steps(1), [])),
        (errors, Track("run", steps(30), epochs)),
        (errors, Track("run", steps(30), [epochs[0] | {"val_top1_error": 0.0}])),
        (rates, Track("run", steps(30), epochs, sizes=Steps(((0, 131.0), (2, 227.0))))),
        (rates, Track("run", steps(1), epochs)),
    ]
    for panel, track in drawn:
        data = svg(one(panel, [track]))
        assert ElementTree.fromstring(data).tag.endswith("svg") and data == svg(one(panel, [track])) and len(data) < 60_000


def test_the_running_mean_is_the_mean_of_neighbours() -> None:
    values = np.arange(9.0) ** 2
    expected = [np.mean(values[max(0, i - 2) : i + 3]) for i in range(9)]
    assert np.allclose(running_mean(values, 5), expected) and np.allclose(running_mean(values, 1), values)


def test_the_confusion_holds_its_counts_and_names() -> None:
    labels, said = np.array([0] * 10 + [2] * 38), np.array([0] * 8 + [1] * 2 + [0] + [2] * 37)
    root = ElementTree.fromstring(svg(confusion(labels, said, NAMES)))
    told = [text.text or "" for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"8", "2", "1", "37", "20 %", "3 %", "–", shortened(NASTY)} <= set(told)


# ---- what is derived


def test_pairs_errors_and_mistakes_agree_with_counting() -> None:
    rng = np.random.default_rng(1)
    labels, probability = rng.integers(0, 30, 500), rng.dirichlet(np.ones(30), 500).astype(np.float32)
    said = probability.argmax(1)
    pairs = confused_pairs(labels, said)
    assert sum(count for *_, count in pairs) == (labels != said).sum()
    assert [count for *_, count in pairs] == sorted((count for *_, count in pairs), reverse=True)
    assert all(((labels == true) & (said == other)).sum() == count for true, other, count in pairs[:20])
    for label, mistakes, pictures in class_errors(labels, said):
        assert (pictures, mistakes) == ((labels == label).sum(), ((labels == label) & (said != labels)).sum())
    worst = worst_mistakes(probability, labels)
    assert len(worst) == (labels != said).sum() and (np.diff(probability[worst].max(1)) <= 0).all()
    assert confused_pairs(labels, labels) == []


# ---- words and markup


def test_text_is_escaped_and_markup_is_not() -> None:
    assert element("p", "<b>", Html("<i>"), title='"&') == '<p title="&quot;&amp;">&lt;b&gt;<i></p>'


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.04, "0.0 s"), (59.94, "59.9 s"), (200, "3 min 20 s"), (3599.6, "1 h 00 min"), (90061, "25 h 01 min")]
)
def test_durations(seconds: float, said: str) -> None:
    assert words.duration(seconds).replace(words.NBSP, " ") == said


def test_probabilities_are_neither_nothing_nor_certain_unless_they_are() -> None:
    said = [words.share(value).replace(words.NBSP, " ") for value in (0.0, 0.0004, 0.1234, 0.9999, 1.0)]
    assert said == ["0.0 %", "< 0.1 %", "12.3 %", "> 99.9 %", "100.0 %"]


def test_every_recipe_can_be_told() -> None:
    for recipe in RECIPES:
        told = " ".join(
            [
                *map(words.layer, recipe.network.layers),
                *sum(words.views(recipe.views) + words.training(recipe.training), start=()),
            ]
        )
        assert "None" not in told and words.network(recipe)
    assert words.schedule(Steps(((0, 0.01), (23, 0.001)))) == "0.01; 0.001 from epoch 23"
    assert words.schedule(Line(((0, 0.1), (2, 0.0)))) == "from 0.1, straight to 0 at epoch 2"
    assert "3 times at most" in words.schedule(Plateau())
    assert words.layer(Dropout()) == "dropout of 0.5, made up for while testing"


def test_pictures_in_the_page_are_readable(report: str) -> None:
    sources = [value for name, value in Reader(report).attributes if name == "src"]
    photographs = [source for source in sources if source.startswith("data:image/png")]
    assert len(photographs) >= 9  # eight examples of 72 pixels and the kernels
    for source in photographs:
        Image.open(BytesIO(base64.b64decode(source.partition(",")[2]))).verify()


def test_long_names_keep_both_their_ends() -> None:
    short = shortened("great long-haired shepherd of kind 12")
    assert len(short) <= 22 and short.startswith("great long") and short.endswith("kind 12") and shortened("cat") == "cat"
