"""Training processes of the service: one at a time, stopped with their state saved, resumed."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from alexnet.data.prepared import PreparedDataset
from alexnet.inference.server.api_error import ApiError
from alexnet.inference.server.run_monitor import Histories, RunStatus, run_status
from alexnet.inference.server.training_jobs import TrainingJobs, last_error
from alexnet.training.checkpoint import saved_steps
from tests.helpers.training_service import records

RECIPE = ["--recipe", "cifar-18pct"]  # its network takes 32 pixels: quick
PATIENCE = 120.0  # seconds, on a busy machine


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[TrainingJobs]:
    """Provide the training jobs of an empty folder, stopped at the end."""
    jobs = TrainingJobs(tmp_path, "cpu")
    yield jobs
    jobs.close()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.02)


def has_begun(run: Path) -> bool:
    return (run / "metrics.jsonl").exists() and any(r["kind"] == "step" for r in records(run))


def status_of(run: Path, own: str | None) -> RunStatus:
    return run_status(run, Histories().of(run), own, True)


def test_a_stopped_run_has_saved_its_state_and_resumes_to_the_end(
    jobs: TrainingJobs, dataset: PreparedDataset, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    jobs.start("run", dataset.path, [*RECIPE, "--epochs", "40"])
    assert status_of(run, jobs.running).state == "running"
    with pytest.raises(ApiError, match="run is being trained"):
        jobs.start("other", dataset.path, RECIPE)
    with pytest.raises(ApiError, match="not trained by this server"):
        jobs.stop("other")
    wait_until(lambda: has_begun(run))
    jobs.stop("run")
    wait_until(lambda: jobs.running is None)

    stopped = status_of(run, None)
    assert (stopped.state, stopped.can_resume, stopped.error) == ("stopped", True, None)
    assert saved_steps(run / "checkpoints") > 0
    assert "state saved" in (run / "train.log").read_text()
    before = records(run)

    jobs.resume("run")
    wait_until(lambda: jobs.running is None)
    assert status_of(run, None).state == "finished"
    assert records(run)[: len(before)] == before, "the records go on where they stopped"
    assert records(run)[-1]["epoch"] == 40


def test_a_failed_process_leaves_its_last_line(
    jobs: TrainingJobs, dataset: PreparedDataset, tmp_path: Path
) -> None:
    jobs.start("run", dataset.path, ["--no-such-option"])
    wait_until(lambda: jobs.running is None)
    failed = status_of(tmp_path / "run", None)
    assert failed.state == "failed" and not failed.can_resume, "it has not begun"
    assert failed.error and failed.error.startswith("No such option")


def test_closing_stops_the_run_and_saves_its_state(
    jobs: TrainingJobs, dataset: PreparedDataset, tmp_path: Path
) -> None:
    jobs.start("run", dataset.path, [*RECIPE, "--epochs", "1000"])
    wait_until(lambda: has_begun(tmp_path / "run"))
    jobs.close()
    wait_until(lambda: saved_steps(tmp_path / "run" / "checkpoints") > 0)
    wait_until(lambda: status_of(tmp_path / "run", jobs.running).state == "stopped")


def test_the_error_is_the_last_line_or_the_signal(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_text("x" * 10_000 + "\nalexnet: out of luck; try again\n\n")
    assert last_error(log, 1) == "out of luck; try again"
    assert "signal 9" in last_error(log, -9)
    log.write_text("")
    assert last_error(log, 3) == "ended with status 3"
