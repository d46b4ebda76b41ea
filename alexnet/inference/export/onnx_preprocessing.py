"""The preprocessing of a model as ONNX operators: crop, mean, scale, as `Preprocessor` has them.

Decoding and resizing stay outside: a graph begins with the square that `decode_square` returns.
"""

import numpy as np

from alexnet.data.transforms import Offset, Preprocessor
from alexnet.inference.export.onnx_builder import GraphBuilder, GraphValue
from alexnet.inference.export.options import ExportOptions

IMAGES = "images"
MASK = "mask"
BATCH = "N"


def graph_input(preprocessor: Preprocessor, options: ExportOptions) -> GraphValue:
    """Return the input of a graph: a square, a crop, or the normalized tensor."""
    channels, height, width = preprocessor.input_shape
    side = preprocessor.decode_config.size
    match options.input:
        case "square":
            return GraphValue(IMAGES, "uint8", (BATCH, side, side, channels))
        case "crop":
            return GraphValue(IMAGES, "uint8", (BATCH, height, width, channels))
        case "tensor":
            return GraphValue(IMAGES, "float32", (BATCH, channels, height, width))


def mask_input(preprocessor: Preprocessor) -> GraphValue:
    """Return the input that covers parts of the crop: 1 where it is seen, 0 where it is covered."""
    _, height, width = preprocessor.input_shape
    return GraphValue(MASK, "float32", (BATCH, 1, height, width))


def add_preprocessing(
    graph: GraphBuilder, preprocessor: Preprocessor, options: ExportOptions
) -> str:
    """Add what makes the network's input of the graph's; return its name.

    With several crops an image's follow each other, so the batch is as many times as large.
    """
    if options.input == "tensor":
        return IMAGES
    x = _add_crops(graph, preprocessor, options.crops) if options.input == "square" else IMAGES
    pixels = graph.add("pixels", "Cast", [x], {"to": 1})  # 1: float32
    mean = graph.constant("mean", preprocessor.center_mean.astype(np.float32))
    x = graph.add("centered", "Sub", [pixels, mean])
    if preprocessor.augmentation.scale != 1:
        scale = graph.constant("scale", np.float32(preprocessor.augmentation.scale))
        x = graph.add("scaled", "Mul", [x, scale])
    return graph.add("normalized", "Transpose", [x], {"perm": [0, 3, 1, 2]})


def _add_crops(graph: GraphBuilder, preprocessor: Preprocessor, count: int) -> str:
    """Add the test crops of the squares: uint8 (N count, H, W, C)."""
    channels, height, width = preprocessor.input_shape
    offsets = preprocessor.crop_offsets(count)
    if count == 1:
        offset, mirror = offsets[0]
        return _add_crop(graph, preprocessor, "crop", offset, mirror)
    axis = graph.constant("crop.axis", np.array([1], np.int64))
    crops = []
    for number, (offset, mirror) in enumerate(offsets):
        crop = _add_crop(graph, preprocessor, f"crop{number}", offset, mirror)
        crops.append(graph.add(f"crop{number}.row", "Unsqueeze", [crop, axis]))
    joined = graph.add("crops", "Concat", crops, {"axis": 1})  # (N, count, H, W, C)
    shape = graph.constant("crop.shape", np.array([-1, height, width, channels], np.int64))
    return graph.add("crop", "Reshape", [joined, shape])


def _add_crop(
    graph: GraphBuilder, preprocessor: Preprocessor, name: str, offset: Offset, mirror: bool
) -> str:
    """Add one crop of the squares, mirrored left to right by a step of -1."""
    top, left = offset
    _, height, width = preprocessor.input_shape
    side = preprocessor.decode_config.size
    columns = (left, left + width, 1)
    if mirror:  # its end counts from the right, so that it can lie before the first column
        columns = (left + width - 1, left - 1 - side, -1)
    slices = {
        "starts": [top, columns[0]],
        "ends": [top + height, columns[1]],
        "axes": [1, 2],
        "steps": [1, columns[2]],
    }
    bounds = [
        graph.constant(f"{name}.{part}", np.array(values, np.int64))
        for part, values in slices.items()
    ]
    return graph.add(name, "Slice", [IMAGES, *bounds])
