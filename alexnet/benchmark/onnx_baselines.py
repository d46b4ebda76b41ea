"""Inference engines as baselines: a network as an ONNX graph in ONNX Runtime and in OpenVINO.

The graph is that of `alexnet export`, without its preprocessing, with ONNX's own LRN. Both engines
get float32 weights, a fixed batch and as many threads as torch has; each is optional.
"""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from alexnet.benchmark.inputs import CLASSES, SEED, fixed_batch
from alexnet.benchmark.interleaved_timer import Unavailable, Workload, timed_call
from alexnet.inference.export.onnx_graph import network_document
from alexnet.models.alexnet import AlexNet, init_weights
from alexnet.recipes.recipe import Network

Forward = Callable[[np.ndarray], np.ndarray]  # (batch, C, H, W) to (batch, classes), float32


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
    """Return the network at test as an ONNX model for a fixed batch, float32.

    `images` (batch_size, C, H, W) to `logits` (batch_size, classes). Unavailable where onnx is not
    installed.
    """
    _import_optional("onnx")
    return network_document(model, batch_size).SerializeToString()


def _import_optional(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Unavailable(f"{name} is not installed") from error
