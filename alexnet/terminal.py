"""What a person at a terminal, or a program reading standard output, gets to see of a verb.

Results go to standard output, as tables or as one JSON document; progress and complaints go to standard error: a bar on a
terminal, plain lines now and then elsewhere. Only the verbs use this; the rooms below them report values and never print.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

Tick = Callable[[int, int], None]  # (done, all)
SECONDS_BETWEEN_LINES = 10.0
WORD = 16  # letters of a table's word that is not broken for want of room


def emit_json(document: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(document, indent=1))


def say(text: str) -> None:
    """One line on standard output."""
    print(text, flush=True)


def note(text: str) -> None:
    """One line on standard error."""
    print(text, file=sys.stderr, flush=True)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table on standard output; columns of numbers are set flush right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(title=Text(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for place, column in enumerate(columns):
        numbers = any(isinstance(row[place], int | float) for row in rows)
        longest = max(len(word) for text in [column, *(_cell(row[place]) for row in rows)] for word in text.split())
        grid.add_column(column, justify="right" if numbers else "left", overflow="fold", min_width=min(longest, WORD))
    for row in rows:
        grid.add_row(*(Text(_cell(value)) for value in row))
    Console().print(grid)


def _cell(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "-" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """Seconds as people say them: 45 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@contextmanager
def progress(label: str, unit: str = "pictures") -> Iterator[Tick]:
    """A tick to be called with (done, all): a bar with rate and time left, or plain lines with the same."""
    with _bar() if sys.stderr.isatty() else _lines() as show:
        began = time.monotonic()

        def tick(done: int, of: int) -> None:
            rate = done / max(time.monotonic() - began, 1e-9)
            left = f", {duration((of - done) / rate)} left" if rate and done < of else ""
            show(f"{label}: {done:,} of {of:,} {unit}, {rate:,.0f}/s{left}", done, of)

        yield tick


@contextmanager
def training_progress(steps: int) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A listener for a run's records: loss, rate and time left as it goes, a line for every epoch and warning."""
    seen: dict[str, Any] = {}
    with _bar() if sys.stderr.isatty() else _lines() as show:
        began = time.monotonic()

        def tell(record: dict[str, Any]) -> None:
            if record["kind"] == "step":
                first = seen.setdefault("first", record["step"] - 1)
                left = (time.monotonic() - began) / (record["step"] - first) * (steps - record["step"])
                speed = record["pictures_per_second"] or 0
                text = f"epoch {record['epoch']:.2f}, loss {record['loss']:.3f}, {speed:.0f} pictures/s, {duration(left)} left"
                show(text, record["step"], steps)
            elif record["kind"] == "epoch":
                note(_epoch_line(record))
            elif record["kind"] == "warning":
                note(f"warning: {record['text']}")
            elif record["kind"] == "parallel":
                note(record["text"])

        yield tell


def _epoch_line(record: dict[str, Any]) -> str:
    errors = "".join(
        f", {name} {record[f'val_{key}']:.2f} %"
        for name, key in (("validation top-1 error", "top1_error"), ("top-5", "top5_error"))
        if record.get(f"val_{key}") is not None
    )
    return f"epoch {record['epoch']} done after {duration(record['seconds'])}: training loss {record['train_loss']:.3f}{errors}"


@contextmanager
def _bar() -> Iterator[Callable[[str, int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    with Progress(BarColumn(), TextColumn("{task.description}"), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("")
        yield lambda text, done, of: bar.update(task, description=text, completed=done, total=of)


@contextmanager
def _lines() -> Iterator[Callable[[str, int, int], None]]:
    last = time.monotonic()

    def show(text: str, done: int, of: int) -> None:
        nonlocal last
        if done == of or time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            note(text)

    yield show
