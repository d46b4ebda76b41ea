"""Predict the classes of image files: the same probabilities `evaluate` gives to the same image.

An image that cannot be read does not stop the others: its prediction holds the reason. Files are
read ahead in threads, a few batches at most, and go through the model in batches: a million images
need no more memory than a thousand.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

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
    files: Iterable[Path],
    crops: int,
    runtime: Runtime,
    progress: ProgressFn = no_progress,
    top_k: int = TOP_K,
    total: int = 0,
) -> Iterator[Prediction]:
    """Yield the `top_k` likeliest classes of every file, averaged over 1, 9 or 10 crops, in order.

    `files` may be an iterator; `total`: how many there are, for the progress.
    """
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
        progress(done, total)


def top_classes(classifier: Classifier, probability: Tensor, top_k: int) -> TopClasses:
    """Return the most probable classes of one image, from probabilities (classes,)."""
    values, indices = probability.topk(min(top_k, len(probability)))
    names = [classifier.preprocessor.classes[index] for index in indices.tolist()]
    return tuple(zip(names, values.tolist(), strict=True))
