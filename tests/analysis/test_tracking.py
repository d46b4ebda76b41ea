"""Trackers get what metrics.jsonl has, also from a resumed run, and cannot end a training.

Their own libraries read back what was logged; Weights & Biases and MLflow run without a server.
"""

import json
import struct
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

import alexnet
from alexnet.__main__ import cli
from alexnet.analysis.plots.filters import first_layer_filters, tile_filters
from alexnet.analysis.tracking import session
from alexnet.analysis.tracking.session import tracked
from alexnet.analysis.tracking.tracker import (
    TrackedRun,
    Tracker,
    TrackerName,
    hyperparameters,
    logged_values,
)
from alexnet.core.errors import AlexNetError, UsageError
from alexnet.data.prepared import PreparedDataset
from alexnet.models.model_file import MODEL_FILE, read_model_file
from alexnet.recipes.overrides import override
from alexnet.recipes.presets import MODERN
from alexnet.training.run_config import RunConfig, require_new
from alexnet.training.run_dir import read_metrics
from alexnet.training.trainer import Record, RunStopped, train
from tests.conftest import tiny, tiny_config

EPOCHS = 2

Series = dict[str, list[tuple[int, float]]]  # by name: (step, value) in the order of the log


@pytest.fixture
def config(dataset: PreparedDataset) -> RunConfig:
    return tiny_config(dataset, tiny(MODERN, epochs=EPOCHS, batch_size=16))


def train_with(
    tracker: TrackerName | None,
    config: RunConfig,
    folder: Path,
    stop: Callable[[], int] = lambda: 0,
) -> list[Record]:
    """Train with one tracker, or those the run has; return the records the callback got."""
    records: list[Record] = []
    names = () if tracker is None else (tracker,)
    with tracked(names, config, folder, records.append) as tracking:
        train(config, folder, tracking.log, stop, epoch_callback=tracking.log_filters)
    return records


def kill_after(batches: int) -> Callable[[], int]:
    """Return a `stop` that raises at a batch, as if the process were killed there."""
    left = iter(range(batches))

    def stop() -> int:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return 0

    return stop


def train_killed_and_resumed(
    tracker: TrackerName, config: RunConfig, folder: Path, pause: float = 0.0
) -> None:
    """Train, kill the run some batches after a checkpoint, and resume it from there.

    `pause`: seconds that must lie between two starts.
    """
    stops = iter([0, 0, 15])
    with pytest.raises(RunStopped):
        train_with(tracker, config, folder, lambda: next(stops))
    time.sleep(pause)
    with pytest.raises(KeyboardInterrupt):
        train_with(None, config, folder, kill_after(2))
    time.sleep(pause)
    records = train_with(None, config, folder)
    assert not [record for record in records if "failed" in record.get("text", "")]


def expected_series(folder: Path) -> Series:
    """Return what metrics.jsonl has, as a tracker should have it."""
    series: Series = defaultdict(list)
    for record in read_metrics(folder):
        if record["kind"] in ("step", "epoch"):
            for name, value in logged_values(record).items():
                series[name].append((record["step"], value))
    assert len(series["epoch/val_top1_error"]) == EPOCHS and len(series["step/loss"]) > EPOCHS
    return dict(series)


def without_measured(series: Series) -> Series:
    """Leave out what is measured: a step that is computed again has another speed."""
    measured = ("step/images_per_second", "epoch/seconds")
    return {name: values for name, values in series.items() if name not in measured}


def epoch_steps(series: Series) -> list[int]:
    return [step for step, _ in series["epoch/train_loss"]]


# ---- each tracker


def tensorboard_series(folder: Path) -> tuple[Series, list[int]]:
    """Return the scalars of a run's event files, and the steps of its images of filters."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"), {"images": 0, "scalars": 0})
    events.Reload()
    tags = events.Tags()
    series = {tag: [(it.step, it.value) for it in events.Scalars(tag)] for tag in tags["scalars"]}
    assert tags["images"] == ["filters/conv1"]
    return series, [image.step for image in events.Images("filters/conv1")]


def test_tensorboard_reads_the_numbers_of_metrics_jsonl(config: RunConfig, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    train_killed_and_resumed("tensorboard", config, tmp_path)
    expected = expected_series(tmp_path)
    series, image_steps = tensorboard_series(tmp_path)
    assert series.keys() == expected.keys()
    for name, values in expected.items():
        assert [step for step, _ in series[name]] == [step for step, _ in values], name
        assert [value for _, value in series[name]] == pytest.approx(
            [value for _, value in values], rel=1e-6
        ), f"{name}, to float32, which TensorBoard keeps"
    assert image_steps == epoch_steps(expected)


def wandb_records(file: Path) -> Iterator[Any]:
    """Yield the records of a file that waits to be synchronized (a LevelDB log of messages)."""
    messages: Any = import_module("wandb.proto.wandb_internal_pb2")
    data = file.read_bytes()
    block = 32768
    position = 7  # after the file's header
    message = b""
    while position + 7 <= len(data):
        if block - position % block < 7:  # too little for the header of a part
            position += block - position % block
        _, length, kind = struct.unpack_from("<IHB", data, position)
        message += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # a whole message, or its last part
            record = messages.Record()
            record.ParseFromString(message)
            yield record
            message = b""


def finished_wandb_records(file: Path) -> list[Any]:
    """Return the records of a run's file once its last one is there: another process writes it."""
    for _ in range(300):
        records = list(wandb_records(file))
        if records and records[-1].HasField("exit"):
            return records
        time.sleep(0.1)
    raise AssertionError(f"{file.name} has no end")


def wandb_history(folder: Path) -> dict[int, dict[str, Any]]:
    """Return what the files of one run have by step; of a step logged twice the first, as there."""
    history: dict[int, dict[str, Any]] = {}
    ids = set()
    for file in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        for record in finished_wandb_records(file):
            if record.HasField("run"):
                ids.add(record.run.run_id)
            if record.HasField("history"):
                items = record.history.item
                values = {"/".join(it.nested_key): json.loads(it.value_json) for it in items}
                history.setdefault(values["_step"], values)
    assert len(ids) == 1, "a resumed run is the same run"
    return history


def test_wandb_has_the_numbers_of_metrics_jsonl(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_SILENT", "true")
    train_killed_and_resumed("wandb", config, tmp_path, pause=1.0)  # files are named by the second
    history = wandb_history(tmp_path)
    expected = expected_series(tmp_path)
    for name, values in without_measured(expected).items():
        assert values == [(step, it[name]) for step, it in history.items() if name in it]
    with_image = [step for step, it in history.items() if "filters/conv1/_type" in it]
    assert with_image == epoch_steps(expected)


def test_mlflow_has_the_numbers_of_metrics_jsonl(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    folder = tmp_path / "run"
    train_killed_and_resumed("mlflow", config, folder)
    expected = expected_series(folder)
    client = mlflow.MlflowClient()
    (run,) = client.search_runs(["0"])
    series = {
        name: [(it.step, it.value) for it in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }
    assert series.keys() == expected.keys()
    assert without_measured(series) == without_measured(expected)
    assert run.info.status == "FINISHED" and run.info.run_name == "run"
    assert run.data.params["training.batch_size"] == "16"
    images = client.list_artifacts(run.info.run_id, "filters/conv1")
    assert [Path(it.path).stem for it in images] == [f"{it:08d}" for it in epoch_steps(expected)]


# ---- any tracker


class Recording:
    """A tracker that keeps what it gets, and fails from a step on."""

    run_id = "recording"

    def __init__(self, fails_at: int = 10**9) -> None:
        self.fails_at = fails_at
        self.steps: list[int] = []
        self.images: list[Image.Image] = []
        self.ended: list[bool] = []

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if step >= self.fails_at:
            raise ConnectionError("the server\nis gone")
        self.steps.append(step)

    def log_image(self, step: int, name: str, image: Image.Image) -> None:
        self.images.append(image)

    def close(self, is_finished: bool) -> None:
        self.ended.append(is_finished)


def use_tracker(monkeypatch: pytest.MonkeyPatch, tracker: Recording) -> None:
    monkeypatch.setattr(session, "_open_tracker", lambda name, run: tracker)
    monkeypatch.setattr(session, "require_trackers", lambda names: None)


def test_the_last_image_is_that_of_the_final_filters(
    dataset: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = Recording()
    use_tracker(monkeypatch, tracker)
    config = tiny_config(dataset, tiny(MODERN, epochs=1, batch_size=16))
    train_with("wandb", config, tmp_path)
    filters = first_layer_filters(read_model_file(tmp_path / MODEL_FILE))
    (image,) = tracker.images
    assert image == tile_filters(filters.weight, filters.towers)
    assert tracker.ended == [True]


def test_a_tracker_that_fails_is_dropped_with_one_warning(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = Recording(fails_at=2)
    use_tracker(monkeypatch, tracker)
    records = train_with("mlflow", config, tmp_path)
    texts = [record["text"] for record in records if record["kind"] == "warning"]
    assert [text for text in texts if "mlflow" in text] == [
        "mlflow failed (the server is gone); nothing more is logged to it"
    ]
    assert tracker.steps == [1] and tracker.images == [] and tracker.ended == []
    epochs = [record["epoch"] for record in records if record["kind"] == "epoch"]
    assert epochs == [1, 2], "the training went on"


def test_a_tracker_that_cannot_begin_stops_the_run_before_its_first_step(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str, run: TrackedRun) -> Tracker:
        raise ValueError("no API key\nconfigured")

    monkeypatch.setattr(session, "_open_tracker", fail)
    monkeypatch.setattr(session, "require_trackers", lambda names: None)
    with pytest.raises(AlexNetError, match=r"^--log wandb: cannot begin \(no API key configured\)"):
        train_with("wandb", config, tmp_path)
    assert [record["kind"] for record in read_metrics(tmp_path)] == ["begin"]
    require_new(tmp_path)  # the same command can be given again


def test_a_tracker_that_is_not_installed_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "find_spec", lambda name: None)
    for start in (
        lambda: alexnet.train(tmp_path / "none", log=["tensorboard"]),
        lambda: CliRunner().invoke(
            cli, ["train", str(tmp_path), "--log", "tensorboard"], catch_exceptions=False
        ),
    ):
        with pytest.raises(AlexNetError, match=r'pip install "alexnet\[tensorboard\]"'):
            start()


def test_an_unknown_tracker_is_refused() -> None:
    with pytest.raises(UsageError, match="log comet: unknown; expected tensorboard, wandb, mlflow"):
        session.require_trackers(["comet"])


def test_a_folder_named_as_a_library_is_not_taken_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mlflow").mkdir()
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "mlflow", raising=False)
    with pytest.raises(AlexNetError, match="not installed"):
        session.require_trackers(["mlflow"])


def test_hyperparameters_are_flat_and_named_as_set_takes_them(config: RunConfig) -> None:
    values = hyperparameters(config)
    assert values["recipe"] == "modern" and values["seed"] == config.seed
    assert values["network.layers.conv1.kernel_size"] == 11
    assert values["network.input"] == "[3, 99, 99]"
    for name, value in values.items():
        if name.startswith(("network.layers.conv", "training.batch")):
            assert override(config.recipe, f"{name}={value}") == config.recipe, name
