"""Find the images of a dataset that excite each unit most, for all units of a network in one pass.

A unit of a convolution is one of its maps: its value for an image is the largest on the map, before
any activation function, and the position where it is. A fully connected unit's value is its output
(after the activation function, in hidden layers). Memory holds one batch and the best so far of
every unit. The result is kept in the cache folder under the hashes of model and dataset.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from alexnet.analysis.computation import Computation
from alexnet.core.cache import cache_folder
from alexnet.core.device import Runtime
from alexnet.core.errors import AlexNetError, UsageError
from alexnet.core.safetensors_io import read_tensors, write_tensors
from alexnet.data.dataset_format import file_hash
from alexnet.data.image_batches import from_split
from alexnet.data.prepared import PreparedDataset, Split
from alexnet.models.alexnet import AlexNet
from alexnet.models.model_file import Classifier
from alexnet.recipes.layers import WeightedLayer

FORMAT = "alexnet-top-images/1"
TOP_K = 9
MAX_IMAGES = 10_000  # of a split; the order in which images are stored is random
BATCH_SIZE = 16  # the work of one step


@dataclass(frozen=True, eq=False)
class LayerTop:
    """The strongest images of a layer's units, strongest first; each array is (units, k)."""

    value: Tensor  # float32
    index: Tensor  # int64, in the split
    position: Tensor  # int64, row * columns + column on the unit's map


@dataclass(frozen=True, eq=False)
class TopImages:
    """The strongest images of all units, by layer, among the first `images` of a split."""

    split: str
    images: int
    layers: Mapping[str, LayerTop]

    def of_unit(self, layer: str, unit: int) -> list[tuple[int, float, int]]:
        """Return (index, value, position) of a unit's images, strongest first; UsageError."""
        if layer not in self.layers:
            raise UsageError(f"layer {layer!r}: expected one of {', '.join(self.layers)}")
        top = self.layers[layer]
        if not 0 <= unit < len(top.value):
            raise UsageError(f"{layer}: no unit {unit}; it has {len(top.value)}")
        rows = top.index[unit], top.value[unit], top.position[unit]
        return list(zip(*(row.tolist() for row in rows), strict=True))


def searched_split(dataset: PreparedDataset) -> Split:
    """Return the split to search: val, where it has images, else train."""
    val = dataset.splits.get("val")
    return val if val is not None and len(val) else dataset.splits["train"]


def find_top_images(
    classifier: Classifier, split: Split, runtime: Runtime, top_k: int = TOP_K
) -> Computation[TopImages]:
    """Compute the strongest images of every unit step by step; the generator returns them.

    Of equal values the image that is stored first comes first.
    """
    total = min(len(split), MAX_IMAGES)
    best: dict[str, LayerTop] = {}
    done = 0
    for batch in from_split(split, range(total), runtime.workers, BATCH_SIZE):
        for name, (value, position) in unit_values(
            classifier, np.stack(batch.readable), runtime
        ).items():
            index = torch.arange(done, done + len(batch.names)).expand_as(value)
            found_now = LayerTop(value, index, position)
            best[name] = _strongest(best.get(name), found_now, top_k)
        done += len(batch.names)
        yield done, total
    return TopImages(split.name, total, best)


@torch.inference_mode()
def unit_values(
    classifier: Classifier, squares: np.ndarray, runtime: Runtime
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return every unit's largest value and its position, (units, N) each, by layer.

    `squares` uint8 (N, S, S, C).
    """
    preprocessor = classifier.preprocessor
    crops = preprocessor.center_crop(squares)
    inputs = preprocessor.normalize(crops, runtime.device, runtime.dtype)
    outputs = classifier.model.forward_intermediates(inputs)
    values = {}
    for name in unit_layers(classifier.model):
        strongest = (
            outputs[name].flatten(2) if outputs[name].dim() == 4 else outputs[name][..., None]
        )
        value, position = strongest.float().cpu().max(2)
        values[name] = value.T, position.T
    return values


def unit_layers(model: AlexNet) -> list[str]:
    """Return the names of the layers that have units: convolutions and fully connected ones."""
    return [shape.name for shape in model.shapes if isinstance(shape.layer, WeightedLayer)]


def _strongest(before: LayerTop | None, new: LayerTop, top_k: int) -> LayerTop:
    """Merge what was strongest so far with the values of a batch."""
    if before is not None:
        new = LayerTop(
            torch.cat([before.value, new.value], 1),
            torch.cat([before.index, new.index], 1),
            torch.cat([before.position, new.position], 1),
        )
    order = new.value.sort(dim=1, descending=True, stable=True).indices[:, :top_k]
    return LayerTop(
        new.value.gather(1, order), new.index.gather(1, order), new.position.gather(1, order)
    )


# ---- the cache


def load_or_find_top_images(
    model_path: Path,
    classifier: Classifier,
    dataset: PreparedDataset,
    runtime: Runtime,
) -> Computation[TopImages]:
    """Return what `find_top_images` does, read from the cache where it is there."""
    split = searched_split(dataset)
    about: dict[str, Any] = {
        "model": file_hash(model_path),
        "dataset": dataset.digest,
        "split": split.name,
        "images": min(len(split), MAX_IMAGES),
        "precision": runtime.precision,
    }
    name = f"{about['model'][:16]}-{about['dataset'][:16]}-{about['precision']}.safetensors"
    path = cache_folder() / "top-images" / name
    stored = _read(path, about)
    if stored is None:
        stored = yield from find_top_images(classifier, split, runtime)
        _write(path, stored, about)
    return stored


def _read(path: Path, about: Mapping[str, Any]) -> TopImages | None:
    """Return the cached result; None where it is missing, damaged or of something else."""
    try:
        tensors, stored_about = read_tensors(path, FORMAT)
    except AlexNetError:
        return None
    if stored_about != about:
        return None
    names = dict.fromkeys(key.rpartition(".")[0] for key in tensors)
    layers = {
        name: LayerTop(
            tensors[f"{name}.value"], tensors[f"{name}.index"], tensors[f"{name}.position"]
        )
        for name in names
    }
    return TopImages(about["split"], about["images"], layers)


def _write(path: Path, result: TopImages, about: Mapping[str, Any]) -> None:
    tensors: dict[str, Tensor] = {}
    for name, top in result.layers.items():
        tensors |= {f"{name}.{part}": tensor for part, tensor in vars(top).items()}
    write_tensors(path, FORMAT, tensors, about)
