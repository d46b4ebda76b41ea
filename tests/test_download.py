"""Downloads from a server in the test: once, on from where they broke, and never a file whose hash is wrong."""

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

from alexnet.data import download
from alexnet.data.download import COLLECTIONS, HASHES, Collection, File, fetch
from alexnet.errors import AlexNetError, UsageError
from tests.test_sources import PLAIN, tar

DATA = bytes(range(256)) * 20_000  # more than one chunk


def quiet(done: int, of: int) -> None:
    pass


@dataclass
class Site:
    """What the server holds, how it behaves, and what it was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    breaks: int = 0  # answers end after so many bytes; 0 = never
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    address: str = ""


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    held = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers["Range"]
            held.asked.append((self.path, asked))
            data = held.files.get(self.path[1:])
            if data is None:
                return self.send_error(404)
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and held.ranges else 0
            self.send_response(206 if asked and held.ranges else 200)
            if asked and held.ranges:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            self.wfile.write(data[start : start + held.breaks] if held.breaks else data[start:])

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        held.address = f"http://127.0.0.1:{server.server_port}/"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield held
        server.shutdown()
        thread.join()


def published(name: str, data: bytes, kind: str = "sha256") -> File:
    return File(name, len(data), hashlib.new(kind, data).hexdigest())


def only(site: Site, data: bytes = DATA, kind: str = "sha256") -> Collection:
    site.files["set.bin"] = data
    return Collection(site.address, (published("set.bin", data, kind),))


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_a_file_is_fetched_once_and_compared(tmp_path: Path, site: Site, kind: str) -> None:
    told: list[tuple[int, int]] = []
    collection = only(site, kind=kind)
    for _ in range(2):
        path = fetch(collection, tmp_path / "cache", lambda done, of: told.append((done, of)))
        assert path == tmp_path / "cache" / "set.bin" and path.read_bytes() == DATA
    assert site.asked == [("/set.bin", "bytes=0-")]
    assert [path.name for path in path.parent.iterdir()] == ["set.bin"]
    assert told == sorted(told) and told[-1] == (len(DATA), len(DATA))


@pytest.mark.parametrize("ranges", [False, True])
def test_a_stopped_download_goes_on(tmp_path: Path, site: Site, ranges: bool) -> None:
    site.ranges = ranges
    (tmp_path / "set.bin.partial").write_bytes(DATA[:1000])
    assert fetch(only(site), tmp_path, quiet).read_bytes() == DATA
    assert site.asked == [("/set.bin", "bytes=1000-")] and not (tmp_path / "set.bin.partial").exists()


def test_a_line_that_keeps_breaking_is_mended_by_asking_again(tmp_path: Path, site: Site) -> None:
    site.breaks = len(DATA) // 3 + 1
    assert fetch(only(site), tmp_path, quiet).read_bytes() == DATA
    assert [int(asked[6:-1]) for _, asked in site.asked if asked] == [0, site.breaks, 2 * site.breaks]


def test_what_never_ends_well_is_kept_for_the_next_run(tmp_path: Path, site: Site) -> None:
    site.breaks, site.ranges = 2000, False
    with pytest.raises(AlexNetError, match=r"ended early\), 2,000 of 5,120,000 bytes are here: run again"):
        fetch(only(site), tmp_path, quiet)
    assert (tmp_path / "set.bin.partial").read_bytes() == DATA[:2000] and len(site.asked) == 2


def test_wrong_bytes_never_get_the_name(tmp_path: Path, site: Site) -> None:
    collection = only(site)
    site.files["set.bin"] = DATA[:-1] + b"x"
    with pytest.raises(AlexNetError, match="has hash .* expected .* removed"):
        fetch(collection, tmp_path, quiet)
    assert not list(tmp_path.iterdir())
    site.files["set.bin"] = DATA + b"x"
    with pytest.raises(AlexNetError, match="more than the 5,120,000 bytes expected"):
        fetch(collection, tmp_path, quiet)
    site.files["set.bin"] = DATA
    with pytest.raises(AlexNetError, match="removed"):  # what was too long
        fetch(collection, tmp_path, quiet)
    assert fetch(collection, tmp_path, quiet).read_bytes() == DATA


def test_a_file_put_there_by_hand_is_compared_and_left(tmp_path: Path, site: Site) -> None:
    collection = only(site)
    (tmp_path / "set.bin").write_bytes(DATA)
    assert fetch(collection, tmp_path, quiet).read_bytes() == DATA
    (tmp_path / "set.bin").write_bytes(b"mine")
    with pytest.raises(AlexNetError, match="its hash is .* expected .*: remove it"):
        fetch(collection, tmp_path, quiet)
    assert (tmp_path / "set.bin").read_bytes() == b"mine" and not site.asked


def test_without_a_network_one_line_says_what_to_put_where(tmp_path: Path, site: Site) -> None:
    here = only(site)
    for collection, reason in (
        (replace(here, address="http://127.0.0.1:1/"), "refused"),
        (replace(here, address="http://no-such-host.invalid/"), "urlopen error"),
        (replace(here, address=f"{site.address}gone/"), "404"),
    ):
        with pytest.raises(AlexNetError, match=reason) as caught:
            fetch(collection, tmp_path / "cache", quiet)
        text = str(caught.value)
        assert "\n" not in text and f"at {tmp_path / 'cache' / 'set.bin'}" in text and here.files[0].digest in text


def test_two_runs_do_not_write_one_file(tmp_path: Path, site: Site) -> None:
    with download._partial(tmp_path / "set.bin"), pytest.raises(AlexNetError, match="another run"):
        fetch(only(site), tmp_path, quiet)


def test_a_disk_that_cannot_be_written_is_no_fault_of_the_network(tmp_path: Path, site: Site) -> None:
    (tmp_path / "cache").write_bytes(b"a file")
    with pytest.raises(AlexNetError, match="could not be written"):
        fetch(only(site), tmp_path / "cache", quiet)


def test_compressed_tars_are_unpacked_once(tmp_path: Path, site: Site) -> None:
    plain = tar(tmp_path / "plain.tar", PLAIN).read_bytes()
    alone, zipped = gzip.compress(plain), io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("all/set.tar.gz", alone)
    for name, data, inside in (("set.tgz", alone, ""), ("set.zip", zipped.getvalue(), "all/set.tar.gz")):
        site.files[name] = data
        collection = Collection(site.address, (published(name, data),), tar="set.tar", inside=inside)
        folder = tmp_path / name
        for _ in range(2):
            path = fetch(collection, folder, quiet)
            assert path == folder / "set.tar" and path.read_bytes() == plain
            (folder / name).unlink(missing_ok=True)  # what is unpacked needs it no more
    assert len(site.asked) == 2
    with pytest.raises(AlexNetError, match="cannot be unpacked.*expected all/other"):
        fetch(replace(collection, inside="all/other"), tmp_path / "other", quiet)


def test_several_files_are_opened_as_their_folder(tmp_path: Path, site: Site) -> None:
    site.files |= {"a": b"first", "b": b"second"}
    told: list[tuple[int, int]] = []
    collection = Collection(site.address, tuple(published(name, data) for name, data in site.files.items()))
    assert fetch(collection, tmp_path / "set", lambda done, of: told.append((done, of))) == tmp_path / "set"
    assert told[-1] == (11, 11) and told == sorted(told)


def test_sets_are_kept_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    monkeypatch.setitem(COLLECTIONS, "cifar10", only(site))
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


def test_every_published_file_can_be_compared() -> None:
    for collection in COLLECTIONS.values():
        assert collection.address.startswith("http") and collection.address.endswith("/")
        for file in collection.files:
            assert file.size > 0 and len(file.digest) in HASHES and int(file.digest, 16)
