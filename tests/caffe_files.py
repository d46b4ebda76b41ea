"""Caffe's files as protobuf itself writes them: the messages we read, described field by field."""

from dataclasses import replace
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from alexnet.network.geometry import bias_shape, plan, weight_shape
from alexnet.recipes.layers import Full, Weighted
from alexnet.recipes.recipe import Recipe

KINDS = {"double": 1, "float": 2, "int64": 3, "int32": 5, "bool": 8, "string": 9, "message": 11, "enum": 13}  # enum: as uint32
# message -> field -> (number, kind, whether repeated, whether packed, the message it holds)
SCHEMA: dict[str, dict[str, tuple[int, str, bool, bool, str]]] = {
    "BlobShape": {"dim": (1, "int64", True, True, "")},
    "BlobProto": {
        **{name: (place, "int32", False, False, "") for place, name in enumerate(("num", "channels", "height", "width"), 1)},
        **{"data": (5, "float", True, True, ""), "diff": (6, "float", True, True, "")},
        **{"shape": (7, "message", False, False, "BlobShape"), "double_data": (8, "double", True, True, "")},
    },
    "LooseBlobProto": {"shape": (7, "message", False, False, "LooseBlobShape"), "data": (5, "float", True, False, "")},
    "LooseBlobShape": {"dim": (1, "int64", True, False, "")},
    "V1LayerParameter": {
        **{"bottom": (2, "string", True, False, ""), "top": (3, "string", True, False, "")},
        **{"name": (4, "string", False, False, ""), "type": (5, "enum", False, False, "")},
        **{"blobs": (6, "message", True, False, "BlobProto"), "blobs_lr": (7, "float", True, False, "")},
    },
    "LayerParameter": {
        **{"name": (1, "string", False, False, ""), "type": (2, "string", False, False, "")},
        **{"bottom": (3, "string", True, False, ""), "top": (4, "string", True, False, "")},
        **{"loss_weight": (5, "float", True, False, ""), "blobs": (7, "message", True, False, "BlobProto")},
    },
    "NetParameter": {
        **{"name": (1, "string", False, False, ""), "layers": (2, "message", True, False, "V1LayerParameter")},
        **{"input_dim": (4, "int32", True, False, ""), "force_backward": (5, "bool", False, False, "")},
        "layer": (100, "message", True, False, "LayerParameter"),
    },
}

ORDERS = {"caffe": ("relu1", "norm1", "pool1"), "caffenet": ("relu1", "pool1", "norm1")}
Arrays = dict[str, np.ndarray]


def messages() -> dict[str, Any]:
    """The message classes by name, built at run time."""
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    for message, parts in SCHEMA.items():
        described = file.message_type.add(name=message)
        for name, (number, kind, repeated, packed, holds) in parts.items():
            field = described.field.add(name=name, number=number, type=KINDS[kind], label=3 if repeated else 1)
            if holds:
                field.type_name = f".caffe.{holds}"
            if repeated and kind not in ("message", "string"):
                field.options.packed = packed
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"caffe.{name}")) for name in SCHEMA}


CAFFE = messages()


def blob_proto(values: np.ndarray, legacy: bool = False, double: bool = False) -> Any:
    """A BlobProto of an array; the `legacy` way with four sizes, ones in front."""
    blob = CAFFE["BlobProto"]()
    if legacy:
        blob.num, blob.channels, blob.height, blob.width = (1,) * (4 - values.ndim) + values.shape
    else:
        blob.shape.dim.extend(values.shape)
    (blob.double_data if double else blob.data).extend(values.ravel().tolist())
    return blob


def caffemodel(weights: Arrays, order: tuple[str, ...], version: int, last: str = "fc8", double: bool = False) -> Any:
    """A NetParameter, V1 or V2, with these weights by Caffe's names; what stands in `order` follows conv1, without weights."""
    net = CAFFE["NetParameter"](name="AlexNet")
    names = list(dict.fromkeys(name.split(".")[0] for name in weights))
    for name in ("data", names[0], *order, *names[1:]):
        layer = net.layer.add(name=name, type="Any") if version == 2 else net.layers.add(name=name, type=4)
        for part in ("weight", "bias"):
            if f"{name}.{part}" in weights:
                layer.blobs.append(blob_proto(weights[f"{name}.{part}"], legacy=version == 1, double=double))
        layer.name = last if name == "fc8" else name
    return net


def narrow(recipe: Recipe) -> Recipe:
    """The recipe with 16 units in each hidden full layer: every convolution is there, the file is small."""
    layers = tuple(
        replace(layer, units=min(layer.units, 16)) if isinstance(layer, Full) else layer for layer in recipe.network.layers
    )
    return replace(recipe, network=replace(recipe.network, layers=layers))


def drawn(recipe: Recipe, classes: int) -> Arrays:
    """Weights for every layer of a recipe's network, of a size that keeps signals alive."""
    draw, found = np.random.default_rng(5), {}
    for step in plan(recipe.network, classes):
        if isinstance(step.layer, Weighted):
            shape = weight_shape(step)
            spread = (2 / np.prod(shape[1:])) ** 0.5
            found[f"{step.layer.name}.weight"] = draw.normal(0, spread, shape).astype(np.float32)
            found[f"{step.layer.name}.bias"] = draw.normal(0, 0.1, bias_shape(step)).astype(np.float32)
    return found
