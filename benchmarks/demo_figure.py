r"""Make the README's figure: the first val image of each class, with the network's prediction.

    python benchmarks/demo_figure.py alexnet-demo/run-0 alexnet-demo/dataset-0 \
        docs/figures/demo.jpg
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from alexnet.core.device import make_runtime
from alexnet.data.prepared import open_dataset
from alexnet.evaluation.evaluate import probabilities
from alexnet.models.model_file import load_classifier

COLUMNS = 6
CROPS = 10
# In pixels:
IMAGE_SIZE = 160
GAP = 8
CAPTION_HEIGHT = 22
FONT_SIZE = 14


def draw_sheet(images: np.ndarray, captions: Sequence[str]) -> Image.Image:
    """Arrange images uint8 (N, S, S, 3) in rows of six, each above its caption."""
    rows = -(-len(images) // COLUMNS)
    column_width = IMAGE_SIZE + GAP
    row_height = IMAGE_SIZE + CAPTION_HEIGHT + GAP
    sheet = Image.new("RGB", (COLUMNS * column_width - GAP, rows * row_height - GAP), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(FONT_SIZE)
    for index, (pixels, caption) in enumerate(zip(images, captions, strict=True)):
        row, column = divmod(index, COLUMNS)
        left = column * column_width
        top = row * row_height
        image = Image.fromarray(pixels)
        image = image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.LANCZOS)
        sheet.paste(image, (left, top))
        draw.text((left, top + IMAGE_SIZE + 2), caption, "black", font)
    return sheet


def main() -> None:
    """Predict the images and write the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("run", "dataset", "out"):
        parser.add_argument(name, type=Path)
    arguments = parser.parse_args()
    runtime = make_runtime()
    classifier = load_classifier(arguments.run / "model.safetensors", runtime)
    dataset = open_dataset(arguments.dataset)
    val = dataset.splits["val"]
    labels = range(len(dataset.classes))
    first_of_class = [int(np.flatnonzero(val.labels == label)[0]) for label in labels]
    images = np.stack([val.pixels(index) for index in first_of_class])
    captions = [
        f"{dataset.classes[int(row.argmax())]} {100 * float(row.max()):.0f} %"
        for row in probabilities(classifier, images, CROPS, runtime)
    ]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    draw_sheet(images, captions).save(arguments.out, quality=88)


if __name__ == "__main__":
    main()
