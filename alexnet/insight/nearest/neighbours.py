"""Which records of a store are nearest to pictures, by what the network makes of them (paper, section 6.1 and figure 4, right).

Pictures are files, or records of the store; answers are values, JSON or a sheet of pictures. A picture of the searched split
finds itself at distance 0, or close to it: in a batch of another size than its row was computed in, a network's sums are rounded
in another way, which has put pictures 2e-6 or 3e-4 from themselves. Equally distant records stand in stored order. How the
nearest are found is in `search`, and in `cells` and `autoencoder`, which look at less or at shorter rows; what rows are made
from is in `features`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alexnet.data.store import Split
from alexnet.errors import UsageError, must_be
from alexnet.evaluate import Seer, Tick
from alexnet.insight.figures.drawing import SMALL, bare, shortened, show_pixels, styled
from alexnet.insight.nearest.autoencoder import by_codes
from alexnet.insight.nearest.cells import in_cells
from alexnet.insight.nearest.features import Group, Kept, rows_of
from alexnet.insight.nearest.search import Search, exactly
from alexnet.randomness import key, permutation
from alexnet.runtime import Runtime

LARGE = 500_000  # records from which `auto` leaves looking at each of them to faiss, if that is installed
LETTERS = 19  # of a name under a picture
SHEET = 40  # queries in a sheet: more make a picture that few programs open


@dataclass(frozen=True)
class Neighbour:
    """A record that was found: where it stands in the store, what it is, and how far it is from the query."""

    name: str
    class_name: str
    split: str
    number: int
    distance: float  # Euclidean; between codes a whole number of bits

    def to_json(self) -> dict[str, Any]:
        """The neighbour as plain data."""
        where = {"name": self.name, "class": self.class_name, "split": self.split, "number": self.number}
        return where | {"distance": self.distance}


@dataclass(frozen=True, eq=False)
class Answer:
    """A query and the records nearest to it, nearest first; or why the query could not be read."""

    path: str
    class_name: str | None  # where the query is a record itself
    nearest: tuple[Neighbour, ...]
    square: np.ndarray | None = field(default=None, repr=False)  # the query, where a sheet is to show it
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The answer as plain data."""
        about = {"path": self.path, "class": self.class_name, "error": self.error}
        return {name: value for name, value in about.items() if value is not None} | {
            "nearest": [near.to_json() for near in self.nearest]
        }


def answers(
    kept: Kept, classes: Sequence[str], seer: Seer, groups: Iterable[Group], count: int, search: Search, runtime: Runtime
) -> Iterator[Answer]:
    """An answer for every picture, in order; those of a group share their search."""
    for group in groups:
        queries = rows_of(seer, group, kept.origin["station"], runtime).half()
        found = iter(search(queries, count))
        for name, square, label in zip(*group, strict=True):
            said = None if label is None else classes[label]
            if isinstance(square, str):
                yield Answer(name, said, (), error=square)
            else:
                yield Answer(name, said, _named(kept.split, classes, *next(found)), square)


def with_squares(found: Iterable[Answer], count: int) -> Iterator[Answer]:
    """The answers as they come, of which the first `count` to pictures that could be read keep their squares, the others none."""
    for answer in found:
        yield answer if count > 0 else replace(answer, square=None)
        count -= answer.error is None


def _named(split: Split, classes: Sequence[str], distances: np.ndarray, numbers: np.ndarray) -> tuple[Neighbour, ...]:
    return tuple(
        Neighbour(split.names[number], classes[split.labels[number]], split.name, number, distance)
        for distance, number in zip(distances.tolist(), numbers.tolist(), strict=True)
    )


def drawn(split: Split, count: int, seed: int) -> list[int]:
    """Numbers of so many records of a split, none twice, in the order drawn."""
    return permutation(key(seed, "queries"), len(split))[:count].tolist()


# ---- ways of searching


def way(asked: str, bits: int | None, records: int) -> str:
    """`exact`, `faiss` or `codes`, for the wishes and so many records; UsageError where they contradict or cannot be met."""
    installed = find_spec("faiss") is not None  # it comes with the extra `search`
    must_be(bits is None or (bits > 0 and bits % 8 == 0), f"--codes {bits}: expected a multiple of 8 bits, such as 256")
    if asked == "faiss" and bits:
        raise UsageError("--codes with --search faiss: codes have a search of their own; leave one of them out")
    if asked == "faiss" and not installed:
        raise UsageError("--search faiss: faiss is not installed; pip install 'alexnet[search]', or use --search exact")
    if asked == "auto":
        asked = "faiss" if installed and records > LARGE else "exact"
    return "codes" if bits else asked


def searching(kept: Kept, chosen: str, bits: int | None, progress: Tick) -> Search:
    """The search in the way that `way` has chosen; what it has to learn first is told to `progress`, and kept."""
    if bits:
        return by_codes(kept, bits, progress)
    return in_cells(kept, progress) if chosen == "faiss" else exactly(kept.rows)


# ---- the sheet


@styled()
def sheet(found: Sequence[Answer], split: Split) -> Figure:
    """A row for each query that has its square: the query, then its nearest records, under each its class and its distance."""
    shown = [(answer, answer.square) for answer in found if answer.square is not None]
    rows, columns = max(1, len(shown)), 1 + max((len(answer.nearest) for answer, _ in shown), default=0)
    figure = Figure((1.3 * columns, 1.7 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for cell in axes.flat:
        bare(cell)  # also where a query has fewer neighbours than the others, or none is shown
    for cells, (answer, square) in zip(axes, shown, strict=False):
        _cell(cells[0], square, answer.class_name or Path(answer.path).name, "query")
        for cell, near in zip(cells[1:], answer.nearest, strict=False):
            _cell(cell, split.pixels(near.number), near.class_name, _said(near.distance))
    return figure


def _said(distance: float) -> str:
    """A distance under a picture; codes differ in whole bits."""
    return f"{distance:.2f}" if isinstance(distance, float) else f"{distance} bit{'' if distance == 1 else 's'}"


def _cell(axes: Axes, square: np.ndarray, name: str, below: str) -> None:
    """One picture with two lines under it."""
    show_pixels(axes, square)
    axes.set_xlabel(f"{shortened(name, LETTERS)}\n{below}", fontsize=SMALL)
