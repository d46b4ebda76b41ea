"""What the help promises: nothing is cut, commands stand in the order of use, and it is fast."""

import os
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from alexnet.__main__ import cli

COLUMNS = "80"
IN_ORDER_OF_USE = [
    "demo",
    "prepare",
    "train",
    "evaluate",
    "predict",
    "describe",
    "show",
    "features",
    "neighbors",
    "experiment",
    "report",
    "weights",
    "import",
    "export",
    "serve",
    "benchmark",
    "doctor",
]
FIGURES = [
    "network",
    "schedule",
    "activations",
    "augmentations",
    "filters",
    "predictions",
    "layers",
    "saliency",
    "confusion",
    "curves",
]


def all_commands(group: click.Group, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the words of every command below a group, the groups themselves included."""
    yield words
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from all_commands(command, (*words, name))
        else:
            yield (*words, name)


EVERY_COMMAND = pytest.mark.parametrize("words", list(all_commands(cli)), ids=" ".join)


def help_of(*words: str) -> str:
    ended = CliRunner(env={"COLUMNS": COLUMNS}).invoke(cli, [*words, "--help"])
    assert ended.exit_code == 0, ended.output
    return ended.output


def listed(text: str) -> list[str]:
    """Return the lines of a help's list of commands."""
    return text.split("Commands:\n")[1].splitlines()


@pytest.mark.parametrize(
    ("words", "names"),
    [((), IN_ORDER_OF_USE), (("show",), FIGURES), (("import",), ["caffe", "torchvision"])],
)
def test_commands_are_listed_in_the_order_of_use_and_not_cut(
    words: tuple[str, ...], names: list[str]
) -> None:
    lines = listed(help_of(*words))
    assert [line.split()[0] for line in lines] == names, "one line a command"
    for line in lines:
        assert line.endswith(".") and not line.endswith("..."), line
        assert len(line) <= int(COLUMNS)


@EVERY_COMMAND
def test_every_help_has_an_example_and_fits_the_terminal(words: tuple[str, ...]) -> None:
    text = help_of(*words)
    assert "Example" in text
    for line in text.splitlines():
        assert len(line) <= 100, line


@EVERY_COMMAND
def test_every_option_has_a_help(words: tuple[str, ...]) -> None:
    command: click.Command = cli
    for word in words:
        assert isinstance(command, click.Group)
        command = command.commands[word]
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, f"{' '.join(words)} {option.opts[0]}"


def test_help_takes_less_than_a_third_of_a_second() -> None:
    seconds = []
    for _ in range(3):
        before = os.times()
        subprocess.run(
            [sys.executable, "-m", "alexnet", "train", "--help"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        after = os.times()  # time on a processor: other programs do not count
        user = after.children_user - before.children_user
        seconds.append(user + after.children_system - before.children_system)
    assert min(seconds) < 0.3
