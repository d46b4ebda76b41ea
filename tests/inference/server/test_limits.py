"""The limits of a request: bytes, also of chunked bodies, pixels, images, and the queue."""

import io
import struct
import threading
import zlib
from collections.abc import Iterator

import httpx
import pytest
from PIL import Image

from alexnet.data.prepared import PreparedDataset
from alexnet.inference.server.service import Limits, Service
from tests.conftest import striped_image
from tests.helpers.http_service import (
    RunningServer,
    make_service,
    running_server,
    write_tiny_model,
)

BODY = 300_000
QUEUE = 4


@pytest.fixture(scope="module")
def service(dataset: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Service:
    path = write_tiny_model(tmp_path_factory.mktemp("limits") / "tiny.safetensors", dataset)
    limits = Limits(body=BODY, bodies=2 * BODY, images=3, pixels=1_000_000, queue=QUEUE)
    return make_service({"tiny": path}, limits=limits)


@pytest.fixture(scope="module")
def server(service: Service) -> Iterator[RunningServer]:
    with running_server(service) as server:
        yield server


@pytest.fixture
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.address, timeout=30) as client:
        yield client


def good_image() -> bytes:
    file = io.BytesIO()
    Image.fromarray(striped_image("dots", 1)).save(file, "PNG")
    return file.getvalue()


def png(width: int, height: int) -> bytes:
    """Return the head of a PNG that tells a size, and a few bytes of pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels)


def test_a_long_body_is_refused_and_the_connection_goes_on(client: httpx.Client) -> None:
    assert client.post("/v1/predict", content=bytes(BODY + 1)).status_code == 413
    assert client.post("/v1/predict", content=bytes(BODY)).status_code == 415
    assert client.post("/v1/predict", content=good_image()).status_code == 200


def test_a_chunked_body_is_refused_at_the_same_limit(client: httpx.Client) -> None:
    def chunks(total: int) -> Iterator[bytes]:
        for start in range(0, total, 1000):
            yield bytes(min(1000, total - start))

    answer = client.post("/v1/predict", content=chunks(BODY + 1))
    assert (answer.status_code, list(answer.json())) == (413, ["error"])
    assert client.post("/v1/predict", content=chunks(BODY)).status_code == 415


def test_an_endless_body_is_answered_and_cut_off(server: RunningServer) -> None:
    with server.connect() as connection:
        head = "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head.encode())
        piece = b"10000\r\n" + bytes(0x10000) + b"\r\n"
        with pytest.raises(OSError):
            while True:
                connection.sendall(piece)


def test_expect_100_is_refused_before_the_body_is_sent(server: RunningServer) -> None:
    with server.connect() as connection:
        connection.sendall(
            b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(("width", "height"), [(1001, 1000), (30_000, 30_000), (2**31 - 1, 1)])
def test_pixels_are_counted_before_they_are_decoded(
    client: httpx.Client, width: int, height: int
) -> None:
    answer = client.post("/v1/predict", content=png(width, height))
    assert answer.status_code == 413
    assert "pixels" in answer.json()["error"]


def test_an_image_within_the_limit_that_ends_early_is_bad(client: httpx.Client) -> None:
    assert client.post("/v1/predict", content=png(1000, 1000)).status_code == 415


def test_more_images_than_allowed_are_refused(client: httpx.Client) -> None:
    files = [("f", (str(index), good_image())) for index in range(4)]
    assert client.post("/v1/predict", files=files).status_code == 400
    assert client.post("/v1/predict", files=files[:3]).status_code == 200


def test_a_full_queue_is_told(client: httpx.Client, service: Service) -> None:
    go = threading.Event()
    service._thread.submit(go.wait)
    answers: list[int] = []

    def ask() -> None:
        answer = httpx.post(f"{client.base_url}/v1/predict", content=good_image(), timeout=30)
        answers.append(answer.status_code)

    threads = [threading.Thread(target=ask) for _ in range(QUEUE)]
    for thread in threads:
        thread.start()
    while service.metrics.registry.get_sample_value("alexnet_queue_depth") != QUEUE:
        assert all(status == 200 for status in answers)
    refused = client.post("/v1/predict", content=good_image())
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    go.set()
    for thread in threads:
        thread.join()
    assert answers == [200] * QUEUE
    assert client.post("/v1/predict", content=good_image()).status_code == 200
    assert service.metrics.registry.get_sample_value("alexnet_queue_depth") == 0


def test_all_bodies_together_are_limited(server: RunningServer, client: httpx.Client) -> None:
    head = f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {BODY}\r\n\r\n"
    connections = [server.connect() for _ in range(3)]
    for connection in connections:
        connection.sendall(head.encode() + bytes(BODY - 1))
    answers = []
    for connection in connections:
        connection.settimeout(1)
        try:
            answers.append(connection.recv(12))
        except TimeoutError:
            connection.sendall(b"0")
            connection.settimeout(30)
            answers.append(connection.recv(12))
    assert sorted(answers) == [b"HTTP/1.1 415", b"HTTP/1.1 415", b"HTTP/1.1 503"]
    for connection in connections:
        connection.close()
    assert client.post("/v1/predict", content=good_image()).status_code == 200
