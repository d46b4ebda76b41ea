"""The figures of docs/looking.md: each made by its verb, from what `alexnet demo` left, and shrunk to stand on a page.

python benchmarks/gallery.py alexnet-demo/run-0 alexnet-demo/store-0 docs/figures
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

WIDE, COLOURS, QUALITY = 900, 64, 80  # pixels; of a PNG; of a JPEG, for what shows pictures


def figures(run: str, store: str) -> dict[str, list[str]]:
    """The verb and its arguments for each figure's file."""
    model = f"{run}/model.safetensors"
    return {
        "network.png": ["show", "network", "original"],
        "step.png": ["show", "network", "original", "--backward"],
        "activations.png": ["show", "activations"],
        "schedule.png": ["show", "schedule", "original"],
        "views.jpg": ["show", "views", store, "--recipe", "original"],
        "curves.png": ["show", "curves", run],
        "filters.jpg": ["show", "filters", model],
        "predictions.jpg": ["show", "predictions", model, store],
        "stations.jpg": ["show", "stations", model, store],
        "saliency.jpg": ["show", "saliency", model, store],
        "confusion.png": ["show", "confusion", model, store],
        "neighbours.jpg": ["neighbours", model, store, "--records", "4"],
    }


def shrink(path: Path, out: Path) -> None:
    """Write a figure again at page width: a PNG with a palette, or a JPEG."""
    picture = Image.open(path).convert("RGB")
    if picture.width > WIDE:
        picture = picture.resize((WIDE, round(picture.height * WIDE / picture.width)), Image.Resampling.LANCZOS)
    if out.suffix == ".png":
        picture.quantize(COLOURS, dither=Image.Dither.NONE).save(out, optimize=True)
    else:
        picture.save(out, quality=QUALITY)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("run", "store", "out"):
        parser.add_argument(name)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, verb in figures(given.run, given.store).items():
            whole = Path(folder, name).with_suffix(".png")
            subprocess.run([sys.executable, "-m", "alexnet", *verb, "--out", str(whole)], check=True)
            shrink(whole, Path(given.out, name))


if __name__ == "__main__":
    main()
