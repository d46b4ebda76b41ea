"""Downloads from a server in the test: once, resumed, and never a file with a wrong hash."""

import gzip
import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from alexnet.core.errors import AlexNetError, UsageError
from alexnet.data import download
from alexnet.data.download import (
    HASH_NAMES,
    PUBLIC_DATASETS,
    PublicDataset,
    PublishedFile,
    download_files,
)
from alexnet.data.work_lock import work_lock
from tests.data.readers.test_sources import PLAIN, write_tar

DATA = bytes(range(256)) * 20_000  # more than one chunk


def quiet(done: int, of: int) -> None:
    pass


@dataclass
class Site:
    """The server's files, how it behaves, and the requests it received."""

    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    max_bytes: int = 0  # answers end after this many; 0 = never
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    address: str = ""


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    state = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requested = self.headers["Range"]
            state.requests.append((self.path, requested))
            data = state.files.get(self.path[1:])
            if data is None:
                return self.send_error(404)
            start = (
                int(requested.removeprefix("bytes=").removesuffix("-"))
                if requested and state.ranges
                else 0
            )
            self.send_response(206 if requested and state.ranges else 200)
            if requested and state.ranges:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            self.wfile.write(
                data[start : start + state.max_bytes] if state.max_bytes else data[start:]
            )

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.address = f"http://127.0.0.1:{server.server_port}/"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield state
        server.shutdown()
        thread.join()


def publish(name: str, data: bytes, kind: str = "sha256") -> PublishedFile:
    return PublishedFile(name, len(data), hashlib.new(kind, data).hexdigest())


def publish_one(site: Site, data: bytes = DATA, kind: str = "sha256") -> PublicDataset:
    site.files["set.bin"] = data
    return PublicDataset(site.address, (publish("set.bin", data, kind),))


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_a_file_is_downloaded_once_and_checked(tmp_path: Path, site: Site, kind: str) -> None:
    progress: list[tuple[int, int]] = []
    published = publish_one(site, kind=kind)
    for _ in range(2):
        path = download_files(
            published, tmp_path / "cache", lambda done, of: progress.append((done, of))
        )
        assert path == tmp_path / "cache" / "set.bin" and path.read_bytes() == DATA
    assert site.requests == [("/set.bin", "bytes=0-")]
    assert [path.name for path in path.parent.iterdir()] == ["set.bin"]
    assert progress == sorted(progress) and progress[-1] == (len(DATA), len(DATA))


@pytest.mark.parametrize("ranges", [False, True])
def test_an_interrupted_download_is_resumed(tmp_path: Path, site: Site, ranges: bool) -> None:
    site.ranges = ranges
    (tmp_path / "set.bin.partial").write_bytes(DATA[:1000])
    assert download_files(publish_one(site), tmp_path, quiet).read_bytes() == DATA
    assert (
        site.requests == [("/set.bin", "bytes=1000-")]
        and not (tmp_path / "set.bin.partial").exists()
    )


def test_a_connection_that_keeps_breaking_is_retried(tmp_path: Path, site: Site) -> None:
    site.max_bytes = len(DATA) // 3 + 1
    assert download_files(publish_one(site), tmp_path, quiet).read_bytes() == DATA
    assert [int(requested[6:-1]) for _, requested in site.requests if requested] == [
        0,
        site.max_bytes,
        2 * site.max_bytes,
    ]


def test_an_incomplete_download_is_kept_for_the_next_run(tmp_path: Path, site: Site) -> None:
    site.max_bytes = 2000
    site.ranges = False
    with pytest.raises(
        AlexNetError, match=r"ended early\), 2,000 of 5,120,000 bytes are here: run again"
    ):
        download_files(publish_one(site), tmp_path, quiet)
    assert (tmp_path / "set.bin.partial").read_bytes() == DATA[:2000] and len(site.requests) == 2


def test_a_file_with_a_wrong_hash_is_removed(tmp_path: Path, site: Site) -> None:
    published = publish_one(site)
    site.files["set.bin"] = DATA[:-1] + b"x"
    with pytest.raises(AlexNetError, match="has hash .* expected .* removed"):
        download_files(published, tmp_path, quiet)
    assert not list(tmp_path.iterdir())
    site.files["set.bin"] = DATA + b"x"
    with pytest.raises(AlexNetError, match="more than the 5,120,000 bytes expected"):
        download_files(published, tmp_path, quiet)
    site.files["set.bin"] = DATA
    with pytest.raises(AlexNetError, match="removed"):  # what was too long
        download_files(published, tmp_path, quiet)
    assert download_files(published, tmp_path, quiet).read_bytes() == DATA


def test_a_file_put_there_by_hand_is_checked_and_left(tmp_path: Path, site: Site) -> None:
    published = publish_one(site)
    (tmp_path / "set.bin").write_bytes(DATA)
    assert download_files(published, tmp_path, quiet).read_bytes() == DATA
    (tmp_path / "set.bin").write_bytes(b"mine")
    with pytest.raises(AlexNetError, match="its hash is .* expected .*: remove it"):
        download_files(published, tmp_path, quiet)
    assert (tmp_path / "set.bin").read_bytes() == b"mine" and not site.requests


def test_without_a_network_the_error_says_what_to_do_by_hand(tmp_path: Path, site: Site) -> None:
    original = publish_one(site)
    for published, reason in (
        (replace(original, url="http://127.0.0.1:1/"), "refused"),
        (replace(original, url="http://no-such-host.invalid/"), "urlopen error"),
        (replace(original, url=f"{site.address}gone/"), "404"),
    ):
        with pytest.raises(AlexNetError, match=reason) as caught:
            download_files(published, tmp_path / "cache", quiet)
        text = str(caught.value)
        assert (
            "\n" not in text
            and f"at {tmp_path / 'cache' / 'set.bin'}" in text
            and original.files[0].digest in text
        )


def test_two_runs_do_not_write_the_same_file(tmp_path: Path, site: Site) -> None:
    with (
        work_lock(tmp_path / "set.bin", "busy"),
        pytest.raises(AlexNetError, match="another run"),
    ):
        download_files(publish_one(site), tmp_path, quiet)


def test_a_disk_that_cannot_be_written_is_not_reported_as_a_network_error(
    tmp_path: Path, site: Site
) -> None:
    (tmp_path / "cache").write_bytes(b"a file")
    with pytest.raises(AlexNetError, match="could not be written"):
        download_files(publish_one(site), tmp_path / "cache", quiet)


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
        site.files[name] = data
        published = PublicDataset(
            site.address, (publish(name, data),), tar="set.tar", zip_member=inside
        )
        folder = tmp_path / name
        for _ in range(2):
            path = download_files(published, folder, quiet)
            assert path == folder / "set.tar" and path.read_bytes() == plain
            (folder / name).unlink(missing_ok=True)  # the unpacked tar suffices
    assert len(site.requests) == 2
    with pytest.raises(AlexNetError, match="cannot be unpacked.*expected all/other"):
        download_files(replace(published, zip_member="all/other"), tmp_path / "other", quiet)


def test_several_files_are_opened_as_their_folder(tmp_path: Path, site: Site) -> None:
    site.files |= {"a": b"first", "b": b"second"}
    progress: list[tuple[int, int]] = []
    published = PublicDataset(
        site.address, tuple(publish(name, data) for name, data in site.files.items())
    )
    assert (
        download_files(published, tmp_path / "set", lambda done, of: progress.append((done, of)))
        == tmp_path / "set"
    )
    assert progress[-1] == (11, 11) and progress == sorted(progress)


def test_the_environment_chooses_the_cache_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: Site
) -> None:
    monkeypatch.setitem(PUBLIC_DATASETS, "cifar10", publish_one(site))
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
        assert published.url.startswith("http") and published.url.endswith("/")
        for file in published.files:
            assert file.size > 0 and len(file.digest) in HASH_NAMES and int(file.digest, 16)
