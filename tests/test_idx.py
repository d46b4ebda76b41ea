"""MNIST's and Fashion-MNIST's files: the pictures come back as they went in, and no damage passes."""

import gzip
import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alexnet.data.arrays import contents
from alexnet.data.idx import FASHION
from alexnet.data.images import Policy, decode
from alexnet.data.open import open_any
from alexnet.data.prepare import prepare
from alexnet.data.sources import Fractions
from alexnet.data.store import open_store
from alexnet.errors import AlexNetError

LABELS = {"train": np.arange(40, dtype=np.uint8) % 10, "t10k": np.arange(20, dtype=np.uint8)[::-1] % 10}
PIXELS = {part: np.random.default_rng(7).integers(0, 256, (len(of), 28, 28), np.uint8) for part, of in LABELS.items()}


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()


def write(folder: Path, packed: bool = True) -> Path:
    folder.mkdir(parents=True)
    for part in LABELS:
        for name, array in ((f"{part}-images-idx3-ubyte", PIXELS[part]), (f"{part}-labels-idx1-ubyte", LABELS[part])):
            data = idx(array)
            (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(data, mtime=0) if packed else data)
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_every_picture_is_the_one_in_the_file(tmp_path: Path, packed: bool) -> None:
    with open_any(str(write(tmp_path / "fashion-mnist", packed))) as source:
        assert source.classes == tuple(sorted(FASHION)) and not source.warnings and not source.ignored
        assert source.provenance["kind"] == "idx" and len(source.pictures) == 60
        for picture in source.pictures:
            part = {"train": "train", "test": "t10k"}[picture.split or ""]
            number = int(picture.name.rsplit("/")[-1].removesuffix(".pgm"))
            seen = np.asarray(Image.open(io.BytesIO(source.read(picture))))
            assert picture.label == FASHION[LABELS[part][number]] and (seen == PIXELS[part][number]).all()
    assert "train/ankle-boot/00009.pgm" in {picture.name for picture in source.pictures}


def test_the_path_tells_which_classes_there_are(tmp_path: Path) -> None:
    for place, first in (("mnist", "0"), ("FashionMNIST/raw", "ankle-boot"), ("fashion/old/mnist", "0")):
        assert open_any(str(write(tmp_path / place))).classes[0] == first


def test_without_test_files_there_is_only_train(tmp_path: Path) -> None:
    folder = write(tmp_path / "mnist")
    for file in folder.glob("t10k*"):
        file.unlink()
    assert {picture.split for picture in open_any(str(folder)).pictures} == {"train"}


def test_they_go_the_way_of_all_pictures(tmp_path: Path) -> None:
    for channels in (1, 3):
        with open_any(str(tmp_path / "set" if channels == 3 else write(tmp_path / "set"))) as source:
            policy = Policy(size=28, channels=channels, encoding="raw")
            store = tmp_path / f"store{channels}"
            prepare(source, store, policy, Fractions(), on_bad="fail", workers=2, progress=lambda done, of: None)
        records = open_store(store).splits["test"]
        seen = {decode(records.record(number)).tobytes() for number in range(len(records))}
        assert seen == {np.repeat(pixels[..., None], channels, -1).tobytes() for pixels in PIXELS["t10k"]}


HEADER = struct.pack(">4I", 0x803, 40, 28, 28)


@pytest.mark.parametrize(
    "name,data,found",
    [
        ("train-images-idx3-ubyte", b"", "0 bytes, expected a header of 16"),
        ("train-images-idx3-ubyte", struct.pack(">4I", 0xD03, 40, 28, 28), "begins with 00000d03, expected 00000803"),
        ("train-images-idx3-ubyte", HEADER + bytes(40 * 784 - 1), "31359 bytes after its header, expected the 40 x 28 x 28"),
        ("train-images-idx3-ubyte", HEADER + bytes(40 * 784 + 1), "31361 bytes"),
        ("train-images-idx3-ubyte", struct.pack(">4I", 0x803, 2**32 - 1, 2**32 - 1, 2**32 - 1), "expected the 4294967295 x"),
        ("train-images-idx3-ubyte", struct.pack(">4I", 0x803, 0, 28, 28), "expected the 0 x 28 x 28"),
        ("train-images-idx3-ubyte", idx(PIXELS["t10k"]), "40 labels, expected 20"),
        ("train-labels-idx1-ubyte", idx(PIXELS["train"]), "expected 00000801"),
        ("t10k-labels-idx1-ubyte", idx(np.full(20, 10, np.uint8)), "label 10 of picture 0, expected 0 to 9"),
        ("t10k-labels-idx1-ubyte", None, "no t10k-labels-idx1-ubyte"),
        ("train-images-idx3-ubyte", None, "no train-images-idx3-ubyte"),
    ],
)
def test_damage_is_named_in_one_line(tmp_path: Path, name: str, data: bytes | None, found: str) -> None:
    folder = write(tmp_path / "mnist", packed=False)
    if data is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(data)
    with pytest.raises(AlexNetError, match=found) as caught:
        open_any(str(folder))
    text = str(caught.value)
    assert "\n" not in text and "expected" in text and str(folder) in text and name.split("-ubyte")[0] in text


def test_damaged_gzip_is_found(tmp_path: Path) -> None:
    folder = write(tmp_path / "mnist")
    path = folder / "train-images-idx3-ubyte.gz"
    good = path.read_bytes()
    for broken in (good[:-1], good[: len(good) // 2], good[:12], good[:-5] + bytes([good[-5] ^ 1]) + good[-4:], good + b"tail"):
        path.write_bytes(broken)
        with pytest.raises(AlexNetError, match="damaged gzip"):
            open_any(str(folder))


def test_what_expands_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alexnet.data.arrays.LARGEST", 1 << 20)
    (tmp_path / "a.gz").write_bytes(gzip.compress(bytes(2 << 20)))
    with pytest.raises(AlexNetError, match="more than 1 MiB"):
        contents(str(tmp_path / "a.gz"))
