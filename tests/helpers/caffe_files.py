"""Write Caffe's files with the protobuf library, from a description of its messages.

The package reads these files with its own decoder; what it is tested with comes from here, so from
an independent implementation. The messages are described field by field, without .proto files.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from alexnet.models.shapes import bias_shape, infer_shapes, weight_shape
from alexnet.recipes.layers import Linear, WeightedLayer
from alexnet.recipes.recipe import Recipe

TYPES = {  # descriptor.proto's numbers; enum without names is written as uint32
    "double": 1,
    "float": 2,
    "int64": 3,
    "int32": 5,
    "bool": 8,
    "string": 9,
    "message": 11,
    "enum": 13,
}


ENUM = 14


class FieldSpec(NamedTuple):
    """A field of a message; `message`: the type of the message in it, if it is one.

    `values`: the names of the values 0, 1, ... of an enumeration that text formats spell out.
    """

    number: int
    type: str
    repeated: bool = False
    packed: bool = False
    message: str = ""
    values: tuple[str, ...] = ()


def repeated(number: int, type: str) -> FieldSpec:
    """Return a repeated field without packing."""
    return FieldSpec(number, type, repeated=True)


def packed(number: int, type: str) -> FieldSpec:
    """Return a packed repeated field."""
    return FieldSpec(number, type, repeated=True, packed=True)


def repeated_message(number: int, message: str) -> FieldSpec:
    """Return a repeated field of messages of one type."""
    return FieldSpec(number, "message", repeated=True, message=message)


def one_message(number: int, message: str) -> FieldSpec:
    """Return a field of one message."""
    return FieldSpec(number, "message", message=message)


SCHEMA: dict[str, dict[str, FieldSpec]] = {
    "BlobShape": {"dim": packed(1, "int64")},
    "BlobProto": {
        "num": FieldSpec(1, "int32"),
        "channels": FieldSpec(2, "int32"),
        "height": FieldSpec(3, "int32"),
        "width": FieldSpec(4, "int32"),
        "data": packed(5, "float"),
        "diff": packed(6, "float"),
        "shape": FieldSpec(7, "message", message="BlobShape"),
        "double_data": packed(8, "double"),
    },
    "LooseBlobProto": {  # not packed
        "shape": FieldSpec(7, "message", message="LooseBlobShape"),
        "data": repeated(5, "float"),
    },
    "LooseBlobShape": {"dim": repeated(1, "int64")},
    "V1LayerParameter": {
        "bottom": repeated(2, "string"),
        "top": repeated(3, "string"),
        "name": FieldSpec(4, "string"),
        "type": FieldSpec(5, "enum"),
        "blobs": repeated_message(6, "BlobProto"),
        "blobs_lr": repeated(7, "float"),
    },
    "LayerParameter": {
        "name": FieldSpec(1, "string"),
        "type": FieldSpec(2, "string"),
        "bottom": repeated(3, "string"),
        "top": repeated(4, "string"),
        "loss_weight": repeated(5, "float"),
        "blobs": repeated_message(7, "BlobProto"),
        "concat_param": one_message(104, "ConcatParameter"),
        "convolution_param": one_message(106, "ConvolutionParameter"),
        "dropout_param": one_message(108, "DropoutParameter"),
        "inner_product_param": one_message(117, "InnerProductParameter"),
        "lrn_param": one_message(118, "LRNParameter"),
        "pooling_param": one_message(121, "PoolingParameter"),
        "power_param": one_message(122, "PowerParameter"),
        "slice_param": one_message(126, "SliceParameter"),
        "input_param": one_message(143, "InputParameter"),
    },
    "ConcatParameter": {"axis": FieldSpec(2, "int32")},
    "ConvolutionParameter": {
        "num_output": FieldSpec(1, "int32"),
        "pad": repeated(3, "int32"),
        "kernel_size": repeated(4, "int32"),
        "group": FieldSpec(5, "int32"),
        "stride": repeated(6, "int32"),
    },
    "DropoutParameter": {"dropout_ratio": FieldSpec(1, "float")},
    "InnerProductParameter": {"num_output": FieldSpec(1, "int32")},
    "InputParameter": {"shape": repeated_message(1, "BlobShape")},
    "LRNParameter": {
        "local_size": FieldSpec(1, "int32"),
        "alpha": FieldSpec(2, "float"),
        "beta": FieldSpec(3, "float"),
        "norm_region": FieldSpec(4, "enum", values=("ACROSS_CHANNELS", "WITHIN_CHANNEL")),
        "k": FieldSpec(5, "float"),
    },
    "PoolingParameter": {
        "pool": FieldSpec(1, "enum", values=("MAX", "AVE", "STOCHASTIC")),
        "kernel_size": FieldSpec(2, "int32"),
        "stride": FieldSpec(3, "int32"),
    },
    "PowerParameter": {"power": FieldSpec(1, "float"), "scale": FieldSpec(2, "float")},
    "SliceParameter": {"axis": FieldSpec(3, "int32")},
    "NetParameter": {
        "name": FieldSpec(1, "string"),
        "layers": repeated_message(2, "V1LayerParameter"),
        "input_dim": repeated(4, "int32"),
        "force_backward": FieldSpec(5, "bool"),
        "layer": repeated_message(100, "LayerParameter"),
    },
}

# What follows conv1 in the two networks.
ORDERS = {"caffe": ("relu1", "norm1", "pool1"), "caffenet": ("relu1", "pool1", "norm1")}
Arrays = dict[str, np.ndarray]


def message_classes() -> dict[str, Any]:
    """Return the message classes by name, built at run time."""
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    for message, specs in SCHEMA.items():
        descriptor = file.message_type.add(name=message)
        for name, spec in specs.items():
            label = 3 if spec.repeated else 1
            field = descriptor.field.add(
                name=name, number=spec.number, type=TYPES[spec.type], label=label
            )
            if spec.message:
                field.type_name = f".caffe.{spec.message}"
            if spec.values:
                field.type = ENUM
                field.type_name = f".caffe.{message}.{name}_values"
                names = descriptor.enum_type.add(name=f"{name}_values").value
                for number, value in enumerate(spec.values):
                    names.add(name=value, number=number)
            if spec.repeated and spec.type not in ("message", "string"):
                field.options.packed = spec.packed
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"caffe.{name}"))
        for name in SCHEMA
    }


CAFFE = message_classes()


def blob_proto(values: np.ndarray, legacy: bool = False, double: bool = False) -> Any:
    """Return a BlobProto of an array; `legacy`: with four sizes, the first of them ones."""
    blob = CAFFE["BlobProto"]()
    if legacy:
        shape = (1,) * (4 - values.ndim) + values.shape
        blob.num, blob.channels, blob.height, blob.width = shape
    else:
        blob.shape.dim.extend(values.shape)
    (blob.double_data if double else blob.data).extend(values.ravel().tolist())
    return blob


def caffemodel(
    weights: Arrays, order: tuple[str, ...], version: int, last: str = "fc8", double: bool = False
) -> Any:
    """Return a NetParameter, V1 or V2, with these weights by Caffe's names.

    The layers in `order` follow conv1, without weights; `last`: the name of fc8 in the file.
    """
    net = CAFFE["NetParameter"](name="AlexNet")
    names = list(dict.fromkeys(name.split(".")[0] for name in weights))
    for name in ("data", names[0], *order, *names[1:]):
        if version == 2:
            layer = net.layer.add(name=name, type="Any")
        else:
            layer = net.layers.add(name=name, type=4)
        for part in ("weight", "bias"):
            if f"{name}.{part}" in weights:
                values = weights[f"{name}.{part}"]
                layer.blobs.append(blob_proto(values, legacy=version == 1, double=double))
        layer.name = last if name == "fc8" else name
    return net


def narrow(recipe: Recipe) -> Recipe:
    """Return the recipe with at most 16 units in each linear layer, so that its file is small."""
    layers = tuple(
        replace(layer, out_features=min(layer.out_features, 16))
        if isinstance(layer, Linear)
        else layer
        for layer in recipe.network.layers
    )
    return replace(recipe, network=replace(recipe.network, layers=layers))


def random_weights(recipe: Recipe, num_classes: int) -> Arrays:
    """Return weights for every layer of a recipe's network, which keep activations in range."""
    generator = np.random.default_rng(5)
    weights: Arrays = {}
    for shape in infer_shapes(recipe.network, num_classes):
        if not isinstance(shape.layer, WeightedLayer):
            continue
        size = weight_shape(shape)
        std = (2 / np.prod(size[1:])) ** 0.5
        weight = generator.normal(0, std, size)
        bias = generator.normal(0, 0.1, bias_shape(shape))
        weights[f"{shape.layer.name}.weight"] = weight.astype(np.float32)
        weights[f"{shape.layer.name}.bias"] = bias.astype(np.float32)
    return weights
