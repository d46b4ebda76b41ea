"""Folders, tars and zips give the same pictures; what is damaged or left out is always named."""

import io
import os
import random
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from alexnet.data.sources import Fractions, Picture, Source, assign_splits, open_source
from alexnet.errors import AlexNetError, UsageError

PLAIN = {f"{label}/{number}.jpg": f"{label} {number}".encode() * 50 for label in ("cat", "dog", "élan") for number in range(5)}
SPLIT = {f"{split}/{name}": data for split in ("train", "val", "test") for name, data in PLAIN.items()}


def folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def tar(path: Path, files: dict[str, bytes], form: int = tarfile.PAX_FORMAT, top: str = "") -> Path:
    with tarfile.open(path, "w", format=form) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(top + name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def zipped(path: Path, files: dict[str, bytes], top: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(top + name, data)
    return path


def contents(source: Source) -> dict[str, bytes]:
    with source, ThreadPoolExecutor(4) as pool:
        return dict(zip((p.name for p in source.pictures), pool.map(source.read, source.pictures), strict=True))


@pytest.mark.parametrize("files", [PLAIN, SPLIT])
def test_all_kinds_of_source_give_the_same_pictures(tmp_path: Path, files: dict[str, bytes]) -> None:
    paths = [folder(tmp_path / "bare", files), folder(tmp_path / "below" / "top", files).parent]
    paths += [tar(tmp_path / f"{form}{len(top)}.tar", files, form, f"{top}/") for form in range(3) for top in (".", "./all")]
    paths += [zipped(tmp_path / f"{len(top)}.zip", files, top) for top in ("", "all/")]
    for path in paths:
        source = open_source(str(path))
        assert contents(source) == files
        assert source.classes == ("cat", "dog", "élan") and not source.ignored and not source.warnings
        assert {p.label for p in source.pictures} == set(source.classes)
        assert {p.split for p in source.pictures} == ({None} if files is PLAIN else {"train", "val", "test"})
        assert [p.name.encode() for p in source.pictures] == sorted(name.encode() for name in files)
        assert str(tmp_path) not in str(source.provenance) and source.provenance["pictures"] == len(files)
    assert len({open_source(str(path)).provenance["sha256"] for path in paths[:2]}) == 1


def test_long_strange_and_nested_names_survive(tmp_path: Path) -> None:
    names = ["cat/" + "deep/" * 30 + "x.JPG", "dog/" + "n" * 200 + ".png", "dog/a\nb.gif", "猫/é\u0301😀.webp", "cat/\udcff.bmp"]
    files = {name: name.encode("utf-8", "surrogateescape") for name in names}
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        assert contents(open_source(str(tar(tmp_path / "a.tar", files, form)))) == files
    source = open_source(str(folder(tmp_path / "a", files)))
    assert contents(source) == files and "猫" in source.classes
    assert {p.label for p in source.pictures if "deep" in p.name} == {"cat"}


def test_what_is_no_picture_is_ignored_and_named(tmp_path: Path) -> None:
    clutter = ["cat/.DS_Store", "cat/Thumbs.db", "dog/desktop.ini", "dog/._1.jpg", "__MACOSX/cat/1.jpg"]
    others = {"cat/notes.txt": "unknown extension .txt", "cat/README": "no extension", "x.jpg": "not in a class folder"}
    others |= {".hidden/1.jpg": "hidden"}
    files = PLAIN | dict.fromkeys([*clutter, *others], b"x")
    for path in (tar(tmp_path / "a.tar", files), zipped(tmp_path / "a.zip", files)):
        with open_source(str(path)) as source:
            assert dict(source.ignored) == dict.fromkeys(clutter, "system file") | others
            assert len(source.pictures) == len(PLAIN) and len(source.classes) == 3
    source = open_source(str(folder(tmp_path / "a", files)))
    assert len(source.pictures) == len(PLAIN) and len(source.classes) == 3
    assert {".hidden": "hidden", "__MACOSX": "system file"}.items() <= dict(source.ignored).items()


def test_empty_classes_are_kept_with_a_warning(tmp_path: Path) -> None:
    (folder(tmp_path, PLAIN) / "cow").mkdir()
    source = open_source(str(tmp_path))
    assert source.classes == ("cat", "cow", "dog", "élan") and source.warnings == ("class cow has no pictures",)


def test_linked_folders_are_read_once_and_loops_end(tmp_path: Path) -> None:
    root = folder(tmp_path / "set", PLAIN)
    folder(tmp_path / "elsewhere", {"1.jpg": b"cow"})
    (root / "cat" / "loop").symlink_to(root)
    (root / "aaa").symlink_to(root / "dog")
    (root / "cow").symlink_to(tmp_path / "elsewhere")
    (root / "cat" / "gone.jpg").symlink_to("nowhere")
    (root / "cat" / "self.jpg").symlink_to("self.jpg")
    os.mkfifo(root / "cat" / "pipe.jpg")
    source = open_source(str(root))
    assert contents(source) == PLAIN | {"cow/1.jpg": b"cow"}
    reasons = dict(source.ignored)
    assert reasons["aaa"].startswith("link") and reasons["cat/loop"].startswith("link")
    assert reasons["cat/gone.jpg"] == reasons["cat/self.jpg"] == "broken link"
    assert reasons["cat/pipe.jpg"] == "not a regular file"


@pytest.mark.parametrize(
    "files,found",
    [
        ({}, "no class folders"),
        ({"1.jpg": b"x"}, "no class folders"),
        ({"cat/1.jpg": b"x"}, r"found 1 class \(cat\), needs at least 2"),
        ({"top/cat/1.jpg": b"x"}, r"found 1 class \(cat\)"),
        ({"cat/1.txt": b"x"}, "no class folders|no pictures"),
        ({"train/cat/1.jpg": b"x", "valid/cat/1.jpg": b"x"}, "valid beside train"),
        ({"val/cat/1.jpg": b"x", "test/cat/1.jpg": b"x"}, "without train"),
        ({"train/1.jpg": b"x", "val/1.jpg": b"x"}, "no class folders"),
    ],
)
def test_layouts_that_say_nothing_are_errors(tmp_path: Path, files: dict[str, bytes], found: str) -> None:
    (tmp_path / "set").mkdir()
    for path in (folder(tmp_path / "set", files), tar(tmp_path / "a.tar", files), zipped(tmp_path / "a.zip", files)):
        with pytest.raises(AlexNetError, match=found) as caught:
            open_source(str(path))
        assert "\n" not in str(caught.value) and "expected" in str(caught.value)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    source = open_source(str(folder(tmp_path, {f"{label}/1.jpg": b"x" for label in ("bus", "train")})))
    assert source.classes == ("bus", "train") and {p.split for p in source.pictures} == {None}


def test_what_is_no_source_is_an_error(tmp_path: Path) -> None:
    whole = tar(tmp_path / "a.tar", PLAIN).read_bytes()
    for name, data, found in [
        ("text", b"hello" * 500, "neither a folder nor an archive"),
        ("none", b"", "neither a folder nor an archive"),
        ("a.tar.gz", b"\x1f\x8b" + bytes(600), "compressed.*gunzip"),
        ("a.zip", b"PK\3\4" + bytes(600), "damaged zip"),
        ("twice", whole[: whole.index(bytes(1024))] + whole, "twice"),
        ("both", whole + whole, "data after the end mark"),
    ]:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(AlexNetError, match=found):
            open_source(str(tmp_path / name))
    with pytest.raises(AlexNetError, match="not found"):
        open_source(str(tmp_path / "nowhere"))


def test_links_devices_and_climbing_names_in_tars_are_ignored(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", PLAIN | {"../out.jpg": b"x"})
    with tarfile.open(path, "a") as archive:
        for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)):
            member = tarfile.TarInfo(f"cat/{number}x.jpg")
            member.type, member.linkname = kind, "/etc/hostname"
            archive.addfile(member)
    with open_source(str(path)) as source:
        assert len(source.pictures) == len(PLAIN)
        assert [reason for _, reason in source.ignored] == ["hidden", "link", "link", "not a regular file", "not a regular file"]


def test_no_damage_to_a_tar_loses_a_picture_in_silence(tmp_path: Path) -> None:
    chance = random.Random(0)
    path = tmp_path / "a.tar"
    whole = tar(path, PLAIN | {"dog/" + "n" * 150 + ".jpg": b"x" * 700}, tarfile.PAX_FORMAT).read_bytes()
    with tarfile.open(path) as archive:
        headers = [member.offset for member in archive.getmembers()]
    end = len(whole.rstrip(b"\0"))
    for _ in range(300):
        broken = bytearray(whole)
        broken[chance.choice(headers) + chance.randrange(512)] ^= 1 << chance.randrange(8)
        path.write_bytes(broken)
        with pytest.raises(AlexNetError):
            open_source(str(path))
    for _ in range(100):
        path.write_bytes(whole[: chance.randrange(end)])
        with pytest.raises(AlexNetError):
            open_source(str(path))


def test_malicious_extension_headers_end_in_an_error(tmp_path: Path) -> None:
    def header(name: str, kind: bytes, size: int) -> bytes:
        member = tarfile.TarInfo(name)
        member.type, member.size = kind, size
        return member.tobuf(tarfile.GNU_FORMAT)

    for text in (b"0 path=x\n", b"-5 size=1\n", b"9" * 400 + b" a=b\n", b"12 size=-512\n", b"99 path=x\n\n", b"x", b"5 a\n"):
        data = header("x", b"x", len(text)) + text.ljust(512, b"\0") + header("cat/1.jpg", b"0", 0) + bytes(1024)
        (tmp_path / "a.tar").write_bytes(data)
        with pytest.raises(AlexNetError):
            open_source(str(tmp_path / "a.tar"))
    (tmp_path / "a.tar").write_bytes(header("x", b"L", 2 << 20) + bytes(3 << 20))
    with pytest.raises(AlexNetError, match="extension header"):
        open_source(str(tmp_path / "a.tar"))


def test_damage_inside_a_zip_is_found_when_read(tmp_path: Path) -> None:
    whole = bytearray(zipped(tmp_path / "a.zip", PLAIN).read_bytes())
    whole[whole.index(b"cat/0.jpg") + 15] ^= 1
    (tmp_path / "a.zip").write_bytes(whole)
    with open_source(str(tmp_path / "a.zip")) as source, pytest.raises(AlexNetError, match="cannot be read"):
        source.read(source.pictures[0])


def test_pictures_gone_since_or_too_large_are_errors(tmp_path: Path) -> None:
    source = open_source(str(folder(tmp_path, PLAIN)))
    (tmp_path / source.pictures[0].name).unlink()
    with pytest.raises(AlexNetError, match="cannot be read: No such file"):
        source.read(source.pictures[0])
    os.truncate(tmp_path / source.pictures[1].name, 65 << 20)
    again = open_source(str(tmp_path))
    with pytest.raises(AlexNetError, match="at most"):
        again.read(again.pictures[0])


def pictures(count: int, split: str | None = None) -> list[Picture]:
    above = f"{split}/" if split else ""
    return [Picture(f"{above}cat/{number}.jpg", "cat", split) for number in range(count)]


def test_splits_have_the_shares_asked_for() -> None:
    drawn = [p.split for p in assign_splits(pictures(20_000), Fractions(0.1, 0.2))]
    assert abs(drawn.count("test") - 4000) < 4 * (20_000 * 0.2 * 0.8) ** 0.5
    assert abs(drawn.count("val") - 1600) < 4 * (20_000 * 0.08 * 0.92) ** 0.5


def test_splits_stay_when_pictures_are_added_or_the_layout_changes() -> None:
    few = {p.name: p.split for p in assign_splits(pictures(500), Fractions(0.2, 0.1))}
    many = {p.name: p.split for p in assign_splits(reversed(pictures(3000)), Fractions(0.2, 0.1))}
    assert few.items() <= many.items()
    below = assign_splits(pictures(500, "train"), Fractions(0.2, 0.1))
    assert {p.name.removeprefix("train/"): p.split for p in below} == few


def test_splits_of_the_source_are_left() -> None:
    own = pictures(300, "train") + pictures(50, "val") + pictures(20, "test")
    assert list(assign_splits(own, Fractions(0.5, 0.3))) == own
    drawn = assign_splits(pictures(300, "train") + pictures(20, "test"), Fractions(0.5, 0.3))
    assert {p.split for p in drawn[:300]} == {"train", "val"} and all(p.split == "test" for p in drawn[300:])


def test_impossible_fractions_are_refused() -> None:
    for val, test in ((-0.1, 0), (0.5, 0.5), (1, 0), (float("nan"), 0)):
        with pytest.raises(UsageError, match="fractions"):
            Fractions(val, test)
