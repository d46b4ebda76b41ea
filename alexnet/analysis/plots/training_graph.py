"""Plot one training step as a graph: forward operators, their gradients, and the updates.

The operators are those of the listing (`caffe2_operators`), so that listing and figure cannot
disagree; only positions are chosen here. Forward operators run down the left column. A gradient
is in the row of the operator it belongs to, and the arrow between the two names what it reads
again, which is why memory has to keep it. An update is in the row of the gradient it waits for.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from alexnet.analysis.caffe2_operators import (
    Operator,
    forward_operators,
    gradient_operators,
    loss_operators,
    update_operators,
)
from alexnet.analysis.plots.style import (
    BLUE,
    GRAY,
    INK,
    RUST,
    SMALL_FONT,
    figure_style,
    hide_axes,
    shorten,
    tint,
)
from alexnet.recipes.recipe import Recipe

FORWARD = 0
BACKWARD = 1
UPDATE = 2
COLUMN_TITLES = ("forward", "gradients", "updates")
COLUMN_COLORS = (GRAY, RUST, BLUE)
# In inches:
COLUMN_LEFT = (0.15, 3.75, 6.7)
COLUMN_WIDTH = (1.85, 2.5, 2.45)
ROW_HEIGHT = 0.39
BOX_HEIGHT = 0.31
FIGURE_WIDTH = 9.3
TOP_MARGIN = 1.0
BOTTOM_MARGIN = 0.2

Point = tuple[float, float]


@dataclass(frozen=True)
class GraphNode:
    """Operators in one box: the updates of a layer's weight and bias, or a single operator."""

    column: int
    row: int
    operators: tuple[Operator, ...]

    @property
    def forward_inputs(self) -> tuple[str, ...]:
        """Return the inputs from the forward pass, which memory has to keep until then."""
        return tuple(
            name
            for operator in self.operators
            for name in operator.inputs
            if not name.endswith("_grad")
        )


@dataclass(frozen=True)
class TrainingGraph:
    """All operators of a training step, in the order in which they run, with their positions."""

    nodes: tuple[GraphNode, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the nodes as plain data."""
        return {"operators": [asdict(node) for node in self.nodes]}


def compute_training_graph(recipe: Recipe, num_classes: int) -> TrainingGraph:
    """Give every operator of a training step its position; UsageError where sizes do not fit."""
    forward = forward_operators(recipe.network, num_classes, training=True)
    forward += loss_operators(recipe.training)
    fill, *gradients = gradient_operators(forward)
    last = len(forward)
    nodes = [GraphNode(FORWARD, row, (operator,)) for row, operator in enumerate(forward)]
    backward = [GraphNode(BACKWARD, last, (fill,))]
    for number, gradient in enumerate(gradients):
        backward.append(GraphNode(BACKWARD, last - 1 - number, (gradient,)))
    gradient_row = {name: node.row for node in backward for name in node.operators[0].outputs}
    updates: dict[int, tuple[Operator, ...]] = {}
    for update in update_operators(recipe):
        row = gradient_row[update.inputs[0]]
        updates[row] = (*updates.get(row, ()), update)
    nodes += backward
    nodes += [GraphNode(UPDATE, row, operators) for row, operators in updates.items()]
    return TrainingGraph(tuple(nodes))


@figure_style()
def plot_training_graph(graph: TrainingGraph, title: str) -> Figure:
    """Plot the graph, as high as the step has rows."""
    height = TOP_MARGIN + ROW_HEIGHT * (1 + max(node.row for node in graph.nodes)) + BOTTOM_MARGIN
    figure = Figure((FIGURE_WIDTH, height))
    axes = hide_axes(figure.add_axes((0, 0, 1, 1)))
    axes.set(xlim=(0, FIGURE_WIDTH), ylim=(0, height))
    axes.text(COLUMN_LEFT[0], height - 0.25, title, fontsize=11, weight="bold", va="center")
    _write_column_titles(axes, height - 0.65)
    for node in graph.nodes:
        _draw_node(axes, node, _row_y(height, node.row))
    for node, following in zip(graph.nodes, graph.nodes[1:], strict=False):
        if node.column == following.column != UPDATE:
            _draw_sequence_arrow(axes, node, following, height)
    return figure


def _row_y(height: float, row: int) -> float:
    return height - TOP_MARGIN - ROW_HEIGHT * row


def _column_right(column: int) -> float:
    return COLUMN_LEFT[column] + COLUMN_WIDTH[column]


def _column_center(column: int) -> float:
    return COLUMN_LEFT[column] + COLUMN_WIDTH[column] / 2


def _write_column_titles(axes: Axes, y: float) -> None:
    titles = [(_column_center(column), title) for column, title in enumerate(COLUMN_TITLES)]
    titles.append(((_column_right(FORWARD) + COLUMN_LEFT[BACKWARD]) / 2, "read again"))
    for x, title in titles:
        axes.text(x, y, title, fontsize=9, color=GRAY, ha="center", va="center")


def _draw_sequence_arrow(axes: Axes, node: GraphNode, following: GraphNode, height: float) -> None:
    """Draw an arrow from an operator to the next: down in the forward pass, up in the backward."""
    x = _column_center(node.column)
    edge = BOX_HEIGHT / 2 if node.column == BACKWARD else -BOX_HEIGHT / 2
    start = (x, _row_y(height, node.row) + edge)
    end = (x, _row_y(height, following.row) - edge)
    _draw_arrow(axes, start, end)


def _draw_node(axes: Axes, node: GraphNode, y: float) -> None:
    """Draw a box with its text, and the arrow that leads to it from the left."""
    left = COLUMN_LEFT[node.column]
    color = COLUMN_COLORS[node.column]
    box = Rectangle(
        (left, y - BOX_HEIGHT / 2),
        COLUMN_WIDTH[node.column],
        BOX_HEIGHT,
        facecolor=tint(color, 0.18),
        edgecolor=color,
        linewidth=0.7,
    )
    axes.add_patch(box)
    lines = _node_lines(node)
    for number, text in enumerate(lines):
        # Letters reach higher than they hang: the text is moved down a little.
        offset = 0.42 * BOX_HEIGHT * (1 - (2 * number + 1) / len(lines)) - 0.006
        axes.text(left + 0.07, y + offset, text, fontsize=SMALL_FONT, va="center", color=INK)
    if node.column == BACKWARD and node.forward_inputs:
        _draw_forward_inputs(axes, node, y)
    if node.column == UPDATE:
        _draw_arrow(axes, (_column_right(BACKWARD), y), (left, y))


def _draw_forward_inputs(axes: Axes, node: GraphNode, y: float) -> None:
    """Draw the arrow from the forward pass to a gradient, labeled with what it reads again."""
    start = _column_right(FORWARD)
    if node.operators[0].kind == "ConstantFill":  # it is one row below the loss: go around a corner
        start = _column_center(FORWARD)
        corner_top = y + ROW_HEIGHT - BOX_HEIGHT / 2
        axes.plot((start, start), (y, corner_top), color=GRAY, linewidth=0.7)
    end = COLUMN_LEFT[BACKWARD]
    _draw_arrow(axes, (start, y), (end, y))
    x = (_column_right(FORWARD) + end) / 2
    names = shorten(", ".join(name.strip("_") for name in node.forward_inputs), 26)
    axes.text(x, y + 0.075, names, fontsize=SMALL_FONT, color=GRAY, ha="center", va="center")


def _node_lines(node: GraphNode) -> Sequence[str]:
    """Return the text of a box: the operator and what it computes, or the updates' settings."""
    if node.column == UPDATE:
        return [_update_line(operator) for operator in node.operators]
    operator = node.operators[0]
    name = operator.outputs[0]
    # A gradient's last output is that of the data; the first layer has none for the data.
    if node.column == BACKWARD and len(operator.outputs) != 2:
        name = operator.outputs[-1]
    return [f"{operator.kind} \N{RIGHTWARDS ARROW} {name}"]


def _update_line(operator: Operator) -> str:
    lr = operator.attributes["lr"]
    weight_decay = operator.attributes["weight_decay"]
    return f"{operator.outputs[-1]}: lr {lr:g}, weight decay {weight_decay:g}"


def _draw_arrow(axes: Axes, start: Point, end: Point) -> None:
    style = {
        "arrowstyle": "-|>",
        "color": GRAY,
        "linewidth": 0.7,
        "shrinkA": 0,
        "shrinkB": 0,
        "mutation_scale": 7,
    }
    axes.annotate("", end, start, arrowprops=style)
