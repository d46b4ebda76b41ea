"""What the kernels are called with: which of them a type has, and where numbers lie in memory."""

import ctypes

import numpy as np
import torch
from torch import Tensor

KINDS = {torch.float32: "f32", torch.bfloat16: "bf16"}  # how a kernel for numbers of this type ends


def at(numbers: Tensor | np.ndarray | None) -> ctypes.c_void_p | None:
    """Where a tensor's or an array's numbers begin; whoever calls keeps it alive, and in the order the kernel expects."""
    if numbers is None:
        return None
    return ctypes.c_void_p(numbers.data_ptr() if isinstance(numbers, Tensor) else numbers.__array_interface__["data"][0])
