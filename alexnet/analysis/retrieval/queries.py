"""Retrieval from start to end: open the model and the images, compute, and return what was found.

`save_features` and `find_neighbors` are what the commands `features` and `neighbors` call. The
rows, the searches and the sheet of images are in the other modules of this package.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

from alexnet.analysis.retrieval import features, neighbors
from alexnet.core.console import ProgressFn, Stage
from alexnet.core.device import Runtime
from alexnet.core.errors import UsageError
from alexnet.data.image_batches import find_images, from_files, from_split, is_dataset
from alexnet.data.prepared import Split, open_dataset
from alexnet.evaluation.evaluate import require_same_images, scored_split
from alexnet.models.model_file import load_classifier


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The results of all queries, how they were searched, and in which split and index."""

    results: tuple[neighbors.QueryResult, ...]
    method: str  # exact, faiss or codes
    split: Split
    index: Path


def save_features(
    path: Path,
    model: Path,
    inputs: Sequence[str],
    *,
    layer: str,
    split: str | None,
    runtime: Runtime,
    progress: ProgressFn,
) -> features.WrittenFeatures:
    """Write a layer's outputs for images, one float32 row each, to the .npy file `path`.

    `inputs` are image files, folders or patterns, or a single dataset, of which `split` is taken
    (None: test, else val). Raises UsageError for a wrong `path`, `layer` or `split`.
    """
    if path.suffix != ".npy":
        raise UsageError(f"--out {path}: expected a name that ends in .npy")
    classifier = load_classifier(model, runtime)
    if len(inputs) == 1 and is_dataset(inputs[0]):
        dataset = open_dataset(inputs[0])
        require_same_images(classifier.preprocessor, dataset)
        records = scored_split(dataset, split)
        total = len(records)
        batches = from_split(records, range(total), runtime.workers)
    elif split is None:
        files = find_images(inputs)
        total = len(files)
        batches = from_files(classifier.preprocessor, files, runtime.workers)
    else:
        raise UsageError(f"--split {split}: only a dataset has splits; expected a single one")
    return features.write_features(path, classifier, batches, total, layer, runtime, progress)


def find_neighbors(
    model: Path,
    dataset: str,
    images: Sequence[str],
    *,
    records: int | None,
    seed: int,
    top_k: int,
    split: str,
    layer: str,
    search: Literal["auto", "exact", "faiss"],
    hash_bits: int | None,
    keep_images: bool,
    runtime: Runtime,
    stage: Stage,
) -> Neighbors:
    """Find the records of a dataset's split that are nearest to images by a layer's output.

    Queries are image files, folders or patterns, and `records` random records of the test split,
    else val. `hash_bits`: compare binary codes of this length instead. With `keep_images` the
    first results keep their images, for a sheet. Raises UsageError for a wrong argument.
    """
    if not images and records is None:
        raise UsageError(
            "neighbors: found no image; expected some, or --records N for records of the dataset"
        )
    classifier = load_classifier(model, runtime)
    opened = open_dataset(dataset)
    require_same_images(classifier.preprocessor, opened)
    searched = scored_split(opened, split)
    method = neighbors.choose_search(search, hash_bits, len(searched))
    files = find_images(images)
    queries = [from_files(classifier.preprocessor, files, runtime.workers)]
    if records is not None:
        query_split = scored_split(opened, None)
        indices = neighbors.sample_queries(query_split, records, seed)
        queries.append(from_split(query_split, indices, runtime.workers))
    with stage("computing features", "records") as progress:
        index = features.load_or_build_index(
            model, classifier, opened, searched, layer, runtime, progress
        )
    with stage("learning the search", "steps" if hash_bits else "records") as progress:
        ready = neighbors.make_search(index, method, hash_bits, progress)
    query_results = neighbors.find_neighbors(
        index, classifier, chain(*queries), top_k, ready, runtime
    )
    limit = neighbors.MAX_SHEET_QUERIES if keep_images else 0
    results = tuple(neighbors.keep_images(query_results, limit))
    return Neighbors(results, method, searched, index.folder)
