"""A run's directory: what is written is read again, and partial writes are not."""

from pathlib import Path

import pytest

from alexnet.core.errors import AlexNetError
from alexnet.training import run_dir
from alexnet.training.run_dir import RunHistory, display_names


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    run_dir.write_recipe(folder, {"dataset": "patterns"})
    run_dir.append_metrics(folder, {"kind": "step", "loss": 2.0})
    for epoch, error in ((1, 50.0), (2, 30.0), (3, 30.0)):
        record = {"kind": "epoch", "epoch": epoch, "val_top1_error": error}
        run_dir.append_metrics(folder, record)
    run_dir.append_metrics(folder, {"kind": "epoch", "epoch": 4})
    return folder


def test_a_history_is_what_was_written(run: Path) -> None:
    history = run_dir.read_history(run)
    assert history.description == {"dataset": "patterns"}
    assert [record["loss"] for record in history.of("step")] == [2.0]
    assert [record["epoch"] for record in history.of("epoch")] == [1, 2, 3, 4]
    assert [record["epoch"] for record in history.validated] == [1, 2, 3]
    assert history.best is not None and history.best["epoch"] == 2
    with pytest.raises(AlexNetError, match="its recipe cannot be read"):
        _ = history.recipe


def test_a_line_under_way_is_left_out(run: Path) -> None:
    before = run_dir.read_metrics(run)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "ep')
    assert run_dir.read_metrics(run) == before


def test_metrics_are_cut_to_their_length_at_a_checkpoint(run: Path) -> None:
    length = run_dir.fsync_metrics(run)
    before = (run / "metrics.jsonl").read_bytes()
    run_dir.append_metrics(run, {"kind": "step", "loss": 1.0})
    run_dir.truncate_metrics(run, length)
    assert (run / "metrics.jsonl").read_bytes() == before
    run_dir.truncate_metrics(run, length + 100)  # lost records are not replaced by zeros
    assert (run / "metrics.jsonl").read_bytes() == before


def test_partial_files_are_removed(run: Path) -> None:
    partial = run / "checkpoints" / "step-1.safetensors.writing"
    partial.parent.mkdir()
    partial.touch()
    run_dir.remove_partial_files(run)
    assert not partial.exists() and (run / "recipe.json").exists()


def test_a_directory_that_is_not_a_runs_is_named(tmp_path: Path, run: Path) -> None:
    with pytest.raises(AlexNetError, match="not a run's directory"):
        run_dir.read_history(tmp_path)
    with pytest.raises(AlexNetError, match="its dataset patterns is not there"):
        run_dir.read_run(run)
    (run / "recipe.json").write_text("{}")
    with pytest.raises(AlexNetError, match="no dataset in its recipe.json"):
        run_dir.read_run(run)


def test_names_have_as_many_parents_as_needed(tmp_path: Path) -> None:
    folders = [tmp_path / "a" / "run", tmp_path / "b" / "run", tmp_path / "b" / "other"]
    runs = [RunHistory(folder, {}, ()) for folder in folders]
    assert display_names(runs) == ["a/run", "b/run", "b/other"]
    assert display_names(runs[1:]) == ["run", "other"]
    assert display_names([runs[0], runs[0]]) == ["run", "run"]
