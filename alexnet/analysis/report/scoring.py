"""Evaluate a run's model for its report: probabilities of one split, and what is derived from them.

A split is evaluated once, and every number of a page is computed from those probabilities, so
that no two of them can disagree.
"""

from dataclasses import dataclass

import numpy as np
import torch

from alexnet.analysis.plots.confusion import Confusion
from alexnet.analysis.plots.feature_maps import FeatureMaps, compute_feature_maps
from alexnet.analysis.plots.sampling import evenly_spaced
from alexnet.analysis.saliency import COARSE, Saliency, compute_saliency
from alexnet.core.device import Runtime
from alexnet.core.errors import UsageError
from alexnet.data.prepared import Split
from alexnet.evaluation.evaluate import ProgressFn, Scores, predictions, score, scored_split
from alexnet.training.run_dir import Run

NUM_SALIENCY = 2  # images whose saliency is shown


@dataclass(frozen=True, eq=False)
class SplitPredictions:
    """Probabilities float32 (N, classes) of a split's images, averaged over a number of crops."""

    split: Split
    crops: int
    probability: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """Return the true class of each image, int64 (N,)."""
        return self.split.labels

    @property
    def predicted(self) -> np.ndarray:
        """Return the most likely class of each image, int64 (N,)."""
        return self.probability.argmax(1)

    @property
    def scores(self) -> Scores:
        """Return errors and loss."""
        return score(torch.from_numpy(self.probability), torch.from_numpy(self.labels))

    def confusion(self, classes: tuple[str, ...]) -> Confusion:
        """Return the confusion of the classes."""
        return Confusion(self.labels, self.predicted, classes)


@dataclass(frozen=True, eq=False)
class RunAnalysis:
    """A run's predictions in a precision, one image's feature maps, and some images' saliency."""

    predictions: SplitPredictions
    precision: str
    feature_maps: FeatureMaps
    saliency: tuple[Saliency, ...]


def predict_run(
    run: Run, split_name: str | None, crops: int | None, runtime: Runtime, progress: ProgressFn
) -> SplitPredictions:
    """Compute the probabilities of a split's images; the model then is on the runtime's device.

    `split_name` None: test where it has images, else val. `crops`: 1, 9, 10, or None for the
    recipe's own number; UsageError for others.
    """
    crops = crops or run.model.recipe.augmentation.test_crops
    if crops not in (1, 9, 10):
        raise UsageError(f"{crops} crops: a report can be made with 1, 9 or 10")
    split = scored_split(run.dataset, split_name)
    run.model.model.to(runtime.device, runtime.dtype)
    batches = predictions([run.model], split, crops, runtime, progress)
    probability = torch.cat([part for part, _ in batches])
    return SplitPredictions(split, crops, probability.numpy())


def analyze_run(
    run: Run, split_name: str | None, crops: int | None, runtime: Runtime, progress: ProgressFn
) -> RunAnalysis:
    """Compute a run's predictions, and feature maps and saliency of some images."""
    predicted = predict_run(run, split_name, crops, runtime, progress)
    split = predicted.split
    indices = evenly_spaced(NUM_SALIENCY, len(split))
    saliency = tuple(
        compute_saliency(run.model, split.names[index], split.pixels(index), None, runtime, COARSE)
        for index in indices
    )
    maps = compute_feature_maps(run.model, split.pixels(indices[0]), runtime)
    return RunAnalysis(predicted, runtime.precision, maps, saliency)
