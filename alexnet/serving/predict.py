"""Picture files in, classes with probabilities out: what `evaluate` would say of the same picture in a store.

A picture that cannot be read does not end the work: its answer is the reason. Files are read ahead in threads and seen a batch
at a time.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alexnet.data.groups import from_files
from alexnet.durable import write_bytes
from alexnet.evaluate import VIEWS_AT_ONCE, Seer, Tick, probabilities
from alexnet.runtime import Runtime

PLACES = 5


@dataclass(frozen=True)
class Answer:
    """A file's likeliest classes with their probabilities, likeliest first; or why it could not be read."""

    path: Path
    top: tuple[tuple[str, float], ...]
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The answer as plain data."""
        found = {"path": str(self.path), "top": [{"class": name, "probability": share} for name, share in self.top]}
        return found if self.error is None else found | {"error": self.error}

    def line(self) -> str:
        """The answer as a line of text."""
        return f"{self.path}: " + (self.error or ", ".join(f"{name} {100 * share:.1f} %" for name, share in self.top))


def predict_files(seer: Seer, files: Sequence[Path], views: int, runtime: Runtime, progress: Tick) -> Iterator[Answer]:
    """An answer for every file, in order."""
    done = 0
    for group in from_files(seer[1], files, runtime.workers, max(1, VIEWS_AT_ONCE // views)):
        shares = iter(probabilities(seer, np.stack(group.readable), views, runtime) if group.readable else ())
        for name, square, _ in zip(*group, strict=True):
            yield Answer(Path(name), (), square) if isinstance(square, str) else Answer(Path(name), _top(seer, next(shares)))
        done += len(group.names)
        progress(done, len(files))


def write_csv(path: Path, answers: Sequence[Answer]) -> None:
    """One row a file: path, then class and probability by turns, then the error if it could not be read."""
    text = io.StringIO(newline="")
    rows = csv.writer(text)
    places = max((len(answer.top) for answer in answers), default=0)
    rows.writerow(["path", *(f"{what}_{place}" for place in range(1, places + 1) for what in ("class", "probability")), "error"])
    for answer in answers:
        cells = [cell for name, share in answer.top for cell in (name, f"{share:.6f}")]
        rows.writerow([answer.path, *cells, *[""] * (2 * places - len(cells)), answer.error or ""])
    write_bytes(path, text.getvalue().encode("utf-8", "surrogateescape"))


def _top(seer: Seer, shares: Any) -> tuple[tuple[str, float], ...]:
    values, places = shares.topk(min(PLACES, len(shares)))
    return tuple((seer[1].classes[place], value) for value, place in zip(values.tolist(), places.tolist(), strict=True))
