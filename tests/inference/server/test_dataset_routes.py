"""A dataset and a model's mistakes over HTTP: every cell opens its images, and nothing else."""

import io
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from alexnet.analysis import top_images
from alexnet.analysis.computation import finish
from alexnet.analysis.label_errors import find_label_errors
from alexnet.analysis.receptive_field import receptive_field
from alexnet.analysis.top_images import find_top_images
from alexnet.data.prepared import PreparedDataset
from alexnet.evaluation.evaluate import evaluate, predict_split
from alexnet.inference.server.app import make_app
from alexnet.inference.server.dataset_routes import describe_dataset
from alexnet.inference.server.model_store import ModelStore
from alexnet.inference.server.service import Service
from alexnet.models.model_file import Classifier
from tests.conftest import CPU

PATIENCE = 60  # seconds


@pytest.fixture(scope="module")
def client(
    path: Path, dataset: PreparedDataset, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestClient]:
    with pytest.MonkeyPatch.context() as patch:
        cache = tmp_path_factory.mktemp("cache")
        patch.setattr(top_images, "cache_folder", lambda: cache)
        models = ModelStore({"stripes": path}, None, CPU)
        service = Service(models, CPU, dataset=str(dataset.path))
        with TestClient(make_app(service)) as client:
            yield client
        service.close()


def ask(client: TestClient, path: str, **query: Any) -> dict[str, Any]:
    """Ask until what is computed in the background is there."""
    deadline = time.monotonic() + PATIENCE
    while True:
        answer = client.get(path, params=query)
        if answer.status_code != 202:
            break
        progress = answer.json()
        assert 0 <= progress["done"] <= max(progress["total"], 0)
        assert time.monotonic() < deadline, f"{path} after {PATIENCE} s: {progress}"
        time.sleep(0.05)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_a_dataset_is_described(client: TestClient, dataset: PreparedDataset) -> None:
    answer = client.get("/v1/dataset").json()
    assert answer["classes"] == list(dataset.classes)
    assert answer["splits"] == {name: len(split) for name, split in dataset.splits.items()}
    assert (answer["size"], answer["channels"], answer["left_out"]) == (104, 3, [])


def test_images_left_out_are_told_with_the_reason(dataset: PreparedDataset) -> None:
    damaged = replace(dataset, bad=(("dots/7.png", "cannot be decoded"),))
    left_out = describe_dataset(damaged)["left_out"]
    assert left_out == [{"name": "dots/7.png", "reason": "cannot be decoded"}]


def test_images_are_the_stored_ones(client: TestClient, dataset: PreparedDataset) -> None:
    answer = client.get("/v1/dataset/val/2.jpg")
    assert answer.headers["content-type"] == "image/png"  # stored raw
    pixels = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert np.array_equal(pixels, dataset.splits["val"].pixels(2))
    assert client.get("/v1/dataset/val/99999.jpg").status_code == 404
    assert client.get("/v1/dataset/none/0.jpg").status_code == 404


def test_scores_are_those_of_evaluate(
    client: TestClient, classifier: Classifier, dataset: PreparedDataset
) -> None:
    answer = ask(client, "/v1/dataset/scores", split="train")
    split = dataset.splits["train"]
    scores = evaluate(classifier, split, 1, CPU)
    assert answer["images"] == len(split)
    for name, value in scores:
        assert answer[name] == pytest.approx(value, rel=1e-5)
    assert np.sum(answer["matrix"]) == len(split)
    assert sum(entry["errors"] for entry in answer["classes"]) == sum(
        entry["images"] for entry in answer["pairs"]
    )


def test_cells_open_exactly_their_images(
    client: TestClient, classifier: Classifier, dataset: PreparedDataset
) -> None:
    split = dataset.splits["train"]
    probability, labels = predict_split(classifier, split, 1, CPU)
    predicted = probability.argmax(1)
    matrix = ask(client, "/v1/dataset/scores", split="train")["matrix"]
    for true, row in enumerate(matrix):
        for other, count in enumerate(row):
            query = {"true": dataset.classes[true], "predicted": dataset.classes[other]}
            images = ask(client, "/v1/dataset/cell", split="train", **query)["images"]
            expected = ((labels == true) & (predicted == other)).nonzero().flatten().tolist()
            assert [image["index"] for image in images] == expected
            assert len(images) == count
            for image in images:
                assert (image["true"], image["predicted"]) == tuple(query.values())
                assert image["name"] == split.names[image["index"]]


def test_the_worst_mistakes_come_first(
    client: TestClient, classifier: Classifier, dataset: PreparedDataset
) -> None:
    images = ask(client, "/v1/dataset/mistakes", split="train", count=10)["images"]
    probability, labels = predict_split(classifier, dataset.splits["train"], 1, CPU)
    largest, predicted = probability.max(1)
    wrong = largest[labels != predicted].sort(descending=True).values[:10]
    shown = [image["probability"] for image in images]
    assert shown == pytest.approx(wrong.tolist(), abs=2e-6)
    assert all(image["true"] != image["predicted"] for image in images)
    assert client.get(f"/{images[0]['image']}").status_code == 200


def test_suspects_are_those_of_the_analysis(
    client: TestClient, classifier: Classifier, dataset: PreparedDataset
) -> None:
    images = ask(client, "/v1/dataset/suspects", count=5)["images"]
    expected = finish(find_label_errors(classifier, dataset, CPU))[:5]
    assert [(image["split"], image["index"]) for image in images] == [
        (suspect.split, suspect.index) for suspect in expected
    ]
    assert all(image["given"] != image["suggested"] for image in images)


def test_units_show_their_strongest_images(
    client: TestClient, classifier: Classifier, dataset: PreparedDataset
) -> None:
    images = ask(client, "/v1/units", layer="conv3", unit=7, count=4)["images"]
    top = finish(find_top_images(classifier, dataset.splits["val"], CPU))
    expected = top.of_unit("conv3", 7)[:4]
    assert [image["index"] for image in images] == [index for index, _, _ in expected]
    row, column = images[0]["position"]
    field = receptive_field(classifier.model.shapes, "conv3", row, column)
    margin = classifier.preprocessor.margin // 2
    assert images[0]["box"] == [side + margin for side in field.clipped]
    wrong: list[dict[str, str | int]] = [
        {"layer": "pool1", "unit": 0},
        {"layer": "conv3", "unit": 10**6},
        {"unit": 0},
    ]
    for query in wrong:
        assert client.get("/v1/units", params=query).status_code == 400


def test_a_model_without_a_dataset_says_so(path: Path) -> None:
    service = Service(ModelStore({"stripes": path}, None, CPU), CPU)
    with TestClient(make_app(service)) as client:
        answer = client.get("/v1/dataset")
        assert answer.status_code == 404
        assert "--dataset" in answer.json()["error"]
    service.close()
