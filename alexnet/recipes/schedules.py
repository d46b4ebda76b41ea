"""Schedules are breakpoints: what a value is from which epoch on.

`Steps` holds a value until the next breakpoint, `Line` runs straight between them, `Plateau` waits for the validation error
to stop improving. Epochs are counted from 0 and may be fractions. A schedule written for E epochs can be stretched to another
length, so `--epochs` keeps its shape; `Plateau` has no shape to stretch.
"""

from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import Self

from alexnet.errors import must_be

Points = tuple[tuple[float, float], ...]  # (epoch, value), epochs ascending, the first at 0


@dataclass(frozen=True)
class Breakpoints:
    """Values at epochs; how it runs between them is the subclass's."""

    points: Points

    def __post_init__(self) -> None:
        starts = [start for start, _ in self.points]
        right = bool(starts) and starts[0] == 0 and starts == sorted(set(starts))
        must_be(right, f"breakpoints {self.points}: expected (epoch, value) pairs, the first at epoch 0, epochs ascending")

    @property
    def largest(self) -> float:
        return max(value for _, value in self.points)

    def stretched(self, factor: float) -> Self:
        """The same course over `factor` times as many epochs."""
        return replace(self, points=tuple((start * factor, value) for start, value in self.points))

    def scaled(self, factor: float) -> Self:
        """The same course with every value multiplied."""
        return replace(self, points=tuple((start, value * factor) for start, value in self.points))


@dataclass(frozen=True)
class Steps(Breakpoints):
    """A piecewise constant value: each holds from its epoch to the next."""

    def at(self, epoch: float) -> float:
        return self.points[bisect_right([start for start, _ in self.points], epoch) - 1][1]


def exponential_steps(first: float, last: float, levels: int, epochs: float) -> Steps:
    """The discrete exponential of the 2012 program's later runs (#160 to #178): `levels` rates, each the same fraction of the
    one before, from `first` to `last`, held equally long. Four from .01 to .00004 over 90 epochs did as well as the cuts by hand.
    """
    ratio = (last / first) ** (1 / (levels - 1))
    return Steps(tuple((epochs * level / levels, first * ratio**level) for level in range(levels)))


@dataclass(frozen=True)
class Line(Breakpoints):
    """A piecewise linear value; after the last point it keeps that point's value."""

    def at(self, epoch: float) -> float:
        for (start, value), (end, target) in zip(self.points, self.points[1:], strict=False):
            if epoch < end:
                return value + (target - value) * (epoch - start) / (end - start)
        return self.points[-1][1]


@dataclass(frozen=True)
class Plateau:
    """Starts at `start`; multiplied by `factor`, at most `cuts` times, whenever the validation error has not improved.

    The paper (section 5) says "when the validation error rate stopped improving"; it does not say by how much or for how
    long. Here: not by `threshold` points of top-1 error below the best so far, for `patience` epochs running.
    """

    start: float = 0.01
    factor: float = 0.1
    cuts: int = 3
    patience: int = 5
    threshold: float = 0.1

    @property
    def largest(self) -> float:
        return self.start

    def stretched(self, factor: float) -> Self:
        """Itself: its length is decided by the validation error."""
        return self

    def scaled(self, factor: float) -> Self:
        """The same heuristic from another start."""
        return replace(self, start=self.start * factor)


@dataclass(frozen=True)
class PlateauState:
    """Where a Plateau stands: cuts made, the best error seen (percent), epochs since it was seen."""

    cuts: int = 0
    best: float = 100.0
    waited: int = 0

    def after(self, error: float, plateau: Plateau) -> "PlateauState":
        """The state after an epoch that ended with this validation error, in percent."""
        if error < self.best - plateau.threshold:
            return replace(self, best=error, waited=0)
        if self.waited + 1 < plateau.patience or self.cuts == plateau.cuts:
            return replace(self, waited=self.waited + 1)
        return replace(self, cuts=self.cuts + 1, waited=0)


Schedule = Steps | Line | Plateau


def rate_at(schedule: Schedule, epoch: float, state: PlateauState) -> float:
    """The value of any schedule at an epoch; `state` only matters to a Plateau."""
    if isinstance(schedule, Plateau):
        return schedule.start * schedule.factor**state.cuts
    return schedule.at(epoch)
