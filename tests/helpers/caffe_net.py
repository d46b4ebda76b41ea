"""Run a deploy.prototxt with the blobs of a .caffemodel, layer by layer as Caffe defines them.

Both files are read with the protobuf library, so independently of the package.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from google.protobuf import text_format
from torch import Tensor
from torch.nn import functional as F

from tests.helpers.caffe_files import CAFFE


def read_net(prototxt: Path) -> Any:
    """Return a prototxt as a NetParameter; an unknown field is an error."""
    return text_format.Parse(prototxt.read_text(encoding="utf-8"), CAFFE["NetParameter"]())


def read_blobs(caffemodel: Path) -> dict[str, list[Tensor]]:
    """Return the blobs of every layer of a .caffemodel by its name."""
    net = CAFFE["NetParameter"].FromString(caffemodel.read_bytes())
    return {layer.name: [_tensor(blob) for blob in layer.blobs] for layer in net.layer}


def read_mean(binaryproto: Path) -> Tensor:
    """Return a mean image, (C, S, S)."""
    blob = CAFFE["BlobProto"].FromString(binaryproto.read_bytes())
    assert blob.num == 1
    return torch.tensor(blob.data).view(blob.channels, blob.height, blob.width)


def run_net(net: Any, blobs: dict[str, list[Tensor]], pixels: Tensor) -> dict[str, Tensor]:
    """Return every top of a net, for pixels (N, C, H, W)."""
    tops: dict[str, Tensor] = {}
    for layer in net.layer:
        if layer.type == "Input":
            assert tuple(layer.input_param.shape[0].dim[1:]) == pixels.shape[1:]
            outputs = [pixels]
        else:
            inputs = [tops[name] for name in layer.bottom]
            outputs = _run_layer(layer, inputs, blobs[layer.name])
        tops.update(zip(layer.top, outputs, strict=True))
    return tops


def _tensor(blob: Any) -> Tensor:
    return torch.from_numpy(np.array(blob.data, np.float32)).view(*blob.shape.dim)


def _run_layer(layer: Any, inputs: list[Tensor], blobs: list[Tensor]) -> list[Tensor]:
    x = inputs[0]
    match layer.type:
        case "Convolution":
            spec = layer.convolution_param
            weight, bias = blobs
            return [F.conv2d(x, weight, bias, spec.stride[0], spec.pad[0], groups=spec.group)]
        case "InnerProduct":
            return [F.linear(x.flatten(1), *blobs)]
        case "Pooling":
            return [_pooled(x, layer.pooling_param)]
        case "LRN":
            return [_normalized(x, layer.lrn_param)]
        case "Power":
            return [x * layer.power_param.scale]
        case "Slice":
            return list(x.chunk(len(layer.top), layer.slice_param.axis))
        case "Concat":
            return [torch.cat(inputs, layer.concat_param.axis)]
        case "Dropout":  # at test
            return [x]
        case "Softmax":
            return [x.softmax(1)]
        case "ReLU":
            return [x.relu()]
        case "TanH":
            return [x.tanh()]
    raise AssertionError(layer.type)


def _pooled(x: Tensor, spec: Any) -> Tensor:
    """Return a pooled x: Caffe rounds the size up, and averages what lies inside a window."""
    pool = F.avg_pool2d if spec.pool == 1 else F.max_pool2d
    return pool(x, spec.kernel_size, spec.stride, ceil_mode=True)


def _normalized(x: Tensor, spec: Any) -> Tensor:
    """Return x by Caffe's norm, whose alpha is divided by the values in the window."""
    size = spec.local_size
    if spec.norm_region == 0:
        return F.local_response_norm(x, size, spec.alpha, spec.beta, spec.k)
    means = F.avg_pool2d(x * x, size, 1, size // 2, count_include_pad=True)
    return x / (1 + spec.alpha * means) ** spec.beta
