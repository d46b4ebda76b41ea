"""The result of an experiment: values, means, ranges and effects; as a table, JSON and a figure.

Pure arithmetic and drawing: where the values come from is not known here. A missing value (a run
diverged, or never reached its target) leaves its row without mean, range and effect, because a mean
over the other runs would be biased.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from statistics import fmean
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alexnet.analysis.experiments.ablations import Published
from alexnet.analysis.plots.figure_io import to_png
from alexnet.analysis.plots.style import BLUE, INK, LINE_STYLES, RUST, figure_style, line_style

Values = tuple[float | None, ...]  # one for each seed, or for each choice of models
EffectKind = Literal["difference", "ratio", "none"]
RANGE = "range"
EFFECT_COLUMNS: dict[EffectKind, list[str]] = {
    "difference": ["difference", "2012"],
    "ratio": ["ratio", "2012"],
    "none": [],
}
JSON_ONLY = ("dataset_digest", "machine", "base_recipe")  # conditions that are not printed
NOT_HASHED = ("machine", "dataset", "device")  # conditions that do not change the results


@dataclass(frozen=True)
class Row:
    """An ablation's values by metric, what was published about it, and its runs."""

    label: str
    values: Mapping[str, Values]
    published: tuple[Published, ...] = ()
    curves: tuple[tuple[float, ...], ...] = ()  # training errors by epoch, for each seed
    runs: tuple[str, ...] = ()  # names of their directories


@dataclass(frozen=True)
class ExperimentResult:
    """The answer to an experiment's question.

    `metrics` are headings by name; the first is the main one, whose mean is compared with the first
    row's. `target_error`: the training error in percent that had to be reached, if that was the
    question.
    """

    name: str
    question: str
    conditions: Mapping[str, Any]
    metrics: Mapping[str, str]
    rows: tuple[Row, ...]
    effect_kind: EffectKind = "difference"
    target_error: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def file_stem(self) -> str:
        """The name of its files: equal only where nothing differs that the results depend on."""
        hashed = {name: value for name, value in self.conditions.items() if name not in NOT_HASHED}
        digest = sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()
        return f"{self.name}-{digest[:8]}"

    @property
    def main_metric(self) -> str:
        """The name of the main metric."""
        return next(iter(self.metrics))

    def effect(self, row: Row) -> float | None:
        """Return the row's main metric minus the first row's, or their ratio.

        None for the first row and where a value is missing.
        """
        if row is self.rows[0] or self.effect_kind == "none":
            return None
        own = mean(row.values[self.main_metric])
        baseline = mean(self.rows[0].values[self.main_metric])
        if own is None or baseline is None:
            return None
        return own - baseline if self.effect_kind == "difference" else own / baseline

    def table(self) -> tuple[list[str], list[list[Any]]]:
        """Return columns and rows for people."""
        heading, *other_headings = self.metrics.values()
        ranges = any(value_range(row.values[self.main_metric]) for row in self.rows)
        columns = ["ablation", heading]
        if ranges:
            columns.append(RANGE)
        columns += [*EFFECT_COLUMNS[self.effect_kind], *other_headings]
        return columns, [self._cells(row, ranges) for row in self.rows]

    def footnotes(self) -> list[str]:
        """Return the lines below the table: the conditions, what was published, and the notes."""
        conditions = ", ".join(
            f"{name.replace('_', ' ')} {value}"
            for name, value in self.conditions.items()
            if name not in JSON_ONLY
        )
        labels: dict[Published, list[str]] = {}
        for row in self.rows:
            for published in row.published:
                labels.setdefault(published, []).append(row.label)
        lines = [
            f"{', '.join(of)}: {published.result} ({published.source})"
            for published, of in labels.items()
        ]
        return [conditions, *lines, *self.notes]

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "experiment": self.name,
            "question": self.question,
            **self.conditions,
            "metrics": dict(self.metrics),
            "effect_kind": self.effect_kind,
            "target_error": self.target_error,
            "rows": [self._row_json(row) for row in self.rows],
            "notes": list(self.notes),
        }

    def _cells(self, row: Row, ranges: bool) -> list[Any]:
        values = row.values[self.main_metric]
        cells: list[Any] = [row.label, mean(values)]
        if ranges:
            limits = value_range(values)
            cells.append(f"{limits[0]:.1f}–{limits[1]:.1f}" if limits else None)
        if self.effect_kind != "none":
            cells += self._effect_cells(row)
        other_metrics = list(self.metrics)[1:]
        return [*cells, *(mean(row.values[metric]) for metric in other_metrics)]

    def _effect_cells(self, row: Row) -> list[str | None]:
        """Return the row's effect and the published ones."""
        form = "+.2f" if self.effect_kind == "difference" else ".2f"
        effect = self.effect(row)
        published = [f"{one.effect:{form}}" for one in row.published if one.effect is not None]
        return [None if effect is None else f"{effect:{form}}", ", ".join(published) or None]

    def _row_json(self, row: Row) -> dict[str, Any]:
        metrics = {
            metric: {"mean": mean(values), "range": value_range(values), "values": values}
            for metric, values in row.values.items()
        }
        return {
            "ablation": row.label,
            **metrics,
            "effect": self.effect(row),
            "published": [asdict(published) for published in row.published],
            "curves": row.curves,
            "runs": row.runs,
        }


# ---- arithmetic


def mean(values: Values) -> float | None:
    """Return the mean; None where a value is missing."""
    present = [value for value in values if value is not None]
    return fmean(present) if present and len(present) == len(values) else None


def value_range(values: Values) -> tuple[float, float] | None:
    """Return the lowest and the highest value; None where one is missing or there is only one."""
    present = [value for value in values if value is not None]
    return (min(present), max(present)) if len(present) == len(values) > 1 else None


def epochs_to_reach(
    curve: Sequence[float], target: float, initial: float, first_epoch: float = 1.0
) -> float | None:
    """Return the fractional epoch at which a curve first came down to a target, else None.

    `initial` is the value at epoch 0; the curve's values are those at epochs `first_epoch`,
    `first_epoch` + 1, ... (0.5 for means over an epoch, which stand for its middle). Linear in
    between.
    """
    epoch = 0.0
    previous = initial
    for i, value in enumerate(curve):
        next_epoch = first_epoch + i
        if value <= target:
            if previous <= target:
                return epoch
            return epoch + (next_epoch - epoch) * (previous - target) / (previous - value)
        epoch = next_epoch
        previous = value
    return None


# ---- the figure


@figure_style()
def plot_result(result: ExperimentResult) -> bytes:
    """Draw the result as PNG: curves where there was a target, else a line of dots for each row."""
    height = 3.4 if result.target_error else 1.1 + 0.42 * len(result.rows)
    figure = Figure((6.4, height), layout="constrained")
    axes = figure.subplots()
    if result.target_error:
        _plot_curves(axes, result, result.target_error)
    else:
        _plot_dots(figure, axes, result)
    recipe = result.conditions["recipe"]
    axes.set_title(f"{result.name}: {recipe}, {result.conditions['epochs']} epochs")
    return to_png(figure)


def _plot_curves(axes: Axes, result: ExperimentResult, target: float) -> None:
    """Plot the training error over epochs, as in the paper's figure 1, and the target.

    A line for each seed; an epoch's error is its mean and stands at its middle.
    """
    for i, row in enumerate(result.rows):
        # As in figure 1: relu solid, tanh dashed.
        style = {**line_style(i), "linestyle": LINE_STYLES[i % len(LINE_STYLES)]}
        for seed, curve in enumerate(row.curves):
            axes.plot(
                [epoch + 0.5 for epoch in range(len(curve))],
                curve,
                **style,
                alpha=0.45 if seed else 1,
                label=None if seed else row.label,
            )
    axes.axhline(target, color=INK, linewidth=0.6)
    axes.annotate(
        f"{target:g} %",
        (1, target),
        (0, 3),
        ("axes fraction", "data"),
        "offset points",
        ha="right",
    )
    axes.set_xlim(left=0)
    axes.set_ylim(0, 100)
    axes.set_xlabel("epoch")
    axes.set_ylabel("training error, %")
    axes.legend(loc="upper right")


def _plot_dots(figure: Figure, axes: Axes, result: ExperimentResult) -> None:
    """Plot a dot for every value, a large dot at each mean, and a mark at the published effect.

    The axis need not begin at zero, because nothing here is a length.
    """
    baseline = mean(result.rows[0].values[result.main_metric])
    for y, row in enumerate(result.rows):
        _plot_row(axes, y, row, result, baseline)
    axes.set_yticks(range(len(result.rows)), [row.label for row in result.rows])
    axes.set_ylim(len(result.rows) - 0.5, -0.5)
    axes.margins(x=0.1)
    axes.grid(False, axis="y")
    axes.set_xlabel(result.metrics[result.main_metric])
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles[:1], labels[:1], loc="outside lower right")


def _plot_row(
    axes: Axes, y: int, row: Row, result: ExperimentResult, baseline: float | None
) -> None:
    all_values = row.values[result.main_metric]
    values = [value for value in all_values if value is not None]
    axes.plot(values, [y] * len(values), "-o", color=BLUE, alpha=0.5, linewidth=1, markersize=3)
    average = mean(all_values)
    if average is not None:
        axes.plot(average, y, "o", color=BLUE, markersize=8)
    effects = [one.effect for one in row.published if one.effect is not None]
    if effects and baseline is not None and result.effect_kind == "difference":
        expected = baseline + effects[0]
        axes.plot(expected, y, "|", color=RUST, markersize=16, label="effect of 2012")
