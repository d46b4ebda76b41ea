"""How a figure becomes a file: its style, its colours and the forms it can have, PNG and SVG.

Figures are matplotlib's objects, drawn without its global state: a function under `styled` makes one, `png` and `svg` turn it
into bytes, `save` into a file. No text is smaller than 8 points at the figure's own size; towers, right and wrong, and runs have
colours that the colour-blind can tell apart, everything else is grey. Text is never read as mathematics, for class names can hold
anything; in an SVG it stays text, in the reader's own font. What is drawn is not known here.
"""

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import font_manager, rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from alexnet.durable import write_bytes
from alexnet.errors import UsageError

INK, SOFT, FAINT, PAPER = "#222222", "#6b6b68", "#e8e7e2", "#ffffff"
BLUE, RUST = "#2b6490", "#b3552d"  # right and wrong, more and less, one tower and the other
SERIES = (BLUE, RUST, "#2f8f6b", "#8a5ca8", "#c9931f", INK)  # runs; beyond six the line's style changes
STYLES = ("-", "--", ":", "-.")
SIGNED = LinearSegmentedColormap.from_list("signed", [RUST, PAPER, BLUE])  # below 0, 0, above 0

SUFFIXES = (".png", ".svg")
DPI = 200  # of a PNG
SMALL = 8  # points: nothing is smaller
# Families that have what matplotlib's own font lacks; those that are installed are tried in this order.
OTHER_SCRIPTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans", "WenQuanYi Zen Hei", "PingFang SC", "Hiragino Sans"),
    *("Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Arial Unicode MS", "Noto Sans Devanagari", "Noto Sans Thai"),
)
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "alexnet",  # the same numbers give the same bytes
    "text.parse_math": False,
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "lines.linewidth": 1.4,
    "legend.frameon": False,
    "legend.fontsize": SMALL,
}


@contextmanager
def styled() -> Iterator[None]:
    """The style while inside, also as a decorator of functions that draw; a letter no font has is a box, not a complaint."""
    family = ["DejaVu Sans", *_other_scripts()]
    with rc_context(STYLE | {"font.family": family}), warnings.catch_warnings():  # type: ignore[arg-type]
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield


@cache
def _other_scripts() -> tuple[str, ...]:
    installed = set(font_manager.get_font_names())
    return tuple(name for name in OTHER_SCRIPTS if name in installed)


def must_be_a_figure(path: Path) -> None:
    """UsageError unless the name of a figure's file ends as one of the forms it can have."""
    if path.suffix.lower() not in SUFFIXES:
        found = path.suffix or "no suffix"
        raise UsageError(f"--out {path}: a figure with {found}; expected a name that ends in {' or '.join(SUFFIXES)}")


def save(path: Path, figure: Figure) -> None:
    """Write a figure as the path's suffix says, whole or not at all."""
    must_be_a_figure(path)
    write_bytes(path, svg(figure) if path.suffix.lower() == ".svg" else png(figure))


@styled()
def svg(figure: Figure) -> bytes:
    """The figure as SVG."""
    data = io.BytesIO()
    figure.savefig(data, format="svg", metadata={"Date": None, "Creator": None})
    return data.getvalue().replace(b"'DejaVu Sans'", b"system-ui, sans-serif")


@styled()
def png(figure: Figure, dpi: int = DPI) -> bytes:
    """The figure as PNG, `dpi` pixels for each inch of its own size."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=dpi, metadata={"Software": None})
    return data.getvalue()


def bare(axes: Axes) -> Axes:
    """Axes without frame, ticks and grid: for pictures and drawings."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.grid(False)
    return axes


def show_pixels(axes: Axes, pixels: np.ndarray) -> None:
    """A picture uint8 (H, W, C), grey if C is 1, with every pixel as it is."""
    bare(axes)
    axes.imshow(pixels.repeat(3, 2) if pixels.shape[2] == 1 else pixels, interpolation="nearest" if len(pixels) < 100 else None)


def series_style(place: int) -> dict[str, Any]:
    """Colour and line of the curve at a place among several."""
    return {"color": SERIES[place % len(SERIES)], "linestyle": STYLES[place // len(SERIES) % len(STYLES)]}


def tint(colour: str, share: float) -> str:
    """The colour laid on near-white paper, more of it the larger the share."""
    target = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return "#" + "".join(f"{round(level):02x}" for level in 246 + (target - 246) * min(1.0, share))


def width_of(names: Sequence[str], size: float) -> float:
    """Inches that the widest of some texts takes, in letters of that size in points."""
    figure = Figure()
    return max(figure.text(0, 0, name, fontsize=size).get_window_extent().width for name in names) / figure.dpi


def shortened(name: str, length: int = 22) -> str:
    """The name, without its middle where it is too long for a figure: names that are alike often differ at the end."""
    kept = length - 1
    return name if len(name) <= length else f"{name[: kept - kept // 3].rstrip()}\u2026{name[-(kept // 3) :].lstrip()}"
