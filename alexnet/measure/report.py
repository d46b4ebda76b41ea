"""What a measurement says: every contender's time, beside what it is compared with and beside the floor.

Pure arithmetic on times that were taken elsewhere. The best repetition is what the machine can do undisturbed, the median what
one usually gets; ratios and shares are those of the best.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from textwrap import wrap
from typing import Any, Literal

from alexnet.measure.ceilings import COPY
from alexnet.measure.floor import Ceilings, Needs
from alexnet.measure.rounds import Contender, Timed

Unit = Literal["pictures/s", "ms", "µs"]
COLUMNS = ("who", "best", "median", "against", "ratio", "% of floor")
WIDTH = 110  # of lines of text


@dataclass(frozen=True)
class Entry(Contender):
    """A contender with whom it is compared `against`, what its work needs, and the unit to give its result in."""

    against: str | None
    needs: Needs
    unit: Unit


@dataclass(frozen=True)
class Row:
    """One contender's result; `value` is the best repetition's.

    `ratio`: how many times as fast as `against`; `floor_share`: the floor's time over its own, 1 at the floor.
    """

    name: str
    value: float
    median: float
    unit: Unit
    against: str | None
    ratio: float | None
    floor_share: float

    def cells(self) -> list[Any]:
        """As a line of a table under COLUMNS."""
        return [self.name, self.value, self.median, self.against, self.ratio, 100 * self.floor_share]


@dataclass(frozen=True)
class Report:
    """The rows, and what they rest on: the conditions, the machine's best rates by name, its ceilings, the floors' needs."""

    title: str
    legend: tuple[str, ...]
    conditions: Mapping[str, Any]
    rates: Mapping[str, float]
    ceilings: Ceilings
    needs: tuple[Needs, ...]
    rows: tuple[Row, ...]
    missing: Mapping[str, str]  # why, by a contender's name

    def tables(self) -> list[tuple[str, list[list[Any]]]]:
        """A title and lines under COLUMNS, for each unit that occurs."""
        units = dict.fromkeys(row.unit for row in self.rows)
        return [(f"{self.title}, in {unit}", [row.cells() for row in self.rows if row.unit == unit]) for unit in units]

    def notes(self) -> list[str]:
        """What a reader of the table needs to know, in lines."""
        best = ", ".join(f"{name} {_rate(name, rate)}" for name, rate in self.rates.items())
        lines = [
            "ratio: how many times as fast as whom it stands against, by the best repetitions",
            "% of floor: the share of its time that operations and bytes alone would take at the machine's best, one after the "
            "other; what stays in a cache can pass 100",
            *self.legend,
            *(f"missing: {name}: {reason}" for name, reason in self.missing.items()),
            f"the machine's best in the same rounds: {best}",
            *(_floor_line(needs, self.ceilings) for needs in self.needs),
            *dict.fromkeys(needs.counted for needs in self.needs),
        ]
        return [part for line in lines for part in wrap(line, WIDTH, subsequent_indent="  ")]

    def to_json(self) -> dict[str, Any]:
        """The report as plain data."""
        return {
            **self.conditions,
            "rows": [asdict(row) for row in self.rows],
            "missing": dict(self.missing),
            "ceilings": {"operations_per_second": self.ceilings.operations, "bytes_per_second": self.ceilings.bytes},
            "floors": [asdict(needs) | {"seconds": self.ceilings.seconds(needs)} for needs in self.needs],
        }


def rows(entries: Sequence[Entry], timed: Mapping[str, Timed], ceilings: Ceilings) -> list[Row]:
    """A row for every contender that was timed."""
    return [_row(entry, timed, ceilings) for entry in entries if entry.name in timed]


def _row(entry: Entry, timed: Mapping[str, Timed], ceilings: Ceilings) -> Row:
    own, other = timed[entry.name], timed.get(entry.against or "")
    best = min(own.seconds)
    return Row(
        name=entry.name,
        value=in_unit(best, own.pictures, entry.unit),
        median=in_unit(median(own.seconds), own.pictures, entry.unit),
        unit=entry.unit,
        against=entry.against,
        ratio=min(other.seconds) / best if other else None,
        floor_share=ceilings.seconds(entry.needs) / best,
    )


def in_unit(seconds: float, pictures: int, unit: Unit) -> float:
    """A repetition's seconds, for so many pictures, as a rate or a time."""
    return pictures / seconds if unit == "pictures/s" else seconds * {"ms": 1e3, "µs": 1e6}[unit]


def _rate(name: str, rate: float) -> str:
    return f"{rate / 1e9:.1f} GB/s" if name == COPY else f"{rate / 1e12:.3g} TFLOP/s"


def _floor_line(needs: Needs, ceilings: Ceilings) -> str:
    operations, memory = ceilings.parts(needs)
    computing = f"{_ms(operations)} for {needs.operations / 1e9:.4g} GFLOP + " if needs.operations else ""
    moving = f"{_ms(memory)} for {needs.bytes / 1e9:.3g} GB"
    return f"floor of {needs.name}: {_ms(operations + memory)} = {computing}{moving}"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:,.0f} ms" if seconds >= 0.1 else f"{1e3 * seconds:.3g} ms"
