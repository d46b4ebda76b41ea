"""A benchmark's results: every case's time, compared with its baseline and with the roofline.

Pure arithmetic on times measured elsewhere. The best repetition is what the machine can do
undisturbed, the median is what one usually gets; ratios and shares are those of the best.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from textwrap import wrap
from typing import Any, Literal

from alexnet.benchmark.interleaved_timer import Case, Timing
from alexnet.benchmark.machine_limits import MEMORY_COPY
from alexnet.benchmark.roofline import MachineLimits, WorkloadCost

Unit = Literal["images/s", "ms", "µs"]
COLUMNS = ("name", "best", "median", "against", "ratio", "% of roofline")
TEXT_WIDTH = 100


@dataclass(frozen=True)
class BenchmarkCase(Case):
    """A case with the name of its baseline, its workload's cost and the unit of its result."""

    against: str | None
    cost: WorkloadCost
    unit: Unit


@dataclass(frozen=True)
class Row:
    """The result of one case."""

    name: str
    value: float  # of the best repetition
    median: float
    unit: Unit
    against: str | None
    ratio: float | None  # how many times as fast as `against`
    floor_share: float  # the roofline's time over the case's own, 1 at the limit

    def cells(self) -> list[Any]:
        """Return the row of a table under COLUMNS."""
        return [
            self.name,
            self.value,
            self.median,
            self.against,
            self.ratio,
            100 * self.floor_share,
        ]


@dataclass(frozen=True)
class BenchmarkReport:
    """The rows and all that is needed to read them."""

    title: str
    legend: tuple[str, ...]
    conditions: Mapping[str, Any]
    throughputs: Mapping[str, float]  # the machine's best, by name
    limits: MachineLimits
    costs: tuple[WorkloadCost, ...]
    rows: tuple[Row, ...]
    unavailable: Mapping[str, str]  # the reason by a case's name

    def tables(self) -> list[tuple[str, list[list[Any]]]]:
        """Return a title and the rows under COLUMNS for each unit."""
        units = dict.fromkeys(row.unit for row in self.rows)
        return [
            (f"{self.title}, in {unit}", [row.cells() for row in self.rows if row.unit == unit])
            for unit in units
        ]

    def notes(self) -> list[str]:
        """Return the lines below the tables that explain them."""
        best = ", ".join(
            f"{name} {_format_rate(name, throughput)}"
            for name, throughput in self.throughputs.items()
        )
        paragraphs = [
            "ratio: how many times as fast as the case it is compared against, by the best "
            "repetitions",
            "% of roofline: the time of the operations and of the memory traffic at the machine's "
            "best rates, added up, as a share of the measured time; data that stays in a cache "
            "can exceed 100",
            *self.legend,
            *(f"not available: {name}: {reason}" for name, reason in self.unavailable.items()),
            f"the machine's best rates in the same rounds: {best}",
            *(_roofline_line(cost, self.limits) for cost in self.costs),
            *dict.fromkeys(cost.derivation for cost in self.costs),
        ]
        lines: list[str] = []
        for paragraph in paragraphs:
            lines += wrap(paragraph, TEXT_WIDTH, subsequent_indent="  ")
        return lines

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return {
            **self.conditions,
            "rows": [asdict(row) for row in self.rows],
            "unavailable": dict(self.unavailable),
            "machine_limits": asdict(self.limits),
            "rooflines": [
                {**asdict(cost), "seconds": self.limits.seconds(cost)} for cost in self.costs
            ],
        }


def make_rows(
    cases: Sequence[BenchmarkCase], timings: Mapping[str, Timing], limits: MachineLimits
) -> list[Row]:
    """Return a row for every case that was timed."""
    return [_row(case, timings, limits) for case in cases if case.name in timings]


def _row(case: BenchmarkCase, timings: Mapping[str, Timing], limits: MachineLimits) -> Row:
    timing = timings[case.name]
    baseline = timings.get(case.against or "")
    best = min(timing.seconds)
    return Row(
        name=case.name,
        value=in_unit(best, timing.images, case.unit),
        median=in_unit(median(timing.seconds), timing.images, case.unit),
        unit=case.unit,
        against=case.against,
        ratio=min(baseline.seconds) / best if baseline else None,
        floor_share=limits.seconds(case.cost) / best,
    )


def in_unit(seconds: float, images: int, unit: Unit) -> float:
    """Convert a repetition's seconds for some images to a rate or a time."""
    match unit:
        case "images/s":
            return images / seconds
        case "ms":
            return seconds * 1e3
        case "µs":
            return seconds * 1e6


def _format_rate(name: str, throughput: float) -> str:
    if name == MEMORY_COPY:
        return f"{throughput / 1e9:.1f} GB/s"
    return f"{throughput / 1e12:.3g} TFLOP/s"


def _roofline_line(cost: WorkloadCost, limits: MachineLimits) -> str:
    memory = f"{_format_ms(limits.memory_seconds(cost))} for {cost.bytes / 1e9:.3g} GB"
    compute = ""
    if cost.flops:
        seconds = limits.compute_seconds(cost)
        compute = f"{_format_ms(seconds)} for {cost.flops / 1e9:.4g} GFLOP + "
    return f"roofline of {cost.name}: {_format_ms(limits.seconds(cost))} = {compute}{memory}"


def _format_ms(seconds: float) -> str:
    return f"{1e3 * seconds:,.0f} ms" if seconds >= 0.1 else f"{1e3 * seconds:.3g} ms"
