"""Compare an exported model with the native network, image by image, before its file is kept."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from alexnet.core.device import Runtime
from alexnet.core.errors import AlexNetError
from alexnet.data.image_batches import find_images, from_files
from alexnet.data.synthetic import draw_image
from alexnet.data.synthetic_figures import CLASSES
from alexnet.data.transforms import Preprocessor
from alexnet.evaluation.evaluate import probabilities
from alexnet.inference.export.exported import Agreement
from alexnet.inference.export.options import ExportOptions, Weights
from alexnet.models.model_file import Classifier

BATCH_SIZE = 16
# Of a probability. float32 sums have another order in another engine. A float16 weight is off by up
# to 1 in 2,000 of itself, an int8 weight by 1 in 250 of its row's largest: where two classes are
# about equal, that moves their probabilities.
TOLERANCES: dict[Weights, float] = {"float32": 1e-5, "half": 1e-2, "int8": 0.2}
RUNTIME = Runtime(torch.device("cpu"), torch.float32, workers=1)

# From the input that the options name, as an array, to probabilities (N, classes)
Run = Callable[[np.ndarray], np.ndarray]


def check(
    classifier: Classifier,
    options: ExportOptions,
    run: Run,
    files: Sequence[Path],
) -> Agreement:
    """Compare the probabilities of an exported model with those of `classifier`, in float32.

    `files`: images, or folders of them; none: one synthetic image of each class. AlexNetError
    where a probability differs by more than the weights explain, or an image cannot be read.
    """
    tolerance = TOLERANCES[options.weights]
    images = 0
    same_top1 = 0
    differences = []
    for squares in _square_batches(classifier.preprocessor, files):
        expected = probabilities(classifier, squares, options.crops, RUNTIME).numpy()
        actual = run(model_input(classifier.preprocessor, options, squares))
        images += len(squares)
        same_top1 += int((expected.argmax(1) == actual.argmax(1)).sum())
        differences.append(np.abs(expected - actual).max())
    agreement = Agreement(images, float(np.max(differences)), same_top1, tolerance)
    if not agreement.max_difference <= tolerance:  # also where it is NaN
        raise AlexNetError(
            f"the exported model differs from the network by {agreement.max_difference:.2g} in a "
            f"probability on {images} images, expected {tolerance:g} at most; nothing was written"
        )
    return agreement


def model_input(
    preprocessor: Preprocessor, options: ExportOptions, squares: np.ndarray
) -> np.ndarray:
    """Return what an exported model takes for squares uint8 (N, S, S, C)."""
    if options.input == "square":
        return squares
    crops = preprocessor.center_crop(squares)
    if options.input == "crop":
        return crops
    return np.ascontiguousarray(preprocessor.normalize(crops).numpy())


def _square_batches(preprocessor: Preprocessor, files: Sequence[Path]) -> Iterator[np.ndarray]:
    """Yield squares uint8 (N, S, S, C) of image files, or of synthetic images where there are none.

    AlexNetError for a file that cannot be read.
    """
    if not files:
        images = [draw_image(label, number=0) for label in CLASSES]
        yield np.stack([preprocessor.decode_square(image) for image in images])
        return
    paths = find_images([str(file) for file in files])
    for batch in from_files(preprocessor, paths, RUNTIME.workers, BATCH_SIZE):
        for name, reason in batch.unreadable:
            raise AlexNetError(f"{name}: {reason}; expected images to check the exported model")
        yield np.stack(batch.readable)
