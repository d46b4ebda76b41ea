"""Local response norm with the relus and the max pool around it as one operation; the spatial norm.

These are the native forms, registered with torch as `alexnet::norm`, `alexnet::spatial_norm` and
their gradients, so that autograd, autocast, `torch.compile` and `torch.export` know them. Only the
input and, with a pool, one byte an output (the index of the maximum in its window; 255: none) are
kept for the backward pass; the rest is computed again. Tensors are channels last; everything in
between is float32. On a CPU they are in C++ (float32, bf16), on a GPU in Triton (fp16 too), where a
trial shows that it works: Triton is installed with torch in many places where it cannot compile.
What is computed, and the choice between this and plain torch, is in `response_norm`.
"""

import ctypes
import functools
import importlib
from typing import Any

import torch
from torch import Tensor

from alexnet.core.errors import AlexNetError
from alexnet.core.kernels import library
from alexnet.core.kernels.library import load_library, requested_form
from alexnet.core.kernels.pointers import DTYPE_SUFFIX, data_pointer
from alexnet.recipes.layers import output_size

MAX_WINDOW = 31  # channels: the 16 zeros between towers must cover half a window
GPU_DTYPES = torch.float32, torch.bfloat16, torch.float16
# A Triton program holds a pixel's channels whole; for more, compiling takes longer than it saves.
GPU_MAX_CHANNELS = 1024
GPU_CAPABILITY = 8, 0  # the least that Triton supports, and the first with bf16

# What `available` found last, by device. A plain value, because torch.compile traces it and
# compiles again when it changes.
_available: dict[torch.device, bool] = {}


class _NormArgs(ctypes.Structure):
    _fields_ = [
        ("height", ctypes.c_int32),
        ("width", ctypes.c_int32),
        ("channels", ctypes.c_int32),
        ("towers", ctypes.c_int32),
        ("n", ctypes.c_int32),
        ("relu_before", ctypes.c_int32),
        ("relu_after", ctypes.c_int32),
        ("pool_size", ctypes.c_int32),
        ("pool_stride", ctypes.c_int32),
        ("out_height", ctypes.c_int32),
        ("out_width", ctypes.c_int32),
        ("k", ctypes.c_float),
        ("alpha", ctypes.c_float),
        ("beta", ctypes.c_float),
    ]


class _SpatialArgs(ctypes.Structure):
    _fields_ = [
        ("height", ctypes.c_int32),
        ("width", ctypes.c_int32),
        ("channels", ctypes.c_int32),
        ("n", ctypes.c_int32),
        ("k", ctypes.c_float),
        ("alpha", ctypes.c_float),
        ("beta", ctypes.c_float),
    ]


# ---- whether the native forms can be used


def available(device: torch.device) -> bool:
    """Return whether the native forms are to be used on a device.

    AlexNetError if ALEXNET_KERNELS=native asks for them and they cannot be used. A graph of
    torch.compile keeps the form it was compiled with until another call finds another one.
    """
    _detect_and_record(device)
    return _available.get(device, False)


def _detect_and_record(device: torch.device) -> None:
    _available[device] = _detect(device)


# While torch.compile traces, this one function is called instead of traced: it may start a C++
# compiler, which cannot be traced. The mark is what torch.compiler.assume_constant_result sets;
# calling that would import torch's compiler, which takes longer than importing torch.
_detect_and_record._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _detect(device: torch.device) -> bool:
    if device.type == "cpu":
        return load_library() is not None
    form = requested_form()
    if form == "plain":
        return False
    reason = _triton_failure(device)
    if reason and form == "native":
        raise AlexNetError(f"ALEXNET_KERNELS=native: {reason}; fix that or leave the setting out")
    return not reason


def describe_form(device: torch.device) -> str:
    """Return in words which form the norms have on a device and, if it is the plain one, why."""
    if device.type == "cpu":
        return library.describe_form()
    if device.type != "cuda":
        return f"plain torch: there are no kernels for {device.type}"
    if requested_form() == "plain":
        return "plain torch, as ALEXNET_KERNELS asks"
    reason = _triton_failure(device)
    return f"plain torch: {reason}" if reason else "Triton"


@functools.cache
def _triton_failure(device: torch.device) -> str:
    """Return in a line why Triton cannot be used on a GPU, "" if it can: tried once a process."""
    capability = torch.cuda.get_device_capability(device)
    if capability < GPU_CAPABILITY:
        major, minor = capability
        least = "{}.{}".format(*GPU_CAPABILITY)
        return f"the GPU's compute capability is {major}.{minor}, the kernels need {least}"
    # Outside the trial: a GPU that is full or broken is not a failure of Triton.
    x = torch.zeros(1, 8, 1, 1, device=device)
    try:
        _triton_trial(x)
    # Triton first compiles a driver, then the kernel. If a C compiler, Python.h, ldconfig or space
    # for its cache is missing, each shows as another error (RuntimeError, CalledProcessError,
    # FileNotFoundError, ImportError, Triton's own). Whatever it is, the plain form computes the
    # same, and `describe_form` tells the reason.
    except Exception as error:
        text = str(error).strip() or type(error).__name__
        return f"Triton does not work ({text.splitlines()[0]})"
    return ""


def _triton_trial(x: Tensor) -> None:
    """Compute a norm without neighbors in Triton."""
    _triton("norm", x, 5, 2.0, 1e-4, 0.75, 1, False, 0, 0, False, False)


def is_supported(x: Tensor, n: int) -> bool:
    """Return whether the native forms can compute the norm of x over windows of n channels."""
    if x.device.type == "cuda":
        fits = x.dtype in GPU_DTYPES and x.shape[1] <= GPU_MAX_CHANNELS
    else:
        fits = x.device.type == "cpu" and x.dtype in DTYPE_SUFFIX
    return fits and n <= MAX_WINDOW and x.numel() > 0 and available(x.device)


# ---- the operations


@torch.library.custom_op("alexnet::norm", mutates_args=(), device_types="cpu")
def norm(
    x: Tensor,
    n: int,
    k: float,
    alpha: float,
    beta: float,
    towers: int,
    relu_before: bool,
    pool_size: int,
    pool_stride: int,
    pool_ceil_mode: bool,
    relu_after: bool,
) -> tuple[Tensor, Tensor]:
    """Return [relu,] norm [, max pool if pool_size > 0] [, relu] of x (N, C, H, W).

    And the pool's argmax, uint8 (N, C, H', W'): empty without a pool.
    """
    x = x.contiguous(memory_format=torch.channels_last)
    y, argmax = empty_outputs(x, pool_size, pool_stride, pool_ceil_mode)
    args = _norm_args(
        x, y, n, k, alpha, beta, towers, relu_before, pool_size, pool_stride, relu_after
    )
    _call_library(
        "norm_forward",
        x.dtype,
        ctypes.byref(args),
        data_pointer(x),
        data_pointer(y),
        data_pointer(argmax),
        ctypes.c_int64(len(x)),
    )
    return y, argmax


@torch.library.custom_op("alexnet::norm_gradient", mutates_args=(), device_types="cpu")
def norm_gradient(
    x: Tensor,
    g: Tensor,
    argmax: Tensor,
    n: int,
    k: float,
    alpha: float,
    beta: float,
    towers: int,
    relu_before: bool,
    pool_size: int,
    pool_stride: int,
    relu_after: bool,
) -> Tensor:
    """Return the gradient with respect to x from g, that with respect to the output of `norm`."""
    x = x.contiguous(memory_format=torch.channels_last)
    g = g.contiguous(memory_format=torch.channels_last)
    gx = torch.empty_like(x)
    args = _norm_args(
        x, g, n, k, alpha, beta, towers, relu_before, pool_size, pool_stride, relu_after
    )
    _call_library(
        "norm_backward",
        x.dtype,
        ctypes.byref(args),
        data_pointer(x),
        data_pointer(g),
        data_pointer(argmax),
        data_pointer(gx),
        ctypes.c_int64(len(x)),
    )
    return gx


@torch.library.custom_op("alexnet::spatial_norm", mutates_args=(), device_types="cpu")
def spatial_norm(x: Tensor, n: int, k: float, alpha: float, beta: float) -> Tensor:
    """Return the spatial norm of x (N, C, H, W)."""
    return _spatial(x, None, n, k, alpha, beta)


@torch.library.custom_op("alexnet::spatial_norm_gradient", mutates_args=(), device_types="cpu")
def spatial_norm_gradient(
    x: Tensor, g: Tensor, n: int, k: float, alpha: float, beta: float
) -> Tensor:
    """Return the gradient with respect to x from g, that with respect to the spatial norm."""
    return _spatial(x, g.contiguous(memory_format=torch.channels_last), n, k, alpha, beta)


def _spatial(x: Tensor, g: Tensor | None, n: int, k: float, alpha: float, beta: float) -> Tensor:
    x = x.contiguous(memory_format=torch.channels_last)
    out = torch.empty_like(x)
    _, channels, height, width = x.shape
    args = _SpatialArgs(height, width, channels, n, k, alpha, beta)
    _call_library(
        "spatial_norm",
        x.dtype,
        ctypes.byref(args),
        data_pointer(x),
        data_pointer(g),
        data_pointer(out),
        ctypes.c_int64(len(x)),
    )
    return out


def empty_outputs(
    x: Tensor, pool_size: int, pool_stride: int, pool_ceil_mode: bool
) -> tuple[Tensor, Tensor]:
    """Return empty tensors for the outputs of `norm`."""
    count, channels, height, width = x.shape
    if pool_size:
        height = output_size(height, pool_size, pool_stride, pool_ceil_mode)
        width = output_size(width, pool_size, pool_stride, pool_ceil_mode)
    y = torch.empty(
        (count, channels, height, width),
        dtype=x.dtype,
        device=x.device,
        memory_format=torch.channels_last,
    )
    if not pool_size:
        return y, x.new_empty(0, dtype=torch.uint8)
    return y, torch.empty_like(y, dtype=torch.uint8)


def _norm_args(
    x: Tensor,
    y: Tensor,
    n: int,
    k: float,
    alpha: float,
    beta: float,
    towers: int,
    relu_before: bool,
    pool_size: int,
    pool_stride: int,
    relu_after: bool,
) -> _NormArgs:
    """Return the arguments as the C++ function expects them; y: a tensor of the output's shape."""
    _, channels, height, width = x.shape
    return _NormArgs(
        height=height,
        width=width,
        channels=channels,
        towers=towers,
        n=n,
        relu_before=relu_before,
        relu_after=relu_after,
        pool_size=pool_size,
        pool_stride=pool_stride,
        out_height=y.shape[2],
        out_width=y.shape[3],
        k=k,
        alpha=alpha,
        beta=beta,
    )


def _call_library(function: str, dtype: torch.dtype, *arguments: object) -> None:
    kernels = load_library()
    if kernels is None:
        raise AlexNetError(
            "this model was compiled or exported with the C++ kernels, which are not available "
            "here; `alexnet doctor` says why"
        )
    getattr(kernels, f"{function}_{DTYPE_SUFFIX[dtype]}")(*arguments)


def _triton(function: str, *arguments: object) -> Any:
    """Call a function of `norm_triton`, which is imported here: Triton is not everywhere."""
    module = importlib.import_module("alexnet.models.kernels.norm_triton")
    return getattr(module, function)(*arguments)


norm.register_kernel("cuda", functools.partial(_triton, "norm"))
norm_gradient.register_kernel("cuda", functools.partial(_triton, "norm_gradient"))
spatial_norm.register_kernel("cuda", functools.partial(_triton, "spatial_norm"))
spatial_norm_gradient.register_kernel("cuda", functools.partial(_triton, "spatial_norm_gradient"))


# ---- what torch has to know of them: the shapes of their outputs, and their gradients


@norm.register_fake
def _(  # type: ignore[no-untyped-def]
    x, n, k, alpha, beta, towers, relu_before, pool_size, pool_stride, pool_ceil_mode, relu_after
):
    return empty_outputs(x, pool_size, pool_stride, pool_ceil_mode)


@norm_gradient.register_fake
def _(  # type: ignore[no-untyped-def]
    x, g, argmax, n, k, alpha, beta, towers, relu_before, pool_size, pool_stride, relu_after
):
    return torch.empty_like(x, memory_format=torch.channels_last)


@spatial_norm.register_fake
def _(x, n, k, alpha, beta):  # type: ignore[no-untyped-def]
    return torch.empty_like(x, memory_format=torch.channels_last)


@spatial_norm_gradient.register_fake
def _(x, g, n, k, alpha, beta):  # type: ignore[no-untyped-def]
    return torch.empty_like(x, memory_format=torch.channels_last)


def _save_for_norm_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, *settings = inputs
    _, argmax = output
    ctx.save_for_backward(x, argmax)
    ctx.settings = settings


def _norm_backward(ctx: Any, g: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    x, argmax = ctx.saved_tensors
    n, k, alpha, beta, towers, relu_before, pool_size, pool_stride, _, relu_after = ctx.settings
    gx = norm_gradient(
        x, g, argmax, n, k, alpha, beta, towers, relu_before, pool_size, pool_stride, relu_after
    )
    return gx, *(None for _ in ctx.settings)


def _save_for_spatial_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, *settings = inputs
    ctx.save_for_backward(x)
    ctx.settings = settings


def _spatial_backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    (x,) = ctx.saved_tensors
    n, k, alpha, beta = ctx.settings
    return spatial_norm_gradient(x, g, n, k, alpha, beta), None, None, None, None


norm.register_autograd(_norm_backward, setup_context=_save_for_norm_backward)
spatial_norm.register_autograd(_spatial_backward, setup_context=_save_for_spatial_backward)
