"""Files are complete or absent, also where folders cannot be flushed nor open files replaced."""

import os
from pathlib import Path
from typing import Any

import pytest

from alexnet.core import atomic_io
from alexnet.core.atomic_io import atomic_write, fsync_path, replace_file, write_bytes
from alexnet.core.errors import AlexNetError


def test_a_file_is_replaced_at_the_end_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    write_bytes(path, b"old")
    with pytest.raises(ValueError, match="half"), atomic_write(path) as temporary:
        temporary.write_bytes(b"ne")
        raise ValueError("half")
    assert path.read_bytes() == b"old"
    with atomic_write(path) as temporary:
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert os.listdir(path.parent) == ["file"]


def test_a_failed_write_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(AlexNetError, match="could not be written .*free some space or choose"):
        write_bytes(tmp_path / "file" / "below", b"")


def test_windows_flushes_files_for_writing_and_no_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[Any, ...]] = []
    open_file = os.open

    def record(*arguments: Any) -> int:
        opened.append(arguments)
        return open_file(*arguments)

    (tmp_path / "file").touch()
    monkeypatch.setattr(atomic_io, "WINDOWS", True)
    monkeypatch.setattr(os, "open", record)
    fsync_path(tmp_path / "file")
    fsync_path(tmp_path)
    assert opened == [(tmp_path / "file", os.O_RDWR)]


@pytest.mark.parametrize(("failures", "succeeds"), [(3, True), (10, False)])
def test_windows_retries_while_the_target_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int, succeeds: bool
) -> None:
    attempts: list[Path] = []
    replace = os.replace

    def busy(source: Path, target: Path) -> None:
        attempts.append(target)
        if len(attempts) <= failures:
            raise PermissionError(13, "used by another process")
        replace(source, target)

    monkeypatch.setattr(atomic_io, "WINDOWS", True)
    monkeypatch.setattr(atomic_io, "SECONDS_BETWEEN_ATTEMPTS", 0.0)
    monkeypatch.setattr(os, "replace", busy)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"new")
    if succeeds:
        replace_file(source, target)
        assert target.read_bytes() == b"new"
    else:
        with pytest.raises(PermissionError):
            replace_file(source, target)
        assert len(attempts) == 10


def test_elsewhere_a_file_that_may_not_be_replaced_is_an_error_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[Path] = []

    def forbidden(source: Path, target: Path) -> None:
        attempts.append(target)
        raise PermissionError(13, "denied")

    monkeypatch.setattr(atomic_io, "WINDOWS", False)
    monkeypatch.setattr(os, "replace", forbidden)
    with pytest.raises(PermissionError):
        replace_file(tmp_path / "source", tmp_path / "target")
    assert len(attempts) == 1
