"""The weights of an ensemble's models: equal, given, or those that fit the validation split best.

The weights are never fitted on the split that is scored.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from alexnet.core.console import ProgressFn
from alexnet.core.device import Runtime
from alexnet.core.errors import UsageError
from alexnet.data.prepared import PreparedDataset, Split
from alexnet.distributed.process_group import all_gather_object
from alexnet.evaluation.evaluate import (
    MIN_PROBABILITY,
    no_progress,
    probabilities_per_model,
    scored_split,
)
from alexnet.models.model_file import Classifier

TOLERANCE = 1e-6  # nats of loss above the optimum
MAX_STEPS = 10_000


def ensemble_weights(
    weights: str | None,
    classifiers: Sequence[Classifier],
    dataset: PreparedDataset,
    scored: Split,
    crops: int,
    runtime: Runtime,
    progress: ProgressFn = no_progress,
) -> Tensor:
    """Return weights (models,), float64, that sum to 1, as `--weights` asks.

    None: equal weights; "val": fitted on the validation split; else numbers. UsageError.
    """
    if weights is None:
        return _equal_weights(len(classifiers))
    if weights == "val":
        return fit_weights(classifiers, dataset, scored, crops, runtime, progress)
    return parse_weights(weights, len(classifiers))


def parse_weights(text: str, models: int) -> Tensor:
    """Return comma-separated numbers, one per model, divided by their sum, float64; UsageError."""
    try:
        shares = torch.tensor([float(word) for word in text.split(",")], dtype=torch.float64)
    except ValueError:
        shares = torch.empty(0)
    valid = len(shares) == models and shares.isfinite().all() and (shares >= 0).all()
    if not valid or shares.sum() == 0:
        raise UsageError(
            f"--weights {text}: expected val, or {models} numbers separated by commas, "
            "none below 0 and not all 0"
        )
    return shares / shares.sum()


def fit_weights(
    classifiers: Sequence[Classifier],
    dataset: PreparedDataset,
    scored: Split,
    crops: int,
    runtime: Runtime,
    progress: ProgressFn = no_progress,
) -> Tensor:
    """Return the weights (models,) of least loss on the validation split.

    UsageError where that is the split to be scored.
    """
    if scored.name == "val":
        raise UsageError(
            "--weights val: val is also the split that is scored; "
            "score another with --split, or give numbers"
        )
    val = scored_split(dataset, "val")
    own = [
        each.gather(2, labels.expand(len(classifiers), -1)[..., None]).squeeze(2)
        for each, labels in probabilities_per_model(classifiers, val, crops, runtime, progress)
    ]
    by_rank = all_gather_object(runtime.ranks, own)
    return optimal_weights(torch.cat([batch for rank in by_rank for batch in rank], 1))


def optimal_weights(correct: Tensor) -> Tensor:
    """Return the weights (models,), float64, of least loss.

    `correct` (models, N): the probability each model gives to each image's correct class. The loss
    of the weighted mean, -mean(log(w . p)), is convex in w, so there is one minimum and no grid is
    needed (avg-valid.py of the 2012 program tried one coordinate after the other). A step
    multiplies each weight by its model's mean of p / (w . p), the EM step for the weights of a
    mixture: they stay positive, they sum to 1, and the loss never rises from that of equal
    weights. It can fall by no more than log(the largest mean): the steps end when that is small.
    """
    correct = correct.double().clamp_min(MIN_PROBABILITY)
    weights = _equal_weights(len(correct))
    for _ in range(MAX_STEPS):
        responsibilities = (correct / (weights @ correct)).mean(1)
        if responsibilities.max() <= 1 + TOLERANCE:
            break
        weights = weights * responsibilities
    return weights / weights.sum()


def _equal_weights(models: int) -> Tensor:
    return torch.full((models,), 1 / models, dtype=torch.float64)
