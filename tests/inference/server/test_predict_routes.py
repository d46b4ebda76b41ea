"""The service's predictions: those of `predict`, for every form of request."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from starlette.testclient import TestClient

from alexnet.data.prepared import PreparedDataset
from alexnet.inference.predict import predict_files
from alexnet.inference.server.app import make_app
from alexnet.inference.server.service import Limits, Service
from tests.conftest import CPU, striped_image
from tests.helpers.http_service import make_service, write_tiny_model


@pytest.fixture(scope="module")
def service(
    dataset: PreparedDataset, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("models")
    models = {
        name: write_tiny_model(folder / f"{name}.safetensors", dataset, seed)
        for seed, name in enumerate(("first", "second"))
    }
    service = make_service(models, limits=Limits(images=6))
    yield service
    service.close()


@pytest.fixture(scope="module")
def client(service: Service) -> TestClient:
    return TestClient(make_app(service))


def odd_images(folder: Path) -> list[Path]:
    """Write images of many modes, shapes and formats; return their paths."""
    pixels = Image.fromarray(striped_image("falling", 1))
    images = {
        "small.png": pixels.resize((7, 5)),
        "wide.jpg": pixels.resize((400, 30)),
        "gray.png": pixels.convert("L"),
        "16bit.png": pixels.convert("L").convert("I;16"),
        "alpha.png": pixels.convert("RGBA"),
        "palette.gif": pixels.convert("P"),
        "cmyk.jpg": pixels.convert("CMYK"),
        "lossless.webp": pixels,
        "levels.tiff": pixels,
    }
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    for name, image in images.items():
        image.save(folder / name)
    pixels.save(folder / "turned.jpg", exif=exif)
    return sorted(folder.iterdir())


def test_predictions_equal_those_of_predict(
    client: TestClient, service: Service, tmp_path: Path
) -> None:
    files = odd_images(tmp_path)
    classifier = service.models.get("first").classifier
    assert len(files) == 10
    for file in files:
        expected = next(iter(predict_files(classifier, [file], 10, CPU)))
        answer = client.post("/v1/predict", content=file.read_bytes())
        assert answer.status_code == 200, file.name
        (prediction,) = answer.json()["predictions"]
        assert [(top["class"], top["probability"]) for top in prediction["top"]] == [
            (name, round(probability, 6)) for name, probability in expected.top
        ]


def test_form_and_json_give_the_answers_of_single_images(client: TestClient, images: Path) -> None:
    files = sorted(images.rglob("000.png"))[:3]
    single = [client.post("/v1/predict", content=file.read_bytes()).json() for file in files]
    expected = [answer["predictions"][0]["top"] for answer in single]
    form = client.post("/v1/predict", files=[("f", (f.name, f.read_bytes())) for f in files])
    texts = [base64.b64encode(file.read_bytes()).decode() for file in files]
    texts[1] = f"data:image/png;base64,{texts[1]}"
    as_json = client.post("/v1/predict", json={"images": texts})
    for answer in (form, as_json):
        predictions = answer.json()["predictions"]
        for prediction, top in zip(predictions, expected, strict=True):
            assert [each["class"] for each in prediction["top"]] == [e["class"] for e in top]
            for one, other in zip(prediction["top"], top, strict=True):
                assert one["probability"] == pytest.approx(other["probability"], abs=2e-6)
    assert [each["name"] for each in form.json()["predictions"]] == ["000.png"] * 3


def test_one_bad_file_of_several_gets_a_reason(client: TestClient, images: Path) -> None:
    good = next(images.rglob("*.png")).read_bytes()
    answer = client.post("/v1/predict", files=[("f", ("a", good)), ("f", ("b", b"no image"))])
    first, second = answer.json()["predictions"]
    assert answer.status_code == 200 and "error" not in first
    assert second["top"] == [] and "cannot be read" in second["error"]


def test_model_top_k_and_crops_can_be_chosen(client: TestClient, images: Path) -> None:
    good = next(images.rglob("*.png")).read_bytes()
    answers = [
        client.post(f"/v1/predict?{query}", content=good).json()
        for query in ("model=first", "model=second", "model=first&crops=1", "top_k=2")
    ]
    tops = [answer["predictions"][0]["top"] for answer in answers]
    assert answers[1]["model"] == "second"
    assert tops[0] != tops[1] and tops[0] != tops[2]
    assert tops[3] == tops[0][:2]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("model=third", 404),
        ("crops=2", 400),
        ("crops=x", 400),
        ("top_k=0", 400),
        ("top_k=-1", 400),
        ("top_k=99999999999999999999", 400),
        ("top_k=²", 400),
    ],
)
def test_a_wrong_query_is_refused_in_one_line(client: TestClient, query: str, status: int) -> None:
    answer = client.post(f"/v1/predict?{query}", content=b"x")
    assert answer.status_code == status
    assert "expected" in answer.json()["error"]


def encoded(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({}, b"", 400),
        ({}, b"GIF89a", 415),
        ({}, encoded(Image.new("RGB", (50, 50)), "PNG")[:60], 415),
        ({}, b"%PDF-1.4", 415),
        ({"content-encoding": "gzip"}, b"x", 415),
        ({"content-type": "application/json"}, b"", 400),
        ({"content-type": "application/json"}, b"[" * 100_000, 400),
        ({"content-type": "application/json"}, b'{"images": []}', 400),
        ({"content-type": "application/json"}, b'{"images": ["%%%"]}', 400),
        ({"content-type": "application/json"}, b'{"images": ["\xff"]}', 400),
        ({"content-type": "application/json"}, b'{"images": {"a": 1}}', 400),
        ({"content-type": "application/json"}, b'{"images": [1]}', 400),
        ({"content-type": "application/json"}, b"9" * 10_000, 400),
        ({"content-type": "application/json"}, b'{"images": ["","","","","","",""]}', 413),
        ({"content-type": "multipart/form-data"}, b"x", 400),
        ({"content-type": "multipart/form-data; boundary="}, b"x", 400),
        ({"content-type": "multipart/form-data; boundary=b"}, b"x", 400),
        ({"content-type": "multipart/form-data; boundary=b"}, b"--b--\r\n", 400),
        ({"content-type": "multipart/form-data; boundary=b; charset=none"}, b"--b\r\n\r\n", 400),
        (
            {"content-type": "multipart/form-data; boundary=b"},
            7 * b"--b\r\nContent-Disposition: form-data; name=a; filename=a\r\n\r\nx\r\n",
            400,
        ),
    ],
)
def test_bad_bodies_are_refused_in_one_line(
    client: TestClient, headers: dict[str, str], body: bytes, status: int
) -> None:
    answer = client.post("/v1/predict", headers=headers, content=body)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert "\n" not in answer.json()["error"]


def test_the_models_are_listed(client: TestClient, service: Service) -> None:
    answer = client.get("/v1/models").json()
    assert [model["name"] for model in answer["models"]] == ["first", "second"]
    assert (answer["default"], answer["training"]) == ("first", None)
    first = answer["models"][0]
    model = service.models.get("first").classifier.model
    assert [layer["name"] for layer in first["layers"]] == list(model.names)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert sum(layer["parameters"] for layer in first["layers"]) == parameters
    assert (first["input"], first["record"], first["crops"]) == ([3, 99, 99], 104, 10)
    assert not first["dataset"]


def test_a_replaced_model_is_read_again(dataset: PreparedDataset, tmp_path: Path) -> None:
    file = write_tiny_model(tmp_path / "run" / "model.safetensors", dataset, seed=0)
    service = make_service({"run": file})
    client = TestClient(make_app(service))
    body = encoded(Image.fromarray(striped_image("dots", 1)), "PNG")
    before = client.post("/v1/predict", content=body).json()["predictions"]
    write_tiny_model(file, dataset, seed=1)
    after = client.post("/v1/predict", content=body).json()["predictions"]
    service.close()
    assert before != after
