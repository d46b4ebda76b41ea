"""Downloads from a server in the test: once, resumed, and never a file with a wrong hash."""

from dataclasses import replace
from pathlib import Path

import pytest

from alexnet.core.download import DownloadError, PublishedFile, provide_file
from alexnet.core.errors import AlexNetError
from alexnet.core.work_lock import work_lock
from tests.helpers.file_site import Site

DATA = bytes(range(256)) * 20_000  # more than one chunk
NOWHERE = "http://127.0.0.1:1/set.bin"


def quiet(done: int, total: int) -> None:
    pass


@pytest.mark.parametrize("kind", ["md5", "sha1", "sha256"])
def test_a_file_is_downloaded_once_and_checked(tmp_path: Path, site: Site, kind: str) -> None:
    file = site.publish("set.bin", DATA, kind)
    progress: list[tuple[int, int]] = []
    for _ in range(2):
        path = provide_file(file, tmp_path / "cache", lambda *counts: progress.append(counts))
        assert path == tmp_path / "cache" / "set.bin" and path.read_bytes() == DATA
    assert site.requests == [("/set.bin", "bytes=0-")]
    assert [path.name for path in path.parent.iterdir()] == ["set.bin"]
    assert progress == sorted(progress) and progress[-1] == (len(DATA), len(DATA))


@pytest.mark.parametrize("is_size_known", [False, True])
@pytest.mark.parametrize("ranges", [False, True])
def test_an_interrupted_download_is_resumed(
    tmp_path: Path, site: Site, ranges: bool, is_size_known: bool
) -> None:
    file = site.publish("set.bin", DATA)
    if not is_size_known:
        file = replace(file, size=None)
    site.ranges = ranges
    (tmp_path / "set.bin.partial").write_bytes(DATA[:1000])
    assert provide_file(file, tmp_path, quiet).read_bytes() == DATA
    assert site.requests == [("/set.bin", "bytes=1000-")]
    assert not (tmp_path / "set.bin.partial").exists()


def test_a_connection_that_keeps_breaking_is_retried(tmp_path: Path, site: Site) -> None:
    file = replace(site.publish("set.bin", DATA), size=None)
    site.max_bytes = len(DATA) // 3 + 1
    assert provide_file(file, tmp_path, quiet).read_bytes() == DATA
    starts = [int(requested[6:-1]) for _, requested in site.requests if requested]
    assert starts == [0, site.max_bytes, 2 * site.max_bytes]


def test_an_incomplete_download_is_kept_for_the_next_run(tmp_path: Path, site: Site) -> None:
    file = site.publish("set.bin", DATA)
    site.max_bytes = 2000
    site.ranges = False
    with pytest.raises(DownloadError, match=r"ended early\), 2,000 bytes are here: run again"):
        provide_file(file, tmp_path, quiet)
    assert (tmp_path / "set.bin.partial").read_bytes() == DATA[:2000] and len(site.requests) == 2


@pytest.mark.parametrize("is_size_known", [False, True])
def test_a_complete_download_that_was_not_yet_checked_is_kept(
    tmp_path: Path, site: Site, is_size_known: bool
) -> None:
    file = site.publish("set.bin", DATA)
    if not is_size_known:
        file = replace(file, size=None)
    (tmp_path / "set.bin.partial").write_bytes(DATA)
    assert provide_file(file, tmp_path, quiet).read_bytes() == DATA
    assert len(site.requests) == (0 if is_size_known else 1)


def test_an_answer_that_states_no_length_is_taken_as_a_whole(tmp_path: Path, site: Site) -> None:
    file = replace(site.publish("set.bin", DATA), size=None)
    site.lengths = False
    assert provide_file(file, tmp_path, quiet).read_bytes() == DATA


def test_a_file_with_a_wrong_hash_is_removed(tmp_path: Path, site: Site) -> None:
    file = site.publish("set.bin", DATA)
    site.files["set.bin"] = DATA[:-1] + b"x"
    with pytest.raises(DownloadError, match=f"has the hash .* removed.* put .*{file.digest}"):
        provide_file(file, tmp_path, quiet)
    assert not list(tmp_path.iterdir())
    site.files["set.bin"] = DATA + b"x"
    with pytest.raises(DownloadError, match="it has 5,120,001 bytes, expected 5,120,000"):
        provide_file(file, tmp_path, quiet)
    site.lengths = False
    with pytest.raises(DownloadError, match="has the hash .* removed"):
        provide_file(file, tmp_path, quiet)
    assert not list(tmp_path.glob("set.bin"))
    site.files["set.bin"] = DATA
    assert provide_file(file, tmp_path, quiet).read_bytes() == DATA


def test_addresses_are_tried_in_turn_and_go_on_with_what_is_there(
    tmp_path: Path, site: Site
) -> None:
    file = site.publish("set.bin", DATA)
    site.files["wrong.bin"] = DATA[:-1] + b"x"
    site.files["short.bin"] = DATA[:-9]
    names = ["gone.bin", "wrong.bin", "short.bin", "set.bin"]
    (tmp_path / "set.bin.partial").write_bytes(DATA[:1000])
    mirrored = replace(file, urls=(NOWHERE, *(site.address + name for name in names)))
    assert provide_file(mirrored, tmp_path, quiet).read_bytes() == DATA
    assert site.requests == [
        ("/gone.bin", "bytes=1000-"),
        ("/wrong.bin", "bytes=1000-"),
        ("/short.bin", "bytes=0-"),
        ("/set.bin", "bytes=0-"),
    ]


def test_a_file_put_there_by_hand_is_checked_and_left(tmp_path: Path, site: Site) -> None:
    file = site.publish("set.bin", DATA)
    (tmp_path / "set.bin").write_bytes(DATA)
    assert provide_file(file, tmp_path, quiet).read_bytes() == DATA
    (tmp_path / "set.bin").write_bytes(b"mine")
    with pytest.raises(AlexNetError, match="its hash is .* expected .*: remove it"):
        provide_file(file, tmp_path, quiet)
    assert (tmp_path / "set.bin").read_bytes() == b"mine" and not site.requests


def test_without_a_network_the_error_says_what_to_do_by_hand(tmp_path: Path, site: Site) -> None:
    file = site.publish("set.bin", DATA, "sha1")
    for url, reason in (
        (NOWHERE, "refused"),
        ("http://no-such-host.invalid/set.bin", "urlopen error"),
        (f"{site.address}gone/set.bin", "404"),
    ):
        with pytest.raises(DownloadError, match=reason) as caught:
            provide_file(replace(file, urls=(url,)), tmp_path / "cache", quiet)
        text = str(caught.value)
        path = tmp_path / "cache" / "set.bin"
        assert "\n" not in text
        assert f"put the file with sha1 {file.digest} at {path}" in text


def test_an_impossible_address_is_a_failed_download(tmp_path: Path) -> None:
    file = PublishedFile("file", None, "0" * 64, ("http://[host/file",))
    with pytest.raises(DownloadError, match=r"http://\[host/file: Invalid"):
        provide_file(file, tmp_path, quiet)


def test_two_runs_do_not_write_the_same_file(tmp_path: Path, site: Site) -> None:
    file = site.publish("set.bin", DATA)
    with work_lock(tmp_path / "set.bin", "busy"), pytest.raises(AlexNetError, match="another run"):
        provide_file(file, tmp_path, quiet)


def test_a_disk_that_cannot_be_written_is_not_reported_as_a_network_error(
    tmp_path: Path, site: Site
) -> None:
    (tmp_path / "cache").write_bytes(b"a file")
    with pytest.raises(AlexNetError, match="could not be written"):
        provide_file(site.publish("set.bin", DATA), tmp_path / "cache", quiet)
