"""Are an image's nearest neighbors of its class? The precision of the five nearest train images.

Queries are images of test, else val. Distances are Euclidean between a model's fc7 features,
between those of the same network untrained (seed 0), and between pixels: of the center crop, and of
the image resized to 32 x 32. The precision of chance is the frequency of the query's class in
train. The paper (section 6.1) says that features capture what pixels do not.

    python benchmarks/nearest_neighbors.py DATASET MODEL... --queries 500
"""

import argparse
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from alexnet.analysis.retrieval.features import Features, batch_features, squared_norms
from alexnet.analysis.retrieval.neighbors import sample_queries
from alexnet.analysis.retrieval.search import exact_search
from alexnet.core.device import Runtime, make_runtime
from alexnet.data.image_batches import ImageBatch, from_split
from alexnet.data.prepared import Split, open_dataset
from alexnet.evaluation.evaluate import require_same_images, scored_split
from alexnet.models.alexnet import AlexNet, init_weights
from alexnet.models.model_file import Classifier, load_classifier

TOP_K = 5
THUMBNAIL = 32  # pixels
Describe = Callable[[ImageBatch], Tensor]  # the vectors (n, dim) of a batch


def precision(
    describe: Describe, train: Split, queries: Split, indices: list[int], workers: int
) -> float:
    """Return the mean percentage of the nearest train images that are of the query's class."""
    batches = from_split(train, range(len(train)), workers)
    parts = tuple(describe(batch).half() for batch in batches)
    search = exact_search(Features(parts, torch.cat([squared_norms(part) for part in parts])))
    precisions = []
    for batch in from_split(queries, indices, workers):
        results = search(describe(batch).half(), TOP_K)
        for label, result in zip(batch.labels, results, strict=True):
            precisions.append(np.mean(train.labels[result.indices] == label))
    return 100 * float(np.mean(precisions))


def flatten(images: Iterable[np.ndarray]) -> Tensor:
    """Return images as vectors; pixels up to 255 are exact in float16."""
    return torch.from_numpy(np.stack([image.reshape(-1) for image in images])).float()


def describe_by_crop(classifier: Classifier, batch: ImageBatch) -> Tensor:
    """Return the pixels of the center crops."""
    return flatten(classifier.preprocessor.center_crop(np.stack(batch.readable)))


def describe_by_thumbnail(batch: ImageBatch) -> Tensor:
    """Return the pixels of the images at THUMBNAIL x THUMBNAIL."""
    size = (THUMBNAIL, THUMBNAIL)
    return flatten(
        np.asarray(Image.fromarray(square.squeeze()).resize(size, Image.Resampling.BOX))
        for square in batch.readable
    )


def descriptors(name: str, classifier: Classifier, runtime: Runtime) -> dict[str, Describe]:
    """Return the vectors by which the images of a model are compared."""
    model = classifier.model
    untrained_model = init_weights(AlexNet(model.spec, model.num_classes), seed=0)
    untrained_model.eval().to(runtime.device, runtime.dtype)
    untrained = replace(classifier, model=untrained_model)
    _, height, width = classifier.preprocessor.input_shape
    return {
        f"fc7 of {name}": partial(batch_features, classifier, layer="fc7", runtime=runtime),
        f"fc7 of {name}, untrained": partial(
            batch_features, untrained, layer="fc7", runtime=runtime
        ),
        f"pixels, {height} x {width}": partial(describe_by_crop, classifier),
        f"pixels, {THUMBNAIL} x {THUMBNAIL}": describe_by_thumbnail,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset")
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--queries", type=int, default=500)
    args = parser.parse_args()
    dataset = open_dataset(args.dataset)
    runtime = make_runtime()
    train = dataset.splits["train"]
    queries = scored_split(dataset, None)
    indices = sample_queries(queries, args.queries, seed=0)
    frequency = np.bincount(train.labels, minlength=len(dataset.classes)) / len(train)
    print(
        f"{len(indices)} queries of {queries.name}, {len(train)} images of train; "
        f"precision of the nearest {TOP_K}:"
    )
    print(f"chance: {100 * frequency[queries.labels[indices]].mean():.1f} %", flush=True)
    printed = set()
    for path in args.models:
        classifier = load_classifier(path, runtime)
        require_same_images(classifier.preprocessor, dataset)
        name = f"{path} ({classifier.recipe.name})"
        for title, describe in descriptors(name, classifier, runtime).items():
            if title in printed:  # pixels are the same for all models of an input size
                continue
            printed.add(title)
            percent = precision(describe, train, queries, indices, runtime.workers)
            print(f"{title}: {percent:.1f} %", flush=True)


if __name__ == "__main__":
    main()
