"""The architecture drawn to scale, as the paper's figure 2: boxes, kernels, towers, where they meet, and what each layer costs.

A blueprint goes in, a figure comes out. Below each box stand what its layer does, the shape it gives, what follows it, and its
parameters and multiply-adds, exact and as bars. Lines run from a kernel's window to the unit it makes: grey within a tower, dark
where a layer reads from every tower. Sizes and counts are the blueprint's; nothing is computed here.
"""

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle

from alexnet.insight.figures.blueprint import SLANT, Blueprint, Box, Stage
from alexnet.insight.figures.drawing import BLUE, FAINT, INK, RUST, SMALL, SOFT, bare, styled, tint

Point = tuple[float, float]
THIN = "\N{THIN SPACE}"

LABELS, EDGE, LINE = 0.98, 0.12, 0.155  # inches: the column of row names, the figure's edge, a line of text
TITLE, BARS = 0.72, 0.4  # inches: above the drawing, and the highest bar
TOWERS = (BLUE, RUST)
WIDTH = 5.2  # inches at least, for the title's sake


@styled()
def architecture(plan: Blueprint, title: str) -> Figure:
    """The whole figure, in inches: title, drawing, table; as wide as the net has stages."""
    rows = _rows(plan)
    below = sum(LINE * max(len(cell) for cell in cells) + 0.1 for _, cells in rows) + 2 * (BARS + LINE + 0.16)
    width, height = max(WIDTH, LABELS + plan.width + EDGE), TITLE + plan.height + 0.2 + below + EDGE
    figure = Figure((width, height))
    axes = bare(figure.add_axes((0, 0, 1, 1)))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.text(EDGE, height - 0.25, title, fontsize=11, weight="bold", va="center")
    axes.text(EDGE, height - 0.47, _sums(plan), fontsize=SMALL, color=SOFT, va="center")
    base = height - TITLE - plan.height
    _draw(figure.add_axes((LABELS / width, base / height, plan.width / width, plan.height / height)), plan)
    line = base - 0.2
    for name, cells in rows:
        line = _row(axes, plan, name, cells, line, width)
    for name, value in (("parameters", "parameters"), ("multiply-adds", "multiply_adds")):
        line = _bars(axes, plan, name, [getattr(stage, value) for stage in plan.stages], line, width)
    return figure


def _sums(plan: Blueprint) -> str:
    parameters, adds = (sum(getattr(stage, name) for stage in plan.stages) for name in ("parameters", "multiply_adds"))
    towers = max(stage.parts for stage in plan.stages)
    dark = "; dark lines read from every tower" if towers > 1 else ""
    dark += ", dotted ones are norms over both" if any(stage.mixes for stage in plan.stages) else ""
    return f"{parameters:,} parameters, {adds:,} multiply-adds a picture. Pixels, maps and units each to one scale{dark}."


# ---- the drawing


def _draw(axes: Axes, plan: Blueprint) -> None:
    """The boxes and what they read, in the blueprint's own inches."""
    bare(axes).set(xlim=(0, plan.width), ylim=(0, plan.height))
    for stage in range(1, len(plan.stages)):
        _connect(axes, plan, stage)
    for box in plan.boxes:
        _box(axes, box, plan.stages[box.stage])
    for stage, described in enumerate(plan.stages):
        if described.mixes:
            _mixing(axes, plan.of(stage))


def _slanted(point: Point, depth: float) -> Point:
    return point[0] + SLANT[0] * depth, point[1] + SLANT[1] * depth


def _box(axes: Axes, box: Box, stage: Stage) -> None:
    """Front, top and right side of a box; a bar has a front only."""
    colour = TOWERS[box.part % 2] if stage.parts > 1 else SOFT
    left, right, bottom, top = box.left, box.right, box.bottom, box.top
    front = [(left, bottom), (right, bottom), (right, top), (left, top)]
    upper = [(left, top), (right, top), _slanted((right, top), box.depth), _slanted((left, top), box.depth)]
    side = [(right, bottom), (right, top), _slanted((right, top), box.depth), _slanted((right, bottom), box.depth)]
    for corners, share in ((front, 0.42), (upper, 0.25), (side, 0.1)):
        axes.add_patch(
            Polygon(corners, closed=True, facecolor=tint(colour, share), edgecolor=colour, linewidth=0.7, zorder=3, clip_on=False)
        )


def _connect(axes: Axes, plan: Blueprint, stage: int) -> None:
    """What a stage reads: from each box it sees to each of its own."""
    before, here = plan.stages[stage - 1], plan.stages[stage]
    for target in plan.of(stage):
        for source in plan.of(stage - 1):
            if here.sees == "own tower" and source.part != target.part:
                continue
            dark = here.sees not in ("", "own tower")
            if here.window:
                _kernel(axes, source, target, here.window / before.leaves[1], dark)
            else:
                _fan(axes, source, target, dark)


def _kernel(axes: Axes, source: Box, target: Box, share: float, dark: bool) -> None:
    """A kernel's window on the last map of a box, a share of its side, and lines from its corners to the unit it makes."""
    side, deep = min(1.0, share) * source.height, min(1.0, share) * source.depth
    low, near = 0.55 * (source.height - side), 0.4 * (source.depth - deep)
    corner = _slanted((source.right, source.bottom + low), near)
    corners = [corner, (corner[0], corner[1] + side), _slanted((corner[0], corner[1] + side), deep), _slanted(corner, deep)]
    colour, width = (INK, 0.8) if dark else (SOFT, 0.6)
    axes.add_patch(Polygon(corners, closed=True, facecolor="none", edgecolor=INK, linewidth=0.7, zorder=5))
    unit = target.left, target.bottom + target.height / 2
    for x, y in corners:
        axes.plot((x, unit[0]), (y, unit[1]), color=colour, linewidth=width, linestyle=(0, (3, 2)), zorder=4 if dark else 2)


def _fan(axes: Axes, source: Box, target: Box, dark: bool) -> None:
    """Everything to everything: from a box's right side to the whole of a bar."""
    (low, high), (down, up) = (source.bottom, source.top), (target.bottom, target.top)
    right = source.right + SLANT[0] * source.depth
    high += SLANT[1] * source.depth
    corners = [(right, low), (right, high), (target.left, up), (target.left, down)]
    colour = INK if dark else SOFT
    axes.add_patch(Polygon(corners, closed=True, facecolor=colour, alpha=0.06, linewidth=0, zorder=1))
    for first, last in ((corners[0], corners[3]), (corners[1], corners[2])):
        axes.plot(*zip(first, last, strict=True), color=colour, linewidth=0.8 if dark else 0.6, linestyle=(0, (3, 2)), zorder=2)


def _mixing(axes: Axes, boxes: Sequence[Box]) -> None:
    """A norm that reaches over the border of the towers: a dotted line between their boxes."""
    for above, below in zip(boxes, boxes[1:], strict=False):
        x = (above.left + above.right) / 2
        top = below.top + SLANT[1] * below.depth
        axes.plot((x, x), (top, above.bottom), color=INK, linewidth=1.2, linestyle=(0, (1, 1.5)), zorder=2)


# ---- the table


def _rows(plan: Blueprint) -> list[tuple[str, list[tuple[str, ...]]]]:
    """The rows of words below the drawing: their names, and for each stage its lines."""
    said: list[tuple[str, Callable[[Stage], tuple[str, ...]]]] = [
        ("", lambda stage: (stage.name,)),
        ("does", lambda stage: stage.does),
        ("reads", lambda stage: (stage.sees,)),
        ("gives", lambda stage: (_shape(stage),)),
        ("then", lambda stage: (*stage.then, *([_shape(stage, after=True)] if stage.leaves != stage.shape else []))),
    ]
    rows = [(name, [tell(stage) for stage in plan.stages]) for name, tell in said]
    return [(name, cells) for name, cells in rows if any(any(cell) for cell in cells)]


def _shape(stage: Stage, after: bool = False) -> str:
    channels, height, width = stage.leaves if after else stage.shape
    text = str(channels) if (height, width) == (1, 1) else THIN.join((str(channels), "×", str(height), "×", str(width)))
    return f"\u2192 {text}" if after else text


def _row(axes: Axes, plan: Blueprint, name: str, cells: Sequence[tuple[str, ...]], top: float, width: float) -> float:
    """One row of words from `top` down; where the next begins."""
    axes.text(EDGE, top - LINE / 2, name, fontsize=SMALL, color=SOFT, va="center")
    for stage, lines in enumerate(cells):
        for number, text in enumerate(lines):
            heading = text == plan.stages[stage].name
            style: dict[str, Any] = {"fontsize": 9.5 if heading else SMALL, "weight": "bold" if heading else "normal"}
            axes.text(plan.middle(stage) + LABELS, top - LINE * (number + 0.5), text, ha="center", va="center", **style)
    bottom = top - LINE * max(len(lines) for lines in cells) - 0.1
    axes.plot((EDGE, width - EDGE), (bottom + 0.04,) * 2, color=FAINT, linewidth=0.6)
    return bottom


def _bars(axes: Axes, plan: Blueprint, name: str, counts: Sequence[int], top: float, width: float) -> float:
    """One row of bars with their counts on top; where the next begins."""
    foot = top - LINE - BARS - 0.06
    axes.text(EDGE, top - LINE / 2 - 0.02, name, fontsize=SMALL, color=SOFT, va="center")
    for stage, count in enumerate(counts):
        if count:
            x = plan.middle(stage) + LABELS
            axes.add_patch(Rectangle((x - 0.3, foot), 0.6, BARS * count / max(counts), color="#b9b8b3", linewidth=0))
            axes.text(x, top - LINE / 2 - 0.02, f"{count:,}", fontsize=SMALL, ha="center", va="center")
    axes.plot((EDGE, width - EDGE), (foot,) * 2, color=SOFT, linewidth=0.6)
    return foot - 0.1
