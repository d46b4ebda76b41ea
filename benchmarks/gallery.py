"""Make all figures of docs/visualization.md again, from what `alexnet demo` left.

Each figure is made by its command, then shrunk to the width of a page.

    python benchmarks/gallery.py alexnet-demo/run-0 alexnet-demo/dataset-0 docs/figures
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

MAX_WIDTH = 900  # pixels
PNG_COLORS = 64
JPEG_QUALITY = 80  # of figures that show images


def commands(run: str, dataset: str) -> dict[str, list[str]]:
    """Return the command that makes each figure, by the figure's file name."""
    model = f"{run}/model.safetensors"
    return {
        "network.png": ["show", "network", "original"],
        "training_graph.png": ["show", "network", "original", "--backward"],
        "activations.png": ["show", "activations"],
        "schedule.png": ["show", "schedule", "original"],
        "augmentations.jpg": ["show", "augmentations", dataset, "--recipe", "original"],
        "curves.png": ["show", "curves", run],
        "filters.jpg": ["show", "filters", model],
        "predictions.jpg": ["show", "predictions", model, dataset],
        "layers.jpg": ["show", "layers", model, dataset],
        "saliency.jpg": ["show", "saliency", model, dataset],
        "confusion.png": ["show", "confusion", model, dataset],
        "neighbors.jpg": ["neighbors", model, dataset, "--records", "4"],
    }


def shrink(path: Path, out: Path) -> None:
    """Write a figure at page width: as PNG with a palette, or as JPEG."""
    image = Image.open(path).convert("RGB")
    if image.width > MAX_WIDTH:
        height = round(image.height * MAX_WIDTH / image.width)
        image = image.resize((MAX_WIDTH, height), Image.Resampling.LANCZOS)
    if out.suffix == ".png":
        image.quantize(PNG_COLORS, dither=Image.Dither.NONE).save(out, optimize=True)
    else:
        image.save(out, quality=JPEG_QUALITY)


def main() -> None:
    """Run each command and write its figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run")
    parser.add_argument("dataset")
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, command in commands(arguments.run, arguments.dataset).items():
            full_size = Path(folder, name).with_suffix(".png")
            program = [sys.executable, "-m", "alexnet", *command, "--out", str(full_size)]
            subprocess.run(program, check=True)
            shrink(full_size, arguments.out / name)


if __name__ == "__main__":
    main()
