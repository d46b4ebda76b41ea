"""Inference engines as baselines: a network as an ONNX graph in ONNX Runtime and in OpenVINO.

The graph is built operator by operator, with ONNX's own LRN, which divides alpha by the window's
size: exporters that do not know it decompose it into slower operators. Both engines get float32
weights, a fixed batch and as many threads as torch has; each is optional.
"""

import importlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from alexnet.benchmark.inputs import CLASSES, SEED, fixed_batch
from alexnet.benchmark.interleaved_timer import Unavailable, Workload, timed_call
from alexnet.benchmark.torch_baselines import folded_weights
from alexnet.models.alexnet import AlexNet, init_weights
from alexnet.models.shapes import LayerShape
from alexnet.recipes.layers import (
    Activation,
    AdaptiveAvgPool,
    Conv,
    Dropout,
    Linear,
    LocalResponseNorm,
    Pool,
)
from alexnet.recipes.recipe import Network

OPSET = 17  # of 2022: old enough for any current runtime
IR_VERSION = 8

Forward = Callable[[np.ndarray], np.ndarray]  # (batch, C, H, W) to (batch, classes), float32


class Operator(NamedTuple):
    """An ONNX operator on the output of the one before."""

    op_type: str
    constants: tuple[np.ndarray, ...]  # its inputs after the first
    attributes: dict[str, Any]


def inference(
    network: Network, batch_size: int, device: torch.device, engine: Callable[[bytes], Forward]
) -> Workload:
    """Build the logits of a fixed batch by an engine.

    Unavailable where it is not installed, or the device is not a CPU.
    """
    if device.type != "cpu":
        raise Unavailable("compared on CPUs only")
    model = init_weights(AlexNet(network, CLASSES), SEED)
    forward = engine(onnx_model(model, batch_size))
    inputs = fixed_batch(network.input, batch_size, device)[0].numpy()
    return Workload(timed_call(lambda: forward(inputs), device), batch_size)


def onnx_runtime(model: bytes) -> Forward:
    """Load an ONNX model into ONNX Runtime."""
    engine = _import_optional("onnxruntime")
    options = engine.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = engine.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(["logits"], {"images": inputs})[0]


def openvino(model: bytes, precision: str | None = None) -> Forward:
    """Load an ONNX model into OpenVINO.

    `precision`: `f32` or `bf16`; None leaves OpenVINO's default, bf16 where the CPU has units.
    """
    core = _import_optional("openvino").Core()
    settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": torch.get_num_threads()}
    if precision is not None:
        settings["INFERENCE_PRECISION_HINT"] = precision
    compiled = core.compile_model(core.read_model(model, b""), "CPU", settings)
    return lambda inputs: compiled([inputs])[0]


def onnx_model(model: AlexNet, batch_size: int) -> bytes:
    """Return the network at test as an ONNX model, float32.

    `images` (batch_size, C, H, W) to `logits` (batch_size, classes). Unavailable where onnx is not
    installed, or has no operator for a layer.
    """
    onnx = _import_optional("onnx")
    nodes = []
    initializers = []
    previous = "images"
    for i, operator in enumerate(_operators(model, batch_size)):
        names = [f"{i}.{j}" for j in range(len(operator.constants))]
        for array, name in zip(operator.constants, names, strict=True):
            initializers.append(onnx.numpy_helper.from_array(array, name))
        node = onnx.helper.make_node(
            operator.op_type, [previous, *names], [str(i)], **operator.attributes
        )
        nodes.append(node)
        previous = str(i)
    nodes[-1].output[0] = "logits"
    float32 = onnx.TensorProto.FLOAT
    input_shape = (batch_size, *model.spec.input)
    images = onnx.helper.make_tensor_value_info("images", float32, input_shape)
    output_shape = (batch_size, model.num_classes)
    logits = onnx.helper.make_tensor_value_info("logits", float32, output_shape)
    graph = onnx.helper.make_graph(nodes, "alexnet", [images], [logits], initializers)
    opsets = [onnx.helper.make_opsetid("", OPSET)]
    document = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    return document.SerializeToString()


def _operators(model: AlexNet, batch_size: int) -> Iterator[Operator]:
    network = model.spec
    arrays = {
        name: np.ascontiguousarray(weight.float().numpy())
        for name, weight in folded_weights(model).items()
    }
    for step in model.shapes:
        match step.layer:
            case Conv(name=name) as conv:
                weights = (arrays[f"{name}.weight"], arrays[f"{name}.bias"])
                yield Operator("Conv", weights, _conv_attributes(conv, step))
            case Linear(name=name, groups=1):
                weights = (arrays[f"{name}.weight"], arrays[f"{name}.bias"])
                yield Operator("Flatten", (), {"axis": 1})
                yield Operator("Gemm", weights, {"transB": 1})
            case LocalResponseNorm() as norm:
                towers = network.towers if norm.scope == "tower" else 1
                yield from _norm_operators(norm, step, batch_size, towers)
            case Pool() as pool:
                yield _pool_operator(pool, network.pool_ceil_mode)
            case Activation(function=function):
                yield Operator(function.capitalize(), (), {})
            case Dropout() | AdaptiveAvgPool():
                pass  # the first is folded into the weights, the second does nothing at full size
            case other:
                raise Unavailable(f"ONNX has no operator for {type(other).__name__}")


def _conv_attributes(conv: Conv, step: LayerShape) -> dict[str, Any]:
    bottom, right = step.extra_padding
    padding = conv.padding
    return {
        "pads": [padding, padding, padding + bottom, padding + right],
        "strides": [conv.stride] * 2,
        "group": conv.groups,
    }


def _pool_operator(pool: Pool, ceil_mode: bool) -> Operator:
    attributes = {
        "kernel_shape": [pool.kernel_size] * 2,
        "strides": [pool.stride] * 2,
        "ceil_mode": int(ceil_mode),
    }
    return Operator("MaxPool" if pool.mode == "max" else "AveragePool", (), attributes)


def _norm_operators(
    norm: LocalResponseNorm, step: LayerShape, batch_size: int, towers: int
) -> Iterator[Operator]:
    """Yield LRN; within towers, of each tower as a separate image."""
    channels, height, width = step.in_shape
    attributes = {
        "alpha": norm.alpha * norm.n,
        "beta": norm.beta,
        "bias": float(norm.k),
        "size": norm.n,
    }
    if towers > 1:
        shape = np.array([batch_size * towers, channels // towers, height, width])
        yield Operator("Reshape", (shape,), {})
    yield Operator("LRN", (), attributes)
    if towers > 1:
        shape = np.array([batch_size, channels, height, width])
        yield Operator("Reshape", (shape,), {})


def _import_optional(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Unavailable(f"{name} is not installed") from error
