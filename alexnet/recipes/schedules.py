"""Schedules are breakpoints: what a value is from which epoch on.

`PiecewiseConstant` holds a value until the next breakpoint, `PiecewiseLinear` runs straight between
them, `ReduceOnPlateau` waits for the validation error to stop improving. Epochs are counted from 0
and may be fractions. A schedule written for E epochs can be stretched to another length, so
`--epochs` keeps its shape; `ReduceOnPlateau` has no shape to stretch.
"""

from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import Self

from alexnet.core.errors import require

Points = tuple[tuple[float, float], ...]  # (epoch, value), epochs ascending, the first at 0


@dataclass(frozen=True)
class Breakpoints:
    """Values at epochs; the subclass says how it runs between them."""

    points: Points

    def __post_init__(self) -> None:
        epochs = [epoch for epoch, _ in self.points]
        ascending = epochs == sorted(set(epochs))
        listed = ", ".join(f"{value:g} from epoch {epoch:g}" for epoch, value in self.points)
        require(
            bool(epochs) and epochs[0] == 0 and ascending,
            f"breakpoints {listed or 'none'}: expected (epoch, value) pairs, the first at epoch 0, "
            "epochs ascending",
        )

    @property
    def largest(self) -> float:
        """The largest value."""
        return max(value for _, value in self.points)

    def stretched(self, factor: float) -> Self:
        """Return the same course over `factor` times as many epochs."""
        return replace(self, points=tuple((epoch * factor, value) for epoch, value in self.points))

    def scaled(self, factor: float) -> Self:
        """Return the same course with every value multiplied."""
        return replace(self, points=tuple((epoch, value * factor) for epoch, value in self.points))

    def capped(self, limit: float) -> Self:
        """Return the same course with no value above `limit`."""
        points = tuple((epoch, min(value, limit)) for epoch, value in self.points)
        return replace(self, points=points)


@dataclass(frozen=True)
class PiecewiseConstant(Breakpoints):
    """A piecewise constant value: each holds from its epoch to the next."""

    def at(self, epoch: float) -> float:
        """Return the value at an epoch."""
        return self.points[bisect_right([start for start, _ in self.points], epoch) - 1][1]


def exponential_steps(first: float, last: float, levels: int, epochs: float) -> PiecewiseConstant:
    """Return the discrete exponential of the 2012 program's later runs (#160 to #178).

    `levels` values, each the same fraction of the one before, from `first` to `last`, held equally
    long. Four from 0.01 to 0.00004 over 90 epochs did as well as the reductions by hand.
    """
    ratio = (last / first) ** (1 / (levels - 1))
    return PiecewiseConstant(
        tuple((epochs * level / levels, first * ratio**level) for level in range(levels))
    )


@dataclass(frozen=True)
class PiecewiseLinear(Breakpoints):
    """A piecewise linear value; after the last point it keeps that point's value."""

    def at(self, epoch: float) -> float:
        """Return the value at an epoch."""
        for (start, value), (end, target) in zip(self.points, self.points[1:], strict=False):
            if epoch < end:
                return value + (target - value) * (epoch - start) / (end - start)
        return self.points[-1][1]


@dataclass(frozen=True)
class ReduceOnPlateau:
    """Begins at `initial_lr`, and is multiplied by `factor` when the error stops improving.

    At most `max_reductions` times. The paper (section 5) says "when the validation error rate
    stopped improving"; it does not say by how much or for how long. Here: not by `threshold` points
    of top-1 error below the best so far, for `patience` epochs in a row.
    """

    initial_lr: float = 0.01
    factor: float = 0.1
    max_reductions: int = 3
    patience: int = 5
    threshold: float = 0.1

    @property
    def largest(self) -> float:
        """The largest value."""
        return self.initial_lr

    def stretched(self, factor: float) -> Self:
        """Return itself: its length is decided by the validation error."""
        return self

    def scaled(self, factor: float) -> Self:
        """Return the same heuristic from another learning rate."""
        return replace(self, initial_lr=self.initial_lr * factor)


@dataclass(frozen=True)
class PlateauState:
    """Where a ReduceOnPlateau stands.

    Reductions made, the best error seen (percent), and how many epochs have not improved on it.
    """

    reductions: int = 0
    best: float = 100.0
    num_bad_epochs: int = 0

    def after(self, error: float, plateau: ReduceOnPlateau) -> "PlateauState":
        """Return the state after an epoch that ended with this validation error, in percent."""
        if error < self.best - plateau.threshold:
            return replace(self, best=error, num_bad_epochs=0)
        bad_epochs = self.num_bad_epochs + 1
        if bad_epochs < plateau.patience or self.reductions == plateau.max_reductions:
            return replace(self, num_bad_epochs=bad_epochs)
        return replace(self, reductions=self.reductions + 1, num_bad_epochs=0)


Schedule = PiecewiseConstant | PiecewiseLinear | ReduceOnPlateau


def value_at(schedule: Schedule, epoch: float, state: PlateauState) -> float:
    """Return the value of any schedule at an epoch; `state` only matters to a ReduceOnPlateau."""
    if isinstance(schedule, ReduceOnPlateau):
        return schedule.initial_lr * schedule.factor**state.reductions
    return schedule.at(epoch)
