"""What an experiment found: the figures of every arm and seed, their means, spread and comparison; as a table, JSON, a picture.

Pure arithmetic and drawing: where the figures come from is not known here. A figure that is missing (the run diverged, or a
level was never reached) leaves its arm without mean, spread and comparison, for a mean over the others would flatter it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from statistics import fmean
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alexnet.insight.experiments.arms import Published
from alexnet.insight.figures.drawing import BLUE, INK, RUST, STYLES, png, series_style, styled

Values = tuple[float | None, ...]  # one a seed, or one a choice of models
Compared = Literal["difference", "times", "not"]
RANGE = "range"
UNSAID = ("store_digest", "machine", "base")  # conditions that are for programs
ASIDE = ("machine", "store", "device")  # conditions that decide nothing


@dataclass(frozen=True)
class Row:
    """An arm's figures by measure, what was published about it, its training errors after every epoch (a course a seed), and the
    directories of its runs."""

    arm: str
    values: Mapping[str, Values]
    published: tuple[Published, ...] = ()
    courses: tuple[tuple[float, ...], ...] = ()
    runs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """An answered question; `measures` are headings by name, the first the main one, which is `compared` with the first row's.

    `level`: the training error in percent whose reaching was awaited, if that was the question.
    """

    name: str
    asks: str
    conditions: Mapping[str, Any]
    measures: Mapping[str, str]
    rows: tuple[Row, ...]
    compared: Compared = "difference"
    level: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def called(self) -> str:
        """What its files are called: two outcomes share a name only where nothing differs that they depend on."""
        decisive = {name: value for name, value in self.conditions.items() if name not in ASIDE}
        return f"{self.name}-{sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:8]}"

    @property
    def main(self) -> str:
        """The name of the main measure."""
        return next(iter(self.measures))

    def against(self, row: Row) -> float | None:
        """The row's main figure less the first row's, or how many times it that is; None where either is missing."""
        own, first = (mean(each.values[self.main]) for each in (row, self.rows[0]))
        if row is self.rows[0] or self.compared == "not" or own is None or first is None:
            return None
        return own - first if self.compared == "difference" else own / first

    def table(self) -> tuple[list[str], list[list[Any]]]:
        """Columns and rows for people."""
        heading, *others = self.measures.values()
        comparison = {"difference": ["differs by", "2012"], "times": ["times", "2012"], "not": []}[self.compared]
        between = [RANGE] if any(spread(row.values[self.main]) for row in self.rows) else []
        cells = [
            [*self._main(row, bool(between)), *(mean(row.values[name]) for name in list(self.measures)[1:])] for row in self.rows
        ]
        rows = [[row.arm, *own] for row, own in zip(self.rows, cells, strict=True)]
        return ["arm", heading, *between, *comparison, *others], rows

    def lines(self) -> list[str]:
        """What stands below the table: what it was run on, what was published, and what went otherwise than planned."""
        where = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in self.conditions.items() if name not in UNSAID)
        found: dict[Published, list[str]] = {}
        for row in self.rows:
            for one in row.published:
                found.setdefault(one, []).append(row.arm)
        said = [f"{', '.join(arms)}: {one.says} ({one.source})" for one, arms in found.items()]
        return [where, *said, *self.notes]

    def to_json(self) -> dict[str, Any]:
        """Everything, for programs."""
        return {
            "experiment": self.name,
            "asks": self.asks,
            **self.conditions,
            "measures": dict(self.measures),
            "compared": self.compared,
            "level": self.level,
            "rows": [self._json(row) for row in self.rows],
            "notes": list(self.notes),
        }

    def _main(self, row: Row, ranges: bool) -> list[Any]:
        values = row.values[self.main]
        between = spread(values)
        cells: list[Any] = [mean(values), *([between and f"{between[0]:.1f}–{between[1]:.1f}"] if ranges else [])]
        if self.compared == "not":
            return cells
        form = "+.2f" if self.compared == "difference" else ".2f"
        found = [f"{one.against:{form}}" for one in row.published if one.against is not None]
        against = self.against(row)
        return [*cells, None if against is None else f"{against:{form}}", ", ".join(found) or None]

    def _json(self, row: Row) -> dict[str, Any]:
        figures = {
            name: {"mean": mean(values), "spread": spread(values), "values": values} for name, values in row.values.items()
        }
        published = [{"says": one.says, "source": one.source, "against": one.against} for one in row.published]
        said = {"against": self.against(row), "published": published, "courses": row.courses, "runs": row.runs}
        return {"arm": row.arm, **figures, **said}


# ---- the arithmetic


def mean(values: Values) -> float | None:
    """The mean; None where one is missing."""
    there = [value for value in values if value is not None]
    return fmean(there) if there and len(there) == len(values) else None


def spread(values: Values) -> tuple[float, float] | None:
    """The lowest and the highest; None where one is missing or stands alone."""
    there = [value for value in values if value is not None]
    return (min(there), max(there)) if len(there) == len(values) > 1 else None


def reached_at(course: Sequence[float], level: float, start: float, first: float = 1.0) -> float | None:
    """The epoch, with its fraction, at which a course first came down to a level; None if it never did.

    `start` is where it stood at epoch 0; the course's own values are those at epochs `first`, `first` + 1, ... A mean over an
    epoch stands for its middle (`first` .5). In between, the course is taken as straight.
    """
    epoch, before = 0.0, start
    for number, value in enumerate(course):
        if value <= level:
            return epoch + (first + number - epoch) * (before - level) / (before - value) if before > level else epoch
        epoch, before = first + number, value
    return None


# ---- the picture


@styled()
def picture(outcome: Outcome) -> bytes:
    """A PNG of the outcome: curves where a level was awaited, else a line of dots for every arm."""
    figure = Figure((6.4, 3.4 if outcome.level else 1.1 + 0.42 * len(outcome.rows)), layout="constrained")
    axes = figure.subplots()
    if outcome.level:
        _curves(axes, outcome)
    else:
        _dots(figure, axes, outcome)
    axes.set_title(f"{outcome.name}: {outcome.conditions['recipe']}, {outcome.conditions['epochs']} epochs")
    return png(figure)


def _curves(axes: Axes, outcome: Outcome) -> None:
    """Training error over epochs as in the paper's figure 1: a line a seed, an arm's first one named, and the awaited level.

    An epoch's error is the mean over it and stands at its middle.
    """
    for number, row in enumerate(outcome.rows):
        style = series_style(number) | {"linestyle": STYLES[number % len(STYLES)]}  # figure 1: relu solid, tanh dashed
        for seed, course in enumerate(row.courses):
            label = row.arm if seed == 0 else None
            axes.plot([epoch + 0.5 for epoch in range(len(course))], course, **style, alpha=0.45 if seed else 1, label=label)
    axes.axhline(outcome.level or 0, color=INK, linewidth=0.6)
    axes.annotate(f"{outcome.level:g} %", (1, outcome.level or 0), (0, 3), ("axes fraction", "data"), "offset points", ha="right")
    axes.set_xlim(left=0)
    axes.set_ylim(0, 100)
    axes.set_xlabel("epoch")
    axes.set_ylabel("training error, %")
    axes.legend(loc="upper right")


def _dots(figure: Figure, axes: Axes, outcome: Outcome) -> None:
    """A dot for every figure, a line between an arm's lowest and highest, a large dot at its mean, and a mark where the first
    published difference would put the arm. The axis need not begin at zero, for nothing here is a length."""
    first = mean(outcome.rows[0].values[outcome.main])
    for place, row in enumerate(outcome.rows):
        values = [value for value in row.values[outcome.main] if value is not None]
        middle = mean(row.values[outcome.main])
        axes.plot(values, [place] * len(values), "-o", color=BLUE, alpha=0.5, linewidth=1, markersize=3)
        if middle is not None:
            axes.plot(middle, place, "o", color=BLUE, markersize=8)
        expected = [one.against for one in row.published if one.against is not None]
        if expected and first is not None and outcome.compared == "difference":
            axes.plot(first + expected[0], place, "|", color=RUST, markersize=16, label="difference of 2012")
    axes.set_yticks(range(len(outcome.rows)), [row.arm for row in outcome.rows])
    axes.set_ylim(len(outcome.rows) - 0.5, -0.5)
    axes.margins(x=0.1)
    axes.grid(False, axis="y")
    axes.set_xlabel(outcome.measures[outcome.main])
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles[:1], labels[:1], loc="outside lower right")
