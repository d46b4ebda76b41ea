"""Write a classifier as an ONNX file, kept only if ONNX Runtime gives the network's answers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alexnet.core.atomic_io import atomic_write, require_writable, write_error
from alexnet.core.extras import import_extra
from alexnet.inference.export.check import Run, check
from alexnet.inference.export.exported import Exported
from alexnet.inference.export.onnx_graph import PROBABILITIES, onnx_document
from alexnet.inference.export.onnx_preprocessing import IMAGES
from alexnet.inference.export.options import ExportOptions
from alexnet.models.model_file import Classifier


def export_onnx(
    classifier: Classifier, path: Path, options: ExportOptions, files: Sequence[Path]
) -> Exported:
    """Write a classifier on the CPU, in float32, as an ONNX file.

    It is checked in ONNX Runtime on the images `files`, or on synthetic ones, before it gets its
    name. AlexNetError where its answers differ from the network's, it cannot be written, or the
    packages of the extra `onnx` are not installed; UsageError for an impossible option.
    """
    runtime = import_extra("onnxruntime", "onnx")
    document = onnx_document(classifier, options)
    require_writable(path)
    try:
        with atomic_write(path) as temporary:
            temporary.write_bytes(document.SerializeToString(deterministic=True))
            run = _runner(runtime, temporary)
            agreement = check(classifier, options, run, files)
            del run  # closes the file, which Windows cannot rename while it is open
    except OSError as error:
        raise write_error(path, error) from error
    return Exported(path, "onnx", (path,), options, agreement)


def _runner(runtime: Any, path: Path) -> Run:
    """Return a function from a graph's input to its probabilities, in ONNX Runtime."""
    settings = runtime.SessionOptions()
    settings.log_severity_level = 3  # errors
    session = runtime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])

    def run(images: np.ndarray) -> np.ndarray:
        (probabilities,) = session.run([PROBABILITIES], {IMAGES: images})
        return np.asarray(probabilities)

    return run
