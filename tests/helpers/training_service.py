"""A service over a folder of runs, and its test client; tiny runs to put into the folder."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from alexnet.data.prepared import PreparedDataset
from alexnet.inference.server.app import make_app
from alexnet.inference.server.model_store import ModelStore
from alexnet.inference.server.service import Service
from alexnet.recipes.presets import MODERN
from alexnet.training import trainer
from tests.conftest import CPU, tiny, tiny_config


@contextmanager
def served(folder: Path | None, allow_training: bool = True) -> Iterator[TestClient]:
    """Provide a client of a service over a folder; close the service at the end."""
    service = Service(ModelStore({}, folder, CPU), CPU, folder, allow_training=allow_training)
    try:
        with TestClient(make_app(service)) as client:
            yield client
    finally:
        service.close()


def train_tiny(dataset: PreparedDataset, run: Path, steps: int | None = None) -> Path:
    """Train a tiny recipe for two epochs, or stop it after some steps; return the run."""
    left = steps

    def stop() -> int:
        nonlocal left
        if left is None:
            return 0
        left -= 1
        return 15 if left == 0 else 0

    try:
        trainer.train(tiny_config(dataset, tiny(MODERN)), run, lambda record: None, stop)
    except trainer.RunStopped:
        assert steps is not None
    return run


def records(run: Path) -> list[dict[str, Any]]:
    """Return the records of a run's metrics.jsonl."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def parse_events(text: str) -> list[tuple[str, int, str]]:
    """Return (kind, id, data) of every server-sent event in a text."""
    events = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
        if "event" in fields:
            events.append((fields["event"], int(fields["id"]), fields["data"]))
    return events
