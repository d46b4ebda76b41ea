"""The prepared dataset: what was written is read, also by any tar tool; all damage is noticed."""

import json
import pickle
import shutil
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alexnet.core.errors import AlexNetError
from alexnet.data import dataset_writer
from alexnet.data.dataset_format import file_hash, shard_file
from alexnet.data.dataset_writer import ShardInfo, ShardItem
from alexnet.data.images import DecodeConfig, decode_record, encode_record
from alexnet.data.prepared import PreparedDataset, open_dataset, verify
from alexnet.data.statistics import PixelSums, color_basis


def random_records(count: int, decode_config: DecodeConfig) -> list[bytes]:
    shape = (count, decode_config.size, decode_config.size, decode_config.channels)
    levels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    divisors = np.array([1, 2, 3][: decode_config.channels])  # channels of different variance
    return [encode_record(image.astype(np.uint8), decode_config) for image in levels // divisors]


def write(path: Path, decode_config: DecodeConfig, per_shard: int = 5) -> list[bytes]:
    """Write a dataset of 12 train and 4 val records and return them."""
    path.mkdir()
    records = random_records(16, decode_config)
    train = _write_shards(path, "train", records[:12], decode_config, per_shard)
    val = _write_shards(path, "val", records[12:], decode_config, per_shard)
    sums = PixelSums.zeros(decode_config)
    for shard in train:
        sums += shard.sums
    description = {
        "classes": ["cat", "dog"],
        "decode_config": decode_config.to_json(),
        "source": {},
        "splits": {
            "train": dataset_writer.write_split(path, "train", train),
            "val": dataset_writer.write_split(path, "val", val),
        },
        "bad": [["x.jpg", "empty"]],
        "warnings": ["w"],
        "ignored": {},
    }
    description |= dataset_writer.write_statistics(path, sums)
    dataset_writer.write_description(path, description)
    return records


def _write_shards(
    path: Path, split: str, records: list[bytes], decode_config: DecodeConfig, per_shard: int
) -> list[ShardInfo]:
    shards = []
    for number, first in enumerate(range(0, len(records), per_shard)):
        part = records[first : first + per_shard]
        items = [
            ShardItem(first + i, f"é/{first + i}.jpg", i % 2, data) for i, data in enumerate(part)
        ]
        file = path / shard_file(split, number)
        rows, names = dataset_writer.write_shard(file, number, items, decode_config)
        sums = PixelSums.from_records(part, decode_config)
        size = file.stat().st_size
        shards.append(ShardInfo(file.name, size, file_hash(file), rows, names, (), sums))
    return shards


@pytest.fixture(params=["jpeg", "raw"])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[PreparedDataset, list[bytes]]:
    """A small dataset, opened, and the records that were written."""
    records = write(tmp_path / "s", DecodeConfig(size=16, encoding=request.param))
    return open_dataset(tmp_path / "s"), records


def test_records_are_read_as_they_were_written(
    written: tuple[PreparedDataset, list[bytes]],
) -> None:
    dataset, records = written
    train = dataset.splits["train"]
    val = dataset.splits["val"]
    assert [train.record(i) for i in range(len(train))] == records[:12]
    assert [val.record(i) for i in range(len(val))] == records[12:]
    assert all((train.pixels(i) == decode_record(records[i])).all() for i in range(12))
    assert train.labels.tolist() == [0, 1, 0, 1, 0, 0, 1, 0, 1, 0, 0, 1]
    assert train.labels.dtype == np.int64
    assert train.names[7] == "é/7.jpg"
    assert len(train.names) == 12
    assert dataset.classes == ("cat", "dog")
    assert dataset.bad == (("x.jpg", "empty"),)
    assert dataset.warnings == ("w",)
    with pytest.raises(IndexError):
        train.record(12)
    verify(dataset)


def test_any_tar_tool_reads_the_shards(written: tuple[PreparedDataset, list[bytes]]) -> None:
    dataset, records = written
    suffix = "jpg" if dataset.decode_config.encoding == "jpeg" else "ppm"
    file = dataset.path / "train-000001.tar"
    data = file.read_bytes()
    with tarfile.open(file) as archive:
        members = archive.getmembers()
    assert [member.name for member in members[:4]] == [
        f"000000005.{suffix}",
        "000000005.cls",
        f"000000006.{suffix}",
        "000000006.cls",
    ]
    owners = {(m.mtime, m.uid, m.gid, m.mode, m.uname) for m in members}
    assert owners == {(0, 0, 0, 0o644, "")}
    assert data[members[0].offset_data :].startswith(records[5])
    assert data[members[1].offset_data :][:2] == b"0\0"


def test_statistics_are_those_of_the_decoded_pixels(
    written: tuple[PreparedDataset, list[bytes]],
) -> None:
    dataset, records = written
    pixels = np.stack([decode_record(record) for record in records[:12]]).astype(float)
    assert dataset.mean.dtype == np.float32
    assert np.allclose(dataset.mean, pixels.mean(0), atol=1e-5)
    colors = pixels.reshape(-1, 3)
    basis = dataset.color
    covariance = basis.eigenvectors * basis.eigenvalues @ basis.eigenvectors.T
    assert np.allclose(basis.mean, colors.mean(0))
    assert np.allclose(covariance, np.cov(colors.T, bias=True))
    assert (np.diff(basis.eigenvalues) <= 0).all()
    largest = basis.eigenvectors[np.abs(basis.eigenvectors).argmax(0), range(3)]
    assert (largest > 0).all()


def test_sums_are_exact_in_any_grouping() -> None:
    decode_config = DecodeConfig(size=8, encoding="raw")
    records = random_records(30, decode_config)
    pixels = np.stack([decode_record(record) for record in records]).astype(np.int64)
    for middle in (0, 1, 17, 30):
        first = PixelSums.from_records(records[:middle], decode_config)
        sums = first + PixelSums.from_records(records[middle:], decode_config)
        assert sums.images == 30
        assert (sums.pixels == pixels.sum(0)).all()
        assert (sums.products == np.einsum("nhwi,nhwj->ij", pixels, pixels)).all()


def test_grayscale_datasets_have_a_basis_of_one_color(tmp_path: Path) -> None:
    records = write(tmp_path / "s", DecodeConfig(size=16, channels=1, encoding="raw"))
    dataset = open_dataset(tmp_path / "s")
    pixels = np.stack([decode_record(record) for record in records[:12]]).astype(float)
    assert dataset.mean.shape == (16, 16, 1)
    assert dataset.color.eigenvectors.tolist() == [[1.0]]
    assert np.allclose(dataset.color.eigenvalues, pixels.var())
    assert (tmp_path / "s" / "train-000000.tar").read_bytes()[:13] == b"000000000.pgm"


def test_pixels_without_variance_have_a_basis_too() -> None:
    decode_config = DecodeConfig(size=8, encoding="raw")
    record = encode_record(np.full((8, 8, 3), 9, np.uint8), decode_config)
    basis = color_basis(PixelSums.from_records([record], decode_config))
    assert (basis.eigenvalues == 0).all()
    assert np.allclose(basis.eigenvectors @ basis.eigenvectors.T, np.eye(3))


def test_threads_and_pickles_read_the_same(written: tuple[PreparedDataset, list[bytes]]) -> None:
    dataset, records = written
    train = dataset.splits["train"]
    for split in (train, pickle.loads(pickle.dumps(train))):
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(split.record, list(range(12)) * 20)) == records[:12] * 20
    assert pickle.loads(pickle.dumps(dataset)).digest == dataset.digest


def test_a_path_that_is_no_dataset_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_bytes(b"")
    for name, actual in (
        ("nowhere", "found nothing"),
        ("file", "found a file"),
        ("empty", "no dataset.json"),
    ):
        with pytest.raises(AlexNetError, match=actual):
            open_dataset(tmp_path / name)


def edit_description(path: Path, **changes: object) -> None:
    value = json.loads((path / "dataset.json").read_text())
    (path / "dataset.json").write_text(json.dumps(value | changes))


def test_another_format_or_a_damaged_description_is_refused(
    written: tuple[PreparedDataset, list[bytes]], tmp_path: Path
) -> None:
    dataset, _ = written
    cases: list[tuple[dict[str, Any], str]] = [
        ({"format": "alexnet-dataset/2"}, "'alexnet-dataset/2', expected 'alexnet-dataset/1'"),
        ({"decode_config": {}}, "filter"),
        ({"splits": {"train": {}}}, "dataset.json: malformed .no entry 'shards'"),
        ({"mean": None}, "dataset.json: malformed .an entry of the wrong type"),
        ({"classes": ["cat"]}, "outside"),
    ]
    for changes, actual in cases:
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        edit_description(shutil.copytree(dataset.path, tmp_path / "copy"), **changes)
        with pytest.raises(AlexNetError, match=actual) as error:
            open_dataset(tmp_path / "copy")
        assert "\n" not in str(error.value)
    (tmp_path / "copy" / "dataset.json").write_text("{")
    with pytest.raises(AlexNetError, match="damaged"):
        open_dataset(tmp_path / "copy")


@pytest.mark.parametrize(
    "name", ["train-000001.tar", "val-000000.tar", "train.index.npy", "val.names", "mean.npy"]
)
def test_missing_short_and_altered_files_are_named(
    written: tuple[PreparedDataset, list[bytes]], name: str
) -> None:
    path = written[0].path
    file = path / name
    data = file.read_bytes()
    altered = bytearray(data)
    altered[600 % len(data)] ^= 4
    file.write_bytes(altered)
    with pytest.raises(AlexNetError, match=name):
        verify(open_dataset(path))
    file.write_bytes(data[:-1])
    with pytest.raises(AlexNetError, match=name):
        open_dataset(path)
    file.unlink()
    with pytest.raises(AlexNetError, match=f"{name}: missing"):
        open_dataset(path)


def test_a_damaged_record_is_named_and_the_others_are_read(
    written: tuple[PreparedDataset, list[bytes]],
) -> None:
    dataset, records = written
    file = dataset.path / "train-000001.tar"
    data = bytearray(file.read_bytes())
    data[int(dataset.splits["train"].index[6]["offset"]) + 20] ^= 1
    file.write_bytes(data)
    train = open_dataset(dataset.path).splits["train"]
    for read in (train.record, train.pixels, train.pixels):
        with pytest.raises(AlexNetError, match="train-000001.tar: record 6 is damaged"):
            read(6)
    assert train.record(5) == records[5]
    assert train.record(7) == records[7]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_many_shards_open_under_a_low_limit_of_open_files(tmp_path: Path) -> None:
    write(tmp_path / "s", DecodeConfig(size=16, encoding="raw"), per_shard=1)
    code = (
        "import resource, sys; from alexnet.data.prepared import open_dataset;"
        "limits = (12, resource.getrlimit(resource.RLIMIT_NOFILE)[1]);"
        "resource.setrlimit(resource.RLIMIT_NOFILE, limits);"
        "assert len(open_dataset(sys.argv[1]).splits['train'].shards) == 12"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "s")]).returncode == 0
