"""The command weights, and names of weights wherever a command takes a MODEL."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from alexnet.__main__ import cli
from alexnet.core.errors import UsageError
from alexnet.models.model_file import read_model_file
from alexnet.models.pretrained import PRETRAINED
from tests.helpers.file_site import Site
from tests.helpers.public_weights import CLASSES, publish_weights


@pytest.fixture(autouse=True)
def cache(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Publish small weights; return the cache folder of this test."""
    publish_weights(site, monkeypatch)
    monkeypatch.setenv("ALEXNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache" / "weights"


def run(*words: str) -> Result:
    ended = CliRunner().invoke(cli, list(words))
    assert ended.exit_code == 0, f"{ended.output}{ended.exception}"
    return ended


def test_the_list_says_what_is_in_the_cache(site: Site, cache: Path) -> None:
    absent = json.loads(run("weights", "--json").stdout)
    assert [row["name"] for row in absent] == ["torchvision", "caffe", "caffenet"]
    assert {row["cache"] for row in absent} == {"absent"} and not site.requests
    cache.mkdir(parents=True)
    file = cache / PRETRAINED["caffenet"].file.name
    file.write_bytes(site.files[file.name])
    run("weights", "torchvision")
    rows = {row["name"]: row for row in json.loads(run("weights", "--json").stdout)}
    assert rows["caffenet"]["cache"] == "fetched" and rows["caffenet"]["path"] == str(file)
    assert rows["torchvision"]["cache"] == "ready"
    assert read_model_file(Path(rows["torchvision"]["path"])).provenance["weights"] == "torchvision"
    weights = PRETRAINED["caffe"]
    expected = {
        "name": "caffe",
        "recipe": "caffe",
        "megabytes": 244,
        "license": "unrestricted",
        "top1_error": 42.9,
        "top5_error": 19.8,
        "cache": "absent",
        "path": None,
        "file": "bvlc_alexnet.caffemodel",
        "hash": f"sha1 {weights.file.digest}",
        "source": weights.source,
    }
    assert rows["caffe"] == expected


def test_the_table_shows_name_license_errors_and_places(cache: Path) -> None:
    lines = run("weights").stdout.splitlines()
    (caffe,) = [line.split() for line in lines if line.startswith(" caffe ")]
    assert caffe == ["caffe", "caffe", "244", "42.90", "19.80", "unrestricted", "absent"]
    assert lines[-1].endswith(str(cache))


def test_fetching_tells_license_and_progress_and_prints_the_path(cache: Path) -> None:
    ended = run("weights", "caffe")
    (model,) = cache.glob("caffe-*.safetensors")
    assert ended.stdout.split() == [str(model)]
    assert "caffe: license unrestricted, https://github.com/BVLC/caffe" in ended.stderr
    size = f"{len((cache / 'bvlc_alexnet.caffemodel').read_bytes()):,}"
    assert f"fetching bvlc_alexnet.caffemodel: {size} of {size} bytes" in ended.stderr


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    ended = CliRunner().invoke(cli, ["weights", "cafenet"])
    assert isinstance(ended.exception, UsageError)
    assert "nearest: caffenet, caffe" in str(ended.exception)


def test_commands_take_a_name_for_a_model(images: Path, cache: Path, site: Site) -> None:
    image = str(next(images.rglob("*.png")))
    (prediction,) = json.loads(run("predict", "caffe", image, "--json").stdout)
    assert len(prediction["top"]) == 5
    assert {guess["class"] for guess in prediction["top"]} <= set(CLASSES)
    count = len(site.requests)
    run("features", "caffe", image, "--out", "features.npy")
    run("show", "filters", "caffe", "--out", "filters.png")
    assert len(site.requests) == count


def test_an_existing_path_wins(images: Path, tmp_path: Path, site: Site) -> None:
    run("weights", "caffe")
    (model,) = (tmp_path / "cache" / "weights").glob("caffe-*.safetensors")
    Path("torchvision").mkdir()
    (Path("torchvision") / "model.safetensors").write_bytes(model.read_bytes())
    site.requests.clear()
    run("predict", "torchvision", str(next(images.rglob("*.png"))))
    assert not site.requests


def test_without_a_network_the_command_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    weights = PRETRAINED["caffe"]
    file = replace(weights.file, urls=("http://127.0.0.1:1/x",))
    monkeypatch.setitem(PRETRAINED, "caffe", replace(weights, file=file))
    ended = CliRunner().invoke(cli, ["predict", "caffe", "cat.jpg"])
    assert f"put the file with sha1 {file.digest} at {cache / file.name}" in str(ended.exception)
