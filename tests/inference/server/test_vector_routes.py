"""Features and neighbors over HTTP: those of the commands."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from alexnet.analysis.retrieval.features import extract_features
from alexnet.data.prepared import PreparedDataset
from alexnet.inference.server.app import make_app
from alexnet.inference.server.service import Service
from tests.conftest import CPU
from tests.helpers.http_service import make_service, write_tiny_model


@pytest.fixture
def service(dataset: PreparedDataset, tmp_path: Path) -> Iterator[Service]:
    file = write_tiny_model(tmp_path / "run" / "model.safetensors", dataset)
    (tmp_path / "run" / "recipe.json").write_text(json.dumps({"dataset": str(dataset.location)}))
    service = make_service({"run": file})
    yield service
    service.close()


def png(square: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(square).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("layer", ["fc7", "conv5", "prob"])
def test_features_are_the_layers_output(
    service: Service, dataset: PreparedDataset, layer: str
) -> None:
    square = dataset.splits["val"].pixels(0)
    client = TestClient(make_app(service))
    answer = client.post(f"/v1/features?layer={layer}", content=png(square)).json()
    expected = extract_features(service.models.get().classifier, square[None], layer, CPU)
    assert np.array_equal(np.array(answer["features"], np.float32), expected.numpy())
    assert np.prod(answer["shape"]) == expected.shape[1]


def test_an_unknown_layer_and_too_many_values_are_refused(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = TestClient(make_app(service))
    answer = client.post("/v1/features?layer=fc9", content=b"x")
    assert answer.status_code == 404 and "fc7" in answer.json()["error"]
    monkeypatch.setattr("alexnet.inference.server.vector_routes.MAX_VALUES", 6)
    assert client.post("/v1/features?layer=fc8", content=b"x").status_code == 413


def test_an_image_of_the_dataset_is_its_own_nearest_neighbor(
    service: Service, dataset: PreparedDataset
) -> None:
    split = dataset.splits["train"]
    client = TestClient(make_app(service))
    assert client.get("/v1/models").json()["models"][0]["neighbors"]
    for index in (3, 11):
        body = png(split.pixels(index))
        answer = client.post("/v1/neighbors?top_k=4", content=body).json()
        first, *others = answer["neighbors"]
        assert (first["split"], first["index"]) == ("train", index)
        assert first["distance"] == pytest.approx(0, abs=1e-2)
        assert first["class"] == dataset.classes[split.labels[index]]
        assert first["image"] == f"v1/dataset/train/{index}.jpg?model=run"
        distances = [first["distance"], *(each["distance"] for each in others)]
        assert len(distances) == 4 and distances == sorted(distances)


def test_without_a_dataset_there_are_no_neighbors(dataset: PreparedDataset, tmp_path: Path) -> None:
    service = make_service({"tiny": write_tiny_model(tmp_path / "tiny.safetensors", dataset)})
    client = TestClient(make_app(service))
    body = png(dataset.splits["val"].pixels(0))
    answer = client.post("/v1/neighbors", content=body)
    assert answer.status_code == 404 and "--dataset" in answer.json()["error"]
    assert not client.get("/v1/models").json()["models"][0]["neighbors"]
    service.dataset = str(dataset.location)
    assert client.post("/v1/neighbors", content=body).status_code == 200
    service.close()


def test_a_large_dataset_is_indexed_by_the_command(
    service: Service, dataset: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alexnet.inference.server.image_index.MAX_IMAGES", 10)
    body = png(dataset.splits["val"].pixels(0))
    answer = TestClient(make_app(service)).post("/v1/neighbors", content=body)
    assert answer.status_code == 409 and "alexnet neighbors" in answer.json()["error"]
