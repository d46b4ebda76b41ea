"""What train prints at a run's end, for a finished run, and where an option does not apply."""

from pathlib import Path

from click.testing import CliRunner, Result

from alexnet.__main__ import cli
from alexnet.core.errors import UsageError
from alexnet.data.prepared import PreparedDataset
from alexnet.recipes.presets import MODERN
from alexnet.training import trainer
from tests.conftest import tiny, tiny_config


def resume(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, ["train", "--resume", str(folder), *words])


def test_a_finished_run_says_so_and_names_its_best_epoch(
    dataset: PreparedDataset, tmp_path: Path
) -> None:
    recipe = tiny(MODERN, epochs=2, batch_size=32)
    config = tiny_config(dataset, recipe)
    summary = trainer.train(config, tmp_path, lambda record: None)
    ended = resume(tmp_path)
    assert ended.exit_code == 0, ended.output
    lines = ended.output.splitlines()
    assert config.val is not None
    assert lines[0] == "finished already: 2 of 2 epochs"
    assert lines[1] == (
        f"best model: epoch {summary['best_epoch']}, top-1 error {summary['top1_error']:.2f} % "
        f"on the val split ({len(config.val)} images)"
    )
    refused = resume(tmp_path, "--epochs", "20")
    assert isinstance(refused.exception, UsageError)
    assert f"start a new run with --init-from {tmp_path}" in str(refused.exception)
