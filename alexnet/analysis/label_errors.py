"""Find images whose label is likely wrong, also among those a network was trained on.

A network's own probabilities say little about images it was trained on: it may have learned their
wrong labels by heart. So each image is judged by the others: a linear classifier (ridge regression
to the classes) is fitted on features of the last three convolutions, which learn few labels by
heart, and the first fully connected layer; and for each image the prediction of the classifier
fitted without it is taken. That has a closed form, Allen's PRESS (1974): with the hat
matrix H, prediction i without image i is (p_i - H_ii y_i) / (1 - H_ii). As in confident learning
(Northcutt, Jiang and Chuang 2021) all predictions are out-of-sample, and the most suspicious image
is that whose given class is the furthest behind another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from alexnet.analysis.computation import Computation
from alexnet.core.device import Runtime
from alexnet.core.errors import AlexNetError
from alexnet.core.rng import key, normal
from alexnet.data.image_batches import from_split
from alexnet.data.prepared import PreparedDataset, Split
from alexnet.models.alexnet import AlexNet
from alexnet.models.model_file import Classifier
from alexnet.recipes.layers import Linear, WeightedLayer

MAX_IMAGES = 20_000  # of a split; the order in which images are stored is random
BATCH_SIZE = 16  # the work of one step
NUM_MAPS = 3  # layers with maps whose features are compared
POOLED = 3  # rows and columns that maps are averaged to
MAX_DIM = 256  # longer features are projected at random, which keeps distances and products
MAX_LEVERAGE = 1 - 1e-6  # of an image that alone decides its prediction
PENALTIES = tuple(10 ** (exponent / 2) for exponent in range(-6, 3))  # of the mean variance


@dataclass(frozen=True)
class Suspect:
    """An image of a split whose label may be wrong; `score`: how far `suggested` is ahead."""

    split: str
    index: int
    given_label: int
    suggested: int
    score: float


def find_label_errors(
    classifier: Classifier, dataset: PreparedDataset, runtime: Runtime
) -> Computation[tuple[Suspect, ...]]:
    """Rank the images of all splits, the most suspicious first, step by step.

    Only images whose given class is behind another are listed. AlexNetError where a feature is not
    finite.
    """
    splits = [split for split in dataset.splits.values() if len(split)]
    counts = [min(MAX_IMAGES, len(split)) for split in splits]
    layers = feature_layers(classifier.model)
    parts = []
    done = 0
    for split, count in zip(splits, counts, strict=True):
        for batch in from_split(split, range(count), runtime.workers, BATCH_SIZE):
            parts.append(label_features(classifier, np.stack(batch.readable), layers, runtime))
        if not all(features.isfinite().all() for features in parts[-1]):
            raise AlexNetError("the model's features are not finite; use another model")
            done += len(batch.names)
            yield done, sum(counts)
    labels = [split.labels[:count] for split, count in zip(splits, counts, strict=True)]
    features = [torch.cat(part) for part in zip(*parts, strict=True)]  # a tensor for each layer
    predicted = predict_without_each(
        features, torch.from_numpy(np.concatenate(labels)), len(dataset.classes)
    )
    return rank(splits, counts, predicted)


def feature_layers(model: AlexNet) -> list[str]:
    """Return the layers whose features are compared: conv3, conv4, conv5 and fc6 in most."""
    weighted = [shape for shape in model.shapes if isinstance(shape.layer, WeightedLayer)]
    hidden = [shape.name for shape in weighted if isinstance(shape.layer, Linear)][:-1]
    maps = [shape.name for shape in weighted if not isinstance(shape.layer, Linear)]
    return [*maps[-NUM_MAPS:], *hidden[:1]]


@torch.inference_mode()
def label_features(
    classifier: Classifier, squares: np.ndarray, layers: list[str], runtime: Runtime
) -> list[Tensor]:
    """Return features float32 (N, at most MAX_DIM) of each layer for squares uint8 (N, S, S, C)."""
    preprocessor = classifier.preprocessor
    inputs = preprocessor.normalize(
        preprocessor.center_crop(squares), runtime.device, runtime.dtype
    )
    outputs = classifier.model.forward_intermediates(inputs)
    return [project(outputs[layer].float().cpu()) for layer in layers]


def project(output: Tensor) -> Tensor:
    """Return a layer's output as features (N, dim): maps averaged, many values projected."""
    if output.dim() == 4 and output.shape[2] > POOLED:
        output = F.adaptive_avg_pool2d(output, POOLED)
    features = output.flatten(1)
    if features.shape[1] <= MAX_DIM:
        return features
    return features @ random_directions(features.shape[1])


@cache
def random_directions(dim: int) -> Tensor:
    """Return MAX_DIM directions drawn at random, always the same: float32 (dim, MAX_DIM)."""
    directions = normal(key("projection", np.arange(dim)), MAX_DIM) / MAX_DIM**0.5
    return torch.from_numpy(directions).float()


def predict_without_each(features: Sequence[Tensor], labels: Tensor, classes: int) -> Tensor:
    """Return the prediction of each image by the others (N, classes).

    `features`: of each layer (N, dim), brought to mean 0 and length 1 first; `labels` (N,). The
    penalty is the one whose predictions are the closest to the labels, by squared error.
    """
    x = torch.cat([F.normalize(each - each.mean(0)) for each in features], 1)
    x = x - x.mean(0)
    targets = F.one_hot(labels, classes).to(x.dtype)
    variance, directions = torch.linalg.eigh(x.T @ x)
    components = x @ directions
    penalties = [share * float(variance.mean()) for share in PENALTIES]
    # one after the other: for a thousand classes each takes as much memory as the features
    candidates = (_without_each(components, variance, targets, each) for each in penalties)
    return min(candidates, key=lambda predicted: float((predicted - targets).square().mean()))


def _without_each(components: Tensor, variance: Tensor, targets: Tensor, penalty: float) -> Tensor:
    """Return the predictions of ridge regressions that each leave out one image: (N, classes).

    `components` (N, dim): centered features along their principal components, whose sums of
    squares are `variance`; `targets` (N, classes).
    """
    prior = targets.mean(0)
    inverse = 1 / (variance.clamp_min(0) + penalty)
    fitted = prior + components @ (inverse[:, None] * (components.T @ (targets - prior)))
    leverage = components.square() @ inverse + 1 / len(targets)
    leverage = leverage.clamp_max(MAX_LEVERAGE)[:, None]
    return (fitted - leverage * targets) / (1 - leverage)


def rank(splits: list[Split], counts: list[int], predicted: Tensor) -> tuple[Suspect, ...]:
    """Return the images whose given class is behind another, by predictions (N, classes).

    `counts`: how many of the first images of each split were predicted.
    """
    images = [
        (split, index)
        for split, count in zip(splits, counts, strict=True)
        for index in range(count)
    ]
    labels = torch.tensor([split.labels[index] for split, index in images])
    margin, suggested = margins(predicted, labels)
    suspects = []
    for i in margin.sort(descending=True, stable=True).indices.tolist():
        if margin[i] <= 0:
            break
        split, index = images[i]
        suspects.append(
            Suspect(split.name, index, int(labels[i]), int(suggested[i]), float(margin[i]))
        )
    return tuple(suspects)


def margins(predicted: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return how far the best other class is ahead of the given one, and which it is: (N,) each."""
    own = predicted.gather(1, labels[:, None])
    others = predicted.scatter(1, labels[:, None], -torch.inf)
    best = others.max(1)
    return best.values - own[:, 0], best.indices
