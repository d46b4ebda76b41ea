"""Plot a network's architecture to scale, as the paper's figure 2, with what each layer costs.

Below each box are the layer's description, its output shape, the layers that follow, and its
parameters and multiply-adds, in numbers and as bars. Lines run from a kernel's window to the unit
it computes: gray within a tower, dark where a layer reads from every tower. Sizes and counts come
from the layout; nothing is computed here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle

from alexnet.analysis.plots.arch_layout import DEPTH_DIRECTION, ArchitectureLayout, Block, Box
from alexnet.analysis.plots.style import (
    BLUE,
    GRAY,
    INK,
    LIGHT_GRAY,
    RUST,
    SMALL_FONT,
    figure_style,
    hide_axes,
    tint,
)
from alexnet.recipes.layers import Shape

Point = tuple[float, float]

THIN_TIMES = "\N{THIN SPACE}×\N{THIN SPACE}"
TOWER_COLORS = (BLUE, RUST)
BAR_COLOR = "#b9b8b3"
DASHED = (0, (3, 2))
DOTTED = (0, (1, 1.5))
# In inches:
LABEL_WIDTH = 0.98  # of the column of row names
EDGE = 0.12
LINE_HEIGHT = 0.155
TITLE_HEIGHT = 0.72
DRAWING_GAP = 0.2  # between the drawing and the table below
ROW_GAP = 0.1
MAX_BAR = 0.4
MIN_WIDTH = 5.2  # so that the title fits


@dataclass(frozen=True)
class TextRow:
    """A row of the table: its name, and the lines of text for each block."""

    name: str
    cells: tuple[tuple[str, ...], ...]
    is_heading: bool = False

    @property
    def height(self) -> float:
        return LINE_HEIGHT * max(len(lines) for lines in self.cells) + ROW_GAP


@figure_style()
def plot_architecture(layout: ArchitectureLayout, title: str) -> Figure:
    """Plot title, drawing and table; the figure is as wide as the network has blocks."""
    rows = _text_rows(layout.blocks)
    bar_row_height = MAX_BAR + LINE_HEIGHT + 0.06 + ROW_GAP
    table_height = sum(row.height for row in rows) + 2 * bar_row_height
    width = max(MIN_WIDTH, LABEL_WIDTH + layout.width + EDGE)
    height = TITLE_HEIGHT + layout.height + DRAWING_GAP + table_height + EDGE
    figure = Figure((width, height))
    axes = hide_axes(figure.add_axes((0, 0, 1, 1)))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.text(EDGE, height - 0.25, title, fontsize=11, weight="bold", va="center")
    subtitle = _subtitle(layout.blocks)
    axes.text(EDGE, height - 0.47, subtitle, fontsize=SMALL_FONT, color=GRAY, va="center")
    bottom = height - TITLE_HEIGHT - layout.height
    rect = (LABEL_WIDTH / width, bottom / height, layout.width / width, layout.height / height)
    _draw_network(figure.add_axes(rect), layout)
    top = bottom - DRAWING_GAP
    for row in rows:
        top = _write_row(axes, layout, row, top, width)
    parameters = [block.parameters for block in layout.blocks]
    top = _draw_bars(axes, layout, "parameters", parameters, top, width)
    multiply_adds = [block.multiply_adds for block in layout.blocks]
    _draw_bars(axes, layout, "multiply-adds", multiply_adds, top, width)
    return figure


def _subtitle(blocks: Sequence[Block]) -> str:
    """Return the totals, and what the scales and the lines mean."""
    parameters = sum(block.parameters for block in blocks)
    multiply_adds = sum(block.multiply_adds for block in blocks)
    text = f"{parameters:,} parameters, {multiply_adds:,} multiply-adds per image. "
    text += "Pixels, channels and units each to one scale"
    if any(block.towers > 1 for block in blocks):
        text += "; dark lines read from every tower"
    if any(block.norm_across_towers for block in blocks):
        text += ", dotted ones are norms over both"
    return f"{text}."


# ---- the drawing


def _draw_network(axes: Axes, layout: ArchitectureLayout) -> None:
    """Draw the boxes and what they read, in the layout's own inches."""
    hide_axes(axes).set(xlim=(0, layout.width), ylim=(0, layout.height))
    for index in range(1, len(layout.blocks)):
        _draw_connections(axes, layout, index)
    for box in layout.boxes:
        _draw_box(axes, box, layout.blocks[box.block])
    for index, block in enumerate(layout.blocks):
        if block.norm_across_towers:
            _draw_norm_across_towers(axes, layout.boxes_of(index))


def _move_back(point: Point, depth: float) -> Point:
    """Move a point of a box's front by a depth in inches."""
    return point[0] + DEPTH_DIRECTION[0] * depth, point[1] + DEPTH_DIRECTION[1] * depth


def _draw_box(axes: Axes, box: Box, block: Block) -> None:
    """Draw front, top and right side of a box; of a bar only the front can be seen."""
    color = TOWER_COLORS[box.tower % 2] if block.towers > 1 else GRAY
    depth = box.size.depth
    lower_left = (box.left, box.bottom)
    lower_right = (box.right, box.bottom)
    upper_left = (box.left, box.top)
    upper_right = (box.right, box.top)
    upper_right_back = _move_back(upper_right, depth)
    front = [lower_left, lower_right, upper_right, upper_left]
    top = [upper_left, upper_right, upper_right_back, _move_back(upper_left, depth)]
    side = [lower_right, upper_right, upper_right_back, _move_back(lower_right, depth)]
    for corners, strength in ((front, 0.42), (top, 0.25), (side, 0.1)):
        face = Polygon(
            corners,
            closed=True,
            facecolor=tint(color, strength),
            edgecolor=color,
            linewidth=0.7,
            zorder=3,
            clip_on=False,
        )
        axes.add_patch(face)


def _draw_connections(axes: Axes, layout: ArchitectureLayout, index: int) -> None:
    """Draw what a block reads: from each box of the previous block to each of its own."""
    block = layout.blocks[index]
    previous = layout.blocks[index - 1]
    reads_all_towers = block.reads not in ("", "own tower")
    for target in layout.boxes_of(index):
        for source in layout.boxes_of(index - 1):
            if block.reads == "own tower" and source.tower != target.tower:
                continue
            if block.kernel_size:
                fraction = min(1.0, block.kernel_size / previous.out_shape[1])
                _draw_kernel(axes, source, target, fraction, reads_all_towers)
            else:
                _draw_full_connection(axes, source, target, reads_all_towers)


def _draw_kernel(axes: Axes, source: Box, target: Box, fraction: float, dark: bool) -> None:
    """Draw a kernel's window, a fraction of a box's side, and lines to the unit it computes."""
    window_height = fraction * source.size.height
    window_depth = fraction * source.size.depth
    bottom = source.bottom + 0.55 * (source.size.height - window_height)
    corner = _move_back((source.right, bottom), 0.4 * (source.size.depth - window_depth))
    upper_corner = (corner[0], corner[1] + window_height)
    corners = [
        corner,
        upper_corner,
        _move_back(upper_corner, window_depth),
        _move_back(corner, window_depth),
    ]
    window = Polygon(corners, closed=True, facecolor="none", edgecolor=INK, linewidth=0.7, zorder=5)
    axes.add_patch(window)
    unit = (target.left, target.bottom + target.size.height / 2)
    for point in corners:
        _draw_dashed_line(axes, point, unit, dark, zorder=4 if dark else 2)


def _draw_full_connection(axes: Axes, source: Box, target: Box, dark: bool) -> None:
    """Draw a connection of everything to everything: from a box's right side to a whole bar."""
    right = source.right + DEPTH_DIRECTION[0] * source.size.depth
    lower = (right, source.bottom)
    upper = (right, source.outer_top)
    target_lower = (target.left, target.bottom)
    target_upper = (target.left, target.top)
    area = Polygon(
        [lower, upper, target_upper, target_lower],
        closed=True,
        facecolor=INK if dark else GRAY,
        alpha=0.06,
        linewidth=0,
        zorder=1,
    )
    axes.add_patch(area)
    _draw_dashed_line(axes, lower, target_lower, dark, zorder=2)
    _draw_dashed_line(axes, upper, target_upper, dark, zorder=2)


def _draw_dashed_line(axes: Axes, start: Point, end: Point, dark: bool, zorder: float) -> None:
    axes.plot(
        (start[0], end[0]),
        (start[1], end[1]),
        color=INK if dark else GRAY,
        linewidth=0.8 if dark else 0.6,
        linestyle=DASHED,
        zorder=zorder,
    )


def _draw_norm_across_towers(axes: Axes, boxes: Sequence[Box]) -> None:
    """Draw a dotted line between the boxes of towers that share a norm."""
    for above, below in zip(boxes, boxes[1:], strict=False):
        x = (above.left + above.right) / 2
        y = (below.outer_top, above.bottom)
        axes.plot((x, x), y, color=INK, linewidth=1.2, linestyle=DOTTED, zorder=2)


# ---- the table


def _text_rows(blocks: Sequence[Block]) -> list[TextRow]:
    """Return the rows of text below the drawing, without those that are empty."""
    rows = [
        TextRow("", tuple((block.name,) for block in blocks), is_heading=True),
        TextRow("layer", tuple(block.description for block in blocks)),
        TextRow("reads", tuple((block.reads,) for block in blocks)),
        TextRow("output", tuple((_format_shape(block.shape),) for block in blocks)),
        TextRow("followed by", tuple(_following_lines(block) for block in blocks)),
    ]
    return [row for row in rows if any(any(lines) for lines in row.cells)]


def _following_lines(block: Block) -> tuple[str, ...]:
    """Return the layers that follow, and the shape after them where it is another."""
    if block.out_shape == block.shape:
        return block.following
    return (*block.following, f"\N{RIGHTWARDS ARROW} {_format_shape(block.out_shape)}")


def _format_shape(shape: Shape) -> str:
    channels, height, width = shape
    if (height, width) == (1, 1):
        return str(channels)
    return THIN_TIMES.join(map(str, shape))


def _write_row(
    axes: Axes, layout: ArchitectureLayout, row: TextRow, top: float, width: float
) -> float:
    """Write a row of text from `top` down; return the top of the next row."""
    axes.text(EDGE, top - LINE_HEIGHT / 2, row.name, fontsize=SMALL_FONT, color=GRAY, va="center")
    for index, lines in enumerate(row.cells):
        for number, text in enumerate(lines):
            axes.text(
                layout.column_center(index) + LABEL_WIDTH,
                top - LINE_HEIGHT * (number + 0.5),
                text,
                ha="center",
                va="center",
                fontsize=9.5 if row.is_heading else SMALL_FONT,
                weight="bold" if row.is_heading else "normal",
            )
    bottom = top - row.height
    line_y = bottom + 0.04
    axes.plot((EDGE, width - EDGE), (line_y, line_y), color=LIGHT_GRAY, linewidth=0.6)
    return bottom


def _draw_bars(
    axes: Axes,
    layout: ArchitectureLayout,
    name: str,
    counts: Sequence[int],
    top: float,
    width: float,
) -> float:
    """Draw a row of bars with their counts on top; return the top of the next row."""
    base = top - LINE_HEIGHT - MAX_BAR - 0.06
    text_y = top - LINE_HEIGHT / 2 - 0.02
    axes.text(EDGE, text_y, name, fontsize=SMALL_FONT, color=GRAY, va="center")
    for index, count in enumerate(counts):
        if count == 0:
            continue
        x = layout.column_center(index) + LABEL_WIDTH
        bar_height = MAX_BAR * count / max(counts)
        axes.add_patch(Rectangle((x - 0.3, base), 0.6, bar_height, color=BAR_COLOR, linewidth=0))
        axes.text(x, text_y, f"{count:,}", fontsize=SMALL_FONT, ha="center", va="center")
    axes.plot((EDGE, width - EDGE), (base, base), color=GRAY, linewidth=0.6)
    return base - ROW_GAP
