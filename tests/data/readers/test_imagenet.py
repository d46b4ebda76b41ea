"""Small imitations of ImageNet's archives: each class has a color, so a wrong label is found."""

import gzip
import io
import json
import random
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from alexnet.__main__ import cli
from alexnet.core.errors import AlexNetError, UsageError
from alexnet.data.build import prepare
from alexnet.data.images import DecodeConfig, to_square
from alexnet.data.prepared import PreparedDataset, open_dataset, verify
from alexnet.data.readers import ImageSource, SplitFractions, assign_splits, imagenet, open_source

matlab = pytest.importorskip(
    "scipy.io", reason="the devkit's meta.mat is written and read with scipy"
)

POLICY = DecodeConfig(size=24, encoding="raw", exif=False)
COLORS = {  # wnid -> RGB; the devkit's ids follow this order, which is not that of wnids
    "n02105855": (200, 60, 40),
    "n01440764": (50, 170, 60),
    "n03018349": (60, 80, 210),
    "n01739381": (190, 180, 70),
}
WORDS = {
    "n02105855": "Shetland sheepdog, sheltie",
    "n01440764": "tench, Tinca tinca",
    "n03018349": "china cabinet, crèche",
}
WORDS |= {"n01739381": "vine snake", "n00001740": "entity"}
CLASSES = tuple(f"{wnid} {WORDS[wnid]}" for wnid in sorted(COLORS))
# two of the set's unusual files
PNG = "n02105855_2933.JPEG"
CMYK = "n01739381_1309.JPEG"
TRUNCATED = "n03018349_7.JPEG"
YEARS = {
    "ILSVRC2012": ("img", "ILSVRC2012_devkit_t12"),
    "ILSVRC2010": ("images", "ILSVRC2010_devkit-1.0"),
}


@dataclass(frozen=True)
class Images:
    """The images of every layout: train by wnid and name, the others by number, with wnids."""

    train: dict[str, dict[str, bytes]]
    val: list[tuple[str, bytes]]
    test: list[tuple[str, bytes]]


def draw_image(wnid: str, kind: str = "JPEG", mode: str = "RGB", **options: object) -> bytes:
    """Return a file in its class's color, wider than high, with dark corners."""
    pixels = np.full((40, 60, 3), COLORS[wnid], np.uint8)
    pixels[:8, :8] = pixels[-8:, -8:] = 20
    image = Image.fromarray(to_cmyk(pixels), "CMYK") if mode == "CMYK" else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def to_cmyk(pixels: np.ndarray) -> np.ndarray:
    """Return RGB as CMYK with as much black as the inks share.

    A level is 255 (1 - ink) (1 - black).
    """
    white = pixels.max(-1, keepdims=True) / 255
    return np.round(255 * np.concatenate([1 - pixels / 255 / white, 1 - white], -1)).astype(
        np.uint8
    )


def draw_images() -> Images:
    train = {
        wnid: {
            f"{wnid}_{number}.JPEG": draw_image(wnid, quality=80 + number) for number in range(8)
        }
        for wnid in COLORS
    }
    train["n02105855"][PNG] = draw_image("n02105855", "PNG")
    train["n01739381"][CMYK] = draw_image("n01739381", mode="CMYK")
    train["n03018349"][TRUNCATED] = train["n03018349"][TRUNCATED][:300]
    numbered = [list(COLORS)[number * 7 % 4] for number in range(12)]
    val = [
        (wnid, draw_image(wnid, mode="CMYK" if number == 5 else "RGB"))
        for number, wnid in enumerate(numbered)
    ]
    return Images(train, val, [(wnid, draw_image(wnid, quality=60)) for wnid in reversed(numbered)])


def tar(files: dict[str, bytes], mode: str = "w") -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return data.getvalue()


def meta_mat(year: str, counts: dict[str, int] | None = None) -> bytes:
    """Return a meta.mat with the classes and a group above them."""
    kinds = [(name, "O") for name in (f"{year}_ID", "WNID", "words", "num_train_images")][
        : 4 if counts else 3
    ]
    rows = [
        (i + 1, wnid, WORDS[wnid], (counts or {}).get(wnid, 0))
        for i, wnid in enumerate([*COLORS, "n00001740"])
    ]
    table = np.array([row[: len(kinds)] for row in rows], kinds)
    file = io.BytesIO()
    matlab.savemat(file, {"synsets": table.reshape(-1, 1)})
    return file.getvalue()


def ground_truth(images: list[tuple[str, bytes]]) -> bytes:
    return "".join(f"{list(COLORS).index(wnid) + 1}\n" for wnid, _ in images).encode()


def number_images(images: list[tuple[str, bytes]], start: str) -> dict[str, bytes]:
    return {f"{start}_{number:08d}.JPEG": data for number, (_, data) in enumerate(images, 1)}


def write_archives(
    folder: Path,
    year: str = "ILSVRC2012",
    images: Images | None = None,
    counts: dict[str, int] | None = None,
) -> Path:
    """Write a folder of official archives and their devkit."""
    images = images or draw_images()
    kind, devkit = YEARS[year]
    folder.mkdir(parents=True)
    train = tar({f"{wnid}.tar": tar(files) for wnid, files in images.train.items()})
    (folder / f"{year}_{kind}_train.tar").write_bytes(train)
    (folder / f"{year}_{kind}_val.tar").write_bytes(tar(number_images(images.val, f"{year}_val")))
    kit = {
        "data/meta.mat": meta_mat(year, counts),
        f"data/{year}_validation_ground_truth.txt": ground_truth(images.val),
    }
    (folder / f"{devkit}.tar.gz").write_bytes(
        tar({f"devkit/{name}": data for name, data in kit.items()}, "w:gz")
    )
    if year == "ILSVRC2010":
        (folder / f"{year}_{kind}_test.tar").write_bytes(
            tar(number_images(images.test, f"test/{year}_test"))
        )
        (folder / f"{year}_test_ground_truth.txt").write_bytes(ground_truth(images.test))
    return folder


def kaggle_files(images: Images) -> dict[str, bytes]:
    """Return Kaggle's files by their paths."""
    files = {
        f"ILSVRC/Data/CLS-LOC/train/{w}/{name}": data
        for w, files in images.train.items()
        for name, data in files.items()
    }
    files |= number_images(images.val, "ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val") | {
        "ILSVRC/Data/CLS-LOC/test/1.JPEG": b"?"
    }
    lines = [
        f"ILSVRC2012_val_{number:08d},{wnid} 85 1 499 272 "
        for number, (wnid, _) in enumerate(images.val, 1)
    ]
    files["LOC_val_solution.csv"] = "\n".join(
        ["ImageId,PredictionString", *reversed(lines), ""]
    ).encode()
    files["LOC_synset_mapping.txt"] = "".join(f"{label}\n" for label in CLASSES).encode()
    return files | {"ILSVRC/Annotations/CLS-LOC/val/ILSVRC2012_val_00000001.xml": b"<annotation/>"}


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def prepare_dataset(source: Path, path: Path) -> PreparedDataset:
    with open_source(str(source)) as opened:
        prepare(
            opened,
            path,
            POLICY,
            SplitFractions(),
            on_error="skip",
            workers=2,
            progress=lambda done, total: None,
        )
    dataset = open_dataset(path)
    verify(dataset)
    return dataset


def expect_colors(dataset: PreparedDataset) -> None:
    """Check that every record has the color of its class."""
    for split in dataset.splits.values():
        for i, label in enumerate(split.labels):
            color = split.pixels(i)[8:16, 8:16].mean((0, 1))
            assert np.abs(color - COLORS[dataset.classes[label].split()[0]]).max() < 6, split.names[
                i
            ]


@pytest.mark.parametrize("year", YEARS)
def test_archives_give_their_images_under_the_right_names(tmp_path: Path, year: str) -> None:
    dataset = prepare_dataset(write_archives(tmp_path / "set", year), tmp_path / "s")
    assert dataset.classes == CLASSES
    sizes = {"train": 33, "val": 12} | ({"test": 12} if year == "ILSVRC2010" else {})
    assert {name: len(split) for name, split in dataset.splits.items()} == sizes
    assert [name for name, _ in dataset.bad] == [f"train/n03018349/{TRUNCATED}"]
    assert {f"train/n02105855/{PNG}", f"train/n01739381/{CMYK}"} < set(
        dataset.splits["train"].names
    )
    assert sum("n01739381" in name for name in dataset.splits["train"].names) == 9
    expect_colors(dataset)


def test_every_layout_gives_the_same_records(tmp_path: Path) -> None:
    files = kaggle_files(draw_images())
    with zipfile.ZipFile(tmp_path / "kaggle.zip", "w") as archive:
        for name, data in files.items():
            archive.writestr(f"imagenet/{name}", data)
    class_folders = {
        f"train/{w}/{name}": data
        for w, files in draw_images().train.items()
        for name, data in files.items()
    }
    names = number_images(draw_images().val, "ILSVRC2012_val").items()
    class_folders |= {
        f"val/{w}/{name}": data
        for (w, _), (name, data) in zip(draw_images().val, names, strict=True)
    }
    folders = (
        write_archives(tmp_path / "set"),
        write_files(tmp_path / "kaggle", files),
        write_files(tmp_path / "arranged", class_folders),
    )
    sources = enumerate((folders[0], folders[1], tmp_path / "kaggle.zip", folders[2]))
    datasets = [prepare_dataset(source, tmp_path / f"s{number}") for number, source in sources]
    assert datasets[0].classes == datasets[1].classes == datasets[
        2
    ].classes == CLASSES and datasets[3].classes == tuple(sorted(COLORS))
    for file in ("train-000000.tar", "val-000000.tar", "train.names", "val.index.npy"):
        assert len({(tmp_path / f"s{number}" / file).read_bytes() for number in range(4)}) == 1
    expect_colors(datasets[2])
    assert json.loads((tmp_path / "s2" / "dataset.json").read_text())["ignored"] == {
        "its class is unknown": 1
    }


def test_without_a_val_archive_the_split_is_that_of_folders(tmp_path: Path) -> None:
    folder = write_archives(tmp_path / "set")
    (folder / "ILSVRC2012_img_val.tar").unlink()
    class_folders = write_files(
        tmp_path / "a",
        {
            f"train/{w}/{n}": data
            for w, files in draw_images().train.items()
            for n, data in files.items()
        },
    )
    drawn_splits = []
    for path in (folder, class_folders):
        with open_source(str(path)) as source:
            drawn_splits.append(
                {p.name: p.split for p in assign_splits(source.samples, SplitFractions(0.3))}
            )
    assert drawn_splits[0] == drawn_splits[1] and set(drawn_splits[0].values()) == {"train", "val"}


def test_exif_rotation_is_ignored_unless_requested(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    images = draw_images()
    rotated = draw_image("n01440764", exif=exif.tobytes())
    images.train["n01440764"]["n01440764_0.JPEG"] = rotated
    folder = write_archives(tmp_path / "set", images=images)
    class_folders = write_files(
        tmp_path / "a", {"train/x/1.jpg": rotated, "train/y/1.jpg": rotated}
    )
    for source, words, is_rotated in [
        (folder, [], False),
        (folder, ["--exif"], True),
        (class_folders, [], True),
    ]:
        path = tmp_path / f"{source.name}{len(words)}"
        ran = CliRunner().invoke(
            cli, ["prepare", str(source), str(path), "--size", "24", "--val-fraction", "0", *words]
        )
        assert ran.exit_code == 0, ran.output
        assert open_dataset(path).decode_config.exif is is_rotated
    train = open_dataset(tmp_path / "set0").splits["train"]
    data = train.pixels(train.names.index("train/n01440764/n01440764_0.JPEG"))
    assert (data == to_square(rotated, POLICY)).all()


def test_unusual_files_of_2010_are_read(tmp_path: Path) -> None:
    images = draw_images()
    images.train["n01440764"]["n01440764_0.JPEG"] = gzip.compress(
        images.train["n01440764"]["n01440764_0.JPEG"]
    )
    missing = images.test[2][0]
    images.test[2] = (missing, draw_image(next(wnid for wnid in COLORS if wnid != missing)))
    folder = write_archives(tmp_path / "set", "ILSVRC2010", images)
    patch = {"patch_images/test/ILSVRC2010_test_00000003.JPEG": draw_image(missing)}
    (folder / "patch_images.tar").write_bytes(tar(patch))
    dataset = prepare_dataset(folder, tmp_path / "s")
    assert len(dataset.bad) == 1 and len(dataset.splits["test"]) == 12
    expect_colors(dataset)


def test_a_count_that_differs_from_the_devkits_gives_a_warning(tmp_path: Path) -> None:
    counts = {wnid: len(files) for wnid, files in draw_images().train.items()}
    with open_source(str(write_archives(tmp_path / "whole", counts=counts))) as source:
        assert not source.warnings
    with open_source(
        str(write_archives(tmp_path / "short", counts=counts | {"n01739381": 12}))
    ) as source:
        assert source.warnings == (
            "34 train images, the devkit counts 37; 1 classes differ, the first n01739381: 9 of 12",
        )


KIT = "ILSVRC2012_devkit_t12.tar.gz"
TRUTH = "ILSVRC2012_validation_ground_truth.txt"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([(KIT, None)], "found no meta.mat, expected the devkit"),
        ([(KIT, b"\x1f\x8b no gzip")], "damaged gzip"),
        ([("meta.mat", b"no matlab")], "meta.mat cannot be read"),
        ([("ILSVRC2012_img_train.tar", None)], "found no ILSVRC2012_img_train.tar"),
        ([("ILSVRC2010_images_val.tar", b"")], "ILSVRC2012 and ILSVRC2010, expected one year's"),
        (
            [(KIT, None), ("meta.mat", meta_mat("ILSVRC2012"))],
            f"no {TRUTH} for ILSVRC2012_img_val.tar",
        ),
        ([(TRUTH, b"1\n2\n" * 5)], "12 files with 12 numbers, expected 1 to 10"),
        ([(TRUTH, b"1\n77\n" * 6)], "77 is no id"),
        (
            [("ILSVRC2012_img_train.tar", tar({"n99999999.tar": tar({"1.JPEG": b"x"})}))],
            "found class n99999999",
        ),
        (
            [("ILSVRC2012_img_train.tar", tar({"n01440764.tar": tar({"1.JPEG": b"x"})[:512]}))],
            "n01440764.tar: cut short",
        ),
    ],
)
def test_what_is_missing_or_wrong_is_a_one_line_error(
    tmp_path: Path, changes: list[tuple[str, bytes | None]], message: str
) -> None:
    folder = write_archives(tmp_path / "set")
    for name, data in changes:
        (folder / name).unlink(missing_ok=True)
        if data is not None:
            (folder / name).write_bytes(data)
    with pytest.raises(AlexNetError, match=message) as caught:
        open_source(str(folder))
    assert "\n" not in str(caught.value)


def test_an_unpacked_devkit_is_read_too(tmp_path: Path) -> None:
    folder = write_archives(tmp_path / "set")
    with tarfile.open(folder / KIT) as kit:
        for member in kit:
            file = kit.extractfile(member)
            assert file
            write_files(
                folder, {member.name.replace("devkit", "ILSVRC2012_devkit_t12", 1): file.read()}
            )
    (folder / KIT).unlink()
    with open_source(str(folder)) as source:
        assert source.classes == CLASSES


def test_without_scipy_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagenet, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'alexnet\[imagenet\]'"):
        open_source(str(write_archives(tmp_path / "set")))


@pytest.mark.parametrize("missing", ["LOC_synset_mapping.txt", "LOC_val_solution.csv"])
def test_kaggles_tables_are_required(tmp_path: Path, missing: str) -> None:
    files = kaggle_files(draw_images())
    del files[missing]
    with pytest.raises(AlexNetError, match=f"found no {missing}"):
        open_source(str(write_files(tmp_path / "set", files)))
    files["LOC_val_solution.csv"] = (
        b"ImageId,PredictionString\nILSVRC2012_val_00000001,n01440764 1 1 2 2\n"
    )
    with pytest.raises(AlexNetError, match="found"):
        open_source(str(write_files(tmp_path / "set", files)))


def names(source: ImageSource) -> set[str]:
    with source:
        return {image.name for image in source.samples}


def test_no_damage_to_an_inner_tars_headers_loses_an_image_in_silence(tmp_path: Path) -> None:
    path = write_archives(tmp_path / "set") / "ILSVRC2012_img_train.tar"
    complete = path.read_bytes()
    headers = []
    with tarfile.open(path) as outer:
        for member in outer:
            with tarfile.open(fileobj=outer.extractfile(member)) as inner:
                headers += [member.offset_data + image.offset for image in inner]
    assert len(headers) == len(names(open_source(str(path.parent)))) - 12
    rng = random.Random(0)
    for _ in range(60):
        broken = bytearray(complete)
        broken[rng.choice(headers) + rng.randrange(512)] ^= 1 << rng.randrange(8)
        path.write_bytes(broken)
        with pytest.raises(AlexNetError, match=r"n[0-9]{8}\.tar: "):
            open_source(str(path.parent))
