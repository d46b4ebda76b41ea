"""What all figures share: where they go, how they are written, and curves as characters."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alexnet.cli.options import JSON, PATH, Command, require_all_readable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from alexnet.analysis.plots.ascii_plot import Series

OUT = click.option(
    "--out",
    type=PATH,
    default=None,
    metavar="FILE.png|.svg",
    help="Default: the figure's name, .png, in this directory.",
)
ASCII = click.option(
    "--ascii", "as_text", is_flag=True, help="Print it as characters instead of a file."
)


def figure_options(command: Command) -> Command:
    """Add the options of a command that draws a figure."""
    return OUT(JSON(command))


def figure_path(out: Path | None, name: str) -> Path:
    """Return the path of a figure; UsageError unless it ends in .png or .svg."""
    from alexnet.analysis.plots.figure_io import require_figure_path

    path = out or Path(f"{name}.png")
    require_figure_path(path)
    return path


def write_figure(path: Path, figure: "Figure", data: dict[str, Any], as_json: bool) -> None:
    """Write a figure, then print its path, or as JSON the data that it shows."""
    from alexnet.analysis.plots.figure_io import save_figure
    from alexnet.core import console

    save_figure(path, figure)
    if as_json:
        console.print_json({"figure": str(path), **data})
    else:
        console.print_line(str(path))


def write_figure_of_images(
    path: Path,
    figure: "Figure",
    data: dict[str, Any],
    shown: int,
    unreadable: Sequence[tuple[str, str]],
    as_json: bool,
) -> None:
    """Write a figure of `shown` images, and print the (name, reason) of the unreadable ones.

    Raises AlexNetError at the end if there are any.
    """
    from alexnet.core import console

    if not as_json:
        for name, reason in unreadable:
            console.print_line(f"{name}: {reason}")
    reasons = [{"path": name, "error": reason} for name, reason in unreadable]
    write_figure(path, figure, data | {"unreadable": reasons}, as_json)
    require_all_readable(len(unreadable), shown + len(unreadable))


def print_curves(
    plots: "Mapping[str, Sequence[Series]]", data: dict[str, Any], as_json: bool, log: bool = False
) -> None:
    """Print curves by title as characters, or as JSON the data that they show."""
    from alexnet.analysis.plots.ascii_plot import plot_ascii
    from alexnet.core import console

    if as_json:
        console.print_json({"figure": None, **data})
        return
    for title, series in plots.items():
        console.print_line(plot_ascii(title, series, log))
