"""What the machine itself gives: the rate of a matrix product, of a convolution, and of a copy in memory.

They take their turns with the contenders, each round before all others, in the process and the precision of ours, and the best
of all rounds counts. The sizes are those at which libraries are at their best, and for the copy more than a cache holds.
"""

from collections.abc import Mapping
from functools import partial

import torch
from torch.nn import functional as F

from alexnet.measure.floor import Ceilings
from alexnet.measure.rounds import Contender, Place, Timed, Work, clocked
from alexnet.runtime import Runtime

PRODUCT, CONVOLUTION, COPY = "matrix product", "convolution", "memory copy"
PICTURES, MAPS, SIDE = 128, (256, 384), 13  # the convolution: conv3 of the paper's net


def contenders(place: Place, runtime: Runtime) -> list[Contender]:
    """The three, in that process."""
    return [
        Contender(PRODUCT, place, partial(product, runtime)),
        Contender(CONVOLUTION, place, partial(convolution, runtime)),
        Contender(COPY, place, partial(copy, runtime)),
    ]


def reached(timed: Mapping[str, Timed], runtime: Runtime) -> tuple[dict[str, float], Ceilings]:
    """The best rates: operations a second of the first two, bytes a second of the copy, each by name; and what follows."""
    amounts = {PRODUCT: 2 * _side(runtime) ** 3, CONVOLUTION: _convolution_operations(), COPY: 2 * _copied(runtime)}
    rates = {name: amount / min(timed[name].seconds) for name, amount in amounts.items()}
    return rates, Ceilings(max(rates[PRODUCT], rates[CONVOLUTION]), rates[COPY])


def product(runtime: Runtime) -> Work:
    """A square matrix times another."""
    a, b, out = (torch.randn(_side(runtime), _side(runtime), device=runtime.device, dtype=runtime.dtype) for _ in range(3))
    return Work(clocked(lambda: torch.mm(a, b, out=out), runtime.device), 0)


def convolution(runtime: Runtime) -> Work:
    """A convolution 3 x 3 on many maps, channels last."""
    maps = torch.randn(PICTURES, MAPS[0], SIDE, SIDE).to(runtime.device, runtime.dtype, memory_format=torch.channels_last)
    kernels = torch.randn(MAPS[1], MAPS[0], 3, 3).to(runtime.device, runtime.dtype, memory_format=torch.channels_last)

    @torch.inference_mode()
    def forward() -> None:
        F.conv2d(maps, kernels, padding=1)

    return Work(clocked(forward, runtime.device), 0)


def copy(runtime: Runtime) -> Work:
    """A large tensor copied to another."""
    source, target = (torch.ones(_copied(runtime), dtype=torch.uint8, device=runtime.device) for _ in range(2))
    return Work(clocked(lambda: target.copy_(source), runtime.device), 0)


def _side(runtime: Runtime) -> int:
    return 8192 if runtime.device.type == "cuda" else 4096


def _copied(runtime: Runtime) -> int:
    return 2**31 if runtime.device.type == "cuda" else 2**28  # bytes


def _convolution_operations() -> int:
    return 2 * PICTURES * MAPS[0] * MAPS[1] * (3 * SIDE) ** 2
