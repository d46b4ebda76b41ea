"""Feature vectors: what a network computes of images at one layer, exported or indexed for search.

A feature vector is a layer's output for the center crop, flattened (channels, rows, columns); the
paper's is fc7 (section 6.1). Exported features (`write_features`) are float32, in the order of the
images. The index of a split (`load_or_build_index`) is float16, half as much to read and precise
enough: a folder of parts next to the model file, each with its own checksum and with the model,
dataset, split, layer and precision it was computed from. A part that does not match is computed
again, a kill loses at most the part in progress, and finished parts are memory-mapped, so memory
holds one part at most. Nothing here compares features.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from alexnet.core.atomic_io import atomic_write, write_bytes, write_error
from alexnet.core.device import Runtime
from alexnet.core.errors import AlexNetError, UsageError
from alexnet.core.safetensors_io import read_tensors, write_tensors
from alexnet.data.dataset_format import file_hash
from alexnet.data.image_batches import ImageBatch, from_split
from alexnet.data.prefetch import prefetch
from alexnet.data.prepared import PreparedDataset, Split
from alexnet.evaluation.evaluate import ProgressFn
from alexnet.models.alexnet import AlexNet
from alexnet.models.model_file import Classifier

FORMAT = "alexnet-features/1"
MAX_PART_IMAGES = 512  # what a kill can lose, and how often progress is reported
MAX_PART_VALUES = 2**24


@dataclass(frozen=True)
class WrittenFeatures:
    """What `write_features` wrote: the images' names, and (name, reason) of unreadable images."""

    names: tuple[str, ...]
    dim: int
    unreadable: tuple[tuple[str, str], ...]


@dataclass(frozen=True, eq=False)
class Features:
    """Feature vectors for search: float16 in parts of equal length (the last may be shorter)."""

    parts: tuple[Tensor, ...] = field(repr=False)  # each (n, dim)
    squared_norms: Tensor = field(repr=False)  # float64 (N,)

    def __len__(self) -> int:
        return len(self.squared_norms)

    @property
    def dim(self) -> int:
        """Values in a feature vector."""
        return self.parts[0].shape[1]

    def take(self, indices: Sequence[int] | np.ndarray) -> Tensor:
        """Return the features of these indices, float16 (len(indices), dim)."""
        length = len(self.parts[0])
        return torch.stack([self.parts[i // length][i % length] for i in map(int, indices)])


@dataclass(frozen=True, eq=False)
class FeatureIndex:
    """The features of a split, the folder they are stored in and what they were computed from."""

    features: Features
    dataset: PreparedDataset
    split: Split
    layer: str
    folder: Path
    metadata: Mapping[str, Any]


# ---- computing features


def feature_dim(model: AlexNet, layer: str) -> int:
    """Return the number of values of a layer's output; UsageError where there is no such layer."""
    dims = {getattr(step.layer, "name", ""): prod(step.out_shape) for step in model.shapes}
    dims["prob"] = model.num_classes
    if not layer or layer not in dims:
        names = ", ".join(filter(None, dims))
        raise UsageError(f"--layer {layer}: no such layer in this network; it has {names}")
    return dims[layer]


@torch.inference_mode()
def extract_features(
    classifier: Classifier, squares: np.ndarray, layer: str, runtime: Runtime
) -> Tensor:
    """Return a layer's output (N, dim), float32 on the CPU, for squares uint8 (N, S, S, C)."""
    preprocessor = classifier.preprocessor
    crops = preprocessor.center_crop(squares)
    inputs = preprocessor.normalize(crops, runtime.device, runtime.dtype)
    outputs = classifier.model.forward_intermediates(inputs)
    return outputs[layer].float().flatten(1).cpu()


def batch_features(
    classifier: Classifier, batch: ImageBatch, layer: str, runtime: Runtime
) -> Tensor:
    """Return the features float32 (n, dim) of a batch's readable images."""
    if not batch.readable:
        return torch.empty(0, feature_dim(classifier.model, layer))
    return extract_features(classifier, np.stack(batch.readable), layer, runtime)


def squared_norms(features: Tensor) -> Tensor:
    """Return the squared Euclidean norms of features (n, dim), float64 (n,)."""
    return torch.stack([feature.double().square().sum() for feature in features])


# ---- exporting features


def write_features(
    path: Path,
    classifier: Classifier,
    batches: Iterator[ImageBatch],
    total: int,
    layer: str,
    runtime: Runtime,
    progress: ProgressFn,
) -> WrittenFeatures:
    """Write PATH, a .npy of float32 (images, dim), and next to it the names, a JSON string a line.

    The order is that of the images; unreadable images are left out. AlexNetError where the files
    cannot be written.
    """
    names: list[str] = []
    unreadable: list[tuple[str, str]] = []
    dim = feature_dim(classifier.model, layer)
    done = 0
    try:
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            _write_npy_header(file, 0, dim)
            for batch in batches:
                unreadable += batch.unreadable
                names += batch.readable_only.names
                features = batch_features(classifier, batch, layer, runtime)
                file.write(features.numpy().astype("<f4").data)
                done += len(batch.names)
                progress(done, total)
            file.seek(0)
            _write_npy_header(file, len(names), dim)
    except OSError as error:
        raise write_error(path, error) from error
    lines = "".join(json.dumps(name) + "\n" for name in names)
    write_bytes(names_path(path), lines.encode())
    return WrittenFeatures(tuple(names), dim, tuple(unreadable))


def names_path(path: Path) -> Path:
    """Return the path of the images' names for the features written to `path`."""
    return path.with_suffix(".names")


def _write_npy_header(file: IO[bytes], images: int, dim: int) -> None:
    """Write a .npy header.

    numpy pads it for any number of rows, so it can be overwritten once the images are counted.
    """
    header = {"descr": "<f4", "fortran_order": False, "shape": (images, dim)}
    np.lib.format.write_array_header_1_0(file, header)


# ---- the index of a split


def load_or_build_index(
    model_path: Path,
    classifier: Classifier,
    dataset: PreparedDataset,
    split: Split,
    layer: str,
    runtime: Runtime,
    progress: ProgressFn,
) -> FeatureIndex:
    """Return the features of a split, read from the index next to the model file or computed.

    `progress` receives (done, total) images. AlexNetError where the split is empty, a value is
    beyond float16, or the index cannot be written.
    """
    if not len(split):
        raise AlexNetError(
            f"{dataset.location}: the split {split.name} has no images; choose another with --split"
        )
    metadata = {
        "model": file_hash(model_path),
        "dataset_digest": dataset.digest,
        "split": split.name,
        "layer": layer,
        "precision": runtime.precision,
    }
    folder = index_folder(model_path, dataset, split, layer)
    length = max(1, min(MAX_PART_IMAGES, MAX_PART_VALUES // feature_dim(classifier.model, layer)))
    starts = range(0, len(split), length)
    spans = [range(start, min(start + length, len(split))) for start in starts]
    stored = prefetch((_part_reader(folder, span, metadata) for span in spans), runtime.workers)
    parts = []
    for span, part in zip(spans, stored, strict=True):
        parts.append(part or _build_part(folder, span, metadata, classifier, split, runtime))
        progress(span.stop, len(split))
    features = Features(
        tuple(part["features"] for part in parts),
        torch.cat([part["squared_norms"] for part in parts]),
    )
    return FeatureIndex(features, dataset, split, layer, folder, metadata)


def index_folder(model_path: Path, dataset: PreparedDataset, split: Split, layer: str) -> Path:
    """Return the folder of a split's index, next to the model file."""
    name = f"{model_path.name}.{layer}.{split.name}.{dataset.digest[:12]}.index"
    return model_path.with_name(name)


def part_path(folder: Path, span: range) -> Path:
    """Return the file of the part that begins with image `span.start`."""
    return folder / f"{span.start:09d}.safetensors"


def read_if_current(path: Path, metadata: Mapping[str, Any]) -> dict[str, Tensor] | None:
    """Read a file of an index; None where it is missing, damaged or has other metadata."""
    try:
        tensors, metadata_read = read_tensors(path, FORMAT)
    except AlexNetError:
        return None
    return tensors if metadata_read == metadata else None


def _part_metadata(metadata: Mapping[str, Any], span: range) -> dict[str, Any]:
    return {**metadata, "images": [span.start, span.stop]}


def _part_reader(
    folder: Path, span: range, metadata: Mapping[str, Any]
) -> Callable[[], dict[str, Tensor] | None]:
    return partial(read_if_current, part_path(folder, span), _part_metadata(metadata, span))


def _build_part(
    folder: Path,
    span: range,
    metadata: Mapping[str, Any],
    classifier: Classifier,
    split: Split,
    runtime: Runtime,
) -> dict[str, Tensor]:
    """Compute the features of a part, write its file and return it memory-mapped."""
    layer = metadata["layer"]
    batches = from_split(split, span, runtime.workers)
    features = torch.cat(
        [batch_features(classifier, batch, layer, runtime).half() for batch in batches]
    )
    _require_finite(features, span, split, layer)
    tensors = {"features": features, "squared_norms": squared_norms(features)}
    path = part_path(folder, span)
    write_tensors(path, FORMAT, tensors, _part_metadata(metadata, span))
    return read_tensors(path, FORMAT)[0]


def _require_finite(features: Tensor, span: range, split: Split, layer: str) -> None:
    """Raise AlexNetError where a feature (n, dim) is not finite in float16."""
    if features.isfinite().all():
        return
    row = int((~features.isfinite()).any(1).nonzero()[0])
    limit = f"{torch.finfo(features.dtype).max:,.0f}"
    raise AlexNetError(
        f"image {span[row]} of {split.name}: {layer} is NaN or beyond {limit}, "
        "the largest float16; choose another --layer"
    )
