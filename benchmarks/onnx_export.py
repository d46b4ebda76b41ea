"""Exported ONNX models against the native network on real images, in ONNX Runtime and OpenVINO.

A model is exported with each form of its weights. Every form runs in both engines, in float32, in
batches of 1, 7 and 64. Prints, and writes as JSON, the largest difference of a probability from the
native network's, how many images keep their likeliest class, the change of the top-1 error in
points, and whether an image's answer depends on its batch.

    python benchmarks/onnx_export.py MODEL DATASET --images 1000 --json onnx_export.json
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import numpy as np
import onnxruntime
import openvino
import torch

from alexnet.core.device import Runtime
from alexnet.data.prepared import open_dataset
from alexnet.evaluation.evaluate import probabilities, require_same_classes, scored_split
from alexnet.inference.export.onnx_file import export_onnx
from alexnet.inference.export.options import ExportOptions, NormForm, Weights
from alexnet.models.model_file import Classifier, find_model_file, read_model_file

BATCH_SIZES = (1, 7, 64)
RUNTIME = Runtime(torch.device("cpu"), torch.float32, workers=1)

Run = Callable[[np.ndarray], np.ndarray]  # squares (N, S, S, C) to probabilities (N, classes)


@dataclass(frozen=True)
class Row:
    """One form of the weights in one engine, in batches of one size."""

    weights: Weights
    megabytes: float
    engine: str
    batch_size: int
    max_difference: float  # of a probability, from the native network's
    same_top1: int  # images
    top1_error_change: float  # points
    batch_difference: float  # of a probability, from batches of 1


def in_onnx_runtime(path: Path) -> Run:
    """Load a file into ONNX Runtime."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda squares: session.run(["probabilities"], {"images": squares})[0]


def in_openvino(path: Path) -> Run:
    """Load a file into OpenVINO, in float32."""
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(path, "CPU", settings)
    return lambda squares: compiled([squares])["probabilities"].copy()


ENGINES = {"ONNX Runtime": in_onnx_runtime, "OpenVINO": in_openvino}


def in_batches(run: Run, squares: np.ndarray, size: int) -> np.ndarray:
    """Return the probabilities of all squares, computed `size` at a time."""
    starts = range(0, len(squares), size)
    return np.concatenate([run(squares[start : start + size]) for start in starts])


def native(classifier: Classifier, squares: np.ndarray) -> np.ndarray:
    """Return the native network's probabilities, in float32."""

    def run(batch: np.ndarray) -> np.ndarray:
        return probabilities(classifier, batch, 1, RUNTIME).numpy()

    return in_batches(run, squares, 64)


def top1_error(answers: np.ndarray, labels: np.ndarray) -> float:
    """Return the error in percent."""
    return 100 * float((answers.argmax(1) != labels).mean())


def compare(
    path: Path, weights: Weights, squares: np.ndarray, labels: np.ndarray, expected: np.ndarray
) -> list[Row]:
    """Run a file in every engine and batch size."""
    rows = []
    for engine, load in ENGINES.items():
        run = load(path)
        single = in_batches(run, squares, 1)
        for size in BATCH_SIZES:
            answers = single if size == 1 else in_batches(run, squares, size)
            rows.append(
                Row(
                    weights,
                    path.stat().st_size / 1e6,
                    engine,
                    size,
                    float(np.abs(answers - expected).max()),
                    int((answers.argmax(1) == expected.argmax(1)).sum()),
                    top1_error(answers, labels) - top1_error(expected, labels),
                    float(np.abs(answers - single).max()),
                )
            )
    return rows


def read_squares(
    classifier: Classifier, dataset: str, split: str | None, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return squares (N, S, S, C) and labels (N,), spread evenly over a split."""
    opened = open_dataset(dataset)
    require_same_classes(classifier.preprocessor, opened)
    scored = scored_split(opened, split)
    indices = np.linspace(0, len(scored) - 1, min(count, len(scored))).round().astype(int)
    squares = np.stack([scored.pixels(index) for index in indices])
    return squares, np.array([scored.labels[index] for index in indices])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("dataset")
    parser.add_argument("--split")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument(
        "--weights", nargs="+", choices=get_args(Weights), default=get_args(Weights)
    )
    parser.add_argument("--norm", choices=get_args(NormForm), default="operator")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    classifier = read_model_file(find_model_file(arguments.model))
    squares, labels = read_squares(classifier, arguments.dataset, arguments.split, arguments.images)
    expected = native(classifier, squares)
    print(f"{len(squares)} images, native top-1 error {top1_error(expected, labels):.2f} %")
    print("weights       MB  engine        batch  largest diff.  same top-1  error    of batch")
    rows: list[Row] = []
    with TemporaryDirectory() as folder:
        for weights in arguments.weights:
            path = Path(folder) / f"{weights}.onnx"
            options = ExportOptions(weights=weights, norm=arguments.norm)
            export_onnx(classifier, path, options, [])
            new_rows = compare(path, weights, squares, labels, expected)
            for row in new_rows:
                print(
                    f"{row.weights:8} {row.megabytes:7.1f}  {row.engine:12} {row.batch_size:6}"
                    f"  {row.max_difference:13.2g}  {row.same_top1:10}"
                    f"  {row.top1_error_change:+5.2f}  {row.batch_difference:10.2g}",
                    flush=True,
                )
            rows += new_rows
    if arguments.json:
        document = {"images": len(squares), "rows": [asdict(row) for row in rows]}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
