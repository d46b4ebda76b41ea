"""Whatever a client sends, the service answers 200 to 4xx, in one line of JSON, and goes on."""

import base64
import io
import json
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from starlette.testclient import TestClient

from alexnet.data.prepared import PreparedDataset
from alexnet.inference.server.app import make_app
from alexnet.inference.server.security import Access
from tests.conftest import striped_image
from tests.helpers.http_service import (
    RunningServer,
    make_service,
    running_server,
    write_tiny_model,
)

PATHS = ("/v1/predict", "/v1/features", "/v1/neighbors", "/v2/models/tiny/infer")
TYPES = ("image/png", "application/json", "multipart/form-data; boundary=b", "text/plain", "")
EXAMPLES = settings(max_examples=60, deadline=None, derandomize=True, database=None)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
tensors = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["images", "files", "x"]) | json_values,
        "datatype": st.sampled_from(["UINT8", "BYTES", "FP32"]) | json_values,
        "shape": st.lists(st.integers(-2, 104), max_size=5) | json_values,
        "data": st.lists(st.integers(-1, 256) | st.text(max_size=4), max_size=5) | json_values,
        "parameters": st.dictionaries(st.just("binary_data_size"), st.integers(-1, 9))
        | json_values,
    },
)


@pytest.fixture(scope="module")
def client(dataset: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    path = write_tiny_model(tmp_path_factory.mktemp("bad") / "tiny.safetensors", dataset)
    app = make_app(make_service({"tiny": path}), Access())
    return TestClient(app, base_url="http://127.0.0.1")


def require_answer(client: TestClient, path: str, body: bytes, headers: dict[str, str]) -> None:
    answer = client.post(path, content=body, headers=headers)
    assert answer.status_code < 500, answer.text
    document = answer.json()
    if answer.status_code >= 400:
        assert list(document) == ["error"] and "\n" not in document["error"]


@EXAMPLES
@given(path=st.sampled_from(PATHS), kind=st.sampled_from(TYPES), body=st.binary(max_size=300))
def test_any_bytes(client: TestClient, path: str, kind: str, body: bytes) -> None:
    require_answer(client, path, body, {"content-type": kind})


@EXAMPLES
@given(path=st.sampled_from(PATHS), body=json_values)
def test_any_json(client: TestClient, path: str, body: object) -> None:
    text = json.dumps(body).encode()
    require_answer(client, path, text, {"content-type": "application/json"})


@EXAMPLES
@given(
    tensors=st.lists(tensors, max_size=2),
    outputs=json_values,
    data=st.binary(max_size=20),
    offset=st.integers(-3, 3),
)
def test_any_tensors(
    client: TestClient, tensors: list[object], outputs: object, data: bytes, offset: int
) -> None:
    text = json.dumps({"inputs": tensors, "outputs": outputs}).encode()
    headers = {"inference-header-content-length": str(len(text) + offset)}
    require_answer(client, PATHS[-1], text + data, headers)


@EXAMPLES
@given(
    kind=st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"]),
    changes=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=6),
    end=st.floats(0, 1),
)
def test_damaged_images(
    client: TestClient, kind: str, changes: list[tuple[float, int]], end: float
) -> None:
    file = io.BytesIO()
    Image.fromarray(striped_image("dots", 1)).save(file, kind)
    data = bytearray(file.getvalue())
    for position, value in changes:
        data[int(position * len(data))] = value
    del data[max(1, int(end * len(data))) :]
    require_answer(client, "/v1/predict", bytes(data), {})
    text = base64.b64encode(data).decode()
    body = json.dumps({"images": [text]}).encode()
    require_answer(client, "/v1/predict", body, {"content-type": "application/json"})


@EXAMPLES
@given(
    query=st.text(st.characters(codec="ascii", min_codepoint=33, max_codepoint=126), max_size=30)
)
def test_any_query(client: TestClient, query: str) -> None:
    require_answer(client, f"/v1/predict?{query.replace('#', '')}", b"x", {})


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(make_service({})) as server:
        yield server


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /%ff%fe%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    ],
)
def test_bytes_that_are_not_http(server: RunningServer, request_bytes: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(request_bytes)
        status = connection.recv(12)
        assert status[:9] == b"HTTP/1.1 " and status[9:10] in b"2345", status
        assert status[9:10] != b"5"
