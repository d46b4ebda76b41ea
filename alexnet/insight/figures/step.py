"""One step of training drawn: the operators forward down the left, their gradients up the middle, the updates on the right.

What runs is the operators' listing (`operators`), so listing and picture cannot disagree; here only a place is found for each. A
gradient stands beside the operator it is taken of, and the arrow between the two names what it reads again, which is why memory
has to keep it. An update stands beside the gradient it waits for.
"""

from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from alexnet.insight.figures.drawing import BLUE, INK, RUST, SMALL, SOFT, bare, shortened, styled, tint
from alexnet.insight.operators import Operator, backward, forward, loss, updates
from alexnet.recipes.recipe import Recipe

FORWARD, BACKWARD, UPDATE = range(3)
COLUMNS = ((0.15, 1.85), (3.75, 2.5), (6.7, 2.45))  # inches: left side and width
ROW, BOX = 0.39, 0.31  # inches: from row to row, and a box
WIDTH, ABOVE, BELOW = 9.3, 1.0, 0.2  # inches: the figure, and what is kept free
COLOURS = (SOFT, RUST, BLUE)


@dataclass(frozen=True)
class Placed:
    """Operators that stand together: the updates of a layer's weight and bias, or one by itself."""

    column: int
    row: int
    operators: tuple[Operator, ...]

    @property
    def kept(self) -> tuple[str, ...]:
        """What they read that was there before the way back began."""
        return tuple(name for operator in self.operators for name in operator.inputs if not name.endswith("_grad"))


def places(recipe: Recipe, classes: int) -> tuple[Placed, ...]:
    """Every operator of a step in its place, in the order in which they run. UsageError where the sizes do not fit."""
    ahead = forward(recipe.network, classes, training=True) + loss(recipe.training)
    fill, *gradients = backward(ahead)
    last = len(ahead)
    found = [Placed(FORWARD, row, (operator,)) for row, operator in enumerate(ahead)]
    found += [Placed(BACKWARD, last, (fill,))]
    found += [Placed(BACKWARD, last - 1 - number, (gradient,)) for number, gradient in enumerate(gradients)]
    own = {name: placed.row for placed in found for name in placed.operators[0].outputs if placed.column == BACKWARD}
    rows: dict[int, tuple[Operator, ...]] = {}
    for update in updates(recipe):
        row = own[update.inputs[0]]
        rows[row] = (*rows.get(row, ()), update)
    return (*found, *(Placed(UPDATE, row, both) for row, both in rows.items()))


@styled()
def step(placed: tuple[Placed, ...], title: str) -> Figure:
    """The figure, in inches; as high as the step is long."""
    height = ABOVE + ROW * (1 + max(each.row for each in placed)) + BELOW
    figure = Figure((WIDTH, height))
    axes = bare(figure.add_axes((0, 0, 1, 1)))
    axes.set(xlim=(0, WIDTH), ylim=(0, height))
    axes.text(COLUMNS[0][0], height - 0.25, title, fontsize=11, weight="bold", va="center")
    gap = (sum(COLUMNS[FORWARD]) + COLUMNS[BACKWARD][0]) / 2
    heads = [(left + wide / 2, text) for (left, wide), text in zip(COLUMNS, ("forward", "gradients", "updates"), strict=True)]
    for x, text in (*heads, (gap, "read again")):
        axes.text(x, height - 0.65, text, fontsize=9, color=SOFT, ha="center", va="center")
    for each in placed:
        _box(axes, each, height - ABOVE - ROW * each.row)
    for before, after in zip(placed, placed[1:], strict=False):
        if before.column == after.column != UPDATE:
            x = COLUMNS[after.column][0] + COLUMNS[after.column][1] / 2
            side = BOX / 2 if after.column == BACKWARD else -BOX / 2
            _arrow(axes, (x, height - ABOVE - ROW * before.row + side), (x, height - ABOVE - ROW * after.row - side))
    return figure


def _box(axes: Axes, placed: Placed, y: float) -> None:
    """A box with what it does, and the arrow that leads to it from the left."""
    left, wide = COLUMNS[placed.column]
    colour, filled = COLOURS[placed.column], tint(COLOURS[placed.column], 0.18)
    axes.add_patch(Rectangle((left, y - BOX / 2), wide, BOX, facecolor=filled, edgecolor=colour, linewidth=0.7))
    lines = _lines(placed)
    for number, text in enumerate(lines):
        at = y + 0.42 * BOX * (1 - (2 * number + 1) / len(lines)) - 0.006  # letters reach higher than they hang
        axes.text(left + 0.07, at, text, fontsize=SMALL, va="center", color=INK)
    if placed.column == BACKWARD and placed.kept:
        loss_ends = placed.operators[0].kind == "ConstantFill"  # it stands one row below the loss
        start = sum(COLUMNS[FORWARD]) - loss_ends * COLUMNS[FORWARD][1] / 2
        axes.plot((start, start), (y, y + loss_ends * (ROW - BOX / 2)), color=SOFT, linewidth=0.7)
        _arrow(axes, (start, y), (left, y))
        middle = (sum(COLUMNS[FORWARD]) + left) / 2
        said = shortened(", ".join(name.strip("_") for name in placed.kept), 26)
        axes.text(middle, y + 0.075, said, fontsize=SMALL, color=SOFT, ha="center", va="center")
    if placed.column == UPDATE:
        _arrow(axes, (sum(COLUMNS[BACKWARD]), y), (left, y))


def _lines(placed: Placed) -> list[str]:
    """What stands in a box."""
    first = placed.operators[0]
    if placed.column != UPDATE:
        weights_only = len(first.outputs) == 2  # of the first layer: nobody needs the gradient of the data
        name = first.outputs[-1 if placed.column == BACKWARD and not weights_only else 0]
        return [f"{first.kind} \u2192 {name}"]
    return [
        f"{operator.outputs[-1]}: rate {operator.attributes['rate']:g}, decay {operator.attributes['decay']:g}"
        for operator in placed.operators
    ]


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    style = {"arrowstyle": "-|>", "color": SOFT, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 7}
    axes.annotate("", end, start, arrowprops=style)
