"""Write a matplotlib figure as PNG or SVG: the same figure always gives the same bytes.

No dates and no program names go into a file. In an SVG text stays text, in the reader's system
font.
"""

import io
from pathlib import Path

from matplotlib.figure import Figure

from alexnet.analysis.plots.style import figure_style
from alexnet.core.atomic_io import write_bytes
from alexnet.core.errors import UsageError

SUFFIXES = (".png", ".svg")
DPI = 200  # of a PNG


def require_figure_path(path: Path) -> None:
    """Raise UsageError unless a figure's file name ends in .png or .svg."""
    if path.suffix.lower() not in SUFFIXES:
        suffix = path.suffix or "no suffix"
        expected = " or ".join(SUFFIXES)
        raise UsageError(
            f"--out {path}: a figure with {suffix}; expected a name that ends in {expected}"
        )


def save_figure(path: Path, figure: Figure) -> None:
    """Write a figure atomically, in the format that the path's suffix names."""
    require_figure_path(path)
    write_bytes(path, to_svg(figure) if path.suffix.lower() == ".svg" else to_png(figure))


@figure_style()
def to_svg(figure: Figure) -> bytes:
    """Render the figure as SVG."""
    data = io.BytesIO()
    figure.savefig(data, format="svg", metadata={"Date": None, "Creator": None})
    return data.getvalue().replace(b"'DejaVu Sans'", b"system-ui, sans-serif")


@figure_style()
def to_png(figure: Figure, dpi: int = DPI) -> bytes:
    """Render the figure as PNG, `dpi` pixels for each inch of its own size."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=dpi, metadata={"Software": None})
    return data.getvalue()
