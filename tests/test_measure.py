"""Measuring, without a clock: the floor against the paper's numbers worked out by hand, ratios from given times, rivals that
compute what ours does, and contenders that take their turns in the processes they belong to."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from alexnet.data.store import Store
from alexnet.errors import AlexNetError
from alexnet.measure import floor, graph, inputs, ours, stock, subjects
from alexnet.measure.ceilings import CONVOLUTION, COPY, PRODUCT, reached
from alexnet.measure.floor import Ceilings, Needs
from alexnet.measure.report import Entry, Report, Unit, rows
from alexnet.measure.rounds import Contender, Missing, Place, Timed, Work, take_turns
from alexnet.measure.subjects import SHIPPED, Conditions, Subject
from alexnet.network.accounting import costs
from alexnet.network.alexnet import AlexNet, start
from alexnet.recipes.named import CAFFE, CIFAR_11, MODERN, ORIGINAL, OWT, PAPER
from alexnet.recipes.recipe import Recipe
from alexnet.training.loop import Tell
from alexnet.training.tasks import Task
from tests.conftest import CPU, tiny

HERE = Place("here", "glibc.malloc.trim_threshold=4294967296")
CEILINGS = Ceilings(operations=1e9, bytes=1e6)


# ---- the floor


def test_the_papers_net_by_hand() -> None:
    convolutions = 290_400 * 363 + 186_624 * 1200 + 64_896 * 2304 + 64_896 * 1728 + 43_264 * 1728
    forward = convolutions + 9216 * 4096 + 4096 * 4096 + 4096 * 1000
    layers = costs(PAPER.network, 1000)
    assert floor.training_multiply_adds(layers) == 3 * forward - 290_400 * 363 == 2_067_805_248
    assert floor.stored_values(layers) == 290_400 + 69_984 + 186_624 + 43_264 + 2 * 64_896 + 43_264 + 9216 + 2 * 4096 + 1000
    assert floor.update_bytes(layers) == 60_965_224 * 20 == 1_219_304_480


def test_a_training_step_needs_operations_an_update_and_activations() -> None:
    needs = floor.training("paper", PAPER.network, 1000, batch=128, width=2)
    assert needs.operations == 128 * 4_135_610_496
    assert needs.bytes == 1_219_304_480 + 128 * 781_736 * 6 * 2


def test_logits_need_each_weight_once() -> None:
    needs = floor.inference("paper", PAPER.network, 1000, batch=2, width=4)
    assert (needs.operations, needs.bytes) == (2 * 2 * 724_406_816, 4 * (60_965_224 + 2 * 2 * 781_736))


def test_the_parts_of_a_floor_add_up() -> None:
    needs = Needs("work", operations=2 * 10**9, bytes=3 * 10**6, counted="")
    assert CEILINGS.parts(needs) == (2.0, 3.0) and CEILINGS.seconds(needs) == 5.0


def test_a_ceiling_is_the_best_of_all_rounds() -> None:
    product, copied = 2 * 4096**3, 2 * 2**28
    timed = {PRODUCT: Timed((4.0, 2.0), 0), CONVOLUTION: Timed((1e6,), 0), COPY: Timed((8.0, 0.5), 0)}
    rates, ceilings = reached(timed, CPU)
    assert ceilings == Ceilings(product / 2, copied / 0.5)
    assert rates[PRODUCT] == ceilings.operations > rates[CONVOLUTION]


# ---- the rows


def entry(name: str, against: str | None, unit: Unit) -> Entry:
    return Entry(name, SHIPPED, fixed, against, Needs("work", 10**9, 10**6, "counted by hand"), unit)


def test_rows_from_given_times() -> None:
    entries = [entry("ours", "torch", "pictures/s"), entry("torch", None, "pictures/s"), entry("late", "gone", "ms")]
    timed = {"ours": Timed((5.0, 4.0, 9.0), 8), "torch": Timed((20.0, 16.0), 8), "late": Timed((0.5,), 1)}
    first, second, third = rows([*entries, entry("absent", None, "ms")], timed, CEILINGS)
    assert (first.value, first.median, first.ratio, first.floor_share) == (2.0, 8 / 5, 4.0, 0.5)
    assert (second.value, second.median, second.ratio) == (0.5, 8 / 18, None)
    assert (third.value, third.ratio) == (500.0, None)  # whom it stands against took no part


def test_a_report_has_a_table_for_each_unit_and_says_who_is_missing() -> None:
    entries = [entry("ours", "torch", "pictures/s"), entry("late", None, "ms")]
    found = tuple(rows(entries, {"ours": Timed((4.0,), 8), "late": Timed((0.5,), 1)}, CEILINGS))
    report = Report("a title", ("who is who",), {}, {COPY: 1e6}, CEILINGS, (entries[0].needs,), found, {"torch": "is not here"})
    assert [(title, len(lines)) for title, lines in report.tables()] == [("a title, in pictures/s", 1), ("a title, in ms", 1)]
    assert {"who is who", "missing: torch: is not here", "counted by hand"} < set(report.notes())
    assert "floor of work: 2,000 ms = 1,000 ms for 1 GFLOP + 1,000 ms for 0.001 GB" in report.notes()


# ---- the rivals


def difference(found: np.ndarray, right: torch.Tensor) -> float:
    """The largest, relative to the largest logit."""
    return float(np.abs(found - right.numpy()).max() / right.abs().max())


def net_and_views(recipe: Recipe) -> tuple[AlexNet, torch.Tensor, torch.Tensor]:
    """A net with biases that all count, views for it, and its logits."""
    net = start(AlexNet(recipe.network, 10), 3).eval().requires_grad_(False)
    views, _ = inputs.fixed_batch(recipe.network.input, 3, torch.device("cpu"))
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            parameter.uniform_(-0.5, 0.5, generator=torch.Generator().manual_seed(1))
    return net, views, net(views)


@pytest.mark.parametrize("recipe", [PAPER, tiny(ORIGINAL), tiny(MODERN), tiny(CAFFE), tiny(OWT)], ids=lambda recipe: recipe.name)
def test_the_stock_net_with_our_weights_gives_our_logits(recipe: Recipe) -> None:
    net, views, logits = net_and_views(recipe)
    rival = stock.net(recipe.network, 10).eval()
    stock.adopt(rival, net)
    with torch.inference_mode():
        assert difference(rival(views).numpy(), logits) < 1e-5


def test_a_layer_that_torch_has_not_makes_a_rival_missing() -> None:
    with pytest.raises(Missing, match="no module for Local"):
        stock.net(CIFAR_11.network, 10)


@pytest.mark.parametrize("engine", [graph.onnx_runtime, graph.openvino], ids=["onnxruntime", "openvino"])
@pytest.mark.parametrize("recipe", [PAPER, tiny(MODERN), tiny(CAFFE)], ids=lambda recipe: recipe.name)
def test_the_onnx_graph_gives_our_logits(
    recipe: Recipe, engine: Callable[[bytes], graph.Forward], request: pytest.FixtureRequest
) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip(request.node.callspec.id.split("-")[-1])
    net, views, logits = net_and_views(recipe)
    assert difference(engine(graph.graph(net, len(views)))(views.numpy()), logits) < 1e-5


@given(st.integers(1, 600), st.integers(1, 600), st.integers(0, 2**32))
def test_a_random_box_lies_within_its_picture(width: int, height: int, seed: int) -> None:
    left, top, right, bottom = stock.random_box((width, height), np.random.default_rng(seed))
    assert 0 <= left < right <= width and 0 <= top < bottom <= height


# ---- the contenders


@pytest.mark.parametrize("subject", ["train", "infer", "feed", "norm"])
def test_every_contender_does_its_work(subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "PER_CLASS", 1)
    monkeypatch.setattr(subjects, "RECORDS", 16)
    conditions = Conditions(subject, tiny(PAPER), 2, rounds=1, threads=1, runtime=CPU, allocator="")
    for each in subjects.entries(conditions, tmp_path):
        if not each.name.endswith("our malloc"):  # the same again, in another process
            with suppress(Missing):
                work = each.make()
                assert work.pictures == (1 if each.name.startswith("1:") else 2) and work.run() > 0


def test_a_whole_training_leaves_nothing_behind(store: Store) -> None:
    work = ours.whole_training(tiny(PAPER), store.path, 8, CPU)
    assert work.run() > 0
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_a_whole_training_counts_steps_not_records(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(task: Task, folder: Path, tell: Tell) -> None:
        for step in range(1, 100, 10):
            tell({"kind": "step", "step": step})

    ticks = iter([100.0, 105.0])
    monkeypatch.setattr(ours.loop, "train", train)
    monkeypatch.setattr(ours.time, "perf_counter", lambda: next(ticks))
    assert ours.whole_training(tiny(PAPER), store.path, 8, CPU).run() == 0.5  # from step 11 to step 21


# ---- the turns


def fixed() -> Work:
    """One picture in as many seconds as there are letters in this process's allocator settings."""
    return Work(lambda: float(len(os.environ.get("GLIBC_TUNABLES", ""))), 1)


def absent() -> Work:
    raise Missing("is not installed")


def faulty() -> Work:
    os._exit(7)


def test_each_contender_works_under_the_settings_of_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=0")
    contenders = [Contender("a", HERE, fixed), Contender("b", SHIPPED, fixed), Contender("c", SHIPPED, absent)]
    told: list[tuple[int, int]] = []
    timed, missing = take_turns(contenders, rounds=2, threads=1, tick=lambda done, of: told.append((done, of)))
    assert set(timed["a"].seconds) == {float(len(HERE.tunables))} and set(timed["b"].seconds) == {0.0}
    assert missing == {"c": "is not installed"}
    assert [done for done, _ in told] == list(range(1, 8)) and told[-1] == (7, 7)
    assert os.environ["GLIBC_TUNABLES"] == "glibc.malloc.check=0"


def test_a_process_that_ends_at_work_is_named() -> None:
    with pytest.raises(AlexNetError, match="^d: its process ended"):
        take_turns([Contender("d", SHIPPED, faulty)], rounds=1, threads=1, tick=lambda done, of: None)


def test_the_verb_gives_rows() -> None:
    command = [
        sys.executable,
        "-m",
        "alexnet",
        "measure",
        "norm",
        "--rounds",
        "1",
        "--batch-size",
        "2",
        "--threads",
        "1",
        "--json",
    ]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert [row["name"] for row in found["rows"] if row["against"] is None] == ["norm1: torch", "norm2: torch"]
    for row in found["rows"]:
        assert row.keys() == {"name", "value", "median", "unit", "against", "ratio", "floor_share"}
        assert row["unit"] == "ms" and 0 < row["value"] <= row["median"] and row["floor_share"] > 0
    assert found["ceilings"].keys() == {"operations_per_second", "bytes_per_second"} and not found["missing"]


def test_other_pictures_can_be_given(tmp_path: Path) -> None:
    mine = tmp_path / "mine" / "cats"
    mine.mkdir(parents=True)
    for number in range(3):
        Image.new("RGB", (9, 9), (80 * number, 0, 0)).save(mine / f"{number}.jpg")
    (tmp_path / "mine" / "dogs").mkdir()
    (tmp_path / "mine" / "dogs" / "4.png").write_bytes(b"left alone")
    folder = inputs.class_folder(tmp_path, 7, workers=1, source=str(tmp_path / "mine"))
    files = sorted(folder.rglob("*.jpg"))
    assert len(files) == 7 and len({file.read_bytes() for file in files}) == 3
    for file in mine.glob("*.jpg"):
        file.unlink()
    with pytest.raises(AlexNetError, match="holds no JPEG files"):
        inputs.class_folder(tmp_path / "again", 7, workers=1, source=str(tmp_path / "mine"))
