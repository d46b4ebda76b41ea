"""A dataset has the same bytes whether it is made at once, in parts, or after a kill."""

import errno
import io
import os
import random
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from alexnet.__main__ import cli
from alexnet.core.errors import AlexNetError, UsageError
from alexnet.data import build, dataset_writer
from alexnet.data.build import choose_encoding, prepare
from alexnet.data.build_plan import Part, PrepareSummary
from alexnet.data.images import DecodeConfig, decode_record, make_record
from alexnet.data.merge import merge
from alexnet.data.prepared import open_dataset, verify
from alexnet.data.readers import SplitFractions, open_source

Progress = Callable[[int, int], None]
DECODE_CONFIG = DecodeConfig(size=16, encoding="raw")
RUN = """
import sys, time
from alexnet.data import build
from alexnet.data.images import DecodeConfig
from alexnet.data.readers import SplitFractions
build.IMAGES_PER_SHARD = 8
build.IMAGES_PER_JOB = 3
print("ready", flush=True)
build.prepare(sys.argv[1], sys.argv[2], DecodeConfig(size=16, encoding="raw"),
              SplitFractions(0.25, 0.1), workers=2, progress=lambda done, total: time.sleep(0.004))
"""


def image(seed: int) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(file, "JPEG" if seed % 2 else "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 60 images of 3 classes, and an empty class."""
    root = tmp_path_factory.mktemp("images")
    for seed in range(60):
        (root / f"class{seed % 3}").mkdir(exist_ok=True)
        (root / f"class{seed % 3}" / f"{seed}.jpg").write_bytes(image(seed))
    (root / "empty").mkdir()
    return root


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "IMAGES_PER_SHARD", 8)
    monkeypatch.setattr(build, "IMAGES_PER_JOB", 3)


def ignore_progress(done: int, total: int) -> None:
    """Ignore the progress."""


def interrupt_at(at: int) -> Progress:
    """Return a progress function that interrupts the run at its call number `at`."""
    calls = iter(range(1, 1000))

    def interrupt(done: int, total: int) -> None:
        if next(calls) == at:
            raise KeyboardInterrupt

    return interrupt


def run(
    images: Path,
    path: Path,
    on_error: str = "skip",
    workers: int = 2,
    decode_config: DecodeConfig = DECODE_CONFIG,
    progress: Progress = ignore_progress,
    part: Part | None = None,
) -> PrepareSummary:
    with open_source(str(images)) as source:
        return prepare(
            source,
            path,
            decode_config,
            SplitFractions(0.25, 0.1),
            on_error=on_error,
            workers=workers,
            progress=progress,
            part=part,
        )


def make_three_parts(images: Path, folder: Path) -> list[Path]:
    """Make the three parts of a dataset; return them in another order."""
    paths = [folder / f"part{number}" for number in (2, 3, 1)]
    for path in paths:
        run(images, path, part=Part(int(path.name[-1]), 3))
    return paths


def read_files(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_a_prepared_dataset_holds_the_images(images: Path, tmp_path: Path) -> None:
    calls_made: list[tuple[int, int]] = []
    summary = run(images, tmp_path / "s", progress=lambda *counts: calls_made.append(counts))
    opened = open_dataset(tmp_path / "s")
    verify(opened)
    assert (
        summary.images
        == sum(summary.splits.values())
        == sum(map(len, opened.splits.values()))
        == 60
    )
    assert (summary.classes, summary.bad, summary.warnings) == (
        4,
        0,
        ("class empty has no images",),
    )
    assert calls_made[-1] == (60, 60) and calls_made == sorted(calls_made)
    assert not (tmp_path / "s.unfinished").exists()
    for split in opened.splits.values():
        for i, name in enumerate(split.names):
            data = (images / name).read_bytes()
            assert split.record(i) == make_record(data, DECODE_CONFIG)
            assert opened.classes[split.labels[i]] == name.split("/")[0]
    train = opened.splits["train"]
    assert np.allclose(
        opened.mean, np.mean([train.pixels(i) for i in range(len(train))], axis=0), atol=1e-4
    )
    assert list(train.names) != sorted(train.names)


@pytest.mark.parametrize(
    "decode_config", [DECODE_CONFIG, DecodeConfig(size=24), DecodeConfig(size=24, channels=1)]
)
def test_the_bytes_do_not_depend_on_workers_or_jobs(
    images: Path, tmp_path: Path, decode_config: DecodeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(images, tmp_path / "a", workers=1, decode_config=decode_config)
    monkeypatch.setattr(build, "IMAGES_PER_JOB", 5)
    run(images, tmp_path / "b", workers=5, decode_config=decode_config)
    assert read_files(tmp_path / "a") == read_files(tmp_path / "b")


def test_decoding_a_file_gives_the_records_pixels(images: Path, tmp_path: Path) -> None:
    decode_config = DecodeConfig(size=24)
    run(images, tmp_path / "s", decode_config=decode_config)
    train = open_dataset(tmp_path / "s").splits["train"]
    for i, name in enumerate(train.names):
        assert (
            decode_record(make_record((images / name).read_bytes(), decode_config))
            == train.pixels(i)
        ).all()


def test_a_run_interrupted_anywhere_resumes_and_gives_the_same_bytes(
    images: Path, tmp_path: Path
) -> None:
    run(images, tmp_path / "whole")
    for stop in range(1, 27, 3):
        path = tmp_path / f"stopped{stop}"
        try:
            run(images, path, progress=interrupt_at(stop))
        except KeyboardInterrupt:
            assert not path.exists()
            run(images, path)
        assert read_files(path) == read_files(tmp_path / "whole")


def test_finished_shards_are_not_made_again(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(
            dataset_writer, "write_description", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            run(images, tmp_path / "s")
    shard = next((tmp_path / "s.unfinished").glob("val-*.tar"))
    shard.write_bytes(shard.read_bytes()[:-1])
    written: list[str] = []
    write_shard = dataset_writer.write_shard

    def noting(file: Path, *rest: Any) -> Any:
        written.append(file.name)
        return write_shard(file, *rest)

    monkeypatch.setattr(dataset_writer, "write_shard", noting)
    run(images, tmp_path / "s")
    run(images, tmp_path / "whole")
    assert written[0] == shard.name + ".writing" and "train-000000.tar.writing" in written[1:]
    assert written.count("train-000000.tar.writing") == 1  # only of the second, whole run
    assert read_files(tmp_path / "s") == read_files(tmp_path / "whole")


def test_another_plan_starts_over(images: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done > 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(
            images,
            tmp_path / "s",
            decode_config=DecodeConfig(size=32, encoding="raw"),
            progress=stop,
        )
    run(images, tmp_path / "s")
    run(images, tmp_path / "whole")
    assert read_files(tmp_path / "s") == read_files(tmp_path / "whole")


def test_killed_processes_leave_no_partial_dataset(images: Path, tmp_path: Path) -> None:
    run(images, tmp_path / "whole")
    chance = random.Random(0)
    for trial in range(4):
        path = tmp_path / f"killed{trial}"
        with subprocess.Popen(
            [sys.executable, "-c", RUN, str(images), str(path)], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout
            process.stdout.readline()
            time.sleep(chance.uniform(0.01, 0.2))
            process.kill()
        if not path.exists():
            run(images, path)
        assert read_files(path) == read_files(tmp_path / "whole")


def test_bad_images_end_the_run_or_are_listed(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for number in range(30):
            data = b"no image" if number % 4 == 1 else image(number)
            member = tarfile.TarInfo(f"class{number % 3}/{number}.jpg")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    with pytest.raises(AlexNetError, match=r"bad images so far \(class.*not an image"):
        run(tmp_path / "a.tar", tmp_path / "s", on_error="fail")
    assert not (tmp_path / "s").exists()
    summary = run(tmp_path / "a.tar", tmp_path / "s", on_error="skip")
    opened = open_dataset(tmp_path / "s")
    assert summary.bad == len(opened.bad) == 8 and summary.images == 22
    assert {name.split("/")[1] for name, _ in opened.bad} == {f"{n}.jpg" for n in range(1, 30, 4)}
    run(tmp_path / "a.tar", tmp_path / "again", on_error="skip")
    assert read_files(tmp_path / "s") == read_files(tmp_path / "again")


def test_a_source_without_readable_images_is_an_error(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / "set" / label).mkdir(parents=True)
        (tmp_path / "set" / label / "1.jpg").write_bytes(b"no image")
    with pytest.raises(AlexNetError, match="no train image"):
        run(tmp_path / "set", tmp_path / "s")


def test_a_class_without_train_images_gives_a_warning(tmp_path: Path) -> None:
    for number, name in enumerate(("train/a", "train/b", "val/a", "test/c")):
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "1.png").write_bytes(image(2 * number))
    assert run(tmp_path / "set", tmp_path / "s").warnings == ("class c has no train images",)
    assert open_dataset(tmp_path / "s").classes == ("a", "b", "c")


def test_wrong_arguments_are_errors_before_any_work(images: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(AlexNetError, match="already exists"):
        run(images, tmp_path / "there")
    with pytest.raises(UsageError, match="on_error"):
        run(images, tmp_path / "s", on_error="ignore")
    with pytest.raises(UsageError, match="workers"):
        run(images, tmp_path / "s", workers=0)
    assert os.listdir(tmp_path) == ["there"]


def test_two_runs_do_not_make_the_same_dataset(images: Path, tmp_path: Path) -> None:
    def second(done: int, total: int) -> None:
        with pytest.raises(AlexNetError, match="another run"):
            run(images, tmp_path / "s")

    run(images, tmp_path / "s", progress=second)
    verify(open_dataset(tmp_path / "s"))


def test_a_full_disk_is_an_error_and_leaves_no_dataset(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync
    calls = iter(range(100))

    def full(handle: int) -> None:
        if next(calls) == 9:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(AlexNetError, match="s: cannot be written .No space left on device"):
            run(images, tmp_path / "s")
    assert not (tmp_path / "s").exists()
    run(images, tmp_path / "s")
    run(images, tmp_path / "whole")
    assert read_files(tmp_path / "s") == read_files(tmp_path / "whole")


def test_small_images_are_stored_raw() -> None:
    assert [choose_encoding(size) for size in (32, 64, 65, 256)] == ["raw", "raw", "jpeg", "jpeg"]


def test_merged_parts_are_the_dataset_and_stay_as_they_are(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete = run(images, tmp_path / "whole")
    parts = make_three_parts(images, tmp_path)
    before = [read_files(part) for part in parts]
    shards = [sum(name.endswith(".tar") for name in names) for names in before]
    assert (
        sum(shards) == len(list((tmp_path / "whole").glob("*.tar")))
        and max(shards) - min(shards) <= 1
    )
    calls_made: list[tuple[int, int]] = []
    merged = merge(parts, tmp_path / "linked", lambda *counts: calls_made.append(counts))
    assert calls_made == [(index + 1, sum(shards)) for index in range(sum(shards))]
    assert (merged.images, merged.splits, merged.warnings) == (
        60,
        complete.splits,
        complete.warnings,
    )
    monkeypatch.setattr(
        os,
        "link",
        lambda *_: (_ for _ in ()).throw(OSError(errno.EXDEV, "Invalid cross-device link")),
    )
    merge(parts[::-1], tmp_path / "copied", ignore_progress)
    assert (
        read_files(tmp_path / "linked")
        == read_files(tmp_path / "copied")
        == read_files(tmp_path / "whole")
    )
    assert [read_files(part) for part in parts] == before and not (
        tmp_path / "linked.unfinished"
    ).exists()


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_parts_and_merges_resume_where_they_were_interrupted(
    images: Path, tmp_path: Path, stop: int
) -> None:
    run(images, tmp_path / "whole")
    parts = make_three_parts(images, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(images, tmp_path / "again", part=Part(2, 3), progress=interrupt_at(stop))
    run(images, tmp_path / "again", part=Part(2, 3))
    assert read_files(tmp_path / "again") == read_files(tmp_path / "part2")
    with pytest.raises(KeyboardInterrupt):
        merge(parts, tmp_path / "merged", interrupt_at(stop))
    assert not (tmp_path / "merged").exists()
    merge(parts, tmp_path / "merged", ignore_progress)
    assert read_files(tmp_path / "merged") == read_files(tmp_path / "whole")


def test_a_merge_keeps_bad_images_and_warnings(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / "set" / f"{number % 4}").mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / f"{number % 4}" / f"{number}.jpg").write_bytes(
            b"?" if number % 4 == 3 else image(number)
        )
    run(tmp_path / "set", tmp_path / "whole")
    merged = merge(
        make_three_parts(tmp_path / "set", tmp_path), tmp_path / "merged", ignore_progress
    )
    assert merged.bad == 10 and merged.warnings == ("class 3 has no train images",)
    assert read_files(tmp_path / "merged") == read_files(tmp_path / "whole")


def test_parts_that_do_not_belong_together_are_errors(images: Path, tmp_path: Path) -> None:
    parts = make_three_parts(images, tmp_path)
    run(
        images,
        tmp_path / "small",
        decode_config=DecodeConfig(size=12, encoding="raw"),
        part=Part(1, 3),
    )
    shutil.copytree(images, tmp_path / "copied")
    run(tmp_path / "copied", tmp_path / "elsewhere", part=Part(1, 3))
    run(images, tmp_path / "half", part=Part(1, 2))
    run(images, tmp_path / "dataset")
    for arguments, message in [
        ([], "no parts to merge"),
        (parts[:2], "2 of 3 parts, missing 1/3"),
        ([*parts, parts[0]], "part2: is part 2/3, and so is .*part2"),
        ([*parts[:2], tmp_path / "small"], "small: differs from .*part2 in decode_config"),
        ([*parts[:2], tmp_path / "elsewhere"], "elsewhere: differs from .*part2 in source"),
        ([*parts[:2], tmp_path / "half"], "half: differs from .*part2 in number of parts"),
        ([*parts[:2], tmp_path / "dataset"], "plan.json cannot be read"),
        ([*parts[:2], tmp_path / "nowhere"], "nowhere: plan.json cannot be read .No such file"),
    ]:
        with pytest.raises(AlexNetError, match=message) as caught:
            merge(arguments, tmp_path / "merged", ignore_progress)
        assert "\n" not in str(caught.value)
    shard = next(parts[1].glob("train-*.tar"))
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(AlexNetError, match=f"{shard.name}: missing or damaged"):
        merge(parts, tmp_path / "merged", ignore_progress)
    assert not (tmp_path / "merged").exists()


def test_the_command_makes_parts_and_merges_them(images: Path, tmp_path: Path) -> None:
    def command(*words: object) -> Any:
        return CliRunner().invoke(cli, ["prepare", *map(str, words)])

    options = ["--size", 16, "--val-fraction", 0.25, "--test-fraction", 0.1]
    parts = [tmp_path / "part1", tmp_path / "part2"]
    run(images, tmp_path / "whole")
    for number, part in enumerate(parts, 1):
        result = command(images, part, *options, "--part", f"{number}/2")
        assert (
            f"images, part {number}/2" in result.output
            and "--merge PART... DATASET, of all 2 parts" in result.output
        )
    assert "60 images of 4 classes" in command("--merge", *parts, tmp_path / "merged").output
    assert read_files(tmp_path / "merged") == read_files(tmp_path / "whole")
    for words in (["--part", "3/2"], ["--part", "0/2"], ["--part", "half"]):
        assert isinstance(command(images, tmp_path / "s", *words).exception, UsageError)
    assert "--size" in str(command("--merge", *parts, tmp_path / "s", "--size", 16).exception)
    assert isinstance(command(images).exception, UsageError)


def test_prepare_opens_a_path_and_has_defaults(images: Path, tmp_path: Path) -> None:
    summary = prepare(images, tmp_path / "path", DECODE_CONFIG, SplitFractions(0.25, 0.1))
    run(images, tmp_path / "source")
    assert read_files(tmp_path / "path") == read_files(tmp_path / "source")
    assert (summary.images, summary.left_out, summary.bad) == (60, {}, 0)
    prepare(str(images), str(tmp_path / "defaults"))
    assert open_dataset(tmp_path / "defaults").decode_config == DecodeConfig()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["defaults", "path", "source"]
