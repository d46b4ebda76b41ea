"""The Open Inference Protocol v2, asked by Triton's own client and by hand."""

import base64
import io
import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient

from alexnet.data.prepared import PreparedDataset
from alexnet.evaluation.evaluate import probabilities
from alexnet.inference.server.app import make_app
from alexnet.inference.server.service import Limits, Service
from tests.conftest import CPU, striped_image
from tests.helpers.http_service import (
    RunningServer,
    make_service,
    running_server,
    write_tiny_model,
)

LENGTH = "Inference-Header-Content-Length"


@pytest.fixture(scope="module")
def service(dataset: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Service:
    path = write_tiny_model(tmp_path_factory.mktemp("oip") / "tiny.safetensors", dataset)
    return make_service({"tiny": path}, limits=Limits(images=8))


@pytest.fixture(scope="module")
def server(service: Service) -> Iterator[RunningServer]:
    with running_server(service) as server:
        yield server


@pytest.fixture(scope="module")
def squares(dataset: PreparedDataset) -> np.ndarray:
    return np.stack([dataset.splits["val"].pixels(index) for index in range(3)])


def test_tritons_client_gets_the_right_answers(
    server: RunningServer, service: Service, squares: np.ndarray
) -> None:
    http = pytest.importorskip("tritonclient.http", reason="tritonclient is not installed")
    client = http.InferenceServerClient(f"127.0.0.1:{server.port}")
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("tiny")
    assert client.get_server_metadata()["name"] == "alexnet"
    metadata = client.get_model_metadata("tiny")
    assert metadata["inputs"][0]["shape"] == [-1, 104, 104, 3]
    classifier = service.models.get("tiny").classifier
    expected = probabilities(classifier, squares, 10, CPU)
    for binary in (True, False):
        tensor = http.InferInput("images", list(squares.shape), "UINT8")
        tensor.set_data_from_numpy(squares, binary_data=binary)
        outputs = [
            http.InferRequestedOutput(name, binary_data=binary)
            for name in ("classes", "probabilities")
        ]
        for requested in (outputs, None):
            result = client.infer("tiny", [tensor], outputs=requested, request_id="7")
            probability = torch.from_numpy(result.as_numpy("probabilities").copy())
            torch.testing.assert_close(probability, expected, rtol=0, atol=2e-6)
            names = result.as_numpy("classes")
            first = names[0][0].decode() if isinstance(names[0][0], bytes) else names[0][0]
            assert first == classifier.preprocessor.classes[int(expected[0].argmax())]
            assert names.shape == (3, 5) and result.get_response()["id"] == "7"


def test_tritons_client_can_send_image_files(server: RunningServer, service: Service) -> None:
    http = pytest.importorskip("tritonclient.http", reason="tritonclient is not installed")
    file = io.BytesIO()
    Image.fromarray(striped_image("rising", 3)).save(file, "JPEG")
    client = http.InferenceServerClient(f"127.0.0.1:{server.port}")
    tensor = http.InferInput("files", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([file.getvalue()], np.object_))
    probability = client.infer("tiny", [tensor]).as_numpy("probabilities")
    classifier = service.models.get("tiny").classifier
    square = classifier.preprocessor.decode_square(file.getvalue())
    expected = probabilities(classifier, square[None], 10, CPU)
    assert np.array_equal(probability, expected.numpy())


def infer(
    service: Service, document: Any, data: bytes = b"", json_length: str | None = None
) -> Any:
    """Post a request by hand in the process; return status and JSON."""
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    client = TestClient(make_app(service))
    headers = {} if json_length is None else {LENGTH: json_length}
    answer = client.post("/v2/models/tiny/infer", content=text + data, headers=headers)
    return answer.status_code, answer.json()


def images_input(**changes: Any) -> dict[str, Any]:
    tensor = {"name": "images", "datatype": "UINT8", "shape": [1, 104, 104, 3], "data": []}
    return {"inputs": [tensor | changes]}


def test_json_may_hold_nested_lists_or_base64(service: Service, squares: np.ndarray) -> None:
    status, nested = infer(service, images_input(data=squares[:1].tolist()))
    assert status == 200
    file = io.BytesIO()
    Image.fromarray(squares[0]).save(file, "PNG")
    text = base64.b64encode(file.getvalue()).decode()
    tensor = {"name": "files", "datatype": "BYTES", "shape": [1], "data": [text]}
    status, encoded = infer(service, {"inputs": [tensor], "outputs": [{"name": "classes"}]})
    assert status == 200
    assert encoded["outputs"] == nested["outputs"][1:]


PIXELS = bytes(104 * 104 * 3)
BINARY = {"name": "images", "datatype": "UINT8", "shape": [1, 104, 104, 3]}


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        {"inputs": []},
        {"inputs": {}},
        {"inputs": [[]]},
        {"inputs": [{}]},
        images_input(),
        images_input(name="pixels"),
        images_input(name=3),
        images_input(data=None),
        images_input(data=[1]),
        images_input(data=[[1], [1, 2]]),
        images_input(datatype="FP32"),
        images_input(shape=[0, 104, 104, 3]),
        images_input(shape=[-1, 104, 104, 3]),
        images_input(shape=[2**60, 2**60]),
        images_input(shape=[1] * 100),
        images_input(shape=[], data=[1]),
        images_input(shape=[0, 2**70], data=[]),
        images_input(shape="x"),
        images_input(shape=[2, 2], data=[1, 2, 3, 256]),
        images_input(shape=[2, 2], data=[1, 2, 3, -1]),
        images_input(shape=[2, 2], data=[1, 2, 3, 0.5]),
        images_input(shape=[2, 2], data=[1, 2, 3, "4"]),
        images_input(shape=[2, 2], data=[1, 2, 3, 10**30]),
        images_input(shape=[2, 2], data=[1, 2, 3, 4]),
        images_input(parameters={"binary_data_size": 9}),
        images_input(parameters={"binary_data_size": -1}),
        images_input(parameters={"binary_data_size": "x"}),
        images_input(parameters=[]),
        images_input(datatype="BYTES", shape=[1], data=["%"]),
        images_input(name="files", datatype="BYTES", shape=[1], data=["%"]),
        images_input(name="files", datatype="BYTES", shape=[2], data=["QQ=="]),
        images_input(name="files", datatype="BYTES", shape=[0]),
        images_input() | {"outputs": [{"name": "logits"}]},
        images_input() | {"outputs": [3]},
        images_input() | {"id": 3},
        images_input() | {"parameters": 3},
    ],
)
def test_bad_requests_are_refused_in_one_line(service: Service, document: Any) -> None:
    status, answer = infer(service, document)
    assert (status, list(answer)) == (400, ["error"])
    assert len(answer["error"]) < 300


@pytest.mark.parametrize(
    ("spec", "data"),
    [
        (BINARY, PIXELS[1:]),
        (BINARY, PIXELS + b"x"),
        (BINARY | {"shape": [1, 104, 104, 4]}, PIXELS),
        (BINARY | {"datatype": "BYTES"}, PIXELS),
        (BINARY | {"name": "files", "datatype": "BYTES", "shape": [1]}, struct.pack("<I", 9)),
        (BINARY | {"name": "files", "datatype": "BYTES", "shape": [1]}, b"ab"),
    ],
)
def test_bytes_that_do_not_fit_are_refused(
    service: Service, spec: dict[str, Any], data: bytes
) -> None:
    document = {"inputs": [spec | {"parameters": {"binary_data_size": len(data)}}]}
    length = str(len(json.dumps(document)))
    status, answer = infer(service, document, data, length)
    assert (status, list(answer)) == (400, ["error"])
    if spec == BINARY and len(data) > len(PIXELS):
        document["inputs"][0]["parameters"]["binary_data_size"] = len(PIXELS)
        length = str(len(json.dumps(document)))
        status, answer = infer(service, document, data, length)
        assert (status, "1 bytes are left" in answer["error"]) == (400, True)


def test_a_wrong_length_of_the_json_is_refused(service: Service) -> None:
    for length in ("x", "-1", "99999", "9" * 5000):
        status, answer = infer(service, images_input(), json_length=length)
        assert (status, list(answer)) == (400, ["error"])


def test_too_many_images_are_refused(service: Service) -> None:
    status, _ = infer(
        service, images_input(name="files", datatype="BYTES", shape=[9], data=["QQ=="] * 9)
    )
    assert status == 413
