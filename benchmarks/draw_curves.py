r"""Plot training losses that `every_recipe.py --curve` wrote, in one figure.

Each loss is averaged over ten records.

    python benchmarks/draw_curves.py out.png "the program's initialization"=program.txt \
        "the text's initialization"=text.txt
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

WINDOW = 10  # records


def main() -> None:
    """Plot the curves named on the command line, each as LABEL=FILE."""
    out, *curves = sys.argv[1:]
    figure = Figure((6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    for curve in curves:
        label, _, path = curve.partition("=")
        epochs, losses = np.loadtxt(Path(path), unpack=True)
        smooth = np.convolve(losses, np.ones(WINDOW) / WINDOW, "valid")
        axes.plot(epochs[WINDOW - 1 :], smooth, label=label, linewidth=1.4)
    axes.set(xlabel="epoch", ylabel=f"training loss, mean of {WINDOW} records")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(out, dpi=130)


if __name__ == "__main__":
    main()
