"""CIFAR-10's two editions give the same images, and no pickle runs anything."""

import io
import os
import pickle
import struct
import tarfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from alexnet.core.errors import AlexNetError
from alexnet.data.readers import ImageSource, open_source
from alexnet.data.readers.cifar import BATCHES, cifar_source

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PER_BATCH = 10
RNG = np.random.default_rng(3)
LABELS = {batch: RNG.permutation(PER_BATCH).astype(np.uint8) for batch in BATCHES}
ROWS = {batch: RNG.integers(0, 256, (PER_BATCH, 3072), np.uint8) for batch in BATCHES}
BINARY = "cifar-10-batches-bin"
PYTHON = "cifar-10-batches-py"
RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
DTYPE = b"cnumpy\ndtype\n"


def pickle2_value(value: Any) -> bytes:
    """Return a value in the operations of Python 2's pickles, protocol 2, without the frame."""
    match value:
        case None | True | False:
            return {None: b"N", True: b"\x88", False: b"\x89"}[value]
        case int():
            return b"J" + struct.pack("<i", value)
        case bytes():
            return b"T" + struct.pack("<i", len(value)) + value
        case list():
            return b"](" + b"".join(map(pickle2_value, value)) + b"e"
        case tuple():
            return b"(" + b"".join(map(pickle2_value, value)) + b"t"
        case dict():
            return (
                b"}("
                + b"".join(pickle2_value(part) for pair in value.items() for part in pair)
                + b"u"
            )
        case np.ndarray():
            fortran = not value.flags.c_contiguous
            kind = (
                DTYPE
                + pickle2_value((value.dtype.str[1:].encode(), 0, 1))
                + b"R"
                + pickle2_value((3, b"|", None, None, None, -1, -1, 0))
                + b"b"
            )
            state = (
                b"("
                + pickle2_value(1)
                + pickle2_value(value.shape)
                + kind
                + pickle2_value(fortran)
                + pickle2_value(value.tobytes("F" if fortran else "C"))
                + b"t"
            )
            return RECONSTRUCT + pickle2_value((0,)) + pickle2_value(b"b") + b"\x87R" + state + b"b"
    raise TypeError(value)


def pickle2(value: Any) -> bytes:
    return b"\x80\x02" + pickle2_value(value) + b"."


def pickle0_names(names: tuple[str, ...]) -> bytes:
    """Return the class names as protocol 0, which is text."""
    return (
        b"(dp1\nS'label_names'\np2\n(lp3\n"
        + b"".join(f"S'{name}'\na".encode() for name in names)
        + b"s."
    )


def binary_files() -> dict[str, bytes]:
    files = {
        f"{batch}.bin": np.hstack([LABELS[batch][:, None], ROWS[batch]]).tobytes()
        for batch in BATCHES
    }
    return files | {"batches.meta.txt": "\n".join((*NAMES, "", "")).encode(), "readme.html": b"..."}


def python_files(order: Any = "C") -> dict[str, bytes]:
    files = {
        batch: pickle2(
            {
                b"batch_label": b"x",
                b"labels": LABELS[batch].tolist(),
                b"data": np.array(ROWS[batch], order=order),
            }
        )
        for batch in BATCHES
    }
    return files | {"batches.meta": pickle0_names(NAMES)}


def write_folder(path: Path, files: dict[str, bytes]) -> Path:
    path.mkdir(parents=True)
    for name, data in files.items():
        (path / name).write_bytes(data)
    return path


def write_archive(path: Path, folder: str, files: dict[str, bytes], mode: Any = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def check_source(source: ImageSource) -> None:
    """Check that all images and labels are those that were written."""
    expected = {
        "train": [batch for batch in BATCHES if batch != "test_batch"],
        "test": ["test_batch"],
    }
    assert source.classes == NAMES and len(source.samples) == PER_BATCH * len(BATCHES)
    for image in source.samples:
        batch, row = divmod(int(image.name[-9:-4]), PER_BATCH)
        name = expected[image.split or ""][batch]
        assert image.label == NAMES[LABELS[name][row]]
        pixels = np.asarray(Image.open(io.BytesIO(source.read(image))))
        assert (pixels == ROWS[name][row].reshape(3, 32, 32).transpose(1, 2, 0)).all()


def test_all_editions_give_the_same_images(tmp_path: Path) -> None:
    for form, files in ((BINARY, binary_files()), (PYTHON, python_files())):
        check_source(open_source(str(write_archive(tmp_path / f"{form}.tar.gz", form, files))))
        check_source(
            open_source(str(write_archive(tmp_path / f"{form}.tar", f"./{form}", files, "w")))
        )
        check_source(open_source(str(write_folder(tmp_path / form, files))))
        check_source(open_source(str(write_folder(tmp_path / f"in-{form}" / form, files).parent)))
        check_source(open_source(str(write_folder(tmp_path / f"renamed-{form}", files))))
    check_source(open_source(str(write_folder(tmp_path / "columns", python_files("F")))))


def test_the_written_pickles_are_what_python_reads(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # numpy's, of its module's old name in the pickle
        for order in ("C", "F"):
            batch = pickle.loads(python_files(order)["test_batch"], encoding="bytes")
            assert (batch[b"data"] == ROWS["test_batch"]).all()
            assert batch[b"labels"] == LABELS["test_batch"].tolist()
    assert pickle.loads(python_files()["batches.meta"], encoding="bytes") == {
        b"label_names": [name.encode() for name in NAMES]
    }


class Runs:
    """An object whose pickle calls something."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_would_run_something_is_an_error(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "ran"
    for call, requested in (
        (os.mkdir, "posix.mkdir|nt.mkdir"),
        (eval, "eval"),
        (np.save, "numpy.save"),
    ):
        data = pickle.dumps({"labels": Runs(call, str(marker))}, protocol)
        source = write_folder(
            tmp_path / f"{call.__name__}{protocol}", python_files() | {"test_batch": data}
        )
        with pytest.raises(AlexNetError, match=f"test_batch.*asks for .*({requested})"):
            open_source(str(source))
    assert not marker.exists()


GOOD = {b"labels": [1], b"data": np.zeros((1, 3072), np.uint8)}
HUGE = (
    RECONSTRUCT
    + pickle2_value((0,))
    + pickle2_value(b"b")
    + b"\x87R("
    + pickle2_value(1)
    + pickle2_value((2**31 - 1, 3072))
    + DTYPE
    + pickle2_value((b"u1", 0, 1))
    + b"R"
)


@pytest.mark.parametrize(
    "name,data,message",
    [
        ("data_batch_2", b"", "damaged pickle"),
        ("data_batch_2", pickle2(GOOD)[:-5], "damaged pickle"),
        ("data_batch_2", b"\x80\x02" + b"Nr\xff\xff\xff\x7f.", "memo 2147483647"),
        ("data_batch_2", pickle2([1]), "damaged pickle"),
        ("data_batch_2", pickle2(GOOD | {b"labels": [10]}), "label 10 of image 0, expected 0 to 9"),
        ("data_batch_2", pickle2(GOOD | {b"labels": [-1]}), "expected 0 to 9"),
        ("data_batch_2", pickle2(GOOD | {b"labels": [b"1"]}), "expected 0 to 9"),
        ("data_batch_2", pickle2(GOOD | {b"labels": [1, 2]}), "2 labels, expected 1"),
        ("data_batch_2", pickle2({b"data": GOOD[b"data"]}), "no list under labels"),
        ("data_batch_2", pickle2({b"labels": [1]}), "no array under data"),
        (
            "data_batch_2",
            pickle2(GOOD | {b"data": np.zeros((1, 3072), np.float32)}),
            "another kind",
        ),
        (
            "data_batch_2",
            pickle2(GOOD | {b"data": np.zeros((3072, 1), np.uint8)}),
            r"an array \(3072, 1\) of 3072 bytes",
        ),
        (
            "data_batch_2",
            b"\x80\x02}"
            + pickle2_value(b"labels")
            + pickle2_value([1])
            + b"s"
            + pickle2_value(b"data")
            + HUGE
            + pickle2_value(False)
            + pickle2_value(b"x")
            + b"tbs.",
            r"an array \(2147483647, 3072\) of 1 bytes",
        ),
        ("batches.meta", pickle0_names(NAMES[:9]), "9 class names"),
        ("batches.meta", pickle0_names((*NAMES[:9], "../x")), "9 plain"),
        ("batches.meta", pickle2({b"label_names": b"airplane"}), "no list under label_names"),
        ("test_batch", None, "no test_batch, expected cifar-10-batches-py/"),
    ],
)
def test_a_damaged_pickle_is_an_error_of_one_line(
    tmp_path: Path, name: str, data: bytes | None, message: str
) -> None:
    files = python_files() | ({name: data} if data is not None else {})
    source = write_folder(
        tmp_path / "set", {file: files[file] for file in files if data is not None or file != name}
    )
    with pytest.raises(AlexNetError, match=message) as caught:
        open_source(str(source))
    assert (
        "\n" not in str(caught.value)
        and "expected" in str(caught.value)
        and name in str(caught.value)
    )


@pytest.mark.parametrize(
    "name,data,message",
    [
        ("data_batch_2.bin", b"", "0 bytes, expected records of 3073"),
        ("data_batch_2.bin", bytes(3072), "3072 bytes, expected records of 3073"),
        (
            "data_batch_2.bin",
            bytes(3073) + b"\x0a" + bytes(3072),
            "label 10 of image 1, expected 0 to 9",
        ),
        ("batches.meta.txt", b"cat dog", "2 class names"),
    ],
)
def test_damaged_records_are_an_error_of_one_line(
    tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    with pytest.raises(AlexNetError, match=f"{name}.*{message}"):
        open_source(str(write_folder(tmp_path / "set", binary_files() | {name: data})))


def test_a_truncated_archive_is_an_error(tmp_path: Path) -> None:
    complete = write_archive(tmp_path / "whole.tar.gz", BINARY, binary_files()).read_bytes()
    plain = write_archive(tmp_path / "whole.tar", BINARY, binary_files(), "w").read_bytes()
    for number in range(1, 20):
        for name, data in (
            ("a.tar.gz", complete[: len(complete) * number // 20]),
            ("a.tar", plain[: 180_000 * number // 20]),
        ):
            (tmp_path / name).write_bytes(data)
            with pytest.raises(AlexNetError, match="expected"):
                cifar_source(str(tmp_path / name))


def test_other_compressed_archives_are_errors_that_say_what_to_do(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "mine.tar.gz", "cats", {"1.jpg": b"x"})
    with pytest.raises(AlexNetError, match="gunzip"):
        open_source(str(path))
    with pytest.raises(AlexNetError, match="not found"):
        open_source(str(tmp_path / "nowhere"))
