"""The style that all figures share: colors, fonts, and small helpers for matplotlib axes.

Figures are matplotlib objects made without its global state: a function decorated with
`figure_style()` builds one, `figure_io` writes it. No text is smaller than 8 points at the figure's
own size. Towers, right and wrong, and runs have colors that color-blind readers can tell apart;
everything else is gray. Text is never parsed as mathematics, because class names can hold anything.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from matplotlib import font_manager, rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

INK = "#222222"
GRAY = "#6b6b68"
LIGHT_GRAY = "#e8e7e2"
WHITE = "#ffffff"
BLUE = "#2b6490"  # right, more, the first tower
RUST = "#b3552d"  # wrong, less, the second tower
# One color a run; beyond six runs the line style changes.
SERIES_COLORS = (BLUE, RUST, "#2f8f6b", "#8a5ca8", "#c9931f", INK)
LINE_STYLES = ("-", "--", ":", "-.")
DIVERGING = LinearSegmentedColormap.from_list("diverging", [RUST, WHITE, BLUE])

SMALL_FONT = 8  # points: nothing is smaller
PIXELATED_BELOW = 100  # pixels: smaller images are enlarged without smoothing
# Fonts with scripts that matplotlib's own font lacks; installed ones are tried in this order.
FALLBACK_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Source Han Sans",
    "WenQuanYi Zen Hei",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
    "Arial Unicode MS",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
)
RC_PARAMS: dict[str, Any] = {
    "svg.fonttype": "none",  # text stays text, in the reader's own font
    "svg.hashsalt": "alexnet",  # the same numbers give the same bytes
    "text.parse_math": False,
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": GRAY,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": LIGHT_GRAY,
    "grid.linewidth": 0.6,
    "xtick.color": GRAY,
    "ytick.color": GRAY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": SMALL_FONT,
    "ytick.labelsize": SMALL_FONT,
    "lines.linewidth": 1.4,
    "legend.frameon": False,
    "legend.fontsize": SMALL_FONT,
}


@contextmanager
def figure_style() -> Iterator[None]:
    """Apply the style within the context; also works as a decorator of functions that plot.

    A character that no installed font has is drawn as a box, without a warning.
    """
    family = ["DejaVu Sans", *_installed_fallback_fonts()]
    params = RC_PARAMS | {"font.family": family}
    with rc_context(params), warnings.catch_warnings():  # type: ignore[arg-type]
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield


@cache
def _installed_fallback_fonts() -> tuple[str, ...]:
    installed = set(font_manager.get_font_names())
    return tuple(name for name in FALLBACK_FONTS if name in installed)


def hide_axes(axes: Axes) -> Axes:
    """Remove frame, ticks and grid, for images and drawings; return the same axes."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.grid(False)
    return axes


def show_image(axes: Axes, pixels: np.ndarray) -> None:
    """Show an image uint8 (H, W, C), gray if C is 1; small ones with every pixel visible."""
    hide_axes(axes)
    axes.imshow(
        pixels.repeat(3, 2) if pixels.shape[2] == 1 else pixels,
        interpolation="nearest" if len(pixels) < PIXELATED_BELOW else None,
    )


def line_style(index: int) -> dict[str, Any]:
    """Return color and line style of the curve with this index among several."""
    return {
        "color": SERIES_COLORS[index % len(SERIES_COLORS)],
        "linestyle": LINE_STYLES[index // len(SERIES_COLORS) % len(LINE_STYLES)],
    }


def tint(color: str, strength: float) -> str:
    """Blend a color (#rrggbb) with near-white: 0 is near-white, 1 the color itself."""
    target = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
    levels = 246 + (target - 246) * min(1.0, strength)
    return "#" + "".join(f"{round(level):02x}" for level in levels)


def text_width(texts: Sequence[str], font_size: float) -> float:
    """Return the width in inches of the widest text, at a font size in points."""
    figure = Figure()
    extents = [figure.text(0, 0, text, fontsize=font_size).get_window_extent() for text in texts]
    return max(extent.width for extent in extents) / figure.dpi


def shorten(name: str, length: int = 22) -> str:
    """Cut the middle out of a long name: names that are alike often differ at the end."""
    if len(name) <= length:
        return name
    tail = (length - 1) // 3
    head = length - 1 - tail
    return f"{name[:head].rstrip()}\N{HORIZONTAL ELLIPSIS}{name[-tail:].lstrip()}"
