"""The README's picture: the first val picture of each class and what the net says of it.

python benchmarks/demo_figure.py alexnet-demo/run-0 alexnet-demo/store-0 docs/figures/demo.jpg
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from alexnet.data.store import open_store
from alexnet.evaluate import probabilities
from alexnet.model import ready
from alexnet.runtime import choose

SIDE, GAP, LINE, COLUMNS = 160, 8, 22, 6


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("run", "store", "out"):
        arguments.add_argument(name, type=Path)
    given = arguments.parse_args()
    runtime = choose()
    model, store = ready(given.run / "model.safetensors", runtime), open_store(given.store)
    val = store.splits["val"]
    firsts = [int(np.flatnonzero(val.labels == label)[0]) for label in range(len(store.classes))]
    squares = np.stack([val.pixels(i) for i in firsts])
    shares = probabilities((model.network, model.view), squares, 10, runtime)
    rows = -(-len(firsts) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (SIDE + GAP) - GAP, rows * (SIDE + LINE + GAP) - GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for place, (square, share) in enumerate(zip(squares, shares, strict=True)):
        left, upper = place % COLUMNS * (SIDE + GAP), place // COLUMNS * (SIDE + LINE + GAP)
        sheet.paste(Image.fromarray(square).resize((SIDE, SIDE), Image.Resampling.LANCZOS), (left, upper))
        said = f"{store.classes[int(share.argmax())]} {100 * float(share.max()):.0f} %"
        pen.text((left, upper + SIDE + 2), said, "black", font)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(given.out, quality=88)


if __name__ == "__main__":
    main()
