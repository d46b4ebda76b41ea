"""MNIST's and Fashion-MNIST's files: the images are read unchanged, and damage is an error."""

import gzip
import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alexnet.core.errors import AlexNetError
from alexnet.data.build import prepare
from alexnet.data.images import DecodeConfig, decode_record
from alexnet.data.prepared import open_dataset
from alexnet.data.readers import SplitFractions, open_source
from alexnet.data.readers.mnist import FASHION
from alexnet.data.readers.small_files import read_small_file

LABELS = {
    "train": np.arange(40, dtype=np.uint8) % 10,
    "t10k": np.arange(20, dtype=np.uint8)[::-1] % 10,
}
PIXELS = {
    part: np.random.default_rng(7).integers(0, 256, (len(of), 28, 28), np.uint8)
    for part, of in LABELS.items()
}


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()


def write_folder(folder: Path, gzipped: bool = True) -> Path:
    folder.mkdir(parents=True)
    for part in LABELS:
        for name, array in (
            (f"{part}-images-idx3-ubyte", PIXELS[part]),
            (f"{part}-labels-idx1-ubyte", LABELS[part]),
        ):
            data = idx(array)
            (folder / (name + ".gz" * gzipped)).write_bytes(
                gzip.compress(data, mtime=0) if gzipped else data
            )
    return folder


@pytest.mark.parametrize("gzipped", [False, True])
def test_every_image_is_the_one_in_the_file(tmp_path: Path, gzipped: bool) -> None:
    with open_source(str(write_folder(tmp_path / "fashion-mnist", gzipped))) as source:
        assert (
            source.classes == tuple(sorted(FASHION)) and not source.warnings and not source.ignored
        )
        assert source.provenance["kind"] == "idx" and len(source.samples) == 60
        for image in source.samples:
            part = {"train": "train", "test": "t10k"}[image.split or ""]
            number = int(image.name.rsplit("/")[-1].removesuffix(".pgm"))
            pixels = np.asarray(Image.open(io.BytesIO(source.read(image))))
            assert (
                image.label == FASHION[LABELS[part][number]]
                and (pixels == PIXELS[part][number]).all()
            )
    assert "train/ankle-boot/00009.pgm" in {image.name for image in source.samples}


def test_the_path_decides_the_class_names(tmp_path: Path) -> None:
    for folder, first in (
        ("mnist", "0"),
        ("FashionMNIST/raw", "ankle-boot"),
        ("fashion/old/mnist", "0"),
    ):
        assert open_source(str(write_folder(tmp_path / folder))).classes[0] == first


def test_without_test_files_there_is_only_train(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "mnist")
    for file in folder.glob("t10k*"):
        file.unlink()
    assert {image.split for image in open_source(str(folder)).samples} == {"train"}


def test_they_are_prepared_like_all_images(tmp_path: Path) -> None:
    for channels in (1, 3):
        with open_source(
            str(tmp_path / "set" if channels == 3 else write_folder(tmp_path / "set"))
        ) as source:
            decode_config = DecodeConfig(size=28, channels=channels, encoding="raw")
            dataset = tmp_path / f"dataset{channels}"
            prepare(
                source,
                dataset,
                decode_config,
                SplitFractions(),
                on_error="fail",
                workers=2,
                progress=lambda done, of: None,
            )
        records = open_dataset(dataset).splits["test"]
        pixels = {decode_record(records.record(number)).tobytes() for number in range(len(records))}
        assert pixels == {
            np.repeat(pixels[..., None], channels, -1).tobytes() for pixels in PIXELS["t10k"]
        }


HEADER = struct.pack(">4I", 0x803, 40, 28, 28)


@pytest.mark.parametrize(
    "name,data,message",
    [
        ("train-images-idx3-ubyte", b"", "0 bytes, expected a header of 16"),
        (
            "train-images-idx3-ubyte",
            struct.pack(">4I", 0xD03, 40, 28, 28),
            "begins with 00000d03, expected 00000803",
        ),
        (
            "train-images-idx3-ubyte",
            HEADER + bytes(40 * 784 - 1),
            "31359 bytes after its header, expected the 40 x 28 x 28",
        ),
        ("train-images-idx3-ubyte", HEADER + bytes(40 * 784 + 1), "31361 bytes"),
        (
            "train-images-idx3-ubyte",
            struct.pack(">4I", 0x803, 2**32 - 1, 2**32 - 1, 2**32 - 1),
            "expected the 4294967295 x",
        ),
        (
            "train-images-idx3-ubyte",
            struct.pack(">4I", 0x803, 0, 28, 28),
            "expected the 0 x 28 x 28",
        ),
        ("train-images-idx3-ubyte", idx(PIXELS["t10k"]), "40 labels, expected 20"),
        ("train-labels-idx1-ubyte", idx(PIXELS["train"]), "expected 00000801"),
        (
            "t10k-labels-idx1-ubyte",
            idx(np.full(20, 10, np.uint8)),
            "label 10 of image 0, expected 0 to 9",
        ),
        ("t10k-labels-idx1-ubyte", None, "no t10k-labels-idx1-ubyte"),
        ("train-images-idx3-ubyte", None, "no train-images-idx3-ubyte"),
    ],
)
def test_damage_is_a_one_line_error_that_names_the_file(
    tmp_path: Path, name: str, data: bytes | None, message: str
) -> None:
    folder = write_folder(tmp_path / "mnist", gzipped=False)
    if data is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(data)
    with pytest.raises(AlexNetError, match=message) as caught:
        open_source(str(folder))
    text = str(caught.value)
    assert (
        "\n" not in text
        and "expected" in text
        and str(folder) in text
        and name.split("-ubyte")[0] in text
    )


def test_damaged_gzip_is_an_error(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "mnist")
    path = folder / "train-images-idx3-ubyte.gz"
    good = path.read_bytes()
    for broken in (
        good[:-1],
        good[: len(good) // 2],
        good[:12],
        good[:-5] + bytes([good[-5] ^ 1]) + good[-4:],
        good + b"tail",
    ):
        path.write_bytes(broken)
        with pytest.raises(AlexNetError, match="damaged gzip"):
            open_source(str(folder))


def test_a_file_that_expands_too_much_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alexnet.data.readers.small_files.MAX_SIZE", 1 << 20)
    (tmp_path / "a.gz").write_bytes(gzip.compress(bytes(2 << 20)))
    with pytest.raises(AlexNetError, match="more than 1 MiB"):
        read_small_file(str(tmp_path / "a.gz"))
