"""Caffe's weights: a .caffemodel and its mean.binaryproto -> a model file of the recipe `caffe` or `caffenet`.

The two nets have the same layers with the same shapes; only the order of norm1 and pool1 in the file tells them apart. Caffe
sees blue, green, red: conv1's inputs and the mean image are turned round here, once, and everything else is taken bit by bit,
for grouped convolutions and the order of fc6's inputs (channels, rows, columns) are the same as ours. Strides, padding and the
norm's constants are not in the file: they are the recipe's. Not known: formats older than V1 of 2014, and HDF5.
"""

from collections.abc import Callable, Iterable
from itertools import islice
from math import prod
from pathlib import Path
from textwrap import shorten
from typing import TypeVar

import numpy as np
import torch

from alexnet.errors import AlexNetError
from alexnet.recipes.named import named
from alexnet.recipes.recipe import Recipe
from alexnet.weights.into_model import SIZE, Imported, Sizes, constant, existing, expected_shapes, must_fit, spelt, write
from alexnet.weights.wire import BYTES, FIXED32, FIXED64, VARINT, Damaged, fields, varints

# The fields of a NetParameter that hold a layer -> those of the layer's name and its blobs.
LAYER_FIELDS = {100: (1, 7), 2: (4, 6)}  # `layer` (V2), `layers` (V1)
MOST_LAYERS, MOST_BLOBS, MOST_AXES, LONGEST_NAME = 1000, 16, 32, 200  # more is damage, and would take more memory than the file

WEIGHTED = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
MEAN_COLOUR = (123.0, 117.0, 104.0)  # R, G, B of ILSVRC-2012's train pictures, as Caffe's documents round it

Blob = np.ndarray  # float32
Found = TypeVar("Found")


def import_caffe(file: Path, model: Path, mean: Path | None = None, classes: tuple[str, ...] | None = None) -> Imported:
    """Write a model file with the weights of a .caffemodel; without a mean file its mean is Caffe's mean colour. AlexNetError."""
    layers = read_caffemodel(file)
    recipe, blobs = _which(file, layers), _by_our_names(file, layers)
    units = blobs["fc8.bias"].size
    shapes = expected_shapes(recipe, units)
    weights = {name: torch.from_numpy(_without_leading_ones(blob, len(shapes[name]))) for name, blob in blobs.items()}
    must_fit(file, weights, recipe, units)
    weights["conv1.weight"] = weights["conv1.weight"].flip(1)
    return write(file, model, weights, recipe, constant(MEAN_COLOUR) if mean is None else read_mean(mean), classes)


def read_caffemodel(file: Path) -> dict[str, list[Blob]]:
    """Every layer's blobs by the layer's name, in the file's order; a layer without weights has none. AlexNetError."""
    layers: dict[str, list[Blob]] = {}
    for name, blobs in _read(file, "a .caffemodel", _layers):
        layers.setdefault(name, []).extend(blobs)
    return layers


def read_mean(file: Path) -> np.ndarray:
    """A mean.binaryproto, 3 x 256 x 256 in the order B, G, R, as a mean image float32 (256, 256, 3) in R, G, B. AlexNetError."""
    mean = _without_leading_ones(_read(file, "a mean.binaryproto", _blob), 3)
    if mean.shape != (3, SIZE, SIZE):
        raise AlexNetError(f"{file}: a mean image of {spelt(mean.shape)}; expected 3 x {SIZE} x {SIZE}")
    if not np.isfinite(mean).all():
        raise AlexNetError(f"{file}: a mean image with values that are no numbers; the file is damaged, restore it from a copy")
    return np.ascontiguousarray(mean[::-1].transpose(1, 2, 0))


# ---- which net, and whose weights


def _which(file: Path, layers: dict[str, list[Blob]]) -> Recipe:
    """The recipe whose order of norm1 and pool1 is the file's."""
    order = [name for name in layers if name in ("norm1", "pool1")]
    if len(order) < 2:
        raise AlexNetError(f"{file}: no layers norm1 and pool1; expected both, for their order tells bvlc_alexnet from caffenet")
    return named("caffe" if order == ["norm1", "pool1"] else "caffenet")


def _by_our_names(file: Path, layers: dict[str, list[Blob]]) -> dict[str, Blob]:
    """conv1.weight ... fc8.bias; the last layer may have any name, for who trains on with classes of their own renames it."""
    filled = {name: blobs for name, blobs in layers.items() if blobs}
    if len(filled) != len(WEIGHTED) or tuple(filled)[:-1] != WEIGHTED[:-1]:
        found = shorten(", ".join(filled) or "none", 200)
        raise AlexNetError(f"{file}: its layers with weights are {found}; expected {', '.join(WEIGHTED)}")
    for name, blobs in filled.items():
        if len(blobs) != 2:
            raise AlexNetError(f"{file}: {name} has {len(blobs)} blobs; expected two, weight and bias")
    pairs = zip(WEIGHTED, filled.values(), strict=True)
    return {f"{name}.{part}": blob for name, blobs in pairs for part, blob in zip(("weight", "bias"), blobs, strict=True)}


def _without_leading_ones(blob: Blob, axes: int) -> Blob:
    """A blob with so many axes where it has more only for the old habit of four: 1 x 1 x 1 x 96 -> 96."""
    surplus = max(0, blob.ndim - axes)
    return blob.reshape(blob.shape[surplus:]) if set(blob.shape[:surplus]) <= {1} else blob


# ---- the messages


def _read(file: Path, expected: str, parse: Callable[[memoryview], Found]) -> Found:
    """What a file's bytes say; nothing of them is kept."""
    try:
        return parse(memoryview(existing(file, expected).read_bytes()))
    except Damaged as error:
        raise AlexNetError(f"{file}: not {expected}, or a damaged one ({error}); restore it from a copy") from error
    except OSError as error:
        raise AlexNetError(f"{file}: cannot be read ({error.strerror}); expected {expected}") from error


def _layers(message: memoryview) -> list[tuple[str, list[Blob]]]:
    """The name and the blobs of every layer in a NetParameter."""
    found = (
        _layer(data, *LAYER_FIELDS[number]) for number, kind, data in fields(message) if kind == BYTES and number in LAYER_FIELDS
    )
    return _few(found, MOST_LAYERS, "layers")


def _layer(message: memoryview, name_field: int, blobs_field: int) -> tuple[str, list[Blob]]:
    blobs = (_blob(data) for number, kind, data in fields(message) if kind == BYTES and number == blobs_field)
    return _name(message, name_field), _few(blobs, MOST_BLOBS, "blobs in a layer")


def _name(message: memoryview, name_field: int) -> str:
    name = ""
    for number, kind, data in fields(message):
        if kind == BYTES and number == name_field:
            name = bytes(data[:LONGEST_NAME]).decode("utf-8", "replace")
    if not name.isprintable():
        raise Damaged(f"a layer of the name {name!r}")
    return name


def _blob(message: memoryview) -> Blob:
    """A BlobProto as float32, writable; its values are gathered in one buffer, packed or not, in any number of pieces."""
    old, shape, floats, doubles = [0, 0, 0, 0], None, bytearray(), bytearray()
    for number, kind, data in fields(message):
        if kind == VARINT and number <= len(old):  # num, channels, height, width
            old[number - 1] = next(varints(data))
        elif kind in (BYTES, FIXED32) and number == 5:
            floats += data
        elif kind in (BYTES, FIXED64) and number == 8:
            doubles += data
        elif kind == BYTES and number == 7:
            shape = _shape(data)
    return _shaped(_values(floats, doubles), tuple(old) if shape is None else shape)


def _shape(message: memoryview) -> Sizes:
    """The axes of a BlobShape, packed or not."""
    packs = (data for number, kind, data in fields(message) if kind in (BYTES, VARINT) and number == 1)
    return tuple(_few((size for pack in packs for size in varints(pack)), MOST_AXES, "axes in a blob"))


def _values(floats: bytearray, doubles: bytearray) -> Blob:
    if len(floats) % 4 or len(doubles) % 8:
        raise Damaged(f"a blob with {len(floats)} bytes of floats and {len(doubles)} of doubles; expected multiples of 4 and 8")
    if not doubles:
        return np.frombuffer(floats, "<f4").astype(np.float32, copy=False)
    with np.errstate(over="ignore", invalid="ignore"):  # what is too large becomes infinite and is refused later, by name
        return np.frombuffer(doubles, "<f8").astype(np.float32)


def _shaped(values: Blob, shape: Sizes) -> Blob:
    if min(shape, default=1) < 1 or prod(shape) != values.size:
        raise Damaged(f"a blob of {spelt(shape)} with {values.size} values")
    return values.reshape(shape)


def _few(found: Iterable[Found], most: int, what: str) -> list[Found]:
    """All that is found; Damaged where it is more than any file of use holds."""
    taken = list(islice(found, most + 1))
    if len(taken) > most:
        raise Damaged(f"more than {most} {what}")
    return taken
