"""A store is the same bytes however it came about: in one go, in parts, with any number of threads, after any kill."""

import errno
import io
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from alexnet.data import prepare as room
from alexnet.data import store
from alexnet.data.images import Policy, decode, record
from alexnet.data.prepare import Summary, choose_encoding, prepare
from alexnet.data.sources import Fractions, open_source
from alexnet.data.store import open_store, verify
from alexnet.errors import AlexNetError, UsageError

Progress = Callable[[int, int], None]
POLICY = Policy(size=16, encoding="raw")
RUN = """
import sys, time
from alexnet.data import prepare as room
from alexnet.data.images import Policy
from alexnet.data.sources import Fractions, open_source
room.PER_SHARD, room.PER_JOB = 8, 3
print("ready", flush=True)
with open_source(sys.argv[1]) as source:
    room.prepare(source, sys.argv[2], Policy(size=16, encoding="raw"), Fractions(0.25, 0.1),
                 on_bad="skip", workers=2, progress=lambda done, total: time.sleep(0.004))
"""


def picture(seed: int) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(file, "JPEG" if seed % 2 else "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 pictures of 3 classes, and an empty class."""
    root = tmp_path_factory.mktemp("pictures")
    for seed in range(60):
        (root / f"class{seed % 3}").mkdir(exist_ok=True)
        (root / f"class{seed % 3}" / f"{seed}.jpg").write_bytes(picture(seed))
    (root / "empty").mkdir()
    return root


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "PER_SHARD", 8)
    monkeypatch.setattr(room, "PER_JOB", 3)


def run(
    pictures: Path, path: Path, on_bad: str = "skip", workers: int = 2, policy: Policy = POLICY, progress: Progress | None = None
) -> Summary:
    with open_source(str(pictures)) as source:
        tell = progress or (lambda done, total: None)
        return prepare(source, path, policy, Fractions(0.25, 0.1), on_bad=on_bad, workers=workers, progress=tell)


def files(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_a_prepared_store_holds_the_pictures(pictures: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    summary = run(pictures, tmp_path / "s", progress=lambda *counts: told.append(counts))
    opened = open_store(tmp_path / "s")
    verify(opened)
    assert summary.pictures == sum(summary.splits.values()) == sum(map(len, opened.splits.values())) == 60
    assert (summary.classes, summary.bad, summary.warnings) == (4, 0, ("class empty has no pictures",))
    assert told[-1] == (60, 60) and told == sorted(told)
    assert not (tmp_path / "s.unfinished").exists()
    for split in opened.splits.values():
        for i, name in enumerate(split.names):
            data = (pictures / name).read_bytes()
            assert split.record(i) == record(data, POLICY)
            assert opened.classes[split.labels[i]] == name.split("/")[0]
    train = opened.splits["train"]
    assert np.allclose(opened.mean, np.mean([train.pixels(i) for i in range(len(train))], axis=0), atol=1e-4)
    assert list(train.names) != sorted(train.names)


@pytest.mark.parametrize("policy", [POLICY, Policy(size=24), Policy(size=24, channels=1)])
def test_the_bytes_do_not_depend_on_workers_or_jobs(
    pictures: Path, tmp_path: Path, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(pictures, tmp_path / "a", workers=1, policy=policy)
    monkeypatch.setattr(room, "PER_JOB", 5)
    run(pictures, tmp_path / "b", workers=5, policy=policy)
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_predicting_from_a_file_sees_the_records_pixels(pictures: Path, tmp_path: Path) -> None:
    policy = Policy(size=24)
    run(pictures, tmp_path / "s", policy=policy)
    train = open_store(tmp_path / "s").splits["train"]
    for i, name in enumerate(train.names):
        assert (decode(record((pictures / name).read_bytes(), policy)) == train.pixels(i)).all()


def test_stopped_anywhere_it_goes_on_and_gives_the_same_bytes(pictures: Path, tmp_path: Path) -> None:
    run(pictures, tmp_path / "whole")
    for stop in range(1, 27, 3):
        calls = iter(range(1, 1000))

        def interrupt(done: int, total: int, calls: Iterator[int] = calls, stop: int = stop) -> None:
            if next(calls) == stop:
                raise KeyboardInterrupt

        path = tmp_path / f"stopped{stop}"
        try:
            run(pictures, path, progress=interrupt)
        except KeyboardInterrupt:
            assert not path.exists()
            run(pictures, path)
        assert files(path) == files(tmp_path / "whole")


def test_finished_shards_are_not_made_again(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(store, "write_description", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(pictures, tmp_path / "s")
    shard = next((tmp_path / "s.unfinished").glob("val-*.tar"))
    shard.write_bytes(shard.read_bytes()[:-1])
    written: list[str] = []
    plain = store.write_shard

    def noting(file: Path, *rest: Any) -> Any:
        written.append(file.name)
        return plain(file, *rest)

    monkeypatch.setattr(store, "write_shard", noting)
    run(pictures, tmp_path / "s")
    run(pictures, tmp_path / "whole")
    assert written[0] == shard.name + ".writing" and "train-000000.tar.writing" in written[1:]
    assert written.count("train-000000.tar.writing") == 1  # only of the second, whole run
    assert files(tmp_path / "s") == files(tmp_path / "whole")


def test_another_plan_starts_over(pictures: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done > 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(pictures, tmp_path / "s", policy=Policy(size=32, encoding="raw"), progress=stop)
    run(pictures, tmp_path / "s")
    run(pictures, tmp_path / "whole")
    assert files(tmp_path / "s") == files(tmp_path / "whole")


def test_killed_processes_leave_nothing_half_done(pictures: Path, tmp_path: Path) -> None:
    run(pictures, tmp_path / "whole")
    chance = random.Random(0)
    for trial in range(4):
        path = tmp_path / f"killed{trial}"
        with subprocess.Popen([sys.executable, "-c", RUN, str(pictures), str(path)], stdout=subprocess.PIPE) as process:
            assert process.stdout
            process.stdout.readline()
            time.sleep(chance.uniform(0.01, 0.2))
            process.send_signal(signal.SIGKILL)
        if not path.exists():
            run(pictures, path)
        assert files(path) == files(tmp_path / "whole")


def test_bad_pictures_end_the_run_or_are_listed(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for number in range(30):
            data = b"no picture" if number % 4 == 1 else picture(number)
            member = tarfile.TarInfo(f"class{number % 3}/{number}.jpg")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    with pytest.raises(AlexNetError, match=r"bad pictures so far \(class.*not a picture"):
        run(tmp_path / "a.tar", tmp_path / "s", on_bad="fail")
    assert not (tmp_path / "s").exists()
    summary = run(tmp_path / "a.tar", tmp_path / "s", on_bad="skip")
    opened = open_store(tmp_path / "s")
    assert summary.bad == len(opened.bad) == 8 and summary.pictures == 22
    assert {name.split("/")[1] for name, _ in opened.bad} == {f"{n}.jpg" for n in range(1, 30, 4)}
    run(tmp_path / "a.tar", tmp_path / "again", on_bad="skip")
    assert files(tmp_path / "s") == files(tmp_path / "again")


def test_no_picture_that_can_be_read_is_an_error(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / "set" / label).mkdir(parents=True)
        (tmp_path / "set" / label / "1.jpg").write_bytes(b"no picture")
    with pytest.raises(AlexNetError, match="no train picture"):
        run(tmp_path / "set", tmp_path / "s")


def test_a_class_without_train_pictures_is_warned_of(tmp_path: Path) -> None:
    for number, name in enumerate(("train/a", "train/b", "val/a", "test/c")):
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "1.png").write_bytes(picture(2 * number))
    assert run(tmp_path / "set", tmp_path / "s").warnings == ("class c has no train pictures",)
    assert open_store(tmp_path / "s").classes == ("a", "b", "c")


def test_wrong_arguments_are_told_before_any_work(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(AlexNetError, match="already exists"):
        run(pictures, tmp_path / "there")
    with pytest.raises(UsageError, match="on_bad"):
        run(pictures, tmp_path / "s", on_bad="ignore")
    with pytest.raises(UsageError, match="workers"):
        run(pictures, tmp_path / "s", workers=0)
    assert os.listdir(tmp_path) == ["there"]


def test_two_runs_do_not_share_a_place(pictures: Path, tmp_path: Path) -> None:
    def second(done: int, total: int) -> None:
        with pytest.raises(AlexNetError, match="another run"):
            run(pictures, tmp_path / "s")

    run(pictures, tmp_path / "s", progress=second)
    verify(open_store(tmp_path / "s"))


def test_a_full_disc_is_told_and_leaves_no_store(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, calls = os.fsync, iter(range(100))

    def full(handle: int) -> None:
        if next(calls) == 9:
            raise OSError(errno.ENOSPC, "No space left on device")
        plain(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(AlexNetError, match="s: cannot be written .No space left on device"):
            run(pictures, tmp_path / "s")
    assert not (tmp_path / "s").exists()
    run(pictures, tmp_path / "s")
    run(pictures, tmp_path / "whole")
    assert files(tmp_path / "s") == files(tmp_path / "whole")


def test_small_pictures_are_kept_raw() -> None:
    assert [choose_encoding(size) for size in (32, 64, 65, 256)] == ["raw", "raw", "jpeg", "jpeg"]
