"""What a command shows to a person at a terminal, or to a program that reads its standard output.

Results go to standard output, as tables or as one JSON document. Progress and warnings go to
standard error: a bar on a terminal, plain lines every ten seconds elsewhere. Only the commands use
this; the packages below them return values and never print.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from textwrap import indent
from typing import Any

ProgressFn = Callable[[int, int], None]  # (done, total)
LogFn = Callable[[dict[str, Any]], None]  # receives the records of a run, as in metrics.jsonl
Stage = Callable[[str, str], AbstractContextManager[ProgressFn]]  # of (label, unit)
SECONDS_BETWEEN_LINES = 10.0
MAX_UNBROKEN_WORD = 16  # letters of a word in a table that is not broken to save width

_Show = Callable[[str, int, int], None]  # (text, done, total)


def ignore_progress(done: int, total: int) -> None:
    """Do nothing: the progress callback where none is given."""


def same_for_every_stage(progress: ProgressFn) -> Stage:
    """Return a stage function that gives every stage of the work the same progress callback."""

    def stage(label: str, unit: str) -> AbstractContextManager[ProgressFn]:
        return nullcontext(progress)

    return stage


def print_json(document: Any) -> None:
    """Print one JSON document on standard output."""
    print(json.dumps(document, indent=1))


@contextmanager
def json_list() -> Iterator[Callable[[Any], None]]:
    """Yield a function that prints a value as the next of one JSON list, on standard output."""
    separator = "["

    def add(value: Any) -> None:
        nonlocal separator
        print(f"{separator}\n{indent(json.dumps(value, indent=1), ' ')}", end="", flush=True)
        separator = ","

    try:
        yield add
    finally:
        print("[]" if separator == "[" else "\n]", flush=True)


def print_line(text: str) -> None:
    """Print one line on standard output."""
    print(text, flush=True)


def print_status(text: str) -> None:
    """Print one line on standard error."""
    print(text, file=sys.stderr, flush=True)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table on standard output; columns of numbers are aligned right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(title),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for index, column in enumerate(columns):
        values = [row[index] for row in rows]
        numeric = any(isinstance(value, int | float) for value in values)
        table.add_column(
            column,
            justify="right" if numeric else "left",
            overflow="fold",
            min_width=min(_longest_word([column, *map(_cell, values)]), MAX_UNBROKEN_WORD),
        )
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    Console().print(table)


def _longest_word(texts: Sequence[str]) -> int:
    return max(len(word) for text in texts for word in text.split())


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def format_duration(seconds: float) -> str:
    """Return seconds in words: 45 s, 3 min 20 s, 2 h 5 min."""
    rounded = round(seconds)
    if rounded < 60:
        return f"{rounded} s"
    if rounded < 3600:
        return f"{rounded // 60} min {rounded % 60} s"
    return f"{rounded // 3600} h {rounded % 3600 // 60} min"


@contextmanager
def progress_bar(label: str, unit: str = "images") -> Iterator[ProgressFn]:
    """Yield a function to call with (done, total); show it with the speed and the time left."""
    with _display() as show:
        start = time.monotonic()

        def progress(done: int, total: int) -> None:
            speed = done / max(time.monotonic() - start, 1e-9)
            left = ""
            if speed and done < total:
                left = f", {format_duration((total - done) / speed)} left"
            show(f"{label}: {done:,} of {total:,} {unit}, {speed:,.0f}/s{left}", done, total)

        yield progress


@contextmanager
def training_progress(steps: int) -> Iterator[LogFn]:
    """Yield a function to call with a run's records.

    Show loss, speed and time left as the run goes, and a line for every epoch and every warning.
    """
    with _display() as show:
        start = time.monotonic()
        first_step = -1  # unknown until the first record: a resumed run starts late

        def log(record: dict[str, Any]) -> None:
            nonlocal first_step
            match record["kind"]:
                case "step":
                    if first_step < 0:
                        first_step = record["step"] - 1
                    seconds = time.monotonic() - start
                    seconds_per_step = seconds / (record["step"] - first_step)
                    left = seconds_per_step * (steps - record["step"])
                    show(_step_line(record, left), record["step"], steps)
                case "epoch":
                    print_status(_epoch_line(record))
                case "warning":
                    print_status(f"warning: {record['text']}")
                case "parallel":
                    print_status(record["text"])

        yield log


def _step_line(record: dict[str, Any], seconds_left: float) -> str:
    speed = record["images_per_second"] or 0
    loss = f"epoch {record['epoch']:.2f}, loss {record['loss']:.3f}"
    return f"{loss}, {speed:.0f} images/s, {format_duration(seconds_left)} left"


def _epoch_line(record: dict[str, Any]) -> str:
    done = f"epoch {record['epoch']} done after {format_duration(record['seconds'])}"
    parts = [f"{done}: training loss {record['train_loss']:.3f}"]
    for name, key in (("validation top-1 error", "top1_error"), ("top-5", "top5_error")):
        error = record.get(f"val_{key}")
        if error is not None:
            parts.append(f"{name} {error:.2f} %")
    return ", ".join(parts)


@contextmanager
def _display() -> Iterator[_Show]:
    """Yield a function that shows progress: a bar on a terminal, lines elsewhere."""
    with _bar() if sys.stderr.isatty() else _lines() as show:
        yield show


@contextmanager
def _bar() -> Iterator[_Show]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = BarColumn(), TextColumn("{task.description}")
    # Results on standard output go around the bar on a terminal; in a file they stay as they are.
    on_terminal = sys.stdout.isatty()
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, redirect_stdout=on_terminal) as bar:
        task = bar.add_task("")

        def show(text: str, done: int, total: int) -> None:
            bar.update(task, description=text, completed=done, total=total)

        yield show


@contextmanager
def _lines() -> Iterator[_Show]:
    last = time.monotonic()

    def show(text: str, done: int, total: int) -> None:
        nonlocal last
        if done == total or time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            print_status(text)

    yield show
