"""Folders, tars and zips give the same images; what is damaged or left out is always named."""

import io
import os
import random
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from alexnet.core.errors import AlexNetError, UsageError
from alexnet.data.readers import (
    ImageSource,
    Sample,
    SplitFractions,
    assign_splits,
    open_source,
)

PLAIN = {
    f"{label}/{number}.jpg": f"{label} {number}".encode() * 50
    for label in ("cat", "dog", "élan")
    for number in range(5)
}
SPLIT = {
    f"{split}/{name}": data for split in ("train", "val", "test") for name, data in PLAIN.items()
}


def write_folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def write_tar(
    path: Path, files: dict[str, bytes], form: int = tarfile.PAX_FORMAT, top: str = ""
) -> Path:
    with tarfile.open(path, "w", format=form) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(top + name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def write_zip(path: Path, files: dict[str, bytes], top: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(top + name, data)
    return path


def read_all(source: ImageSource) -> dict[str, bytes]:
    with source, ThreadPoolExecutor(4) as pool:
        return dict(
            zip(
                (p.name for p in source.samples), pool.map(source.read, source.samples), strict=True
            )
        )


@pytest.mark.parametrize("files", [PLAIN, SPLIT])
def test_all_kinds_of_source_give_the_same_images(tmp_path: Path, files: dict[str, bytes]) -> None:
    paths = [
        write_folder(tmp_path / "bare", files),
        write_folder(tmp_path / "below" / "top", files).parent,
    ]
    paths += [
        write_tar(tmp_path / f"{form}{len(top)}.tar", files, form, f"{top}/")
        for form in range(3)
        for top in (".", "./all")
    ]
    paths += [write_zip(tmp_path / f"{len(top)}.zip", files, top) for top in ("", "all/")]
    for path in paths:
        source = open_source(str(path))
        assert read_all(source) == files
        assert (
            source.classes == ("cat", "dog", "élan") and not source.ignored and not source.warnings
        )
        assert {p.label for p in source.samples} == set(source.classes)
        assert {p.split for p in source.samples} == (
            {None} if files is PLAIN else {"train", "val", "test"}
        )
        assert [p.name.encode() for p in source.samples] == sorted(name.encode() for name in files)
        assert str(tmp_path) not in str(source.provenance) and source.provenance["images"] == len(
            files
        )
    assert len({open_source(str(path)).provenance["sha256"] for path in paths[:2]}) == 1


def test_long_unusual_and_nested_names_are_read(tmp_path: Path) -> None:
    names = [
        "cat/" + "deep/" * 30 + "x.JPG",
        "dog/" + "n" * 200 + ".png",
        "dog/a\nb.gif",
        "猫/é\u0301😀.webp",
        "cat/\udcff.bmp",
    ]
    files = {name: name.encode("utf-8", "surrogateescape") for name in names}
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        assert read_all(open_source(str(write_tar(tmp_path / "a.tar", files, form)))) == files
    source = open_source(str(write_folder(tmp_path / "a", files)))
    assert read_all(source) == files and "猫" in source.classes
    assert {p.label for p in source.samples if "deep" in p.name} == {"cat"}


def test_other_files_are_ignored_with_a_reason(tmp_path: Path) -> None:
    clutter = [
        "cat/.DS_Store",
        "cat/Thumbs.db",
        "dog/desktop.ini",
        "dog/._1.jpg",
        "__MACOSX/cat/1.jpg",
    ]
    others = {
        "cat/notes.txt": "unknown extension .txt",
        "cat/README": "no extension",
        "x.jpg": "not in a class folder",
    }
    others |= {".hidden/1.jpg": "hidden"}
    files = PLAIN | dict.fromkeys([*clutter, *others], b"x")
    for path in (write_tar(tmp_path / "a.tar", files), write_zip(tmp_path / "a.zip", files)):
        with open_source(str(path)) as source:
            assert dict(source.ignored) == dict.fromkeys(clutter, "system file") | others
            assert len(source.samples) == len(PLAIN) and len(source.classes) == 3
    source = open_source(str(write_folder(tmp_path / "a", files)))
    assert len(source.samples) == len(PLAIN) and len(source.classes) == 3
    assert {".hidden": "hidden", "__MACOSX": "system file"}.items() <= dict(source.ignored).items()


def test_empty_classes_are_kept_with_a_warning(tmp_path: Path) -> None:
    (write_folder(tmp_path, PLAIN) / "cow").mkdir()
    source = open_source(str(tmp_path))
    assert source.classes == ("cat", "cow", "dog", "élan") and source.warnings == (
        "class cow has no images",
    )


def test_linked_folders_are_read_once_and_loops_end(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set", PLAIN)
    write_folder(tmp_path / "elsewhere", {"1.jpg": b"cow"})
    (root / "cat" / "loop").symlink_to(root)
    (root / "aaa").symlink_to(root / "dog")
    (root / "cow").symlink_to(tmp_path / "elsewhere")
    (root / "cat" / "gone.jpg").symlink_to("nowhere")
    (root / "cat" / "self.jpg").symlink_to("self.jpg")
    if hasattr(os, "mkfifo"):
        os.mkfifo(root / "cat" / "pipe.jpg")
    source = open_source(str(root))
    assert read_all(source) == PLAIN | {"cow/1.jpg": b"cow"}
    reasons = dict(source.ignored)
    assert reasons["aaa"].startswith("link") and reasons["cat/loop"].startswith("link")
    assert reasons["cat/gone.jpg"] == reasons["cat/self.jpg"] == "broken link"
    if hasattr(os, "mkfifo"):
        assert reasons["cat/pipe.jpg"] == "not a regular file"


@pytest.mark.parametrize(
    "files,message",
    [
        ({}, "no class folders"),
        ({"1.jpg": b"x"}, "no class folders"),
        ({"cat/1.jpg": b"x"}, r"found 1 class \(cat\), needs at least 2"),
        ({"top/cat/1.jpg": b"x"}, r"found 1 class \(cat\)"),
        ({"cat/1.txt": b"x"}, "no class folders|no images"),
        ({"train/cat/1.jpg": b"x", "valid/cat/1.jpg": b"x"}, "valid beside train"),
        ({"val/cat/1.jpg": b"x", "test/cat/1.jpg": b"x"}, "without train"),
        ({"train/1.jpg": b"x", "val/1.jpg": b"x"}, "no class folders"),
    ],
)
def test_other_layouts_are_errors(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    (tmp_path / "set").mkdir()
    for path in (
        write_folder(tmp_path / "set", files),
        write_tar(tmp_path / "a.tar", files),
        write_zip(tmp_path / "a.zip", files),
    ):
        with pytest.raises(AlexNetError, match=message) as caught:
            open_source(str(path))
        assert "\n" not in str(caught.value) and "expected" in str(caught.value)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    source = open_source(
        str(write_folder(tmp_path, {f"{label}/1.jpg": b"x" for label in ("bus", "train")}))
    )
    assert source.classes == ("bus", "train") and {p.split for p in source.samples} == {None}


def test_other_files_are_no_source(tmp_path: Path) -> None:
    complete = write_tar(tmp_path / "a.tar", PLAIN).read_bytes()
    for name, data, message in [
        ("text", b"hello" * 500, "neither a folder nor an archive"),
        ("none", b"", "neither a folder nor an archive"),
        ("a.tar.gz", b"\x1f\x8b" + bytes(600), "compressed.*gunzip"),
        ("a.zip", b"PK\3\4" + bytes(600), "damaged zip"),
        ("twice", complete[: complete.index(bytes(1024))] + complete, "twice"),
        ("both", complete + complete, "data after the end mark"),
    ]:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(AlexNetError, match=message):
            open_source(str(tmp_path / name))
    with pytest.raises(AlexNetError, match="not found"):
        open_source(str(tmp_path / "nowhere"))


def test_links_devices_and_parent_folders_in_tars_are_ignored(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", PLAIN | {"../out.jpg": b"x"})
    with tarfile.open(path, "a") as archive:
        for number, kind in enumerate(
            (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)
        ):
            member = tarfile.TarInfo(f"cat/{number}x.jpg")
            member.type = kind
            member.linkname = "/etc/hostname"
            archive.addfile(member)
    with open_source(str(path)) as source:
        assert len(source.samples) == len(PLAIN)
        assert [reason for _, reason in source.ignored] == [
            "hidden",
            "link",
            "link",
            "not a regular file",
            "not a regular file",
        ]


def test_no_damage_to_a_tar_loses_an_image_in_silence(tmp_path: Path) -> None:
    rng = random.Random(0)
    path = tmp_path / "a.tar"
    complete = write_tar(
        path, PLAIN | {"dog/" + "n" * 150 + ".jpg": b"x" * 700}, tarfile.PAX_FORMAT
    ).read_bytes()
    with tarfile.open(path) as archive:
        headers = [member.offset for member in archive.getmembers()]
    end = len(complete.rstrip(b"\0"))
    for _ in range(300):
        broken = bytearray(complete)
        broken[rng.choice(headers) + rng.randrange(512)] ^= 1 << rng.randrange(8)
        path.write_bytes(broken)
        with pytest.raises(AlexNetError):
            open_source(str(path))
    for _ in range(100):
        path.write_bytes(complete[: rng.randrange(end)])
        with pytest.raises(AlexNetError):
            open_source(str(path))


def test_malicious_extension_headers_end_in_an_error(tmp_path: Path) -> None:
    def header(name: str, kind: bytes, size: int) -> bytes:
        member = tarfile.TarInfo(name)
        member.type = kind
        member.size = size
        return member.tobuf(tarfile.GNU_FORMAT)

    for text in (
        b"0 path=x\n",
        b"-5 size=1\n",
        b"9" * 400 + b" a=b\n",
        b"12 size=-512\n",
        b"99 path=x\n\n",
        b"x",
        b"5 a\n",
    ):
        data = (
            header("x", b"x", len(text))
            + text.ljust(512, b"\0")
            + header("cat/1.jpg", b"0", 0)
            + bytes(1024)
        )
        (tmp_path / "a.tar").write_bytes(data)
        with pytest.raises(AlexNetError):
            open_source(str(tmp_path / "a.tar"))
    (tmp_path / "a.tar").write_bytes(header("x", b"L", 2 << 20) + bytes(3 << 20))
    with pytest.raises(AlexNetError, match="extension header"):
        open_source(str(tmp_path / "a.tar"))


def test_damage_in_a_zip_is_an_error_when_read(tmp_path: Path) -> None:
    complete = bytearray(write_zip(tmp_path / "a.zip", PLAIN).read_bytes())
    complete[complete.index(b"cat/0.jpg") + 15] ^= 1
    (tmp_path / "a.zip").write_bytes(complete)
    with (
        open_source(str(tmp_path / "a.zip")) as source,
        pytest.raises(AlexNetError, match="cannot be read"),
    ):
        source.read(source.samples[0])


def test_images_removed_since_or_too_large_are_errors(tmp_path: Path) -> None:
    source = open_source(str(write_folder(tmp_path, PLAIN)))
    (tmp_path / source.samples[0].name).unlink()
    with pytest.raises(AlexNetError, match="cannot be read: No such file"):
        source.read(source.samples[0])
    os.truncate(tmp_path / source.samples[1].name, 65 << 20)
    again = open_source(str(tmp_path))
    with pytest.raises(AlexNetError, match="at most"):
        again.read(again.samples[0])


def images(count: int, split: str | None = None) -> list[Sample]:
    above = f"{split}/" if split else ""
    return [Sample(f"{above}cat/{number}.jpg", "cat", split) for number in range(count)]


def test_splits_have_the_requested_fractions() -> None:
    assigned = [p.split for p in assign_splits(images(20_000), SplitFractions(0.1, 0.2))]
    assert abs(assigned.count("test") - 4000) < 4 * (20_000 * 0.2 * 0.8) ** 0.5
    assert abs(assigned.count("val") - 1600) < 4 * (20_000 * 0.08 * 0.92) ** 0.5


def test_splits_stay_when_images_are_added_or_the_layout_changes() -> None:
    few = {p.name: p.split for p in assign_splits(images(500), SplitFractions(0.2, 0.1))}
    many = {
        p.name: p.split for p in assign_splits(reversed(images(3000)), SplitFractions(0.2, 0.1))
    }
    assert few.items() <= many.items()
    below = assign_splits(images(500, "train"), SplitFractions(0.2, 0.1))
    assert {p.name.removeprefix("train/"): p.split for p in below} == few


def test_splits_of_the_source_are_kept() -> None:
    own = images(300, "train") + images(50, "val") + images(20, "test")
    assert list(assign_splits(own, SplitFractions(0.5, 0.3))) == own
    assigned = assign_splits(images(300, "train") + images(20, "test"), SplitFractions(0.5, 0.3))
    assert {p.split for p in assigned[:300]} == {"train", "val"} and all(
        p.split == "test" for p in assigned[300:]
    )


def test_impossible_fractions_are_errors() -> None:
    for val, test in ((-0.1, 0), (0.5, 0.5), (1, 0), (float("nan"), 0)):
        with pytest.raises(UsageError, match="fractions"):
            SplitFractions(val, test)


def test_a_tar_is_read_by_many_threads_without_pread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pread", raising=False)  # as on Windows
    with open_source(write_tar(tmp_path / "a.tar", PLAIN)) as source, ThreadPoolExecutor(8) as pool:
        samples = source.samples * 50
        expected = [PLAIN[sample.name] for sample in samples]
        assert list(pool.map(source.read, samples)) == expected
