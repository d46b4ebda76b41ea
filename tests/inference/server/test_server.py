"""The server's life: the command starts it, a signal stops it, what runs is answered before."""

import asyncio
import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from alexnet.__main__ import cli
from alexnet.cli.serve import split_paths
from alexnet.core.errors import AlexNetError, UsageError
from alexnet.data.prepared import PreparedDataset
from alexnet.inference.server import app, server
from alexnet.inference.server.security import Access
from alexnet.inference.server.server import bind
from alexnet.inference.server.service import Service
from tests.conftest import striped_image
from tests.helpers.http_service import make_service, running_server, write_tiny_model


@pytest.fixture(scope="module")
def model(dataset: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("run") / "model.safetensors", dataset)


def png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(striped_image("dots", 1)).save(file, "PNG")
    return file.getvalue()


def app_with_stream(service: Service, access: Access | None = None) -> Starlette:
    """Return the application with an event stream that ends when the service stops."""

    async def events(request: Request) -> StreamingResponse:
        async def lines() -> AsyncIterator[str]:
            yield ": begins\n\n"
            await service.stopping.wait()
            yield ": ends\n\n"

        return StreamingResponse(lines(), media_type="text/event-stream")

    application = app.make_app(service, access)
    application.router.routes.insert(0, Route("/events", events))
    return application


def test_a_stop_answers_what_runs_and_ends_streams(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "make_app", app_with_stream)
    service = make_service({"run": model})
    service.models.get("run")
    go = threading.Event()
    answers: list[httpx.Response] = []
    streamed: list[str] = []

    def ask() -> None:
        answers.append(httpx.post(f"{running.address}/v1/predict", content=png(), timeout=30))

    def follow() -> None:
        with httpx.stream("GET", f"{running.address}/events", timeout=30) as stream:
            streamed.extend(stream.iter_lines())

    with running_server(service) as running:
        service._thread.submit(go.wait)  # the request runs until we let it
        threads = [threading.Thread(target=ask), threading.Thread(target=follow)]
        for thread in threads:
            thread.start()
        while service.metrics.registry.get_sample_value("alexnet_queue_depth") != 1:
            time.sleep(0.01)
        slow = running.connect()
        slow.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n")
        running.stop()
        threads[1].join(30)
        assert [line for line in streamed if line] == [": begins", ": ends"]
        assert threads[0].is_alive()  # still waiting for its answer
        go.set()
        running.join()
        threads[0].join(30)
        slow.close()
    assert [answer.status_code for answer in answers] == [200]
    with pytest.raises(OSError):
        running.connect()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to send")
def test_the_command_serves_until_a_signal(model: Path) -> None:
    words = [sys.executable, "-m", "alexnet", "serve", str(model.parent), "--port", "0"]
    environment = os.environ | {"ALEXNET_TOKEN": "secret"}
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("serving at http://127.0.0.1:") and "/#token=secret " in line
    address = line.split()[2].partition("#")[0]
    headers = {"Authorization": "Bearer secret"}
    answer = httpx.post(f"{address}v1/predict", content=png(), headers=headers, timeout=30)
    assert answer.json()["model"] == model.parent.name
    assert httpx.post(f"{address}v1/predict", content=png(), timeout=30).status_code == 401
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    process.stdout.close()


def test_a_port_that_is_taken_is_one_line() -> None:
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(AlexNetError, match=f"port {port}: .*--port"):
            bind("127.0.0.1", port)


def test_answers_are_sent_without_delay() -> None:
    with bind("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        connection.close()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--host", "0.0.0.0"], "expected a --token"),
        (["--allow-training"], "a folder"),
        (["nowhere"], "no such file"),
        (["--dataset", "nowhere"], "--dataset nowhere: not there"),
    ],
)
def test_a_wrong_call_is_one_line(model: Path, words: list[str], text: str) -> None:
    done = CliRunner().invoke(cli, ["serve", str(model), *words])
    assert isinstance(done.exception, AlexNetError)
    assert text in str(done.exception)


def test_models_are_told_from_folders_of_runs(model: Path, tmp_path: Path) -> None:
    other = tmp_path / "nets" / "other.safetensors"
    other.parent.mkdir()
    other.write_bytes(model.read_bytes())
    runs = tmp_path / "runs"
    runs.mkdir()
    models, folder = split_paths((model.parent, other, other, runs), False)
    assert models == {model.parent.name: model, "other": other, "other-2": other}
    assert folder == runs
    with pytest.raises(UsageError, match="one folder"):
        split_paths((runs, tmp_path), False)
    new = tmp_path / "new"
    assert split_paths((new,), True) == ({}, new)
    assert new.is_dir()


def test_models_of_a_folder_are_served_as_they_come(model: Path, tmp_path: Path) -> None:
    from alexnet.inference.server.model_store import ModelStore
    from tests.conftest import CPU

    store = ModelStore({}, tmp_path, CPU)
    assert store.infos() == {}
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(model.read_bytes())
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"x")
    assert list(store.infos()) == ["a", "b"]
    assert store.get().name == "a"
    assert store.get("b").classifier.preprocessor.classes == store.infos()["b"][1].classes


def test_stopping_is_told_to_probes(model: Path) -> None:
    service = make_service({"run": model})
    with running_server(service) as running, httpx.Client(base_url=running.address) as client:
        assert client.get("/readyz").status_code == 200
        service.stopping = asyncio.Event()
        service.stopping.set()
        assert client.get("/readyz").status_code == 503
        assert client.get("/healthz").status_code == 200
