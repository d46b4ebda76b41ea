"""Curves that `every_recipe.py --curve` wrote, over each other as one figure: the training loss, averaged over ten records.

python benchmarks/draw_curves.py docs/figures/starts.png "the program's start"=program.txt "the text's start"=text.txt
"""

import sys
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402 (the drawing is to a file: chosen before it is loaded)

WINDOW = 10  # records


def main() -> None:
    out, *curves = sys.argv[1:]
    figure, axes = pyplot.subplots(figsize=(6.4, 3.6), layout="constrained")
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
