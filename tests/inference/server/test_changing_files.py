"""Files that change while they are served: models and datasets are read again, never mixed."""

import io
import shutil
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient

from alexnet.analysis import top_images
from alexnet.core.errors import AlexNetError
from alexnet.data.prepared import PreparedDataset
from alexnet.inference.server.app import make_app
from alexnet.inference.server.model_store import require_unchanged
from alexnet.inference.server.run_monitor import Histories
from alexnet.inference.server.service import Service
from alexnet.models.model_file import load_model, save_model
from alexnet.recipes.overrides import to_json
from alexnet.recipes.presets import MODERN
from alexnet.training.run_dir import append_metrics, write_recipe
from tests.conftest import make_dataset, striped_image
from tests.helpers.http_service import make_service, write_tiny_model

PATIENCE = 60.0  # seconds


@pytest.fixture
def model_path(dataset: PreparedDataset, tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "tiny.safetensors", dataset)


@pytest.fixture
def service(model_path: Path, dataset: PreparedDataset, tmp_path: Path) -> Iterator[Service]:
    copy = shutil.copytree(dataset.path, tmp_path / "stripes")
    service = make_service({"tiny": model_path}, str(copy))
    yield service
    service.close()


def test_a_model_that_was_replaced_is_read_again(
    service: Service, model_path: Path, dataset: PreparedDataset
) -> None:
    before = service.models.get("tiny")
    assert service.models.get("tiny") is before
    require_unchanged(before)
    write_tiny_model(model_path, dataset, seed=1)
    with pytest.raises(AlexNetError, match="ask again"):
        require_unchanged(before)
    after = service.models.get("tiny")
    require_unchanged(after)
    assert before.version != after.version
    model_path.unlink()
    with pytest.raises(AlexNetError, match="ask again"):
        require_unchanged(after)


def test_a_dataset_that_was_replaced_is_opened_again(
    service: Service, images: Path, dataset: PreparedDataset, tmp_path: Path
) -> None:
    folder = Path(str(service.dataset))
    client = TestClient(make_app(service))
    assert client.get("/v1/dataset").json()["classes"] == list(dataset.classes)
    shutil.rmtree(folder)
    assert client.get("/v1/dataset").status_code == 404
    fewer = shutil.copytree(images, tmp_path / "images", ignore=shutil.ignore_patterns("dots"))
    make_dataset(fewer, folder)
    others = client.get("/v1/dataset").json()["classes"]
    assert others == [name for name in dataset.classes if name != "dots"]


@pytest.mark.parametrize(
    "path",
    ["input", "maps?layer=conv1", "unit?layer=conv1&unit=0", "gradient", "gradcam", "occlusion"],
)
@pytest.mark.filterwarnings("error")
def test_a_model_that_diverged_is_told_in_a_line(
    service: Service, model_path: Path, path: str
) -> None:
    spoil(model_path)
    file = io.BytesIO()
    Image.fromarray(striped_image("dots", 3)).save(file, "PNG")
    client = TestClient(make_app(service))
    answer = client.post(f"/v1/explain/{path}", content=file.getvalue())
    assert (answer.status_code, list(answer.json())) == (409, ["error"])


@pytest.mark.parametrize("path", ["dataset/scores", "dataset/suspects", "units?layer=fc8&unit=0"])
def test_a_computation_over_a_model_that_diverged_ends(
    service: Service, model_path: Path, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(top_images, "cache_folder", lambda: tmp_path / "cache")
    spoil(model_path)
    deadline = time.monotonic() + PATIENCE
    with TestClient(make_app(service)) as client:
        while (answer := client.get(f"/v1/{path}")).status_code == 202:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert (answer.status_code, "not finite" in answer.json()["error"]) == (409, True)


def spoil(path: Path) -> None:
    """Make a model's outputs NaN, as a training does that diverged."""
    model, preprocessor = load_model(path)
    with torch.no_grad():
        model.conv1.bias.fill_(torch.nan)
    save_model(path, model, preprocessor)


def test_only_the_latest_history_of_a_run_is_kept(tmp_path: Path) -> None:
    histories = Histories()
    write_recipe(tmp_path, {"recipe": to_json(MODERN)})
    assert histories.of(tmp_path) is None, "it has not begun"
    append_metrics(tmp_path, {"kind": "begin"})
    first = histories.of(tmp_path)
    assert first is not None and histories.of(tmp_path) is first
    forgotten = weakref.ref(first)
    del first
    append_metrics(tmp_path, {"kind": "step"})
    second = histories.of(tmp_path)
    assert second is not None and len(second.records) == 2
    assert forgotten() is None
