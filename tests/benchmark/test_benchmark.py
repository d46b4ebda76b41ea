"""Benchmarks without a clock: the roofline against the paper's numbers worked out by hand, ratios
from given times, baselines that compute what our model does, and cases that run in processes."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from alexnet.benchmark import (
    inputs,
    onnx_baselines,
    roofline,
    suites,
    torch_baselines,
    workloads,
)
from alexnet.benchmark.interleaved_timer import (
    Case,
    ProcessSpec,
    Timing,
    Unavailable,
    Workload,
    time_interleaved,
)
from alexnet.benchmark.machine_limits import (
    CONVOLUTION,
    MATRIX_PRODUCT,
    MEMORY_COPY,
    best_rates,
    machine_limits,
)
from alexnet.benchmark.report import BenchmarkCase, BenchmarkReport, Unit, make_rows
from alexnet.benchmark.roofline import MachineLimits, WorkloadCost
from alexnet.benchmark.suites import DEFAULTS, BenchmarkConfig, SuiteName
from alexnet.core.errors import AlexNetError
from alexnet.data.prepared import PreparedDataset
from alexnet.models.alexnet import AlexNet, init_weights
from alexnet.models.flops import layer_costs
from alexnet.recipes.presets import CAFFE, CIFAR_11, MODERN, ORIGINAL, OWT, PAPER
from alexnet.recipes.recipe import Recipe
from alexnet.training.run_config import RunConfig
from alexnet.training.trainer import RunCallback
from tests.conftest import CPU, tiny

TUNED = ProcessSpec("tuned", "glibc.malloc.trim_threshold=4294967296")
LIMITS = MachineLimits(flops_per_second=1e9, bytes_per_second=1e6)


def ignore_progress(done: int, total: int) -> None:
    """A progress callback that does nothing."""


# ---- the roofline


def test_the_cost_of_the_papers_network_equals_the_sum_by_hand() -> None:
    convolutions = 290_400 * 363 + 186_624 * 1200 + 64_896 * 2304 + 64_896 * 1728 + 43_264 * 1728
    forward = convolutions + 9216 * 4096 + 4096 * 4096 + 4096 * 1000
    layers = layer_costs(PAPER.network, 1000)
    assert roofline.training_multiply_adds(layers) == 3 * forward - 290_400 * 363 == 2_067_805_248
    assert (
        roofline.stored_outputs(PAPER.network, 1000)
        == 290_400 + 69_984 + 186_624 + 43_264 + 2 * 64_896 + 43_264 + 9216 + 2 * 4096 + 1000
    )
    assert roofline.update_bytes(layers) == 60_965_224 * 20 == 1_219_304_480


def test_a_training_step_costs_operations_an_update_and_outputs() -> None:
    cost = roofline.training_cost("paper", PAPER.network, 1000, batch_size=128, itemsize=2)
    assert cost.flops == 128 * 4_135_610_496
    assert cost.bytes == 1_219_304_480 + 128 * 781_736 * 6 * 2


def test_inference_reads_each_weight_once() -> None:
    cost = roofline.inference_cost("paper", PAPER.network, 1000, batch_size=2, itemsize=4)
    assert cost.flops == 2 * 2 * 724_406_816
    assert cost.bytes == 4 * (60_965_224 + 2 * 2 * 781_736)


def test_the_roofline_is_the_sum_of_compute_and_memory_time() -> None:
    cost = WorkloadCost("work", flops=2 * 10**9, bytes=3 * 10**6, derivation="")
    assert LIMITS.compute_seconds(cost) == 2.0
    assert LIMITS.memory_seconds(cost) == 3.0
    assert LIMITS.seconds(cost) == 5.0


def test_the_limits_are_the_best_of_all_rounds() -> None:
    timings = {
        MATRIX_PRODUCT: Timing((4.0, 2.0), 0),
        CONVOLUTION: Timing((1e6,), 0),
        MEMORY_COPY: Timing((8.0, 0.5), 0),
    }
    throughputs = best_rates(timings, CPU)
    limits = machine_limits(throughputs)
    assert limits == MachineLimits(2 * 4096**3 / 2, 2 * 2**28 / 0.5)
    assert throughputs[MATRIX_PRODUCT] == limits.flops_per_second > throughputs[CONVOLUTION]


# ---- the rows


def make_case(name: str, against: str | None, unit: Unit) -> BenchmarkCase:
    cost = WorkloadCost("work", 10**9, 10**6, "counted by hand")
    return BenchmarkCase(name, DEFAULTS, malloc_length_workload, against, cost, unit)


def test_rows_from_given_times() -> None:
    cases = [
        make_case("ours", "torch", "images/s"),
        make_case("torch", None, "images/s"),
        make_case("short", "unavailable", "ms"),
        make_case("unavailable", None, "ms"),
    ]
    timings = {
        "ours": Timing((5.0, 4.0, 9.0), 8),
        "torch": Timing((20.0, 16.0), 8),
        "short": Timing((0.5,), 1),
    }
    first, second, third = make_rows(cases, timings, LIMITS)
    assert (first.value, first.median, first.ratio, first.floor_share) == (2.0, 8 / 5, 4.0, 0.5)
    assert (second.value, second.median, second.ratio) == (0.5, 8 / 18, None)
    assert (third.value, third.ratio) == (500.0, None)  # its baseline was not timed


def test_a_report_has_a_table_for_each_unit_and_names_unavailable_cases() -> None:
    cases = [make_case("ours", "torch", "images/s"), make_case("short", None, "ms")]
    timings = {"ours": Timing((4.0,), 8), "short": Timing((0.5,), 1)}
    report = BenchmarkReport(
        "a title",
        ("a legend",),
        {},
        {MEMORY_COPY: 1e6},
        LIMITS,
        (cases[0].cost,),
        tuple(make_rows(cases, timings, LIMITS)),
        {"torch": "is not here"},
    )
    assert [(title, len(rows)) for title, rows in report.tables()] == [
        ("a title, in images/s", 1),
        ("a title, in ms", 1),
    ]
    notes = report.notes()
    assert {"a legend", "not available: torch: is not here", "counted by hand"} < set(notes)
    assert "roofline of work: 2,000 ms = 1,000 ms for 1 GFLOP + 1,000 ms for 0.001 GB" in notes


# ---- the baselines


def relative_difference(logits: np.ndarray, expected: torch.Tensor) -> float:
    """The largest difference, relative to the largest logit."""
    return float(np.abs(logits - expected.numpy()).max() / expected.abs().max())


def model_and_logits(recipe: Recipe) -> tuple[AlexNet, torch.Tensor, torch.Tensor]:
    """A network with nonzero biases, inputs for it, and its logits."""
    model = init_weights(AlexNet(recipe.network, 10), 3).eval().requires_grad_(False)
    images, _ = inputs.fixed_batch(recipe.network.input, 3, torch.device("cpu"))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.uniform_(-0.5, 0.5, generator=torch.Generator().manual_seed(1))
    return model, images, model(images)


@pytest.mark.parametrize(
    "recipe",
    [PAPER, tiny(ORIGINAL), tiny(MODERN), tiny(CAFFE), tiny(OWT)],
    ids=lambda recipe: recipe.name,
)
def test_the_torch_model_with_our_weights_computes_our_logits(recipe: Recipe) -> None:
    model, images, logits = model_and_logits(recipe)
    baseline = torch_baselines.torch_model(recipe.network, 10).eval()
    torch_baselines.copy_weights(baseline, model)
    with torch.inference_mode():
        assert relative_difference(baseline(images).numpy(), logits) < 1e-5


def test_a_layer_that_torch_lacks_makes_the_baseline_unavailable() -> None:
    with pytest.raises(Unavailable, match="no module for Local"):
        torch_baselines.torch_model(CIFAR_11.network, 10)


@pytest.mark.parametrize(
    "engine",
    [onnx_baselines.onnx_runtime, partial(onnx_baselines.openvino, precision="f32")],
    ids=["onnxruntime", "openvino"],
)
@pytest.mark.parametrize(
    "recipe", [PAPER, tiny(MODERN), tiny(CAFFE)], ids=lambda recipe: recipe.name
)
def test_the_onnx_model_computes_our_logits(
    recipe: Recipe,
    engine: Callable[[bytes], onnx_baselines.Forward],
    request: pytest.FixtureRequest,
) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip(request.node.callspec.id.split("-")[-1])
    model, images, logits = model_and_logits(recipe)
    forward = engine(onnx_baselines.onnx_model(model, len(images)))
    assert relative_difference(forward(images.numpy()), logits) < 1e-5


@given(st.integers(1, 600), st.integers(1, 600), st.integers(0, 2**32))
def test_a_random_crop_box_lies_within_its_image(width: int, height: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    left, top, right, bottom = torch_baselines.random_crop_box((width, height), random)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


# ---- the workloads


@pytest.mark.parametrize("suite", ["train", "infer", "feed", "norm"])
def test_every_available_case_runs(
    suite: SuiteName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "IMAGES_PER_CLASS", 1)
    monkeypatch.setattr(suites, "MIN_IMAGES", 16)
    config = BenchmarkConfig(
        suite, tiny(PAPER), 2, repeats=1, threads=1, runtime=CPU, malloc_tunables=""
    )
    for case in suites.make_cases(config, tmp_path):
        if case.name.endswith("our malloc"):  # the same again, in another process
            continue
        with suppress(Unavailable):
            workload = case.build()
            assert workload.images == (1 if case.name.startswith("1:") else 2)
            assert workload.run() > 0


def test_a_training_run_leaves_no_threads(dataset: PreparedDataset) -> None:
    before = set(threading.enumerate())
    workload = workloads.training_run(tiny(PAPER), dataset.path, 8, CPU)
    assert workload.run() > 0
    assert not [thread for thread in threading.enumerate() if thread not in before]


def test_a_training_run_counts_steps_not_records(
    dataset: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(config: RunConfig, folder: Path, callback: RunCallback) -> None:
        for step in range(1, 100, 10):
            callback({"kind": "step", "step": step})

    clock = iter([100.0, 105.0])
    monkeypatch.setattr(workloads.trainer, "train", train)
    monkeypatch.setattr(workloads.time, "perf_counter", lambda: next(clock))
    workload = workloads.training_run(tiny(PAPER), dataset.path, 8, CPU)
    assert workload.run() == 0.5  # from step 11 to step 21


# ---- the timer


def malloc_length_workload() -> Workload:
    """A run takes as many seconds as there are letters in this process's allocator settings."""
    return Workload(lambda: float(len(os.environ.get("GLIBC_TUNABLES", ""))), 1)


def unavailable_workload() -> Workload:
    raise Unavailable("is not installed")


def crashing_workload() -> Workload:
    os._exit(7)


def test_each_case_runs_under_the_settings_of_its_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=0")
    cases = [
        Case("a", TUNED, malloc_length_workload),
        Case("b", DEFAULTS, malloc_length_workload),
        Case("c", DEFAULTS, unavailable_workload),
    ]
    reported: list[tuple[int, int]] = []
    timings, unavailable = time_interleaved(
        cases,
        repeats=2,
        threads=1,
        progress=lambda done, total: reported.append((done, total)),
    )
    assert set(timings["a"].seconds) == {float(len(TUNED.malloc_tunables))}
    assert set(timings["b"].seconds) == {0.0}
    assert unavailable == {"c": "is not installed"}
    assert [done for done, _ in reported] == list(range(1, 8))
    assert reported[-1] == (7, 7)
    assert os.environ["GLIBC_TUNABLES"] == "glibc.malloc.check=0"


def test_an_error_names_the_case_whose_process_ended() -> None:
    cases = [Case("d", DEFAULTS, crashing_workload)]
    with pytest.raises(AlexNetError, match="^d: its process ended"):
        time_interleaved(cases, repeats=1, threads=1, progress=ignore_progress)


def test_the_benchmark_command_prints_rows() -> None:
    options = ["--device=cpu", "--repeats=1", "--batch-size=2", "--threads=1", "--json"]
    command = [sys.executable, "-m", "alexnet", "benchmark", "norm", *options]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)
    assert [row["name"] for row in report["rows"] if row["against"] is None] == [
        "norm1: torch",
        "norm2: torch",
    ]
    for row in report["rows"]:
        assert row.keys() == {"name", "value", "median", "unit", "against", "ratio", "floor_share"}
        assert row["unit"] == "ms"
        assert 0 < row["value"] <= row["median"]
        assert row["floor_share"] > 0
    assert report["machine_limits"].keys() == {"flops_per_second", "bytes_per_second"}
    assert not report["unavailable"]


def test_a_class_folder_of_given_images(tmp_path: Path) -> None:
    cats = tmp_path / "mine" / "cats"
    cats.mkdir(parents=True)
    for i in range(3):
        Image.new("RGB", (9, 9), (80 * i, 0, 0)).save(cats / f"{i}.jpg")
    dogs = tmp_path / "mine" / "dogs"
    dogs.mkdir()
    (dogs / "4.png").write_bytes(b"not a JPEG file")
    source = str(tmp_path / "mine")
    folder = inputs.make_class_folder(tmp_path, 7, workers=1, source=source)
    files = sorted(folder.rglob("*.jpg"))
    assert len(files) == 7
    assert len({file.read_bytes() for file in files}) == 3
    for file in cats.glob("*.jpg"):
        file.unlink()
    with pytest.raises(AlexNetError, match="found no JPEG files"):
        inputs.make_class_folder(tmp_path / "again", 7, workers=1, source=source)
