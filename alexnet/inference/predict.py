"""Predict the classes of image files: the same probabilities `evaluate` gives to the same image.

An image that cannot be read does not stop the others: its prediction holds the reason. Files are
read ahead in threads and go through the model in batches.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from alexnet.core.atomic_io import write_bytes
from alexnet.core.console import ProgressFn
from alexnet.core.device import Runtime
from alexnet.data.image_batches import from_files
from alexnet.evaluation.evaluate import CROPS_PER_BATCH, no_progress, probabilities
from alexnet.models.model_file import Classifier

TOP_K = 5

TopClasses = tuple[tuple[str, float], ...]  # (class, probability), most probable first


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of a file, or why it could not be read."""

    path: Path
    top: TopClasses
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the prediction as plain data: path, top and, where there is one, error."""
        top = [{"class": name, "probability": probability} for name, probability in self.top]
        prediction = {"path": str(self.path), "top": top}
        return prediction if self.error is None else prediction | {"error": self.error}

    def line(self) -> str:
        """Return the prediction as a line of text."""
        if self.error is not None:
            return f"{self.path}: {self.error}"
        top = [f"{name} {100 * probability:.1f} %" for name, probability in self.top]
        return f"{self.path}: {', '.join(top)}"


def predict_files(
    classifier: Classifier,
    files: Sequence[Path],
    crops: int,
    runtime: Runtime,
    progress: ProgressFn = no_progress,
    top_k: int = TOP_K,
) -> Iterator[Prediction]:
    """Yield the `top_k` likeliest classes of every file, averaged over 1, 9 or 10 crops."""
    done = 0
    size = max(1, CROPS_PER_BATCH // crops)
    for batch in from_files(classifier.preprocessor, files, runtime.workers, size):
        rows: Sequence[Tensor] = ()
        if batch.readable:
            rows = list(probabilities(classifier, np.stack(batch.readable), crops, runtime))
        remaining = iter(rows)
        for name, image, _ in zip(*batch, strict=True):
            if isinstance(image, str):  # the reason why there is no image
                yield Prediction(Path(name), (), image)
            else:
                yield Prediction(Path(name), top_classes(classifier, next(remaining), top_k))
        done += len(batch.names)
        progress(done, len(files))


def write_csv(path: Path, predictions: Sequence[Prediction]) -> None:
    """Write a row a file: path, class_1, probability_1, class_2, ..., error; AlexNetError."""
    width = max((len(prediction.top) for prediction in predictions), default=0)
    columns = [(f"class_{rank}", f"probability_{rank}") for rank in range(1, width + 1)]
    text = io.StringIO(newline="")
    rows = csv.writer(text)
    rows.writerow(["path", *chain.from_iterable(columns), "error"])
    for prediction in predictions:
        pairs = [(name, f"{probability:.6f}") for name, probability in prediction.top]
        pairs += [("", "")] * (width - len(pairs))
        cells = chain.from_iterable(pairs)
        rows.writerow([prediction.path, *cells, prediction.error or ""])
    # a path may hold bytes that are not UTF-8
    write_bytes(path, text.getvalue().encode("utf-8", "surrogateescape"))


def top_classes(classifier: Classifier, probability: Tensor, top_k: int) -> TopClasses:
    """Return the most probable classes of one image, from probabilities (classes,)."""
    values, indices = probability.topk(min(top_k, len(probability)))
    names = [classifier.preprocessor.classes[index] for index in indices.tolist()]
    return tuple(zip(names, values.tolist(), strict=True))
