"""Measure the machine's limits: matrix product, convolution and memory copy at their best.

They are timed in turns with the other cases, in the process and the precision of our
implementation, and the best of all rounds counts. Their sizes are those at which libraries are
fastest, and for the copy more than a cache holds. What follows from them is in `roofline`.
"""

from collections.abc import Mapping
from functools import partial

import torch
from torch.nn import functional as F

from alexnet.benchmark.interleaved_timer import Case, ProcessSpec, Timing, Workload, timed_call
from alexnet.benchmark.roofline import MachineLimits
from alexnet.core.device import Runtime

MATRIX_PRODUCT = "matrix product"
CONVOLUTION = "convolution"
MEMORY_COPY = "memory copy"
# The convolution is conv3 of the paper's network: 3 x 3 kernels with padding.
CONV_IMAGES = 128
CONV_IN_CHANNELS = 256
CONV_OUT_CHANNELS = 384
CONV_SIDE = 13


def limit_cases(process: ProcessSpec, runtime: Runtime) -> list[Case]:
    """Return the three cases, to be run in a process."""
    return [
        Case(MATRIX_PRODUCT, process, partial(matrix_product, runtime)),
        Case(CONVOLUTION, process, partial(convolution, runtime)),
        Case(MEMORY_COPY, process, partial(memory_copy, runtime)),
    ]


def best_rates(timings: Mapping[str, Timing], runtime: Runtime) -> dict[str, float]:
    """Return the best rates by case: operations a second, and bytes a second of the copy."""
    amounts = {
        MATRIX_PRODUCT: 2 * _matrix_side(runtime) ** 3,
        CONVOLUTION: 2 * CONV_IMAGES * CONV_IN_CHANNELS * CONV_OUT_CHANNELS * (3 * CONV_SIDE) ** 2,
        MEMORY_COPY: 2 * _copy_bytes(runtime),
    }
    return {name: amount / min(timings[name].seconds) for name, amount in amounts.items()}


def machine_limits(throughputs: Mapping[str, float]) -> MachineLimits:
    """Return the limits that follow from the best rates."""
    return MachineLimits(
        max(throughputs[MATRIX_PRODUCT], throughputs[CONVOLUTION]), throughputs[MEMORY_COPY]
    )


def matrix_product(runtime: Runtime) -> Workload:
    """Build the product of two square matrices."""
    side = _matrix_side(runtime)
    a, b, out = (
        torch.randn(side, side, device=runtime.device, dtype=runtime.dtype) for _ in range(3)
    )
    return Workload(timed_call(lambda: torch.mm(a, b, out=out), runtime.device), 0)


def convolution(runtime: Runtime) -> Workload:
    """Build a 3 x 3 convolution with many channels, channels last."""
    layout = torch.channels_last
    inputs = torch.randn(CONV_IMAGES, CONV_IN_CHANNELS, CONV_SIDE, CONV_SIDE)
    kernels = torch.randn(CONV_OUT_CHANNELS, CONV_IN_CHANNELS, 3, 3)
    inputs = inputs.to(runtime.device, runtime.dtype, memory_format=layout)
    kernels = kernels.to(runtime.device, runtime.dtype, memory_format=layout)

    @torch.inference_mode()
    def forward() -> None:
        F.conv2d(inputs, kernels, padding=1)

    return Workload(timed_call(forward, runtime.device), 0)


def memory_copy(runtime: Runtime) -> Workload:
    """Build the copy of a large tensor."""
    source, target = (
        torch.ones(_copy_bytes(runtime), dtype=torch.uint8, device=runtime.device) for _ in range(2)
    )
    return Workload(timed_call(lambda: target.copy_(source), runtime.device), 0)


def _matrix_side(runtime: Runtime) -> int:
    return 8192 if runtime.device.type == "cuda" else 4096


def _copy_bytes(runtime: Runtime) -> int:
    return 2**31 if runtime.device.type == "cuda" else 2**28
