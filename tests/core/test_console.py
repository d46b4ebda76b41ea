"""What the console shows where there is no terminal: plain lines, tables, JSON."""

import json
import os
import subprocess
import sys

import pytest

from alexnet.core import console


@pytest.mark.parametrize(
    ("seconds", "text"), [(45.2, "45 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations_are_in_words(seconds: float, text: str) -> None:
    assert console.format_duration(seconds) == text


def test_progress_goes_to_standard_error_and_its_last_line_always_shows(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with console.progress_bar("preparing") as progress:
        progress(1, 1200)
        progress(1200, 1200)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("preparing: 1,200 of 1,200 images, ")
    assert shown.err.count("\n") == 1


def test_a_training_shows_epochs_warnings_and_the_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "SECONDS_BETWEEN_LINES", 0.0)
    step = {"kind": "step", "epoch": 1.5, "loss": 0.25, "images_per_second": 80.4}
    epoch = {"kind": "epoch", "epoch": 2, "seconds": 70, "train_loss": 0.5}
    with console.training_progress(100) as log:
        log(step | {"step": 51})  # a resumed run
        log(epoch | {"val_top1_error": 12.5, "val_top5_error": None})
        log({"kind": "warning", "text": "a record is damaged"})
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("epoch 1.50, loss 0.250, 80 images/s, ")
    assert lines[1] == (
        "epoch 2 done after 1 min 10 s: training loss 0.500, validation top-1 error 12.50 %"
    )
    assert lines[2] == "warning: a record is damaged"


def test_tables_and_json_go_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_table("layers", ["name", "parameters"], [["conv1", 34944], ["relu1", None]])
    table = capsys.readouterr().out
    assert "34,944" in table and "conv1" in table and " -" in table
    console.print_json({"images": 3})
    assert json.loads(capsys.readouterr().out) == {"images": 3}


def test_a_list_of_json_is_printed_as_it_comes(capsys: pytest.CaptureFixture[str]) -> None:
    values = [{"path": "a", "top": [1, 2]}, {"path": "b\nc", "top": []}]
    for count in range(3):
        console.print_json(values[:count])
        expected = capsys.readouterr().out
        with console.json_list() as add:
            for value in values[:count]:
                add(value)
        assert capsys.readouterr().out == expected
    with pytest.raises(ValueError), console.json_list() as add:
        add(1)
        raise ValueError("interrupted")
    assert json.loads(capsys.readouterr().out) == [1]


RESULTS_DURING_PROGRESS = """
from alexnet.core import console
with console.progress_bar("predicting") as progress:
    progress(1, 2)
    console.print_line("a result")
    progress(2, 2)
"""


def test_results_in_a_file_do_not_go_to_the_terminal_with_the_bar() -> None:
    if sys.platform == "win32":
        pytest.skip("Windows has no pseudo-terminals of this kind")
    import pty

    terminal, stderr = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", RESULTS_DURING_PROGRESS],
        stdout=subprocess.PIPE,
        stderr=stderr,
        env=os.environ | {"TERM": "xterm"},
        text=True,
    )
    os.close(stderr)
    shown = os.read(terminal, 10_000).decode()
    os.close(terminal)
    assert done.stdout == "a result\n"
    assert "predicting: 2 of 2 images" in shown and "a result" not in shown
