"""Prepare a small imitation of ImageNet's archives: at once, through ten kills, and in parts.

The result must always be the same bytes. The imitation has the structure of ILSVRC-2012's
archives: a tar of 1,000 tars with 5,000 images, a flat tar of 1,000, a gzipped devkit whose ids
are not in wnid order. Among the images are CMYK JPEGs, a PNG named .JPEG and a truncated JPEG.
Each class has a color of its own, by which every record's label is checked. Shards hold 64 images
instead of 4,096, so that there are many here too; all else is `alexnet prepare` as it is. Needs
scipy (the extra `imagenet`).

    python benchmarks/ilsvrc_lookalike.py
"""

import hashlib
import io
import random
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image
from scipy.io import savemat

from alexnet.data.prepared import PreparedDataset, open_dataset, verify

NUM_CLASSES = 1000
PER_CLASS = 5
KILLS = 10
SIZE = 64
COMMAND = """
from alexnet.data import build
build.IMAGES_PER_SHARD = 64
from alexnet.__main__ import main
main()
"""
WNIDS = sorted(
    f"n{number:08d}"
    for number in random.Random(1).sample(range(1_400_000, 13_200_000), NUM_CLASSES)
)
IDS = random.Random(2).sample(range(1, NUM_CLASSES + 1), NUM_CLASSES)  # of the classes, by wnid
COLORS = np.random.default_rng(3).permutation(
    np.stack(np.meshgrid(*[np.linspace(30, 225, 10)] * 3), -1).reshape(-1, 3)
)

# the unusual train images, by number: 22 of them CMYK, as in ImageNet itself
PNG = 333 * PER_CLASS
TRUNCATED = 500 * PER_CLASS + 1
CMYK = range(7, NUM_CLASSES * PER_CLASS, 227)
CMYK_VAL = 877


def draw_image(label: int, kind: str = "JPEG", mode: str = "RGB") -> bytes:
    """Return a file in its class's color, 96 x 80 pixels, with a slight gradient."""
    gradient = np.linspace(-12, 12, 96)[None, :, None] + np.zeros((80, 1, 1))
    pixels = (COLORS[label] + gradient).round().astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind, quality=92)
    return file.getvalue()


def train_image(number: int) -> bytes:
    """Return a train image by its number; some are unusual."""
    label = number // PER_CLASS
    if number == PNG:
        return draw_image(label, "PNG")
    data = draw_image(label, mode="CMYK" if number in CMYK else "RGB")
    return data[:400] if number == TRUNCATED else data


def make_tar(files: dict[str, bytes], mode: str = "w") -> bytes:
    """Return a tar of some files."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return data.getvalue()


def write_archives(folder: Path) -> Path:
    """Write the three archives of 2012."""
    folder.mkdir()
    inner = {}
    for label, wnid in enumerate(WNIDS):
        numbers = range(label * PER_CLASS, (label + 1) * PER_CLASS)
        files = {f"{wnid}_{number}.JPEG": train_image(number) for number in numbers}
        inner[f"{wnid}.tar"] = make_tar(files)
    (folder / "ILSVRC2012_img_train.tar").write_bytes(make_tar(inner))
    labels = random.Random(4).sample(range(NUM_CLASSES), NUM_CLASSES)
    val = {}
    for number, label in enumerate(labels, 1):
        mode = "CMYK" if number == CMYK_VAL else "RGB"
        val[f"ILSVRC2012_val_{number:08d}.JPEG"] = draw_image(label, mode=mode)
    (folder / "ILSVRC2012_img_val.tar").write_bytes(make_tar(val))
    devkit = make_tar(devkit_files(labels), "w:gz")
    (folder / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(devkit)
    return folder


def devkit_files(val_labels: list[int]) -> dict[str, bytes]:
    """Return the devkit's table of classes and the val images' class ids."""
    fields = ("ILSVRC2012_ID", "WNID", "words", "num_train_images")
    rows = [
        (class_id, wnid, f"thing {wnid[-3:]}, what it is", PER_CLASS)
        for class_id, wnid in zip(IDS, WNIDS, strict=True)
    ]
    table = np.array(sorted(rows), [(field, "O") for field in fields])
    meta = io.BytesIO()
    savemat(meta, {"synsets": table.reshape(-1, 1)})
    truth = "".join(f"{IDS[label]}\n" for label in val_labels)
    return {
        "kit/data/meta.mat": meta.getvalue(),
        "kit/data/ILSVRC2012_validation_ground_truth.txt": truth.encode(),
    }


def start(*arguments: object) -> subprocess.Popen[bytes]:
    """Start `alexnet prepare` in a process of its own."""
    command = [sys.executable, "-c", COMMAND, "prepare", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def run(*arguments: object) -> None:
    assert start(*arguments).wait() == 0, arguments


def run_killed(shards: int, source: Path, dataset: Path, *options: object) -> list[int]:
    """Start the command again and again, killing it ten times at random moments.

    Return the number of finished shards at each kill.
    """
    partial_dir = dataset.with_name(f"{dataset.name}.unfinished")
    finished = []
    for moment in sorted(random.Random(5).sample(range(shards - 1), KILLS)):
        with start(source, dataset, *options) as process:
            while process.poll() is None and len(list(partial_dir.glob("*.part"))) <= moment:
                time.sleep(0.001)
            time.sleep(random.Random(moment).uniform(0, 0.03))
            process.kill()
        assert not dataset.exists(), "it ended before it was killed"
        finished.append(len(list(partial_dir.glob("*.part"))))
    run(source, dataset, *options)
    return finished


def hashes(dataset: Path) -> dict[str, str]:
    """Return every file's hash."""
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in dataset.iterdir()}


def check(dataset: PreparedDataset) -> str:
    """Compare a dataset with what was drawn; return a summary."""
    verify(dataset)
    assert [label.split(" ")[0] for label in dataset.classes] == WNIDS, "classes in wnid order"
    for label in dataset.classes:
        assert label.endswith(f"thing {label[6:9]}, what it is"), "class names"
    truncated = f"train/{WNIDS[TRUNCATED // PER_CLASS]}/{file_name(TRUNCATED)}"
    assert [name for name, _ in dataset.bad] == [truncated], "bad images"
    for name, split in dataset.splits.items():
        means = np.stack([split.pixels(i).mean((0, 1)) for i in range(len(split))])
        difference = np.abs(means - COLORS[split.labels]).max()
        assert difference < 8, f"a record of {name} has another class's color"  # 21 levels apart
    unusual = {file_name(number) for number in (PNG, *CMYK)}
    names = {name.split("/")[-1] for name in dataset.splits["train"].names}
    assert unusual <= names, "unusual files"
    counts = ", ".join(f"{name} {len(split):,}" for name, split in dataset.splits.items())
    return (
        f"{len(dataset.classes):,} classes in wnid order; {counts}; "
        f"{len(unusual) + 1} unusual files right; {len(dataset.bad)} bad one listed"
    )


def file_name(number: int) -> str:
    return f"{WNIDS[number // PER_CLASS]}_{number}.JPEG"


def main() -> None:
    started = time.monotonic()

    def report(text: str) -> None:
        nonlocal started
        print(f"{text} ({time.monotonic() - started:.1f} s)", flush=True)
        started = time.monotonic()

    with TemporaryDirectory() as temporary:
        root = Path(temporary)
        source = write_archives(root / "archives")
        report(f"drawn: {NUM_CLASSES * PER_CLASS:,} train and {NUM_CLASSES:,} val images")
        options = ["--size", SIZE, "--workers", 2]
        run(source, root / "whole", *options)
        expected = hashes(root / "whole")
        report(f"undisturbed: {check(open_dataset(root / 'whole'))}")
        shards = sum(name.endswith(".tar") for name in expected)
        finished = run_killed(shards, source, root / "killed", *options)
        assert hashes(root / "killed") == expected
        counts = ", ".join(map(str, finished))
        report(
            f"killed {len(finished)} times, with {counts} of {shards} shards finished: "
            f"the same {len(expected)} files"
        )
        for number in (1, 2):
            run(source, root / f"part{number}", *options, "--part", f"{number}/2")
        run("--merge", root / "part2", root / "part1", root / "merged")
        assert hashes(root / "merged") == expected
        report(f"two parts merged: the same {len(expected)} files")


if __name__ == "__main__":
    main()
