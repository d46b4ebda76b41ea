"""Pictures that somebody asks about, in groups read ahead: files or records as squares, or the reason why one cannot be read.

One bad picture among many ends nothing: its reason stands in its place, and who asked says what becomes of it. Learning and
scoring do not come this way; their pictures are a store's, all of them read (`batches`).
"""

import glob
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from alexnet.data.ahead import prefetched
from alexnet.data.images import BadPicture
from alexnet.data.sources import looks_like_a_picture
from alexnet.data.store import Split
from alexnet.data.views import View
from alexnet.errors import AlexNetError

AT_ONCE = 128  # pictures in a group

T = TypeVar("T")
Square = np.ndarray | str  # a record's pixels uint8 (S, S, C), or why there are none


class Group(NamedTuple):
    """Some pictures: their names, their squares, and what they are where that is known."""

    names: Sequence[str]
    squares: Sequence[Square]
    labels: Sequence[int | None]

    @property
    def without_unread(self) -> "Group":
        """The pictures that could be read."""
        there = [i for i, square in enumerate(self.squares) if not isinstance(square, str)]
        return Group([self.names[i] for i in there], [self.squares[i] for i in there], [self.labels[i] for i in there])

    @property
    def readable(self) -> list[np.ndarray]:
        """The squares that are there."""
        return [square for square in self.squares if isinstance(square, np.ndarray)]

    @property
    def unread(self) -> list[tuple[str, str]]:
        """(name, reason) of the others."""
        return [(name, why) for name, why in zip(self.names, self.squares, strict=True) if isinstance(why, str)]


def is_store(place: str) -> bool:
    """Whether a place is a store, or an address of one, rather than pictures."""
    return "://" in place or (Path(place) / "store.json").is_file()


def find_pictures(paths: Sequence[str]) -> list[Path]:
    """Files, folders (all pictures below them) and patterns, as files in that order; AlexNetError where there are none."""
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
            what = "a store" if is_store(text) else "no pictures in it" if path.is_dir() else "no such file"
            raise AlexNetError(f"{text}: {what}; expected files, folders or a pattern")
        found += inside
    return found


def _below(folder: Path) -> list[Path]:
    return sorted(
        file for file in folder.rglob("*") if file.is_file() and looks_like_a_picture(file.relative_to(folder).as_posix())
    )


def from_files(view: View, files: Sequence[Path], workers: int, at_once: int = AT_ONCE) -> Iterator[Group]:
    """Picture files as a model sees them, in their order."""

    def read(some: Sequence[Path]) -> Group:
        return Group([str(file) for file in some], [_square(view, file) for file in some], [None] * len(some))

    return _read_ahead(files, read, workers, at_once)


def from_split(split: Split, numbers: Sequence[int], workers: int, at_once: int = AT_ONCE) -> Iterator[Group]:
    """The records of these numbers, in that order."""

    def read(some: Sequence[int]) -> Group:
        return Group([split.names[i] for i in some], [split.pixels(i) for i in some], [int(split.labels[i]) for i in some])

    return _read_ahead(numbers, read, workers, at_once)


def _read_ahead(items: Sequence[T], read: Callable[[Sequence[T]], Group], workers: int, at_once: int) -> Iterator[Group]:
    """The items read in threads, so many at a time."""
    several = (items[first : first + at_once] for first in range(0, len(items), at_once))
    return prefetched((partial(read, some) for some in several), workers)


def _square(view: View, file: Path) -> Square:
    try:
        return view.square(file)
    except BadPicture as error:
        return f"cannot be read: {error}"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
