"""CIFAR-10's two archives hold the same pictures, however they come; what a pickle may do is nothing."""

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

from alexnet.data.cifar import BATCHES, cifar_source
from alexnet.data.open import open_any
from alexnet.data.sources import Source
from alexnet.errors import AlexNetError

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PER_BATCH = 10
DRAWN = np.random.default_rng(3)
LABELS = {batch: DRAWN.permutation(PER_BATCH).astype(np.uint8) for batch in BATCHES}
ROWS = {batch: DRAWN.integers(0, 256, (PER_BATCH, 3072), np.uint8) for batch in BATCHES}
BINARY, PYTHON = "cifar-10-batches-bin", "cifar-10-batches-py"
RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
DTYPE = b"cnumpy\ndtype\n"


def old(value: Any) -> bytes:
    """A value in the operations of Python 2's pickles, protocol 2, without the frame."""
    match value:
        case None | True | False:
            return {None: b"N", True: b"\x88", False: b"\x89"}[value]
        case int():
            return b"J" + struct.pack("<i", value)
        case bytes():
            return b"T" + struct.pack("<i", len(value)) + value
        case list():
            return b"](" + b"".join(map(old, value)) + b"e"
        case tuple():
            return b"(" + b"".join(map(old, value)) + b"t"
        case dict():
            return b"}(" + b"".join(old(part) for pair in value.items() for part in pair) + b"u"
        case np.ndarray():
            fortran = not value.flags.c_contiguous
            kind = DTYPE + old((value.dtype.str[1:].encode(), 0, 1)) + b"R" + old((3, b"|", None, None, None, -1, -1, 0)) + b"b"
            state = b"(" + old(1) + old(value.shape) + kind + old(fortran) + old(value.tobytes("F" if fortran else "C")) + b"t"
            return RECONSTRUCT + old((0,)) + old(b"b") + b"\x87R" + state + b"b"
    raise TypeError(value)


def pickled(value: Any) -> bytes:
    return b"\x80\x02" + old(value) + b"."


def oldest(names: tuple[str, ...]) -> bytes:
    """The class names as protocol 0, which is text."""
    return b"(dp1\nS'label_names'\np2\n(lp3\n" + b"".join(f"S'{name}'\na".encode() for name in names) + b"s."


def binary() -> dict[str, bytes]:
    files = {f"{batch}.bin": np.hstack([LABELS[batch][:, None], ROWS[batch]]).tobytes() for batch in BATCHES}
    return files | {"batches.meta.txt": "\n".join((*NAMES, "", "")).encode(), "readme.html": b"..."}


def python(order: Any = "C") -> dict[str, bytes]:
    files = {
        batch: pickled({b"batch_label": b"x", b"labels": LABELS[batch].tolist(), b"data": np.array(ROWS[batch], order=order)})
        for batch in BATCHES
    }
    return files | {"batches.meta": oldest(NAMES)}


def unpacked(path: Path, files: dict[str, bytes]) -> Path:
    path.mkdir(parents=True)
    for name, data in files.items():
        (path / name).write_bytes(data)
    return path


def packed(path: Path, folder: str, files: dict[str, bytes], mode: Any = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def check(source: Source) -> None:
    """All pictures and labels are those that were drawn."""
    expected = {"train": [batch for batch in BATCHES if batch != "test_batch"], "test": ["test_batch"]}
    assert source.classes == NAMES and len(source.pictures) == PER_BATCH * len(BATCHES)
    for picture in source.pictures:
        batch, row = divmod(int(picture.name[-9:-4]), PER_BATCH)
        name = expected[picture.split or ""][batch]
        assert picture.label == NAMES[LABELS[name][row]]
        seen = np.asarray(Image.open(io.BytesIO(source.read(picture))))
        assert (seen == ROWS[name][row].reshape(3, 32, 32).transpose(1, 2, 0)).all()


def test_all_forms_give_the_same_pictures(tmp_path: Path) -> None:
    for form, files in ((BINARY, binary()), (PYTHON, python())):
        check(open_any(str(packed(tmp_path / f"{form}.tar.gz", form, files))))
        check(open_any(str(packed(tmp_path / f"{form}.tar", f"./{form}", files, "w"))))
        check(open_any(str(unpacked(tmp_path / form, files))))
        check(open_any(str(unpacked(tmp_path / f"in-{form}" / form, files).parent)))
        check(open_any(str(unpacked(tmp_path / f"renamed-{form}", files))))
    check(open_any(str(unpacked(tmp_path / "columns", python("F")))))


def test_our_reading_of_an_old_pickle_is_pythons_own(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # numpy's, of its module's old name in the pickle
        for order in ("C", "F"):
            found = pickle.loads(python(order)["test_batch"], encoding="bytes")
            assert (found[b"data"] == ROWS["test_batch"]).all() and found[b"labels"] == LABELS["test_batch"].tolist()
    assert pickle.loads(python()["batches.meta"], encoding="bytes") == {b"label_names": [name.encode() for name in NAMES]}


class Runs:
    """Pickles to a call."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_would_run_something_is_refused_by_name(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "ran"
    for call, asked in ((os.mkdir, "posix.mkdir|nt.mkdir"), (eval, "eval"), (np.save, "numpy.save")):
        data = pickle.dumps({"labels": Runs(call, str(marker))}, protocol)
        source = unpacked(tmp_path / f"{call.__name__}{protocol}", python() | {"test_batch": data})
        with pytest.raises(AlexNetError, match=f"test_batch.*asks for .*({asked})"):
            open_any(str(source))
    assert not marker.exists()


GOOD = {b"labels": [1], b"data": np.zeros((1, 3072), np.uint8)}
HUGE = RECONSTRUCT + old((0,)) + old(b"b") + b"\x87R(" + old(1) + old((2**31 - 1, 3072)) + DTYPE + old((b"u1", 0, 1)) + b"R"


@pytest.mark.parametrize(
    "name,data,found",
    [
        ("data_batch_2", b"", "damaged pickle"),
        ("data_batch_2", pickled(GOOD)[:-5], "damaged pickle"),
        ("data_batch_2", b"\x80\x02" + b"Nr\xff\xff\xff\x7f.", "memo 2147483647"),
        ("data_batch_2", pickled([1]), "damaged pickle"),
        ("data_batch_2", pickled(GOOD | {b"labels": [10]}), "label 10 of picture 0, expected 0 to 9"),
        ("data_batch_2", pickled(GOOD | {b"labels": [-1]}), "expected 0 to 9"),
        ("data_batch_2", pickled(GOOD | {b"labels": [b"1"]}), "expected 0 to 9"),
        ("data_batch_2", pickled(GOOD | {b"labels": [1, 2]}), "2 labels, expected 1"),
        ("data_batch_2", pickled({b"data": GOOD[b"data"]}), "no list under labels"),
        ("data_batch_2", pickled({b"labels": [1]}), "no array under data"),
        ("data_batch_2", pickled(GOOD | {b"data": np.zeros((1, 3072), np.float32)}), "another kind"),
        ("data_batch_2", pickled(GOOD | {b"data": np.zeros((3072, 1), np.uint8)}), r"an array \(3072, 1\) of 3072 bytes"),
        ("data_batch_2", b"\x80\x02}" + old(b"labels") + old([1]) + b"s" + old(b"data") + HUGE + old(False) + old(b"x") + b"tbs.",
         r"an array \(2147483647, 3072\) of 1 bytes"),
        ("batches.meta", oldest(NAMES[:9]), "9 class names"),
        ("batches.meta", oldest((*NAMES[:9], "../x")), "9 plain"),
        ("batches.meta", pickled({b"label_names": b"airplane"}), "no list under label_names"),
        ("test_batch", None, "no test_batch, expected cifar-10-batches-py/"),
    ],
)  # fmt: skip
def test_a_damaged_pickle_is_an_error_of_one_line(tmp_path: Path, name: str, data: bytes | None, found: str) -> None:
    files = python() | ({name: data} if data is not None else {})
    source = unpacked(tmp_path / "set", {file: files[file] for file in files if data is not None or file != name})
    with pytest.raises(AlexNetError, match=found) as caught:
        open_any(str(source))
    assert "\n" not in str(caught.value) and "expected" in str(caught.value) and name in str(caught.value)


@pytest.mark.parametrize(
    "name,data,found",
    [
        ("data_batch_2.bin", b"", "0 bytes, expected records of 3073"),
        ("data_batch_2.bin", bytes(3072), "3072 bytes, expected records of 3073"),
        ("data_batch_2.bin", bytes(3073) + b"\x0a" + bytes(3072), "label 10 of picture 1, expected 0 to 9"),
        ("batches.meta.txt", b"cat dog", "2 class names"),
    ],
)
def test_damaged_records_are_an_error_of_one_line(tmp_path: Path, name: str, data: bytes, found: str) -> None:
    with pytest.raises(AlexNetError, match=f"{name}.*{found}"):
        open_any(str(unpacked(tmp_path / "set", binary() | {name: data})))


def test_a_truncated_archive_is_an_error(tmp_path: Path) -> None:
    whole = packed(tmp_path / "whole.tar.gz", BINARY, binary()).read_bytes()
    plain = packed(tmp_path / "whole.tar", BINARY, binary(), "w").read_bytes()
    for number in range(1, 20):
        for name, data in (("a.tar.gz", whole[: len(whole) * number // 20]), ("a.tar", plain[: 180_000 * number // 20])):
            (tmp_path / name).write_bytes(data)
            with pytest.raises(AlexNetError, match="expected"):
                cifar_source(str(tmp_path / name))


def test_other_compressed_archives_are_still_told_what_to_do(tmp_path: Path) -> None:
    path = packed(tmp_path / "mine.tar.gz", "cats", {"1.jpg": b"x"})
    with pytest.raises(AlexNetError, match="gunzip"):
        open_any(str(path))
    with pytest.raises(AlexNetError, match="not found"):
        open_any(str(tmp_path / "nowhere"))
