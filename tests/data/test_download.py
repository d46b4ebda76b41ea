"""Public data sets: all their files in one folder, compressed tars unpacked, names and caches."""

import gzip
import io
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from alexnet.core.download import HASH_NAMES
from alexnet.core.errors import AlexNetError, UsageError
from alexnet.data import download
from alexnet.data.download import PUBLIC_DATASETS, PublicDataset, download_files
from tests.data.readers.test_sources import PLAIN, write_tar
from tests.helpers.file_site import Site


def quiet(done: int, of: int) -> None:
    pass


def test_compressed_tars_are_unpacked_once(tmp_path: Path, site: Site) -> None:
    plain = write_tar(tmp_path / "plain.tar", PLAIN).read_bytes()
    alone = gzip.compress(plain)
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("all/set.tar.gz", alone)
    for name, data, inside in (
        ("set.tgz", alone, ""),
        ("set.zip", zipped.getvalue(), "all/set.tar.gz"),
    ):
        published = PublicDataset((site.publish(name, data),), tar="set.tar", zip_member=inside)
        folder = tmp_path / name
        for _ in range(2):
            path = download_files(published, folder, quiet)
            assert path == folder / "set.tar" and path.read_bytes() == plain
            (folder / name).unlink(missing_ok=True)  # the unpacked tar suffices
    assert len(site.requests) == 2
    with pytest.raises(AlexNetError, match="cannot be unpacked.*expected all/other"):
        download_files(replace(published, zip_member="all/other"), tmp_path / "other", quiet)


def test_several_files_are_opened_as_their_folder(tmp_path: Path, site: Site) -> None:
    progress: list[tuple[int, int]] = []
    published = PublicDataset((site.publish("a", b"first"), site.publish("b", b"second")))
    path = download_files(published, tmp_path / "set", lambda *counts: progress.append(counts))
    assert path == tmp_path / "set"
    assert sorted(file.name for file in path.iterdir()) == ["a", "b"]
    assert progress[-1] == (11, 11) and progress == sorted(progress)


def test_the_environment_chooses_the_cache_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: Site
) -> None:
    published = PublicDataset((site.publish("set.bin", b"content"),))
    monkeypatch.setitem(PUBLIC_DATASETS, "cifar10", published)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ALEXNET_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert download.cache_folder() == tmp_path / "home" / ".cache" / "alexnet"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert download.cache_folder() == tmp_path / "xdg" / "alexnet"
    monkeypatch.setenv("ALEXNET_CACHE", str(tmp_path / "own"))
    assert download.download("cifar10", quiet) == tmp_path / "own" / "cifar10" / "set.bin"
    with pytest.raises(UsageError, match="expected fashion-mnist, cifar10, caltech101, imagenette"):
        download.download("cifar", quiet)


def test_every_published_file_can_be_checked() -> None:
    for published in PUBLIC_DATASETS.values():
        for file in published.files:
            assert all(url.startswith("http") and url.endswith(file.name) for url in file.urls)
            assert file.size and len(file.digest) in HASH_NAMES and int(file.digest, 16)
