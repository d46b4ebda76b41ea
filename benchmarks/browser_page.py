"""The exported page in Chromium against `alexnet predict --crops 1`, on image files.

The page is exported, served on the loopback address, and asked about every image. Prints, and
writes as JSON, for how many images the likeliest class is the same, the largest difference of one
of the page's five probabilities, and the images whose likeliest class is another.

Needs node, Chromium and the packages of tests/browser (`make browser-test` installs them).

    python benchmarks/browser_page.py MODEL PHOTOS --images 100 --json browser_page.json
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import alexnet
from alexnet.data.image_batches import find_images

SCRIPT = Path(__file__).parents[1] / "tests" / "browser" / "page_answers.mjs"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")

Answers = dict[str, float]  # class -> probability, the likeliest first


def page_answers(folder: Path, files: Sequence[Path]) -> Iterator[Answers]:
    """Yield the five answers of the page in a folder to each of the files."""
    browser = next(filter(None, map(shutil.which, BROWSERS)))
    environment = os.environ | {"CHROMIUM": str(browser), "PYTHON": sys.executable}
    done = subprocess.run(
        ["node", str(SCRIPT), str(folder)],
        input="\n".join(map(str, files)),
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    for line in done.stdout.splitlines():
        yield {answer["class"]: answer["probability"] for answer in json.loads(line)["top"]}


def evenly(files: Sequence[Path], count: int) -> list[Path]:
    """Return `count` of the files, evenly spaced."""
    chosen = min(count, len(files))
    return [files[number * len(files) // chosen] for number in range(chosen)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", nargs="+", help="image files, or folders of them")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    files = evenly(find_images(arguments.photos), arguments.images)
    _, preprocess = alexnet.load_model(arguments.model)
    predictions = alexnet.predict(
        arguments.model, files, crops=1, top_k=len(preprocess.classes), precision="fp32"
    )
    with TemporaryDirectory() as folder:
        page = alexnet.export(arguments.model, Path(folder) / "page", format="page").path
        answers = list(page_answers(page, files))
    others: list[str] = []
    differences: list[float] = []
    for prediction, answer in zip(predictions, answers, strict=True):
        native = dict(prediction.top)
        differences += [abs(native[name] - value) for name, value in answer.items()]
        (best, value), (second, next_value) = prediction.top[:2]
        if next(iter(answer)) != best:
            others.append(
                f"{prediction.path}: {best} {value:.4f}, {second} {next_value:.4f}; "
                f"the page: {next(iter(answer))}"
            )
    same = len(files) - len(others)
    print(f"{len(files)} images: the same class first on {same}")
    print(f"largest difference of a probability: {max(differences):.4f}")
    print("\n".join(others))
    if arguments.json:
        document = {
            "images": len(files),
            "same_top1": same,
            "max_difference": max(differences),
            "others": others,
        }
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
