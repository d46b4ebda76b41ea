"""Score a model on a split and find where it errs: by class, by pair of classes, image by image.

Each image is judged by its center crop. Of the probabilities only the largest is kept, so that a
large split takes little memory.
"""

from dataclasses import dataclass

import numpy as np
import torch

from alexnet.analysis.computation import Computation
from alexnet.core.device import Runtime
from alexnet.core.errors import AlexNetError
from alexnet.data.loader import iterate_split
from alexnet.data.prepared import Split
from alexnet.evaluation.evaluate import Scores, probabilities, score
from alexnet.models.model_file import Classifier

BATCH_SIZE = 16  # the work of one step


@dataclass(frozen=True, eq=False)
class SplitMistakes:
    """The scores of a split, and each image's predicted class and its probability.

    `predicted` int64 (N,), `probability` float32 (N,).
    """

    split: Split
    scores: Scores
    predicted: np.ndarray
    probability: np.ndarray

    def cell(self, label: int, predicted: int) -> np.ndarray:
        """Return the indices of the images of a class that were predicted as another, in order."""
        return np.flatnonzero((self.split.labels == label) & (self.predicted == predicted))

    def worst(self, count: int) -> np.ndarray:
        """Return the indices of wrong predictions, those with the largest probability first."""
        wrong = np.flatnonzero(self.split.labels != self.predicted)
        return wrong[np.argsort(-self.probability[wrong], kind="stable")][:count]


def find_mistakes(
    classifier: Classifier, split: Split, runtime: Runtime
) -> Computation[SplitMistakes]:
    """Predict all images of a split step by step.

    AlexNetError where it has none, or where a probability is not finite.
    """
    if not len(split):
        raise AlexNetError(f"{split.location}: the split {split.name} has no images")
    batches = []
    done = 0
    for images, _ in iterate_split(split, BATCH_SIZE, runtime.workers):
        batches.append(probabilities(classifier, images, 1, runtime))
        if not batches[-1].isfinite().all():
            raise AlexNetError("the model's outputs are not finite; use another model")
        done += len(images)
        yield done, len(split)
    probability = torch.cat(batches)
    largest, predicted = probability.max(1)
    scores = score(probability, torch.from_numpy(split.labels))
    return SplitMistakes(split, scores, predicted.numpy(), largest.numpy())
