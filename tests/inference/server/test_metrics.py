"""What the service counts: the text Prometheus reads agrees with what was asked."""

import io
from pathlib import Path

import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from alexnet.data.prepared import PreparedDataset
from alexnet.inference.server.app import make_app
from tests.conftest import striped_image
from tests.helpers.http_service import make_service, write_tiny_model


def samples(client: TestClient) -> dict[tuple[str, ...], float]:
    """Return the metrics' values by name, route and code."""
    return {
        (sample.name, *(sample.labels.get(key, "") for key in ("route", "code"))): sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
    }


def test_requests_are_counted_by_route_and_code(dataset: PreparedDataset, tmp_path: Path) -> None:
    service = make_service({"tiny": write_tiny_model(tmp_path / "tiny.safetensors", dataset)})
    client = TestClient(make_app(service))
    file = io.BytesIO()
    Image.fromarray(striped_image("dots", 1)).save(file, "PNG")
    for body in (file.getvalue(), file.getvalue(), b"x"):
        client.post("/v1/predict", content=body)
    client.get("/v2/models/tiny")
    client.get("/v2/models/other")
    client.get("/app.js")
    client.get("/no/such/page")
    values = samples(client)
    service.close()
    total = "alexnet_requests_total"
    assert values[total, "/v1/predict", "200"] == 2
    assert values[total, "/v1/predict", "415"] == 1
    assert values[total, "/v2/models/{name}", "200"] == 1
    assert values[total, "/v2/models/{name}", "404"] == 1
    assert values[total, "page", "200"] == 1
    assert values[total, "page", "404"] == 1
    assert values["alexnet_request_seconds_count", "/v1/predict", ""] == 3
    assert values["alexnet_batch_size_sum", "", ""] == 2
    assert values["alexnet_queue_depth", "", ""] == 0


def test_a_defect_is_a_500_that_tells_nothing(
    dataset: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = make_service({"tiny": write_tiny_model(tmp_path / "tiny.safetensors", dataset)})

    def fail() -> None:
        raise KeyError("secret")

    monkeypatch.setattr(service.models, "infos", fail)
    client = TestClient(make_app(service), raise_server_exceptions=False)
    answer = client.get("/v1/models")
    assert (answer.status_code, list(answer.json())) == (500, ["error"])
    assert "secret" not in answer.text
    assert samples(client)["alexnet_requests_total", "/v1/models", "500"] == 1
