"""The demo on a few images: what it shows, what it leaves, and that it starts where it stopped."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from alexnet import demo
from alexnet.core.console import ProgressFn
from alexnet.data.synthetic import write_images
from alexnet.training.trainer import RunCallback
from tests.conftest import CPU, tiny


def test_a_demo_goes_the_whole_way_and_starts_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages: list[str] = []
    lines: list[str] = []
    records: list[dict[str, Any]] = []

    @contextmanager
    def stage(label: str, unit: str) -> Iterator[ProgressFn]:
        stages.append(label)
        yield lambda done, total: None

    @contextmanager
    def training(steps: int) -> Iterator[RunCallback]:
        yield records.append

    monkeypatch.setattr(demo, "write_images", partial(write_images, per_class=4))
    monkeypatch.setattr(demo, "MODERN", tiny(demo.MODERN))
    monkeypatch.setattr(demo, "MATRIX_SIDE", 64)
    display = demo.Display(lines.append, stage, training)
    result = demo.run_demo(tmp_path / "demo", CPU, display, epochs=1)
    assert stages == ["drawing", "preparing", "evaluating for the report"]
    assert lines[0].startswith("training will take about")
    assert records[-1]["kind"] == "epoch"
    assert set(result) == {
        "epochs",
        "steps",
        "seconds",
        "images_per_second",
        "model",
        "best_epoch",
        "top1_error",
        "top5_error",
        "report",
    }
    assert Path(result["report"]).is_file() and Path(result["model"]).is_file()
    assert f"report: {result['report']}" in demo.closing_lines(result)
    stages.clear()
    demo.run_demo(tmp_path / "demo", CPU, display, epochs=1)
    assert stages == ["evaluating for the report"]
