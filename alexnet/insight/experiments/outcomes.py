"""What an experiment found: the figures of every arm and seed, their means, spread and comparison; as a table, JSON, a picture.

Pure arithmetic and drawing: where the figures come from is not known here. A figure that is missing (the run diverged, or a
level was never reached) leaves its arm without mean, spread and comparison, for a mean over the others would flatter it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alexnet.insight.experiments.arms import Published
from alexnet.insight.figures.drawing import BLUE, INK, RUST, STYLES, png, series_style, styled

Values = tuple[float | None, ...]  # one a seed, or one a choice of models
Compared = Literal["difference", "times", "not"]
SPREAD = "lowest to highest"
UNSAID = ("store_digest", "machine", "base")  # conditions that are for programs


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
        rows = [[row.arm, *self._main(row), *(mean(row.values[name]) for name in list(self.measures)[1:])] for row in self.rows]
        return ["arm", heading, SPREAD, *comparison, *others], rows

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
            "spread": SPREAD,
            "compared": self.compared,
            "level": self.level,
            "rows": [self._json(row) for row in self.rows],
            "notes": list(self.notes),
        }

    def _main(self, row: Row) -> list[Any]:
        values = row.values[self.main]
        between = spread(values)
        cells: list[Any] = [mean(values), between and f"{between[0]:.1f} to {between[1]:.1f}"]
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


def reached_at(course: Sequence[float], level: float, start: float) -> float | None:
    """The epoch, with its fraction, at which a course first came down to a level; None if it never did.

    `start` is where it stood at epoch 0, the others are those after epochs 1, 2, ...; in between it is taken as straight.
    """
    before = start
    for epoch, value in enumerate(course):
        if value <= level:
            return epoch + (before - level) / (before - value) if before > level else float(epoch)
        before = value
    return None


# ---- the picture


@styled()
def picture(outcome: Outcome) -> bytes:
    """A PNG of the outcome: curves where a level was awaited, else a bar for every arm."""
    figure = Figure((6.4, 3.4 if outcome.level else 1.1 + 0.42 * len(outcome.rows)), layout="constrained")
    axes = figure.subplots()
    if outcome.level:
        _curves(axes, outcome)
    else:
        _bars(figure, axes, outcome)
    axes.set_title(f"{outcome.name}: {outcome.conditions['recipe']}, {outcome.conditions['epochs']} epochs")
    return png(figure)


def _curves(axes: Axes, outcome: Outcome) -> None:
    """Training error over epochs as in the paper's figure 1: a line a seed, an arm's first one named, and the awaited level."""
    for number, row in enumerate(outcome.rows):
        style = series_style(number) | {"linestyle": STYLES[number % len(STYLES)]}  # figure 1: relu solid, tanh dashed
        for seed, course in enumerate(row.courses):
            label = row.arm if seed == 0 else None
            axes.plot(range(1, len(course) + 1), course, **style, alpha=0.45 if seed else 1, label=label)
    axes.axhline(outcome.level or 0, color=INK, linewidth=0.6)
    axes.annotate(f"{outcome.level:g} %", (1, outcome.level or 0), (0, 3), ("axes fraction", "data"), "offset points", ha="right")
    axes.set_xlim(left=0)
    axes.set_ylim(0, 100)
    axes.set_xlabel("epoch")
    axes.set_ylabel("training error, %")
    axes.legend(loc="upper right")


def _bars(figure: Figure, axes: Axes, outcome: Outcome) -> None:
    """A bar to each arm's mean, a dot for every figure, and a mark where the first published difference would put the arm."""
    first = mean(outcome.rows[0].values[outcome.main])
    for place, row in enumerate(outcome.rows):
        values = [value for value in row.values[outcome.main] if value is not None]
        axes.barh(place, mean(row.values[outcome.main]) or 0, height=0.55, color=BLUE, alpha=0.25, linewidth=0)
        axes.plot(values, [place] * len(values), "o", color=BLUE, markersize=4)
        expected = [one.against for one in row.published if one.against is not None]
        if expected and first is not None and outcome.compared == "difference":
            axes.plot(first + expected[0], place, "|", color=RUST, markersize=16, label="difference of 2012")
    axes.set_yticks(range(len(outcome.rows)), [row.arm for row in outcome.rows])
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.set_xlabel(outcome.measures[outcome.main])
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles[:1], labels[:1], loc="outside lower right")
