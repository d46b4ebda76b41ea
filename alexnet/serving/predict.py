"""Picture files in, classes with probabilities out: what `evaluate` would say of the same picture in a store.

A picture that cannot be read does not end the work: its answer is the reason. Files are read ahead in threads and seen a batch
at a time.
"""

import csv
import glob
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alexnet.data.ahead import prefetched
from alexnet.data.images import BadPicture
from alexnet.data.sources import looks_like_a_picture
from alexnet.durable import write_bytes
from alexnet.errors import AlexNetError
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


def find_pictures(paths: Sequence[str]) -> list[Path]:
    """Files, folders (all pictures below them) and patterns, as a list of files in that order."""
    found: list[Path] = []
    for text in paths:
        path = Path(text)
        if path.is_dir():
            inside = _below(path)
        elif path.exists():
            inside = [path]
        else:
            matches = [Path(match) for match in sorted(glob.glob(text, recursive=True))]
            inside = [file for match in matches for file in (_below(match) if match.is_dir() else [match])]
        if not inside:
            raise AlexNetError(
                f"{text}: {'no pictures in it' if path.is_dir() else 'no such file'}; expected files, folders or a pattern"
            )
        found += inside
    return found


def _below(folder: Path) -> list[Path]:
    return sorted(
        file for file in folder.rglob("*") if file.is_file() and looks_like_a_picture(file.relative_to(folder).as_posix())
    )


def predict_files(seer: Seer, files: Sequence[Path], views: int, runtime: Runtime, progress: Tick) -> Iterator[Answer]:
    """An answer for every file, in order."""
    size, done = max(1, VIEWS_AT_ONCE // views), 0
    groups = [files[first : first + size] for first in range(0, len(files), size)]
    for group, squares in zip(groups, prefetched((_reader(seer, group) for group in groups), runtime.workers), strict=True):
        readable = [square for square in squares if isinstance(square, np.ndarray)]
        shares = iter(probabilities(seer, np.stack(readable), views, runtime) if readable else ())
        for path, square in zip(group, squares, strict=True):
            yield Answer(path, (), square) if isinstance(square, str) else Answer(path, _top(seer, next(shares)))
        done += len(group)
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


def _reader(seer: Seer, files: Sequence[Path]) -> Callable[[], list[np.ndarray | str]]:
    def read() -> list[np.ndarray | str]:
        return [_square_or_reason(seer, file) for file in files]

    return read


def _square_or_reason(seer: Seer, file: Path) -> np.ndarray | str:
    try:
        return seer[1].square(file)
    except BadPicture as error:
        return f"cannot be read: {error}"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _top(seer: Seer, shares: Any) -> tuple[tuple[str, float], ...]:
    values, places = shares.topk(min(PLACES, len(shares)))
    return tuple((seer[1].classes[place], value) for value, place in zip(values.tolist(), places.tolist(), strict=True))
