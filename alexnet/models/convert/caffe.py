"""Import Caffe's weights: a .caffemodel and its mean.binaryproto, as recipe `caffe` or `caffenet`.

The two networks have the same layers with the same shapes; only the order of norm1 and pool1 in
the file tells them apart. Caffe's color channels are blue, green, red: conv1's input channels and
the mean image are reversed here, once. All else is copied bit by bit, for grouped convolutions and
the order of fc6's inputs (channels, rows, columns) are the same as ours. Strides, padding and the
constants of the norms are not in the file: they are the recipe's. Formats older than V1 (2014) and
HDF5 are not supported.
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from math import prod
from pathlib import Path
from textwrap import shorten
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from alexnet.core.errors import AlexNetError
from alexnet.models.convert.imported import (
    IMAGE_SIZE,
    Imported,
    Sizes,
    constant_mean,
    expected_shapes,
    format_shape,
    require_file,
    require_fitting_weights,
    write_imported,
)
from alexnet.models.convert.protobuf import (
    BYTES,
    FIXED32,
    FIXED64,
    VARINT,
    MalformedMessage,
    fields,
    varints,
)
from alexnet.recipes.presets import get_recipe
from alexnet.recipes.recipe import Recipe


class LayerFields(NamedTuple):
    """The field numbers of a layer's name and of its blobs."""

    name: int
    blobs: int


# The fields of a NetParameter that hold layers: `layer` (V2) and `layers` (V1).
LAYER_FIELDS = {100: LayerFields(1, 7), 2: LayerFields(4, 6)}
# The fields of a BlobProto. The first four, num, channels, height and width, are the legacy shape.
LEGACY_AXES = 4
DATA_FIELD, SHAPE_FIELD, DOUBLE_DATA_FIELD = 5, 7, 8

# More than this is damage, and would take more memory than the file.
MAX_LAYERS = 1000
MAX_BLOBS = 16
MAX_AXES = 32
MAX_NAME_BYTES = 200

WEIGHTED = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
MEAN_COLOR = (123.0, 117.0, 104.0)  # R, G, B of ILSVRC-2012's train images, as Caffe rounds it

Blob = np.ndarray  # float32
T = TypeVar("T")


def import_caffe(
    file: Path,
    model: Path,
    mean: Path | None = None,
    classes: tuple[str, ...] | None = None,
    origin: Mapping[str, str] | None = None,
) -> Imported:
    """Write a model file with the weights of a .caffemodel.

    `mean`: its mean.binaryproto; without one, the mean is Caffe's mean color. `origin`: what else
    the model's provenance says. AlexNetError.
    """
    layers = read_caffemodel(file)
    recipe = _recipe_of(file, layers)
    blobs = _rename_blobs(file, layers)
    units = blobs["fc8.bias"].size
    shapes = expected_shapes(recipe, units)
    weights = {
        name: torch.from_numpy(_drop_leading_ones(blob, len(shapes[name])))
        for name, blob in blobs.items()
    }
    require_fitting_weights(file, weights, recipe, units)
    weights["conv1.weight"] = weights["conv1.weight"].flip(1)
    mean_image = constant_mean(*MEAN_COLOR) if mean is None else read_mean(mean)
    return write_imported(file, model, weights, recipe, mean_image, classes, origin)


def read_caffemodel(file: Path) -> dict[str, list[Blob]]:
    """Read every layer's blobs by the layer's name, in the file's order; AlexNetError.

    A layer without weights has no blobs.
    """
    layers: dict[str, list[Blob]] = {}
    for name, blobs in _parse_file(file, "a .caffemodel", _parse_layers):
        layers.setdefault(name, []).extend(blobs)
    return layers


def read_blob(file: Path) -> Blob:
    """Read a .binaryproto, a single blob, in the shape it has; AlexNetError."""
    return _parse_file(file, "a mean.binaryproto", _parse_blob)


def read_mean(file: Path) -> np.ndarray:
    """Read a mean.binaryproto, 3 x 256 x 256 in B, G, R, as a mean image; AlexNetError.

    Returns float32 (256, 256, 3) in R, G, B.
    """
    mean = _drop_leading_ones(read_blob(file), 3)
    if mean.shape != (3, IMAGE_SIZE, IMAGE_SIZE):
        raise AlexNetError(
            f"{file}: a mean image of {format_shape(mean.shape)}; "
            f"expected 3 x {IMAGE_SIZE} x {IMAGE_SIZE}"
        )
    if not np.isfinite(mean).all():
        raise AlexNetError(
            f"{file}: a mean image with values that are not finite; the file is damaged, "
            "restore it from a copy"
        )
    return np.ascontiguousarray(mean[::-1].transpose(1, 2, 0))


# ---- from Caffe's names to ours


def _recipe_of(file: Path, layers: dict[str, list[Blob]]) -> Recipe:
    """Return the recipe that has norm1 and pool1 in the file's order."""
    order = [name for name in layers if name in ("norm1", "pool1")]
    if len(order) < 2:
        raise AlexNetError(
            f"{file}: no layers norm1 and pool1; "
            "expected both, for their order tells bvlc_alexnet from caffenet"
        )
    return get_recipe("caffe" if order == ["norm1", "pool1"] else "caffenet")


def _rename_blobs(file: Path, layers: dict[str, list[Blob]]) -> dict[str, Blob]:
    """Return the blobs as conv1.weight ... fc8.bias.

    The last layer may have any name: fine-tuning on other classes renames it.
    """
    weighted = {name: blobs for name, blobs in layers.items() if blobs}
    if len(weighted) != len(WEIGHTED) or tuple(weighted)[:-1] != WEIGHTED[:-1]:
        actual = shorten(", ".join(weighted) or "none", 200)
        raise AlexNetError(
            f"{file}: its layers with weights are {actual}; expected {', '.join(WEIGHTED)}"
        )
    renamed: dict[str, Blob] = {}
    for ours, (theirs, blobs) in zip(WEIGHTED, weighted.items(), strict=True):
        if len(blobs) != 2:
            raise AlexNetError(
                f"{file}: {theirs} has {len(blobs)} blobs; expected two, weight and bias"
            )
        renamed[f"{ours}.weight"] = blobs[0]
        renamed[f"{ours}.bias"] = blobs[1]
    return renamed


def _drop_leading_ones(blob: Blob, axes: int) -> Blob:
    """Reshape the four axes of legacy files to as many as needed: 1 x 1 x 1 x 96 -> 96."""
    surplus = max(0, blob.ndim - axes)
    return blob.reshape(blob.shape[surplus:]) if set(blob.shape[:surplus]) <= {1} else blob


# ---- Caffe's messages


def _parse_file(file: Path, expected: str, parse: Callable[[memoryview], T]) -> T:
    """Return what `parse` makes of a file's bytes; AlexNetError where they are not a message."""
    try:
        return parse(memoryview(require_file(file, expected).read_bytes()))
    except MalformedMessage as error:
        raise AlexNetError(
            f"{file}: not {expected}, or a damaged one ({error}); restore it from a copy"
        ) from error
    except OSError as error:
        raise AlexNetError(
            f"{file}: cannot be read ({error.strerror}); expected {expected}"
        ) from error


def _parse_layers(message: memoryview) -> list[tuple[str, list[Blob]]]:
    """Return the name and the blobs of every layer in a NetParameter."""
    layers = (
        _parse_layer(field.data, LAYER_FIELDS[field.number])
        for field in fields(message)
        if field.wire_type == BYTES and field.number in LAYER_FIELDS
    )
    return _at_most(MAX_LAYERS, layers, "layers")


def _parse_layer(message: memoryview, numbers: LayerFields) -> tuple[str, list[Blob]]:
    blobs = (
        _parse_blob(field.data)
        for field in fields(message)
        if field.wire_type == BYTES and field.number == numbers.blobs
    )
    return _parse_name(message, numbers.name), _at_most(MAX_BLOBS, blobs, "blobs in a layer")


def _parse_name(message: memoryview, name_field: int) -> str:
    name = ""
    for number, wire_type, data in fields(message):
        if wire_type == BYTES and number == name_field:
            name = bytes(data[:MAX_NAME_BYTES]).decode("utf-8", "replace")
    if not name.isprintable():
        raise MalformedMessage(f"a layer of the name {name!r}")
    return name


def _parse_blob(message: memoryview) -> Blob:
    """Return a BlobProto as float32, writable.

    Its values are gathered in one buffer, packed or not, in any number of pieces.
    """
    legacy_shape = [0] * LEGACY_AXES
    shape: Sizes | None = None
    floats = bytearray()
    doubles = bytearray()
    for number, wire_type, data in fields(message):
        if wire_type == VARINT and number <= LEGACY_AXES:
            legacy_shape[number - 1] = next(varints(data))
        elif wire_type in (BYTES, FIXED32) and number == DATA_FIELD:
            floats += data
        elif wire_type in (BYTES, FIXED64) and number == DOUBLE_DATA_FIELD:
            doubles += data
        elif wire_type == BYTES and number == SHAPE_FIELD:
            shape = _parse_shape(data)
    return _reshape(_values(floats, doubles), tuple(legacy_shape) if shape is None else shape)


def _parse_shape(message: memoryview) -> Sizes:
    """Return the axes of a BlobShape, packed or not."""
    axes = (
        axis
        for number, wire_type, data in fields(message)
        if wire_type in (BYTES, VARINT) and number == 1
        for axis in varints(data)
    )
    return tuple(_at_most(MAX_AXES, axes, "axes in a blob"))


def _values(floats: bytearray, doubles: bytearray) -> Blob:
    """Return the numbers of a blob, which has either floats or doubles."""
    if len(floats) % 4 or len(doubles) % 8:
        raise MalformedMessage(
            f"a blob with {len(floats)} bytes of floats and {len(doubles)} of doubles; "
            "expected multiples of 4 and 8"
        )
    if not doubles:
        return np.frombuffer(floats, "<f4").astype(np.float32, copy=False)
    # what is too large becomes infinite, and is refused later by its name
    with np.errstate(over="ignore", invalid="ignore"):
        return np.frombuffer(doubles, "<f8").astype(np.float32)


def _reshape(values: Blob, shape: Sizes) -> Blob:
    if min(shape, default=1) < 1 or prod(shape) != values.size:
        raise MalformedMessage(f"a blob of {format_shape(shape)} with {values.size} values")
    return values.reshape(shape)


def _at_most(limit: int, items: Iterable[T], name: str) -> list[T]:
    """Return the items as a list; MalformedMessage where there are more than the limit."""
    first_items = list(islice(items, limit + 1))
    if len(first_items) > limit:
        raise MalformedMessage(f"more than {limit} {name}")
    return first_items
