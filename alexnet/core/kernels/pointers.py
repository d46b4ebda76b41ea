"""How Python calls the kernels: the suffix of the function for a dtype, and addresses of data."""

import ctypes

import numpy as np
import torch
from torch import Tensor

DTYPE_SUFFIX = {torch.float32: "f32", torch.bfloat16: "bf16"}  # of a kernel's exported name


def data_pointer(values: Tensor | np.ndarray | None) -> ctypes.c_void_p | None:
    """Return the address of the first value of a tensor or an array; None for None.

    The caller keeps it alive, in the memory order that the kernel expects.
    """
    if values is None:
        return None
    if isinstance(values, Tensor):
        return ctypes.c_void_p(values.data_ptr())
    return ctypes.c_void_p(values.__array_interface__["data"][0])
