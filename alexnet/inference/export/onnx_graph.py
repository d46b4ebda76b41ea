"""A classifier as an ONNX document: preprocessing, network, probabilities, and what describes it.

Written operator by operator, with the names of the network's modules and parameters, so that the
document is readable, the same to the byte for the same model, and runs in any engine that knows
opset 17. Its metadata holds the classes, the recipe, where the model comes from, and how an image
becomes its input.
"""

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from alexnet import __version__
from alexnet.core.errors import require
from alexnet.inference.export.onnx_builder import GraphBuilder, GraphValue, to_document
from alexnet.inference.export.onnx_layers import add_network
from alexnet.inference.export.onnx_preprocessing import (
    BATCH,
    IMAGES,
    MASK,
    add_preprocessing,
    graph_input,
    mask_input,
)
from alexnet.inference.export.onnx_weights import compress_weights
from alexnet.inference.export.options import ExportOptions
from alexnet.models.alexnet import AlexNet
from alexnet.models.model_file import Classifier
from alexnet.recipes.layers import Linear

if TYPE_CHECKING:
    from onnx import ModelProto

FORMAT = "alexnet-onnx/1"
LOGITS = "logits"
PROBABILITIES = "probabilities"


def onnx_document(classifier: Classifier, options: ExportOptions) -> "ModelProto":
    """Return a classifier as an ONNX document.

    `images` as the options say to `probabilities` (N, classes), `logits` (N, classes) and the
    outputs of the layers that the options name. With several crops the probabilities are averaged,
    and there are no logits. UsageError for a layer that the network does not have.
    """
    graph = GraphBuilder()
    normalized = add_preprocessing(graph, classifier.preprocessor, options)
    outputs = _add_answers(graph, classifier.model, normalized, options)
    images = graph_input(classifier.preprocessor, options)
    return to_document(graph, [images], outputs, _metadata(classifier, options))


def masked_document(classifier: Classifier, options: ExportOptions) -> "ModelProto":
    """Return a classifier as an ONNX document that looks at one image through many masks.

    `images` uint8 (1, S, S, C) or (1, H, W, C), and `mask` float32 (N, 1, H, W), with which the
    normalized crop is multiplied: where it is 0, the crop is replaced by the mean, as occlusion
    maps do. The outputs are those of `onnx_document`, for each mask.
    """
    graph = GraphBuilder()
    normalized = add_preprocessing(graph, classifier.preprocessor, options)
    masked = graph.add("masked", "Mul", [normalized, MASK])
    outputs = _add_answers(graph, classifier.model, masked, options)
    images = graph_input(classifier.preprocessor, options)
    one = images._replace(shape=(1, *images.shape[1:]))
    mask = mask_input(classifier.preprocessor)
    return to_document(graph, [one, mask], outputs, _metadata(classifier, options))


def _add_answers(
    graph: GraphBuilder, model: AlexNet, normalized: str, options: ExportOptions
) -> list[GraphValue]:
    """Add the network and its probabilities, and make its weights smaller; return the outputs."""
    last = add_network(graph, model, normalized, options.norm)
    outputs = [GraphValue(PROBABILITIES, "float32", (BATCH, model.num_classes))]
    if options.crops == 1:
        graph.add(LOGITS, "Identity", [last])
        graph.add(PROBABILITIES, "Softmax", [LOGITS], {"axis": 1})
        outputs.append(GraphValue(LOGITS, "float32", (BATCH, model.num_classes)))
    else:
        _add_mean_probabilities(graph, last, options.crops, model.num_classes)
    outputs += [_layer_output(graph, model, name) for name in options.outputs]
    compress_weights(graph, options.weights)
    return outputs


def network_document(model: AlexNet, batch_size: int) -> "ModelProto":
    """Return a network alone as an ONNX document, for a fixed batch.

    `images` float32 (batch_size, C, H, W), normalized, to `logits` (batch_size, classes).
    """
    graph = GraphBuilder()
    last = add_network(graph, model, IMAGES, "operator")
    graph.add(LOGITS, "Identity", [last])
    images = GraphValue(IMAGES, "float32", (batch_size, *model.spec.input))
    logits = GraphValue(LOGITS, "float32", (batch_size, model.num_classes))
    return to_document(graph, [images], [logits], {})


def _add_mean_probabilities(graph: GraphBuilder, last: str, crops: int, classes: int) -> None:
    """Add the mean of each image's softmax over its crops."""
    shape = graph.constant("crop.probabilities.shape", np.array([-1, crops, classes], np.int64))
    each = graph.add("crop.softmax", "Softmax", [last], {"axis": 1})
    by_image = graph.add("crop.probabilities", "Reshape", [each, shape])
    graph.add(PROBABILITIES, "ReduceMean", [by_image], {"axes": [1], "keepdims": 0})


def _layer_output(graph: GraphBuilder, model: AlexNet, name: str) -> GraphValue:
    """Return a layer's output as one of the graph's; UsageError where the graph has none."""
    nodes = {node.name for node in graph.nodes}
    shapes = {layer: shape for layer, shape in _output_shapes(model).items() if layer in nodes}
    require(name in shapes, f"outputs: no layer {name}; expected some of {', '.join(shapes)}")
    return GraphValue(name, "float32", (BATCH, *shapes[name]))


def _output_shapes(model: AlexNet) -> dict[str, tuple[int, ...]]:
    """Return each layer's output shape without the batch: (C, H, W), or (units,) once flat."""
    shapes: dict[str, tuple[int, ...]] = {}
    flat = False
    for name, shape in zip(model.names, model.shapes, strict=True):
        flat = flat or isinstance(shape.layer, Linear)
        shapes[name] = shape.out_shape[:1] if flat else shape.out_shape
    return shapes


def _metadata(classifier: Classifier, options: ExportOptions) -> dict[str, str]:
    """Return what a program needs to know of a model: texts, of which some are JSON."""
    return {
        "format": FORMAT,
        "alexnet_version": __version__,
        "recipe": classifier.recipe.name,
        "classes": json.dumps(classifier.preprocessor.classes),
        "preprocessing": json.dumps(_preprocessing(classifier, options)),
        "provenance": json.dumps(dict(classifier.provenance)),
    }


def _preprocessing(classifier: Classifier, options: ExportOptions) -> dict[str, Any]:
    """Return how an image becomes the graph's input, and what the graph does with it."""
    preprocessor = classifier.preprocessor
    augmentation = preprocessor.augmentation
    mean = preprocessor.center_mean if augmentation.mean == "color" else None
    return {
        "input": options.input,
        "crops": options.crops,
        "crop_size": preprocessor.input_shape[1],
        "decode_config": preprocessor.decode_config.to_json(),
        "mean": augmentation.mean,  # what is subtracted: a color or an image
        "mean_color": None if mean is None else mean.tolist(),
        "scale": augmentation.scale,
    }
