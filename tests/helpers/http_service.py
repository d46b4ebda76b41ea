"""A service over a tiny model for tests: in the process, or answering on the loopback address."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alexnet.data.prepared import PreparedDataset
from alexnet.inference.server.model_store import ModelStore
from alexnet.inference.server.protocol import Deadlines
from alexnet.inference.server.security import Access
from alexnet.inference.server.server import bind, run
from alexnet.inference.server.service import Limits, Service
from alexnet.models.model_file import write_model_file
from alexnet.recipes.presets import MODERN
from tests.conftest import CPU, tiny, tiny_classifier

LOCAL = "http://127.0.0.1"
WAIT_SECONDS = 30.0  # for a server to start or stop, on a busy machine


def write_tiny_model(path: Path, dataset: PreparedDataset, seed: int = 0) -> Path:
    """Write the model file of an untrained tiny network for a dataset's images."""
    classifier = tiny_classifier(tiny(MODERN), dataset, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = classifier.model.state_dict()
    write_model_file(path, weights, classifier.preprocessor, classifier.recipe, {"epoch": 1})
    return path


def make_service(
    models: dict[str, Path], dataset: str | None = None, limits: Limits | None = None
) -> Service:
    """Return a service of some model files."""
    store = ModelStore(models, None, CPU)
    return Service(store, CPU, dataset=dataset, limits=limits or Limits())


class RunningServer:
    """A server that answers in a thread; `stop()` asks it to stop."""

    def __init__(self, service: Service, access: Access, deadlines: Deadlines) -> None:
        self._listener = bind("127.0.0.1", 0)
        self.port = int(self._listener.getsockname()[1])
        self.address = f"{LOCAL}:{self.port}"
        self._ready = threading.Event()
        self._stop = threading.Event()
        arguments = (service, access, self._listener, self._stop.is_set, self._ready.set, deadlines)
        self._thread = threading.Thread(target=run, args=arguments)

    def start(self) -> None:
        """Return when requests are answered."""
        self._thread.start()
        assert self._ready.wait(WAIT_SECONDS)

    def stop(self) -> None:
        """Ask it to stop; return at once."""
        self._stop.set()

    def join(self) -> None:
        """Return when it has stopped."""
        self._thread.join(WAIT_SECONDS)
        assert not self._thread.is_alive()

    def connect(self) -> socket.socket:
        """Return a connection to it."""
        return socket.create_connection(("127.0.0.1", self.port), WAIT_SECONDS)


@contextmanager
def running_server(
    service: Service, access: Access | None = None, deadlines: Deadlines | None = None
) -> Iterator[RunningServer]:
    """Run a service on a free port of the loopback address."""
    server = RunningServer(service, access or Access(), deadlines or Deadlines())
    server.start()
    try:
        yield server
    finally:
        server.stop()
        server.join()
