"""Export to OpenVINO's own format, an .xml file with its .bin of weights, from an ONNX model.

OpenVINO reads ONNX files as well; its own format loads without converting. The weights stay
float32. Both files are written under other names and checked before they get theirs, the weights
first: whoever finds the .xml finds the .bin.
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from alexnet.core.atomic_io import fsync_path, replace_file, write_error
from alexnet.core.extras import import_extra
from alexnet.inference.export.check import Run, check
from alexnet.inference.export.exported import Exported
from alexnet.inference.export.onnx_graph import PROBABILITIES, onnx_document
from alexnet.inference.export.options import ExportOptions
from alexnet.models.model_file import Classifier


def export_openvino(
    classifier: Classifier, path: Path, options: ExportOptions, files: Sequence[Path]
) -> Exported:
    """Write a classifier on the CPU, in float32, as `path` (.xml) and the .bin beside it.

    It is checked in OpenVINO, in float32, on the images `files`, or on synthetic ones. AlexNetError
    where its answers differ from the network's, it cannot be written, or the packages onnx and
    openvino are not installed; UsageError for an impossible option.
    """
    openvino = import_extra("openvino", "openvino")
    core = openvino.Core()
    document = onnx_document(classifier, options)
    weights = path.with_suffix(".bin")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            written = Path(folder) / path.name
            model = core.read_model(document.SerializeToString(), b"")
            openvino.save_model(model, written, compress_to_fp16=False)
            run = _runner(core, written)
            agreement = check(classifier, options, run, files)
            del run  # closes the files, which Windows cannot rename while they are open
            _move(written.with_suffix(".bin"), weights)
            _move(written, path)
        fsync_path(path.parent)
    except OSError as error:
        raise write_error(path, error) from error
    return Exported(path, "openvino", (path, weights), options, agreement)


def _move(source: Path, target: Path) -> None:
    fsync_path(source)
    replace_file(source, target)


def _runner(core: Any, path: Path) -> Run:
    """Return a function from a model's input to its probabilities, in OpenVINO on the CPU."""
    settings = {"INFERENCE_PRECISION_HINT": "f32"}  # bf16 is the default where there are units
    compiled = core.compile_model(core.read_model(path), "CPU", settings)

    def run(images: np.ndarray) -> np.ndarray:
        return np.array(compiled([images])[PROBABILITIES])

    return run
