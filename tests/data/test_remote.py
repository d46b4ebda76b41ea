"""Datasets read from a server in the test: the same records, each requested once."""

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import pytest
from click.testing import CliRunner, Result

from alexnet.__main__ import cli
from alexnet.core.errors import AlexNetError
from alexnet.data import remote
from alexnet.data.images import DecodeConfig
from alexnet.data.prepared import PreparedDataset, open_dataset, verify
from alexnet.data.remote import CachedShard
from alexnet.models.model_file import read_model_file
from alexnet.training.run_config import resume_run
from tests.data.test_prepared import write
from tests.test_cli_end_to_end import TINY

MISSING = [name for name in ("fsspec", "aiohttp") if find_spec(name) is None]
REASON = f"pip install 'alexnet[remote]' brings {' and '.join(MISSING)}"
needs_http = pytest.mark.skipif(bool(MISSING), reason=REASON)
needs_fsspec = pytest.mark.skipif("fsspec" in MISSING, reason=REASON)
RETRY_DELAYS = remote.RETRY_DELAYS


@dataclass
class Site:
    """A server of a folder's files: how it behaves, and the requests it received."""

    folder: Path
    ranges: bool = True
    fails: Callable[[int], bool] = lambda number: False  # whether this answer breaks off
    delay: float = 0.0  # seconds before an answer
    requests: list[tuple[str, str | None]] = field(default_factory=list)  # (path, Range)
    address: str = ""

    def shard_requests(self) -> list[tuple[str, str | None]]:
        """Return the requests for shards."""
        return [(path, span) for path, span in self.requests if path.endswith(".tar")]


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            site.requests.append((self.path, self.headers["Range"]))
            time.sleep(site.delay)
            if site.fails(len(site.requests)):
                self.close_connection = True
            else:
                super().do_GET()

        def send_head(self) -> BinaryIO | None:
            file = Path(self.translate_path(self.path))
            requested = self.headers["Range"]
            if not (requested and site.ranges and file.is_file()):
                return super().send_head()
            first, last = map(int, requested.removeprefix("bytes=").split("-"))
            with file.open("rb") as opened:
                opened.seek(first)
                piece = opened.read(last + 1 - first)
            self.send_response(206)
            self.send_header("Content-Length", str(len(piece)))
            self.end_headers()
            self.wfile.write(piece)
            return None

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    def handler(*arguments: Any) -> Handler:
        return Handler(*arguments, directory=str(site.folder))

    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        site.address = f"http://127.0.0.1:{server.server_port}/s"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Use a cache of the test's own, and retry without delays."""
    monkeypatch.setenv("ALEXNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "RETRY_DELAYS", (0.0,) * len(RETRY_DELAYS))
    return tmp_path / "cache"


@pytest.fixture
def every(tmp_path: Path) -> list[bytes]:
    """Write a dataset of 12 + 4 records, in three shards and one, and return its records."""
    (tmp_path / "site").mkdir()
    return write(tmp_path / "site" / "s", DecodeConfig(size=16, encoding="raw"))


@pytest.fixture
def site(every: list[bytes], tmp_path: Path) -> Iterator[Site]:
    with serving(Site(tmp_path / "site")) as site:
        yield site


def read(dataset: PreparedDataset) -> list[bytes]:
    """Return every record, train's and then val's, the last ones first."""
    return [
        split.record(i) for split in dataset.splits.values() for i in reversed(range(len(split)))
    ]


def backwards(every: list[bytes]) -> list[bytes]:
    return every[11::-1] + every[:11:-1]


def copies(cache: Path, pattern: str) -> list[Path]:
    return sorted((cache / "datasets").rglob(pattern))


@needs_http
def test_records_are_the_same_and_requested_once(site: Site, every: list[bytes]) -> None:
    dataset, local = open_dataset(site.address), open_dataset(site.folder / "s")
    assert (
        len(site.requests) == 6 and not site.shard_requests()
    )  # dataset.json, mean.npy, two indexes, two files of names
    assert (dataset.classes, dataset.decode_config, dataset.digest) == (
        local.classes,
        local.decode_config,
        local.digest,
    )
    assert (dataset.mean == local.mean).all() and dataset.splits["val"].names == local.splits[
        "val"
    ].names
    assert read(dataset) == backwards(every) == read(local)
    assert (dataset.splits["train"].pixels(5) == local.splits["train"].pixels(5)).all()
    assert len(set(site.shard_requests())) == len(site.shard_requests()) == 16
    assert read(dataset) == read(open_dataset(site.address + "/")) == backwards(every)
    assert (
        len(site.shard_requests()) == 16 and len(site.requests) == 6 + 16 + 1
    )  # the second time only dataset.json
    with pytest.raises(IndexError):
        dataset.splits["train"].record(12)


@needs_http
def test_raw_records_are_views_of_the_copy(site: Site, cache: Path) -> None:
    pixels = open_dataset(site.address).splits["train"].pixels(0)
    (copy,) = copies(cache, "train-000000.tar.part")
    before = int(pixels[0, 0, 0])
    damage(copy, copy.read_bytes().index(pixels.tobytes()))
    assert not pixels.flags.writeable and int(pixels[0, 0, 0]) == before ^ 1


@needs_http
def test_pickles_threads_and_processes_share_the_copies(site: Site, every: list[bytes]) -> None:
    dataset = open_dataset(site.address)
    for split in (
        pickle.loads(pickle.dumps(dataset)).splits["train"],
        pickle.loads(pickle.dumps(dataset.splits["train"])),
    ):
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(split.record, list(range(12)) * 5)) == every[:12] * 5
    shutil.rmtree(dataset.path)
    code = """if True:
        import hashlib, sys
        from alexnet.data.prepared import open_dataset
        split = open_dataset(sys.argv[1]).splits["train"]
        print(hashlib.sha256(b"".join(map(split.record, range(12)))).hexdigest())
    """
    command = [sys.executable, "-c", code, site.address]
    ranks = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = {rank.communicate(timeout=60)[0] for rank in ranks}
    assert outputs == {hashlib.sha256(b"".join(every[:12])).hexdigest() + "\n"}


@needs_http
def test_a_server_without_ranges_sends_every_shard_once(site: Site, every: list[bytes]) -> None:
    site.ranges = False
    assert read(open_dataset(site.address)) == backwards(every)
    assert sorted(path for path, _ in site.shard_requests()) == [
        f"/s/train-00000{n}.tar" for n in range(3)
    ] + ["/s/val-000000.tar"]


@needs_http
def test_answers_that_break_off_are_requested_again(site: Site, every: list[bytes]) -> None:
    site.fails = lambda number: number % 3 == 0
    assert read(open_dataset(site.address)) == backwards(every)
    assert len(site.requests) > 6 + 16


@needs_http
def test_retry_delays_grow_and_a_dead_server_is_a_one_line_error(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(remote, "RETRY_DELAYS", RETRY_DELAYS)
    monkeypatch.setattr(remote, "time", SimpleNamespace(sleep=slept.append))
    split = open_dataset(site.address).splits["train"]
    split.record(0)
    site.fails = lambda number: True
    slept.clear()
    for fail in (lambda: split.record(1), lambda: open_dataset(site.address)):
        with pytest.raises(AlexNetError, match=site.address) as caught:
            fail()
        assert "\n" not in str(caught.value) and "cannot be fetched" in str(caught.value)
    assert slept == 2 * [0.0, *RETRY_DELAYS] and sorted(set(RETRY_DELAYS)) == list(RETRY_DELAYS)
    assert split.record(0)  # what was copied needs no server


@needs_http
def test_a_missing_file_is_an_error_at_once(site: Site) -> None:
    with pytest.raises(
        AlexNetError, match=r"nowhere/dataset.json: cannot be fetched \(nothing is there\)"
    ):
        open_dataset(site.address + "/nowhere")
    assert len(site.requests) == 1
    (site.folder / "s" / "train-000001.tar").unlink()
    with pytest.raises(AlexNetError, match="train-000001.tar: cannot be fetched"):
        open_dataset(site.address).splits["train"].record(6)


@needs_http
def test_a_damaged_copy_is_fetched_again_and_a_damaged_original_is_an_error(
    site: Site, every: list[bytes], cache: Path
) -> None:
    row = open_dataset(site.address).splits["train"].index[6]
    assert read(open_dataset(site.address)) == backwards(every)
    (shard,), (index,) = copies(cache, "train-000001.tar.part"), copies(cache, "train.index.npy")
    for file, at in ((shard, int(row["offset"]) + 20), (index, 150)):
        damage(file, at)
    site.requests.clear()
    assert read(open_dataset(site.address)) == backwards(every)
    assert [path for path, _ in site.requests] == [
        "/s/dataset.json",
        "/s/train.index.npy",
        "/s/train-000001.tar",
    ]
    for file in (shard, site.folder / "s" / "train-000001.tar"):
        damage(file, int(row["offset"]) + 20)
    with pytest.raises(AlexNetError, match=f"{site.address}/train-000001.tar: record 6 is damaged"):
        open_dataset(site.address).splits["train"].record(6)


def damage(file: Path, at: int) -> None:
    """Flip a bit, in place."""
    with file.open("r+b") as opened:
        opened.seek(at)
        byte = opened.read(1)[0]
        opened.seek(at)
        opened.write(bytes([byte ^ 1]))


@needs_http
def test_a_changed_dataset_is_another_copy(site: Site, every: list[bytes], cache: Path) -> None:
    before = open_dataset(site.address)
    read(before)
    description = site.folder / "s" / "dataset.json"
    description.write_text(
        json.dumps(json.loads(description.read_text()) | {"warnings": ["another"]})
    )
    site.requests.clear()
    after = open_dataset(site.address)
    assert (
        after.warnings == ("another",)
        and after.path != before.path
        and after.path.name == before.path.name == "s"
    )
    assert read(after) == backwards(every) and len(site.shard_requests()) == 16
    assert len(copies(cache, "train-000000.tar.part")) == 2


@pytest.fixture
def address(every: list[bytes], tmp_path: Path) -> str:
    """Copy the dataset to fsspec's file system in memory, which needs no server."""
    import fsspec

    address = f"memory://{tmp_path.name}/s"
    for file in (tmp_path / "site" / "s").iterdir():
        fsspec.filesystem("memory").pipe_file(f"{address}/{file.name}", file.read_bytes())
    return address


@needs_fsspec
def test_other_protocols_are_read_by_fsspec(address: str, every: list[bytes]) -> None:
    assert read(open_dataset(address)) == backwards(every)
    with pytest.raises(AlexNetError, match="expected a dataset in a local directory"):
        verify(open_dataset(address))


@needs_fsspec
def test_the_copy_takes_no_more_disk_than_the_dataset(
    address: str, cache: Path, tmp_path: Path
) -> None:
    if sys.platform == "win32":
        pytest.skip("Windows does not tell how much of a sparse file is on the disk")
    split = open_dataset(address).splits["train"]
    (copy,) = copies(cache, "train-000000.tar.part")
    empty, original = copy.stat().st_blocks, (tmp_path / "site" / "s" / "train-000000.tar").stat()
    for i in range(5):
        split.record(i)
    assert empty == 0 and copy.stat().st_blocks <= original.st_blocks
    assert copy.stat().st_size == original.st_size + 5  # a byte for each of its records


@needs_fsspec
def test_a_record_counts_only_once_it_is_written(
    address: str, every: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[int, bytes]] = []
    write_at = remote._write_at
    split = open_dataset(address).splits["train"]
    shard = split.shards[1]
    assert isinstance(shard, CachedShard)

    def write_all_but_the_first_mark(file: Path, data: bytes, offset: int) -> None:
        written.append((offset, data))
        write_at(Path(os.devnull) if len(written) == 2 else file, data, offset)

    monkeypatch.setattr(
        remote, "_write_at", write_all_but_the_first_mark
    )  # as if killed in between
    assert split.record(7) == every[7]
    assert written == [(int(split.index[7]["offset"]), every[7]), (shard.size + 2, b"\1")]
    assert shard.mapped[shard.size :] == bytes(5)
    assert (
        split.record(7) == every[7]
        and len(written) == 4
        and shard.mapped[shard.size :] == b"\0\0\1\0\0"
    )


@needs_fsspec
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_an_error(address: str) -> None:
    shard = open_dataset(address).splits["train"].shards[0]
    assert isinstance(shard, CachedShard)
    with pytest.raises(AlexNetError, match="No space left"):
        replace(shard, file=Path("/dev/full")).read(0, 512, 1024)
    assert shard.mapped[shard.size :] == bytes(5)


@needs_fsspec
def test_a_hostile_description_writes_nowhere_else(
    address: str, tmp_path: Path, cache: Path
) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    value = json.loads(memory.cat_file(f"{address}/dataset.json"))
    for name in ("../../escaped", ".."):
        value["mean"]["name"] = name
        memory.pipe_file(f"{address}/dataset.json", json.dumps(value).encode())
        memory.pipe_file(f"memory://{tmp_path.name}/s/../../escaped", b"x")
        with pytest.raises(AlexNetError, match="plain file name"):
            open_dataset(address)
    assert not copies(cache, "escaped")


@needs_fsspec
def test_a_missing_library_and_an_unknown_protocol_are_errors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(AlexNetError, match="nosuch://s: cannot be read"):
        open_dataset("nosuch://s")
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(AlexNetError, match=r"pip install 'alexnet\[remote\]'"):
        open_dataset("http://127.0.0.1/s")


def test_a_folder_needs_no_fsspec(every: list[bytes], tmp_path: Path) -> None:
    code = """if True:
        import sys
        from alexnet.data.prepared import open_dataset
        open_dataset(sys.argv[1])
        sys.exit("fsspec" in sys.modules)
    """
    assert subprocess.run([sys.executable, "-c", code, tmp_path / "site" / "s"]).returncode == 0


def command(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False)


@needs_http
def test_a_run_equals_that_on_the_local_dataset_and_its_second_epoch_requests_nothing(
    dataset: PreparedDataset, tmp_path: Path
) -> None:
    shutil.copytree(dataset.path, tmp_path / "site" / "s")
    with serving(Site(tmp_path / "site")) as site:
        words = [
            "--epochs",
            2,
            "--batch-size",
            16,
            "--workers",
            1,
            *TINY,
        ]  # two might request the same where epochs meet
        for location, run in ((site.address, "remote"), (dataset.path, "local")):
            assert command("train", location, "--out", tmp_path / run, *words).exit_code == 0
        tensors = [
            read_model_file(tmp_path / run / "model.safetensors").model.state_dict()
            for run in ("remote", "local")
        ]
        assert all(bool((tensors[0][name] == tensors[1][name]).all()) for name in tensors[1])
        used = [split for name, split in dataset.splits.items() if name != "test"]
        assert len(site.shard_requests()) == len(set(site.shard_requests())) == sum(map(len, used))
        assert (
            json.loads((tmp_path / "remote" / "recipe.json").read_text())["dataset"] == site.address
        )
        assert str(resume_run(tmp_path / "remote", 1).dataset.location) == site.address
        assert resume_run(tmp_path / "local", 1, site.address).dataset.digest == dataset.digest
        model = tmp_path / "remote" / "model.safetensors"
        scores = [
            json.loads(command("evaluate", model, location, "--json").stdout)
            for location in (site.address, dataset.path)
        ]
        assert scores[0] == scores[1] and scores[0]["split"] == "test"
