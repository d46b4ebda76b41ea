"""The Hub's mixin: what is saved is our model file, and comes back to the bit; no network."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import alexnet
from alexnet.core.errors import UsageError
from alexnet.data.prepared import PreparedDataset
from alexnet.models.model_file import read_model_file, write_model_file
from alexnet.recipes.presets import MODERN
from tests.conftest import striped_image, tiny, tiny_classifier

huggingface_hub = pytest.importorskip("huggingface_hub", reason="the extra hub is not installed")

from alexnet.models import hub  # noqa: E402
from alexnet.models.hub import HubModel  # noqa: E402


@pytest.fixture
def model_file(dataset: PreparedDataset, tmp_path: Path) -> Path:
    classifier = tiny_classifier(tiny(MODERN), dataset)
    path = tmp_path / "run" / "model.safetensors"
    weights = classifier.model.state_dict()
    provenance = {"run": "run", "epoch": 7}
    write_model_file(path, weights, classifier.preprocessor, classifier.recipe, provenance)
    return path


def test_what_is_saved_is_the_model_file_itself(model_file: Path, tmp_path: Path) -> None:
    HubModel.from_file(model_file.parent).save_pretrained(tmp_path / "saved")
    saved = tmp_path / "saved" / "model.safetensors"
    assert saved.read_bytes() == model_file.read_bytes()
    assert read_model_file(tmp_path / "saved").provenance == {"run": "run", "epoch": 7}
    config = json.loads((tmp_path / "saved" / "config.json").read_text("utf-8"))
    classes = read_model_file(model_file).preprocessor.classes
    assert list(config["id2label"].values()) == list(classes)
    assert config["recipe_name"] == "modern" and config["num_classes"] == len(classes)


def test_it_comes_back_with_its_preprocessing(model_file: Path, tmp_path: Path) -> None:
    HubModel.from_file(model_file).save_pretrained(tmp_path / "saved")
    loaded = HubModel.from_pretrained(tmp_path / "saved")
    model, preprocess = alexnet.load_model(model_file)
    images = [striped_image("down", 3), striped_image("dots", 1)]
    assert torch.equal(loaded.preprocess(images), preprocess(images))
    assert torch.equal(loaded(loaded.preprocess(images)), model(preprocess(images)))
    assert loaded.preprocess.classes == preprocess.classes
    loaded.save_pretrained(tmp_path / "again")
    again = tmp_path / "again" / "model.safetensors"
    assert again.read_bytes() == model_file.read_bytes()


def test_a_finetuned_pair_can_be_saved_too(model_file: Path, tmp_path: Path) -> None:
    model, preprocess = alexnet.load_model(model_file)
    model.reset_classifier(2)
    with pytest.raises(UsageError, match="2 outputs, the preprocessor 7 classes"):
        HubModel(model, preprocess)
    HubModel(model, preprocess.with_classes(["cat", "dog"])).save_pretrained(tmp_path / "saved")
    saved, saved_preprocess = alexnet.load_model(tmp_path / "saved")
    assert saved_preprocess.classes == ("cat", "dog")
    assert torch.equal(saved.fc8.weight, model.fc8.weight)


class LocalHub:
    """Stands for the Hub's API: a folder in the place of its server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, token: str | None = None) -> "LocalHub":
        return self

    def create_repo(self, repo_id: str, **options: Any) -> Any:
        return huggingface_hub.RepoUrl(f"https://huggingface.co/{repo_id}")

    def upload_folder(self, repo_id: str, folder_path: Path, **options: Any) -> str:
        shutil.copytree(folder_path, self.folder / repo_id)
        return repo_id


def test_pushing_uploads_model_config_and_card(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", LocalHub(tmp_path / "hub"))
    HubModel.from_file(model_file).push_to_hub("me/birds")
    pushed = tmp_path / "hub" / "me" / "birds"
    assert {path.name for path in pushed.iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
    }
    card = (pushed / "README.md").read_text("utf-8")
    assert "library_name: alexnet" in card and "pipeline_tag: image-classification" in card

    def download(repo_id: str, filename: str, **options: Any) -> str:
        return str(tmp_path / "hub" / repo_id / filename)

    monkeypatch.setattr(hub, "hf_hub_download", download)
    monkeypatch.setattr("huggingface_hub.hub_mixin.hf_hub_download", download)
    pulled = HubModel.from_pretrained("me/birds")
    expected = read_model_file(model_file).model.state_dict()
    for name, tensor in pulled.model.state_dict().items():
        assert torch.equal(tensor, expected[name])
