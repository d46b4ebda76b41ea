"""The shell's completion: scripts without torch, and what completes words and paths."""

import os
import shutil
import subprocess
import sys

import pytest
from click.shell_completion import CompletionItem, ShellComplete

from alexnet.__main__ import cli

SCRIPT = """
import sys
from alexnet.__main__ import launch
sys.argv = ["alexnet"]
try:
    launch()
except SystemExit:
    sys.exit("torch" in sys.modules)
"""


def run_in_shell(**variables: str) -> str:
    """Return what the program prints for a shell that sets these variables; torch stays out."""
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=os.environ | variables, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def completions(*words: str) -> list[CompletionItem]:
    """Return what may stand in the place of the last word."""
    complete = ShellComplete(cli, {}, "alexnet", "_ALEXNET_COMPLETE")
    return complete.get_completions(list(words[:-1]), words[-1])


def values(*words: str) -> list[str]:
    return [item.value for item in completions(*words)]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_script_of_a_shell_is_printed(shell: str) -> None:
    script = run_in_shell(_ALEXNET_COMPLETE=f"{shell}_source")
    assert f"_ALEXNET_COMPLETE={shell}_complete" in script


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_accepts_its_script() -> None:
    script = run_in_shell(_ALEXNET_COMPLETE="bash_source")
    ended = subprocess.run(
        ["bash", "-c", script + "complete -p alexnet"], capture_output=True, text=True
    )
    assert ended.stdout.split()[-1] == "alexnet", ended.stderr


def test_a_word_after_a_model_is_completed_without_reading_the_model() -> None:
    words = "alexnet predict run-that-is-not-there cat"
    printed = run_in_shell(_ALEXNET_COMPLETE="zsh_complete", COMP_WORDS=words, COMP_CWORD="3")
    assert printed.split() == ["file", "cat", "_"]


def test_commands_options_and_their_values_are_completed() -> None:
    assert values("tr") == ["train"]
    assert values("show", "fil") == ["filters"]
    assert values("train", "dataset", "--log", "") == ["tensorboard", "wandb", "mlflow"]
    assert "--freeze-until" in values("train", "dataset", "--fr")


@pytest.mark.parametrize(
    "words",
    [
        ("predict", "ru"),
        ("predict", "run-that-is-not-there", "cat"),
        ("prepare", "pho"),
        ("train", "data"),
        ("evaluate", "run", "data"),
        ("show", "layers", "run", "cat"),
        ("neighbors", "run", "data"),
    ],
    ids=" ".join,
)
def test_paths_are_completed_by_the_shell(words: tuple[str, ...]) -> None:
    (item,) = completions(*words)
    assert item.type == "file" and item.value == words[-1]
