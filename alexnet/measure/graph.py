"""The usual ways to serve: a recipe's net as an ONNX graph, run by ONNX Runtime and by OpenVINO, where they are installed.

The graph is written out operator by operator, with ONNX's own LRN, which divides alpha by the window's size: exporters that know
no such operator take it apart into slower ones. Both engines get float32 weights, a fixed batch and as many threads as torch has.
"""

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from alexnet.measure.inputs import CLASSES, SEED, fixed_batch
from alexnet.measure.rounds import Missing, Work, clocked
from alexnet.measure.stock import weights
from alexnet.network.alexnet import AlexNet, start
from alexnet.network.geometry import Planned
from alexnet.recipes.layers import Activation, Conv, Dropout, Fit, Full, Norm, Pool
from alexnet.recipes.recipe import Network

OPSET, IR = 17, 8  # of 2022: old enough for any runtime of today

Operator = tuple[str, tuple[np.ndarray, ...], dict[str, Any]]  # its type, its inputs behind the first, its attributes
Forward = Callable[[np.ndarray], np.ndarray]  # views (batch, C, H, W) to logits (batch, classes), float32


def inference(network: Network, batch: int, device: torch.device, engine: Callable[[bytes], Forward]) -> Work:
    """The logits of a fixed batch by an engine; Missing where it is not installed, or the device is no CPU."""
    if device.type != "cpu":
        raise Missing("is compared on a CPU alone")
    forward = engine(graph(start(AlexNet(network, CLASSES), SEED), batch))
    views = fixed_batch(network.input, batch, device)[0].numpy()
    return Work(clocked(lambda: forward(views), device), batch)


def onnx_runtime(model: bytes) -> Forward:
    """A graph run by ONNX Runtime."""
    engine = _optional("onnxruntime")
    options = engine.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = engine.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda views: session.run(["logits"], {"views": views})[0]


def openvino(model: bytes) -> Forward:
    """A graph run by OpenVINO, which computes in bf16 of its own accord where the processor has units for it."""
    core = _optional("openvino").Core()
    compiled = core.compile_model(core.read_model(model, b""), "CPU", {"INFERENCE_NUM_THREADS": torch.get_num_threads()})
    return lambda views: compiled([views])[0]


def graph(network: AlexNet, batch: int) -> bytes:
    """The net at test as an ONNX model: `views` (batch, C, H, W) to `logits` (batch, classes), float32.

    Missing where onnx is not installed, or has no operator for a layer.
    """
    onnx = _optional("onnx")
    nodes, constants, before = [], [], "views"
    for place, (kind, arrays, attributes) in enumerate(_operators(network, batch)):
        names = [f"{place}.{number}" for number in range(len(arrays))]
        constants += [onnx.numpy_helper.from_array(array, name) for array, name in zip(arrays, names, strict=True)]
        nodes.append(onnx.helper.make_node(kind, [before, *names], [str(place)], **attributes))
        before = str(place)
    nodes[-1].output[0] = "logits"
    views, logits = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("views", (batch, *network.description.input)), ("logits", (batch, network.classes)))
    )
    whole = onnx.helper.make_graph(nodes, "alexnet", [views], [logits], constants)
    versions = [onnx.helper.make_opsetid("", OPSET)]
    return onnx.helper.make_model(whole, opset_imports=versions, ir_version=IR).SerializeToString()


def _operators(network: AlexNet, batch: int) -> Iterator[Operator]:
    values = {name: np.ascontiguousarray(value.float().numpy()) for name, value in weights(network).items()}
    towers, up = network.description.towers, network.description.round_pool == "up"
    for step in network.planned:
        match step.layer:
            case Conv(name=name) as conv:
                (down, right), pad = step.overhang, conv.pad
                where = {"pads": [pad, pad, pad + down, pad + right], "strides": [conv.stride] * 2, "group": conv.groups}
                yield "Conv", (values[f"{name}.weight"], values[f"{name}.bias"]), where
            case Full(name=name, groups=1):
                yield "Flatten", (), {"axis": 1}
                yield "Gemm", (values[f"{name}.weight"], values[f"{name}.bias"]), {"transB": 1}
            case Norm() as norm:
                yield from _norm(norm, step, batch, towers if norm.within == "tower" else 1)
            case Pool() as pool:
                kind = "MaxPool" if pool.takes == "max" else "AveragePool"
                yield kind, (), {"kernel_shape": [pool.size] * 2, "strides": [pool.stride] * 2, "ceil_mode": int(up)}
            case Activation(function=function):
                yield function.capitalize(), (), {}
            case Dropout() | Fit():
                pass  # the one stands in the weights, the other leaves a full-sized input as it is
            case other:
                raise Missing(f"has no operator for {other}")


def _norm(norm: Norm, step: Planned, batch: int, towers: int) -> Iterator[Operator]:
    """LRN; within towers, of each tower as a picture of its own."""
    channels, *sides = step.takes
    rule = {"alpha": norm.alpha * norm.n, "beta": norm.beta, "bias": float(norm.k), "size": norm.n}
    if towers > 1:
        yield "Reshape", (np.array([batch * towers, channels // towers, *sides]),), {}
    yield "LRN", (), rule
    if towers > 1:
        yield "Reshape", (np.array([batch, channels, *sides]),), {}


def _optional(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as reason:
        raise Missing("is not installed" if name != "onnx" else "needs onnx, which is not installed") from reason
