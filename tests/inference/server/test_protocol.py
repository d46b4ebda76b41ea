"""Clients that are slow in every way are cut off, others are not."""

import io
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import httpx
import pytest
from PIL import Image

from alexnet.data.prepared import PreparedDataset
from alexnet.inference.server.protocol import Deadlines
from tests.conftest import striped_image
from tests.helpers.http_service import (
    RunningServer,
    make_service,
    running_server,
    write_tiny_model,
)

SHORT = Deadlines(
    grace=0.6,
    bytes_per_second=1000,
    total=2.5,
    idle=0.8,
    taking=0.8,
    after_refusal=0.5,
    at_stop=0.2,
    connections=20,
)
HEAD = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\n"
TIMEOUT = 20.0  # a connection that is still open then was not cut off


@pytest.fixture(scope="module")
def server(
    dataset: PreparedDataset, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    path = write_tiny_model(tmp_path_factory.mktemp("slow") / "tiny.safetensors", dataset)
    with running_server(make_service({"tiny": path}), deadlines=SHORT) as server:
        yield server


def image() -> bytes:
    file = io.BytesIO()
    Image.fromarray(striped_image("dots", 1)).save(file, "BMP")
    return file.getvalue()


def send_nothing(connection: socket.socket) -> None:
    """Connect and wait."""


def send_half_a_header(connection: socket.socket) -> None:
    connection.sendall(HEAD[:-5])


def send_headers_only(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\n")


def stay_idle(connection: socket.socket) -> None:
    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")


def trickle_headers(connection: socket.socket) -> None:
    connection.sendall(HEAD)
    trickle(connection, b"X-Name: value\r\n" * 1000)


def trickle_body(connection: socket.socket) -> None:
    send_headers_only(connection)
    trickle(connection, bytes(1000))


def trickle_chunks(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    trickle(connection, b"1\r\nx\r\n" * 1000)


def trickle_after_refusal(connection: socket.socket) -> None:
    connection.sendall(HEAD.replace(b"/v1/predict", b"/nowhere") + b"Content-Length: 1000\r\n\r\n")
    trickle(connection, bytes(1000))


def trickle_second_request(connection: socket.socket) -> None:
    stay_idle(connection)
    connection.recv(10_000)
    trickle_headers(connection)


def pipeline_an_unfinished_request(connection: socket.socket) -> None:
    first = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    connection.sendall(first + HEAD + b"Content-Length: 1000\r\n\r\nx")


def trickle(connection: socket.socket, data: bytes) -> None:
    """Send a byte every 50 ms, until the connection is cut off."""
    for byte in data:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def wait_until_closed(connection: socket.socket) -> None:
    """Return when the server has closed a connection."""
    connection.settimeout(TIMEOUT)
    with suppress(ConnectionError):
        while connection.recv(65_536):
            continue


SLOW_CLIENTS = [
    send_nothing,
    send_half_a_header,
    send_headers_only,
    stay_idle,
    trickle_headers,
    trickle_body,
    trickle_chunks,
    trickle_after_refusal,
    trickle_second_request,
    pipeline_an_unfinished_request,
]


@pytest.mark.parametrize("behave", SLOW_CLIENTS, ids=lambda behave: behave.__name__)
def test_a_slow_client_is_cut_off(
    server: RunningServer, behave: Callable[[socket.socket], None]
) -> None:
    with server.connect() as connection:
        with suppress(ConnectionError):  # what was still sent met a closed connection
            behave(connection)
        wait_until_closed(connection)
    with httpx.Client(base_url=server.address, timeout=TIMEOUT) as client:
        assert client.post("/v1/predict", content=image()).status_code == 200


def test_a_client_that_takes_nothing_is_cut_off(server: RunningServer) -> None:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
        connection.settimeout(TIMEOUT)
        with pytest.raises(ConnectionError):
            for _ in range(100_000):  # until its requests fill the server's buffers, then longer
                connection.sendall(request)


def test_a_long_request_may_take_its_time(server: RunningServer) -> None:
    data = image()
    assert len(data) > 2 * SHORT.grace * SHORT.bytes_per_second
    with server.connect() as connection:
        connection.sendall(HEAD + f"Content-Length: {len(data)}\r\n\r\n".encode())
        for start in range(0, len(data), 4000):
            connection.sendall(data[start : start + 4000])
            time.sleep(0.2)
        assert connection.recv(15) == b"HTTP/1.1 200 OK"


def test_a_fast_request_has_an_end_as_well(server: RunningServer) -> None:
    with server.connect() as connection:
        connection.sendall(HEAD + b"Content-Length: 9000000\r\n\r\n")
        with pytest.raises(ConnectionError):
            for _ in range(200):
                connection.sendall(bytes(5000))
                time.sleep(0.1)


def test_many_slow_clients_leave_room_for_others(server: RunningServer) -> None:
    with ExitStack() as stack:
        connections = [stack.enter_context(server.connect()) for _ in range(15)]
        for connection in connections:
            send_headers_only(connection)
        with httpx.Client(base_url=server.address, timeout=TIMEOUT) as client:
            assert client.post("/v1/predict", content=image()).status_code == 200
        for connection in connections:
            wait_until_closed(connection)


def test_connections_beyond_the_limit_are_closed(server: RunningServer) -> None:
    with ExitStack() as stack:
        connections = [stack.enter_context(server.connect()) for _ in range(SHORT.connections + 1)]
        stay_idle(connections[0])
        assert connections[0].recv(15) == b"HTTP/1.1 200 OK"
        wait_until_closed(connections[-1])
