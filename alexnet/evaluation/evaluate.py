"""Evaluate models on a split: top-1 and top-5 error in percent and mean loss, each image once.

An image's probabilities are the mean of the softmax over its crops (one, or the paper's ten,
section 4.1) and over the models of an ensemble, plain or weighted; the loss is that of the mean.
Where classes tie across the edge of the first five, they share the positions left, as in the 2012
program.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from alexnet.core.console import ProgressFn
from alexnet.core.device import Runtime
from alexnet.core.errors import AlexNetError
from alexnet.data.images import DecodeConfig
from alexnet.data.loader import iterate_split
from alexnet.data.prepared import PreparedDataset, Split
from alexnet.data.transforms import Preprocessor
from alexnet.distributed.process_group import all_gather_object
from alexnet.models.fusion import fuse
from alexnet.models.model_file import Classifier

CROPS_PER_BATCH = 128
DENSE = 0  # as a number of crops: the whole image at once, at every position the network fits in
TOP_K = 5
MIN_PROBABILITY = 1e-45  # the smallest float32: the loss of a probability of 0 stays finite

Models = Classifier | Sequence[Classifier]  # one model, or an ensemble
Item = TypeVar("Item")


def no_progress(done: int, total: int) -> None:
    """Report no progress: the default of functions that take a progress callback."""


@dataclass(frozen=True)
class Scores:
    """Errors in percent; top-5 is None with fewer than six classes, where it means nothing."""

    images: int
    top1_error: float
    top5_error: float | None
    loss: float

    def __iter__(self) -> Iterator[tuple[str, float | None]]:
        yield "top1_error", self.top1_error
        yield "top5_error", self.top5_error
        yield "loss", self.loss


@torch.inference_mode()
def probabilities(
    classifier: Classifier, images: np.ndarray, crops: int, runtime: Runtime
) -> Tensor:
    """Return class probabilities (N, classes), float32, of images (N, S, S, C), uint8.

    They are averaged over 1, 9 or 10 crops, or with DENSE over all positions.
    """
    model = classifier.model
    preprocessor = classifier.preprocessor
    if crops == DENSE:
        batch = preprocessor.normalize_whole(images, runtime.device, runtime.dtype)
        return model.dense(batch).float().softmax(1).mean((2, 3)).cpu()
    cropped = preprocessor.test_crops(images, crops)
    batch = preprocessor.normalize(
        cropped.reshape(-1, *cropped.shape[2:]), runtime.device, runtime.dtype
    )
    return fuse(model)(batch).float().softmax(1).unflatten(0, (len(images), -1)).mean(1).cpu()


def probabilities_per_model(
    classifiers: Sequence[Classifier],
    split: Split,
    crops: int,
    runtime: Runtime,
    progress: ProgressFn,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (probabilities (models, N, classes), labels (N,)) batch by batch, in stored order.

    With several ranks, each yields the batches rank, rank + world_size, and so on.
    """
    done = 0
    size = max(1, CROPS_PER_BATCH // (crops or 10))
    for images, labels in iterate_split(split, size, runtime.workers, runtime.ranks):
        each = [probabilities(classifier, images, crops, runtime) for classifier in classifiers]
        yield torch.stack(each), torch.from_numpy(labels)
        done += len(labels) * runtime.ranks.world_size
        progress(min(done, len(split)), len(split))


def predictions(
    classifiers: Models,
    split: Split,
    crops: int,
    runtime: Runtime,
    progress: ProgressFn = no_progress,
    weights: Tensor | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (probabilities (N, classes), labels (N,)) batch by batch, averaged over the models.

    `weights` (models,) sum to 1; None: equal ones. The order is as in `probabilities_per_model`.
    """
    models = as_ensemble(classifiers)
    if weights is None:
        weights = torch.full((len(models),), 1 / len(models))
    shares = weights.float()[:, None, None]
    for each, labels in probabilities_per_model(models, split, crops, runtime, progress):
        yield (shares * each).sum(0), labels


def evaluate(
    classifiers: Models,
    split: Split,
    crops: int,
    runtime: Runtime,
    progress: ProgressFn = no_progress,
    weights: Tensor | None = None,
) -> Scores:
    """Return the scores of a model, or of an ensemble with `weights`, on a split.

    The same on every rank: ranks exchange three numbers an image, not its probabilities.
    AlexNetError where the split is empty.
    """
    _require_images(split)
    models = as_ensemble(classifiers)
    credits = [
        _credits(batch, labels)
        for batch, labels in predictions(models, split, crops, runtime, progress, weights)
    ]
    gathered = all_gather_object(runtime.ranks, credits)
    return _scores(torch.cat(_in_stored_order(gathered)), models[0].model.num_classes)


def predict_split(
    classifiers: Models,
    split: Split,
    crops: int,
    runtime: Runtime,
    progress: ProgressFn = no_progress,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return (probabilities (N, classes), labels (N,)) of a whole split, on every rank.

    AlexNetError where it is empty.
    """
    _require_images(split)
    own = list(predictions(classifiers, split, crops, runtime, progress, weights))
    batches = _in_stored_order(all_gather_object(runtime.ranks, own))
    probability = torch.cat([batch for batch, _ in batches])
    return probability, torch.cat([labels for _, labels in batches])


def score(probability: Tensor, labels: Tensor) -> Scores:
    """Return the scores of probabilities (N, classes) against labels (N,)."""
    return _scores(_credits(probability, labels), probability.shape[1])


def as_ensemble(classifiers: Models) -> Sequence[Classifier]:
    """Return one classifier as an ensemble of one; an ensemble as it is."""
    return [classifiers] if isinstance(classifiers, Classifier) else classifiers


def _credits(probability: Tensor, labels: Tensor) -> Tensor:
    """Return each image's top-1 and top-5 credit and its loss, float64 (N, 3)."""
    correct = probability.gather(1, labels[:, None])
    loss = -correct.double().clamp_min(MIN_PROBABILITY).log()
    top1 = _top_k_credit(probability, correct, 1)
    top5 = _top_k_credit(probability, correct, TOP_K)
    return torch.cat([top1, top5, loss], 1)


def _top_k_credit(probability: Tensor, correct: Tensor, k: int) -> Tensor:
    """Return how far the correct class is among the first k, 0 to 1, float64 (N, 1).

    Equally probable classes share the positions left. NaN counts as wrong.
    """
    larger = (~(probability <= correct)).sum(1, keepdim=True)
    equal = (probability == correct).sum(1, keepdim=True).clamp_min(1)
    return ((k - larger) / equal).clamp(0, 1).double()


def _scores(credits: Tensor, classes: int) -> Scores:
    top1, top5, loss = credits.mean(0).tolist()
    top5_error = 100 * (1 - top5) if classes > TOP_K else None
    return Scores(len(credits), 100 * (1 - top1), top5_error, loss)


def _in_stored_order(by_rank: list[list[Item]]) -> list[Item]:
    """Merge the ranks' batches: batch b comes from rank b modulo world_size."""
    count = sum(map(len, by_rank))
    return [by_rank[batch % len(by_rank)][batch // len(by_rank)] for batch in range(count)]


# ---- checks before any work


def _require_images(split: Split) -> None:
    if not len(split):
        raise AlexNetError(
            f"{split.location}: the split {split.name} has no images; choose another with --split"
        )


def scored_split(dataset: PreparedDataset, name: str | None) -> Split:
    """Return the split of this name; without a name test, else val. AlexNetError if it is empty."""
    filled = {key: split for key, split in dataset.splits.items() if len(split)}
    if name is None:
        name = next((usual for usual in ("test", "val") if usual in filled), None)
    if name not in filled:
        raise AlexNetError(
            f"{dataset.location}: no images in a split {name or 'test or val'}; "
            f"it has {', '.join(filled)}; see --split"
        )
    return filled[name]


def require_same_classes(preprocessor: Preprocessor, dataset: PreparedDataset) -> None:
    """Raise AlexNetError unless a dataset's images and classes are those of a model."""
    if dataset.classes != preprocessor.classes:
        raise AlexNetError(
            f"{dataset.location}: its {len(dataset.classes)} classes are not the model's "
            f"{len(preprocessor.classes)}; use the dataset it was trained on"
        )
    require_same_images(preprocessor, dataset)


def require_same_images(preprocessor: Preprocessor, dataset: PreparedDataset) -> None:
    """Raise AlexNetError unless a dataset's images have a model's channels and size.

    Their classes may be others.
    """
    expected = preprocessor.decode_config
    actual = dataset.decode_config
    if (actual.channels, actual.size) != (expected.channels, expected.size):
        grayscale = " --grayscale" if expected.channels == 1 else ""
        raise AlexNetError(
            f"{dataset.location}: its records are {_describe_records(actual)}; "
            f"the model expects records prepared at {_describe_records(expected)}; "
            f"prepare with --size {expected.size}{grayscale}"
        )


def _describe_records(decode_config: DecodeConfig) -> str:
    colors = "RGB" if decode_config.channels == 3 else "grayscale"
    return f"{decode_config.size} x {decode_config.size} {colors}"
