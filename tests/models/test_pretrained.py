"""Public weights by name: fetched once, checked before they are read, and then like any model."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import alexnet
from alexnet.core.console import ignore_progress, same_for_every_stage
from alexnet.core.download import HASH_NAMES, DownloadError
from alexnet.core.errors import AlexNetError, UsageError
from alexnet.data.prepared import PreparedDataset
from alexnet.models import pretrained
from alexnet.models.convert.torchvision import import_torchvision
from alexnet.models.model_file import find_model_file, read_model_file
from alexnet.models.pretrained import PRETRAINED, fetch, provide_model
from alexnet.recipes.presets import RECIPES
from tests.helpers import public_weights
from tests.helpers.caffe_files import random_weights
from tests.helpers.file_site import Site
from tests.helpers.public_weights import CLASSES, publish_weights, tiny_recipe, torchvision_file

NOWHERE = "http://127.0.0.1:1/"
SILENT = same_for_every_stage(ignore_progress)


@pytest.fixture(autouse=True)
def cache(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Publish small weights; return the cache folder of this test."""
    publish_weights(site, monkeypatch)
    monkeypatch.setenv("ALEXNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache" / "weights"


def requested(site: Site) -> list[str]:
    return [path[1:] for path, _ in site.requests]


def without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every address refuse the connection."""
    for name, weights in PRETRAINED.items():
        file = replace(weights.file, urls=(NOWHERE + weights.file.name,))
        archive = replace(weights.archive, urls=(NOWHERE + weights.archive.name,))
        monkeypatch.setitem(PRETRAINED, name, replace(weights, file=file, archive=archive))


def test_the_table_can_be_checked_and_names_its_sources() -> None:
    for weights in (pretrained.TORCHVISION, pretrained.CAFFE, pretrained.CAFFENET):
        assert weights.recipe in RECIPES
        for file in (weights.file, weights.archive):
            assert len(file.digest) in HASH_NAMES and int(file.digest, 16)
            assert file.urls and all(url.startswith("http") for url in file.urls)
        assert weights.source.startswith("https://") and weights.license
        assert 15 < weights.top5_error < 21 < 40 < weights.top1_error < 45
    # torch.hub's files carry the beginning of their hash in their name
    digest = pretrained.TORCHVISION.file.digest
    assert pretrained.TORCHVISION.file.name == f"alexnet-owt-{digest[:8]}.pth"


@pytest.mark.parametrize("name", ["torchvision", "caffe", "caffenet"])
def test_a_name_is_fetched_once_and_is_then_a_model_like_any(name: str, site: Site) -> None:
    messages: list[str] = []
    path = provide_model(name, SILENT, messages.append)
    weights = PRETRAINED[name]
    assert requested(site) == [weights.file.name, weights.archive.name]
    assert messages == [f"{name}: license {weights.license}, {weights.source}"]
    model, preprocess = alexnet.load_model(name)
    assert provide_model(name, SILENT, messages.append) == path
    assert len(site.requests) == 2 and len(messages) == 1
    assert preprocess.classes == CLASSES
    assert model(preprocess([np.zeros((300, 200, 3), np.uint8)])).shape == (1, len(CLASSES))
    provenance = read_model_file(path).provenance
    assert provenance["weights"] == name and provenance["license"] == weights.license


def test_weights_mean_and_words_are_those_of_the_files() -> None:
    model, preprocess = alexnet.load_model("caffe")
    expected = random_weights(tiny_recipe("caffe"), len(CLASSES))
    for name, tensor in model.state_dict().items():
        values = torch.from_numpy(expected[name])
        assert torch.equal(tensor, values.flip(1) if name == "conv1.weight" else values)
    blue, green, red = public_weights.MEAN_BGR
    assert preprocess.mean.shape == (256, 256, 3)
    assert preprocess.mean[100, 3].tolist() == [red, green, blue]


def test_progress_is_reported_in_bytes() -> None:
    counts: list[tuple[int, int]] = []
    alexnet.load_model("torchvision", progress=lambda *pair: counts.append(pair))
    size = PRETRAINED["torchvision"].file.size
    assert (size, size) in counts


def test_an_existing_file_or_directory_hides_the_name(site: Site, tmp_path: Path) -> None:
    alexnet.load_model("torchvision")
    count = len(site.requests)
    model = provide_model("torchvision")
    (tmp_path / "caffe").write_bytes(model.read_bytes())
    assert find_model_file(Path("caffe")) == Path("caffe")
    (tmp_path / "caffenet").mkdir()
    with pytest.raises(AlexNetError, match="caffenet: a directory without model.safetensors"):
        find_model_file(Path("caffenet"))
    assert len(site.requests) == count


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="unknown weights 'torchvison'; nearest: torchvision"):
        provide_model("torchvison")
    with pytest.raises(AlexNetError, match="no such file .* by name: torchvision, caffe, caffenet"):
        alexnet.load_model("cafe")


def test_a_cut_download_is_resumed(site: Site, cache: Path) -> None:
    site.max_bytes = 3000
    site.ranges = False
    with pytest.raises(DownloadError, match="ended early"):
        provide_model("torchvision")
    site.max_bytes = 0
    site.ranges = True
    provide_model("torchvision")
    file = PRETRAINED["torchvision"].file
    assert (f"/{file.name}", "bytes=3000-") in site.requests
    assert (cache / file.name).read_bytes() == torchvision_file()


def refuse_to_read(*arguments: object) -> None:
    pytest.fail("a file without the published hash was read")


def test_a_wrong_hash_is_refused_unread_and_removed(
    site: Site, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = replace(PRETRAINED["torchvision"], convert=refuse_to_read)  # type: ignore[arg-type]
    monkeypatch.setitem(PRETRAINED, "torchvision", weights)
    site.files[weights.file.name] = torchvision_file()[:-1] + b"x"
    with pytest.raises(DownloadError, match=f"removed.*put the file with sha256 .* at {cache}"):
        provide_model("torchvision")
    assert not list(cache.glob("*.pth*")) and not list(cache.glob("*.safetensors"))


def test_a_file_put_there_by_hand_is_taken_by_its_hash(site: Site, cache: Path) -> None:
    cache.mkdir(parents=True)
    file = cache / PRETRAINED["caffe"].file.name
    file.write_bytes(b"something else")
    with pytest.raises(AlexNetError, match="its hash is .* remove it, or put the published file"):
        provide_model("caffe")
    file.write_bytes(public_weights.caffe_file("caffe"))
    provide_model("caffe")
    assert requested(site) == [PRETRAINED["caffe"].archive.name]


def test_torchs_own_cache_is_looked_into_first(site: Site, cache: Path, tmp_path: Path) -> None:
    weights = PRETRAINED["torchvision"]
    theirs = tmp_path / "torch" / "hub" / "checkpoints" / weights.file.name
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(torchvision_file())
    assert pretrained.find_downloaded(weights) == theirs
    provide_model("torchvision")
    assert requested(site) == [weights.archive.name] and not (cache / weights.file.name).exists()
    theirs.write_bytes(b"damaged")
    next(cache.glob("torchvision-*")).unlink()
    provide_model("torchvision")
    assert requested(site)[1:] == [weights.file.name] and theirs.read_bytes() == b"damaged"


def test_a_mirror_is_tried_first_and_the_published_addresses_after_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(pretrained.MIRROR, f"{site.address}intranet")
    weights = PRETRAINED["torchvision"]
    site.files[f"intranet/{weights.file.name}"] = torchvision_file()
    provide_model("torchvision")
    archive = weights.archive.name
    assert requested(site) == [f"intranet/{weights.file.name}", f"intranet/{archive}", archive]


def test_a_mirror_must_be_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(pretrained.MIRROR, "intranet/weights")
    with pytest.raises(UsageError, match="ALEXNET_WEIGHTS_MIRROR=intranet/weights: expected"):
        provide_model("caffe")


def test_without_a_network_one_line_says_which_file_to_put_where(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_network(monkeypatch)
    with pytest.raises(AlexNetError) as caught:
        alexnet.load_model("caffe")
    file = PRETRAINED["caffe"].file
    assert "\n" not in str(caught.value)
    assert f"put the file with sha1 {file.digest} at {cache / file.name}" in str(caught.value)


def test_without_the_archive_classes_are_numbered_until_it_is_there(
    site: Site, cache: Path
) -> None:
    archive = PRETRAINED["caffe"].archive.name
    del site.files[archive]
    messages: list[str] = []
    numbered = provide_model("caffe", SILENT, messages.append)
    assert "numbered" in messages[1] and f"at {cache / archive}" in messages[1]
    classifier = read_model_file(numbered)
    assert classifier.preprocessor.classes[11] == "class 0011"
    count = len(site.requests)
    assert provide_model("caffe", SILENT, messages.append) == numbered
    assert len(site.requests) == count and len(messages) == 2
    (cache / archive).write_bytes(public_weights.archive_file())
    named = provide_model("caffe", SILENT, messages.append)
    assert read_model_file(named).preprocessor.classes == CLASSES
    assert not numbered.exists() and len(site.requests) == count


def test_asking_for_the_names_again_fetches_only_the_archive(site: Site) -> None:
    weights = PRETRAINED["torchvision"]
    content = site.files.pop(weights.archive.name)
    provide_model("torchvision")
    site.files[weights.archive.name] = content
    site.requests.clear()
    path = fetch(weights, SILENT, lambda text: None)
    assert requested(site) == [weights.archive.name]
    assert read_model_file(path).preprocessor.classes == CLASSES


def test_a_model_file_is_made_again_when_the_table_or_the_format_changes(
    site: Site, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = provide_model("caffe")
    monkeypatch.setattr(pretrained, "FORMAT", "alexnet-model/99")
    second = provide_model("caffe")
    assert second != first and not first.exists()
    other = site.publish(PRETRAINED["caffe"].file.name, public_weights.caffe_file("caffenet"))
    monkeypatch.setitem(PRETRAINED, "caffe", replace(PRETRAINED["caffe"], file=other))
    with pytest.raises(AlexNetError, match="its hash is .* expected .*: remove it"):
        provide_model("caffe")
    (cache / other.name).unlink()
    assert provide_model("caffe") != second and not second.exists()


def in_threads(count: int, work: Callable[[], None]) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_several_at_once_fetch_once(site: Site) -> None:
    paths: list[Path] = []
    messages: list[str] = []
    in_threads(4, lambda: paths.append(provide_model("torchvision", SILENT, messages.append)))
    assert len(paths) == 4 and len(set(paths)) == 1
    weights = PRETRAINED["torchvision"]
    assert sorted(requested(site)) == sorted([weights.file.name, weights.archive.name])
    assert sum("license" in line for line in messages) == 1


def test_a_failed_conversion_leaves_no_model_file(
    cache: Path, monkeypatch: pytest.MonkeyPatch, site: Site
) -> None:
    file = site.publish(PRETRAINED["torchvision"].file.name, b"no weights")
    monkeypatch.setitem(PRETRAINED, "torchvision", replace(PRETRAINED["torchvision"], file=file))
    with pytest.raises(AlexNetError, match="tensors alone"):
        provide_model("torchvision")
    assert not list(cache.glob("*.safetensors*"))


def test_the_model_is_the_importers(tmp_path: Path) -> None:
    file = tmp_path / "net.pth"
    file.write_bytes(torchvision_file())
    import_torchvision(file, tmp_path / "imported", CLASSES)
    imported = read_model_file(tmp_path / "imported").model.state_dict()
    model, _ = alexnet.load_model("torchvision")
    assert all(torch.equal(tensor, imported[name]) for name, tensor in model.state_dict().items())


def test_a_run_starts_from_weights_by_name(dataset: PreparedDataset, tmp_path: Path) -> None:
    summary = alexnet.train(
        dataset.path,
        recipe=tiny_recipe("caffe"),
        out=tmp_path / "run",
        epochs=1,
        batch_size=16,
        init_from="caffe",
        freeze_until="conv5",
        device="cpu",
        workers=1,
    )
    published, _ = alexnet.load_model("caffe")
    trained, preprocess = alexnet.load_model(summary["model"])
    assert torch.equal(trained.conv1.weight, published.conv1.weight)
    assert preprocess.classes == dataset.classes and trained.fc8.out_features == len(
        dataset.classes
    )


def test_predict_and_evaluate_take_a_name(dataset: PreparedDataset, images: Path) -> None:
    (prediction,) = alexnet.predict("caffe", next(images.rglob("*.png")), device="cpu")
    assert {name for name, _ in prediction.top} <= set(CLASSES)
    with pytest.raises(AlexNetError, match="its 7 classes are not the model's 12"):
        alexnet.evaluate("caffe", dataset.path, device="cpu")
