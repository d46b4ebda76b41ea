"""The notebook runs from its first cell to its last, on few images, and is kept without outputs."""

import os
import re
import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("onnxruntime")

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks" / "alexnet.ipynb"

# Replaces the values in the cell with the tag "parameters".
QUICK = """
IMAGES_PER_CLASS = 5
EPOCHS = 1
SETTINGS = [
    "network.input=3,67,67",
    *(f"network.layers.conv{number}.out_channels=16" for number in range(1, 6)),
    "network.layers.fc6.out_features=32",
    "network.layers.fc7.out_features=32",
]
"""


def test_the_notebook_is_kept_without_outputs() -> None:
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    for cell in cells:
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None, cell.source


def test_links_of_the_notebook_lead_to_files() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    links = re.findall(r"\]\((\.\./[^)#]+)", text)
    assert links
    for link in links:
        assert (NOTEBOOK.parent / link).is_file(), link


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *sys.path]))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (parameters,) = (
        cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])
    )
    parameters.source = QUICK
    client = nbclient.NotebookClient(
        notebook, timeout=250, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    images = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert len(images) == 6, "the figures are shown"
    (answer,) = notebook.cells[-2].outputs
    onnx, native = re.findall(r": +(\w+ [\d.]+)", answer.text)
    assert onnx.split()[0] == native.split()[0]
    assert float(onnx.split()[1]) == pytest.approx(float(native.split()[1]), abs=1e-4)
