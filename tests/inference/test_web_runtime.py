"""The browser's runtime is used only if it is the published one; how to get it is said."""

import base64
import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from alexnet.core.errors import AlexNetError
from alexnet.inference.export import web_runtime
from alexnet.inference.export.web_runtime import (
    LICENSE,
    RUNTIME_FILES,
    runtime_files,
    unpack_runtime,
)

CONTENTS = {name: f"content of {name}".encode() for name in RUNTIME_FILES}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Return a package as npm packs it, with other files beside those that are needed."""
    path = tmp_path / "package.tgz"
    with tarfile.open(path, "w:gz") as tar:
        for name, data in (CONTENTS | {"ort.js": b"another build"}).items():
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def integrity(path: Path) -> str:
    """Return a file's hash in npm's notation."""
    return f"sha512-{base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()}"


def test_the_files_of_the_published_package_are_unpacked(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_runtime, "INTEGRITY", integrity(archive))
    folder = tmp_path / "page"
    folder.mkdir()
    files = unpack_runtime(archive, folder)
    assert {name: files[name].read_bytes() for name in RUNTIME_FILES} == CONTENTS
    assert sorted(path.name for path in folder.iterdir()) == sorted(RUNTIME_FILES)
    assert "Copyright (c) Microsoft" in files[LICENSE].read_text(encoding="utf-8")


def test_another_archive_is_refused_before_it_is_opened(archive: Path, tmp_path: Path) -> None:
    archive.write_bytes(b"no archive at all")
    with pytest.raises(AlexNetError, match=r"not onnxruntime-web@.*npm pack onnxruntime-web@"):
        unpack_runtime(archive, tmp_path)


def test_missing_files_are_named_with_both_ways_to_get_them(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_runtime, "INTEGRITY", integrity(archive))
    folder = tmp_path / "onnxruntime_web"
    folder.mkdir()
    (folder / LICENSE).write_text("MIT", encoding="utf-8")
    monkeypatch.setattr(web_runtime, "FOLDER", folder)
    with pytest.raises(AlexNetError, match=r"`make web-runtime`.*--runtime FILE\.tgz") as caught:
        runtime_files()
    assert all(name in str(caught.value) for name in RUNTIME_FILES)
    unpack_runtime(archive, folder)
    assert runtime_files() == {name: folder / name for name in (*RUNTIME_FILES, LICENSE)}
