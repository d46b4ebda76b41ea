"""Runs over HTTP: their states and numbers, their events, and who may change anything."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from alexnet.core.locks import exclusive_lock
from alexnet.data.prepared import PreparedDataset
from alexnet.inference.server import run_routes
from alexnet.inference.server.run_events import MetricsTail, offset_of, run_events
from alexnet.inference.server.run_monitor import thin
from alexnet.inference.server.run_settings import fitting_batch_size, fitting_side
from alexnet.recipes.presets import MODERN, get_recipe
from alexnet.training import duration
from tests.conftest import tiny, tiny_config
from tests.helpers.training_service import parse_events, records, served, train_tiny

UNSAFE_NAMES = ["..", ".hidden", "a/b", "a\\b", "", "x" * 65, "con", "nul.txt", "a b", "ä", "end."]


@pytest.fixture(scope="module")
def folder(dataset: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a finished and a stopped run, and a link that leads out of it."""
    folder = tmp_path_factory.mktemp("served")
    outside = tmp_path_factory.mktemp("outside")
    train_tiny(dataset, folder / "done")
    train_tiny(dataset, folder / "half", steps=9)
    (outside / "recipe.json").write_text("{}")
    (folder / "link").symlink_to(outside, target_is_directory=True)
    return folder


def runs(client: TestClient) -> dict[str, dict[str, Any]]:
    return {run["name"]: run for run in client.get("/v1/runs").json()["runs"]}


# ---- what is told of runs


def test_runs_are_listed_with_their_state_and_numbers(folder: Path) -> None:
    with served(folder) as client:
        listed = runs(client)
    assert set(listed) == {"done", "half"}, "the link leads out of the folder"
    done = listed["done"]
    epochs = [record for record in records(folder / "done") if record["kind"] == "epoch"]
    best = min(epochs, key=lambda epoch: epoch["val_top1_error"])
    assert (done["state"], done["epoch"], done["epochs"]) == ("finished", 2, 2)
    assert done["step"] == done["steps"] == epochs[-1]["step"]
    assert done["val_top1_error"] == epochs[-1]["val_top1_error"]
    assert done["best_epoch"] == best["epoch"]
    assert done["seconds"] == epochs[-1]["seconds"]
    assert not done["can_resume"] and done["seconds_left"] is None
    assert (listed["half"]["state"], listed["half"]["can_resume"]) == ("stopped", True)
    assert 0 < listed["half"]["step"] < listed["half"]["steps"]


def test_a_run_is_running_while_a_process_holds_its_lock(folder: Path) -> None:
    with served(folder) as client:
        with exclusive_lock(folder / "half" / "lock", "busy"):
            running = runs(client)["half"]
            stop = client.post("/v1/runs/half/stop", json={})
        assert runs(client)["half"]["state"] == "stopped"
    assert (running["state"], running["can_stop"], running["can_resume"]) == (
        "running",
        False,
        False,
    )
    assert running["seconds_left"] > 0
    assert stop.status_code == 409, "it was started elsewhere"


def test_a_failed_run_tells_its_error(folder: Path) -> None:
    error = folder / "half" / "error.txt"
    error.write_text("non-finite loss at step 3\n")
    with served(folder) as client:
        failed = runs(client)["half"]
    error.unlink()
    assert (failed["state"], failed["error"]) == ("failed", "non-finite loss at step 3")
    assert failed["can_resume"]


def test_a_run_is_shown_with_its_history(folder: Path) -> None:
    with served(folder) as client:
        shown = client.get("/v1/runs/done").json()
        missing = client.get("/v1/runs/link")
    steps = [record for record in records(folder / "done") if record["kind"] == "step"]
    assert [step["loss"] for step in shown["history"]["steps"]] == [step["loss"] for step in steps]
    assert [epoch["epoch"] for epoch in shown["history"]["epochs"]] == [1, 2]
    assert shown["offset"] == (folder / "done" / "metrics.jsonl").stat().st_size
    assert missing.status_code == 404


def test_thinning_keeps_the_last_record_and_even_distances() -> None:
    values: list[dict[str, Any]] = [{"step": step} for step in range(2345)]
    steps = [record["step"] for record in thin(values, 1000)]
    assert steps[-1] == 2344
    assert len(steps) <= 1000
    assert {b - a for a, b in zip(steps, steps[1:], strict=False)} == {3}
    assert list(thin(values[:7], 1000)) == values[:7]


def test_the_time_left_is_that_of_the_epochs_left() -> None:
    recipe = tiny(get_recipe("original"), epochs=10)  # all epochs cost the same
    assert duration.seconds_left(recipe, 2.5, 30.0) == pytest.approx(30 / 2.5 * 7.5)
    assert duration.seconds_left(recipe, 10.0, 30.0) == 0
    assert duration.seconds_left(recipe, 0.0, 0.0) is None
    growing = tiny(MODERN, epochs=10)  # later epochs have larger images
    left = duration.seconds_left(growing, 5.0, 30.0)
    assert left is not None and left > 30


# ---- events


def test_events_are_the_lines_of_the_metrics_from_any_of_them(folder: Path) -> None:
    data = (folder / "done" / "metrics.jsonl").read_bytes()
    lines = data.decode().splitlines()
    with served(folder) as client:
        events = parse_events(client.get("/v1/runs/done/events").text)
        assert [text for kind, _, text in events if kind == "record"] == lines
        assert events[-1][0] == "end"
        for kind, offset, _ in events[:-1]:
            assert kind == "record" and data[offset - 1 : offset] == b"\n"
            sent = {"Last-Event-ID": str(offset)}
            later = parse_events(client.get("/v1/runs/done/events", headers=sent).text)
            after = client.get("/v1/runs/done/events", params={"after": offset}).text
            rest = data[offset:].decode().splitlines()
            assert [text for kind, _, text in later if kind == "record"] == rest
            assert parse_events(after) == later


def test_a_growing_file_is_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = MetricsTail(path)
    assert tail.read() == (False, [])
    path.write_bytes(b'{"a": 1}\n{"b"')
    assert tail.read() == (False, [(9, b'{"a": 1}')])
    assert tail.read() == (False, [])
    with path.open("ab") as file:
        file.write(b": 2}\n")
    assert tail.read() == (False, [(18, b'{"b": 2}')])


@pytest.mark.parametrize("again", [b'{"b": 3}\n', b'{"b": 3}\n{"c": 4}\n', b""])
def test_a_file_that_was_cut_is_sent_again(tmp_path: Path, again: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"a": 1}\n{"b": 2}\n')
    tail = MetricsTail(path)
    tail.read()
    path.write_bytes(b'{"a": 1}\n' + again)
    is_cut, lines = tail.read()
    assert is_cut
    assert b"".join(line + b"\n" for _, line in lines) == path.read_bytes()


def test_an_offset_that_is_no_end_of_a_line_starts_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"a": 1}\n')
    for offset in (4, 10**9, 10**14):
        is_cut, lines = MetricsTail.after(path, offset).read()
        assert is_cut and lines == [(9, b'{"a": 1}')]
    assert [offset_of(text) for text in (None, "x", "-3", "٣", "9" * 99, "17")] == [0] * 5 + [17]


def test_a_stream_ends_when_the_service_stops(tmp_path: Path) -> None:
    async def collect() -> list[str]:
        stopping = asyncio.Event()
        events = []
        async for text in run_events(MetricsTail(tmp_path / "none"), lambda: True, stopping):
            events.append(text)
            stopping.set()
        return events

    assert asyncio.run(asyncio.wait_for(collect(), 5)) == ["retry: 1000\n\n"]


def test_the_number_of_streams_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_routes, "MAX_STREAMS", 1)
    with served(folder) as client:
        for _ in range(3):  # one after the other is not too many
            assert client.get("/v1/runs/done/events").status_code == 200
        monkeypatch.setattr(run_routes, "MAX_STREAMS", 0)
        refused = client.get("/v1/runs/done/events")
    assert refused.status_code == 503
    assert refused.headers["retry-after"]


# ---- who may change something


def test_nothing_can_be_changed_without_allow_training(folder: Path) -> None:
    with served(folder, allow_training=False) as client:
        paths = ["/v1/runs", "/v1/runs/half/stop", "/v1/runs/half/resume", "/v1/uploads"]
        answers = [client.post(path, json={}) for path in paths]
        listed = runs(client)
    assert [answer.status_code for answer in answers] == [403] * 4
    assert all("--allow-training" in answer.json()["error"] for answer in answers)
    assert not any(run["can_resume"] for run in listed.values())


def test_without_a_folder_there_are_no_runs() -> None:
    with served(None) as client:
        assert client.get("/v1/runs").status_code == 404
        assert client.post("/v1/uploads", json={}).status_code == 404
        assert client.get("/v1/uploads/x").status_code == 404


@pytest.mark.parametrize(
    "content_type, status",
    [
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/json; charset=utf-8", 400),  # of a run without a name
    ],
)
def test_what_a_form_could_send_is_refused(folder: Path, content_type: str, status: int) -> None:
    headers = {"Content-Type": content_type}
    with served(folder) as client:
        assert client.post("/v1/runs", content=b"{}", headers=headers).status_code == status


@pytest.mark.parametrize("name", [*UNSAFE_NAMES, None, 3])
def test_unsafe_names_are_refused(folder: Path, name: object) -> None:
    before = sorted(path.name for path in folder.iterdir())
    with served(folder) as client:
        new = client.post("/v1/runs", json={"name": name, "dataset": "x"})
        of = client.post("/v1/runs", json={"name": "fine", "dataset": name})
    assert (new.status_code, of.status_code) == (400, 400)
    assert sorted(path.name for path in folder.iterdir()) == before


def test_a_name_that_leads_out_or_is_used_is_refused(folder: Path) -> None:
    with served(folder) as client:
        out = client.post("/v1/runs", json={"name": "link", "dataset": "x"})
        no_dataset = client.post("/v1/runs", json={"name": "fine", "dataset": "link"})
        missing = client.post("/v1/runs", json={"name": "done", "dataset": "x"})
        resume = client.post("/v1/runs/done/resume", json={})
    assert [out.status_code, no_dataset.status_code, missing.status_code] == [404, 404, 404]
    assert resume.status_code == 409


def test_a_recipe_that_does_not_fit_is_refused_with_the_reason(
    folder: Path, dataset: PreparedDataset
) -> None:
    shutil.copytree(dataset.path, folder / "patterns")
    with served(folder) as client:
        values = {"name": "fine", "dataset": "patterns"}
        listed = client.get("/v1/datasets").json()["datasets"]
        unfit = client.post("/v1/runs", json=values | {"recipe": "fashion"})
        used = client.post("/v1/runs", json=values | {"name": "done"})
        unknown = client.post("/v1/runs", json=values | {"recipe": "vgg"})
        long = client.post("/v1/runs", json=values | {"epochs": 10**6})
    assert [one["name"] for one in listed] == ["patterns"]
    assert listed[0]["splits"] == {name: len(split) for name, split in dataset.splits.items()}
    assert unfit.status_code == 400 and "grayscale" in unfit.json()["error"]
    assert (used.status_code, unknown.status_code, long.status_code) == (409, 400, 400)
    assert not (folder / "fine").exists()


# ---- the settings of a run


@pytest.mark.parametrize("size, side", [(66, None), (80, 67), (104, 67), (112, 99), (256, None)])
def test_the_input_fits_the_images_with_a_margin(size: int, side: int | None) -> None:
    assert fitting_side(MODERN, size) == side
    assert fitting_side(get_recipe("cifar-18pct"), size) is None


def test_few_images_get_small_batches() -> None:
    assert [fitting_batch_size(MODERN, images) for images in (100, 2000, 50_000)] == [16, 32, None]


def test_the_epochs_fit_into_the_minutes(
    dataset: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(dataset, tiny(MODERN, epochs=18))
    steps = config.recipe.training.steps_per_epoch(len(config.train))

    def epochs(step_seconds: float, minutes: float) -> int:
        monkeypatch.setattr(duration, "measure_step", lambda config: step_seconds)
        return duration.epochs_within(config, minutes)

    for minutes in (2, 5):
        few = epochs(1.0, minutes)
        assert few * steps * 1.0 <= 60 * minutes, "even at the smallest resolution"
        assert epochs(0.5, minutes) in (2 * few, 2 * few + 1)
    assert epochs(1e-6, 15) == duration.MAX_EPOCHS
    assert epochs(1e6, 1) == 1


def test_a_training_step_can_be_measured(
    dataset: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duration, "MEASURED_SECONDS", 0.0)
    assert duration.measure_step(tiny_config(dataset, tiny(MODERN))) > 0
