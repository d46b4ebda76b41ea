"""The norm across maps with the relus and the max pool around it as one operation, and the spatial norm: the C++ forms.

Registered with torch as `alexnet::norm`, `alexnet::norm_over_space` and their gradients, so that autograd, autocast,
`torch.compile` and `torch.export` know them. Nothing but the input and, for the pool, one byte an output (the place in its window
that was largest; 255: none) is kept for the backward pass; what else it needs is worked out again. Tensors are channels last,
float32 or bf16; everything in between is float32. What is computed, and the choice between this and plain torch, is in
`response_norm`. Tensors on a GPU go to the Triton forms of the same operations, in `norm_triton`, where a trial shows that they
work: Triton is installed with torch in many places where it cannot compile.
"""

import ctypes
import functools
import importlib
from typing import Any

import torch
from torch import Tensor

from alexnet.errors import AlexNetError
from alexnet.native.arguments import KINDS, at
from alexnet.native.library import library, setting, state
from alexnet.network.geometry import windows

WIDEST = 31  # maps a window may span: the zeros between towers, 16, cover its halves
GPU_TYPES = torch.float32, torch.bfloat16, torch.float16
GPU_MAPS = 1024  # a Triton program holds a pixel's maps whole; compiling one for more takes longer than it saves
GPU_CAPABILITY = 8, 0  # what Triton supports, and the first with bf16
TRIAL = 5, 2.0, 1e-4, 0.75, 1, False, 0, 0, False, False  # a norm without neighbours
_found: dict[torch.device, bool] = {}  # what `available` last found


class _Block(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int32) for name in ("height", "width", "channels", "towers", "n", "relu_before", "relu_after")]
    _fields_ += [(name, ctypes.c_int32) for name in ("size", "stride", "out_height", "out_width")]
    _fields_ += [(name, ctypes.c_float) for name in ("k", "alpha", "beta")]


class _Space(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int32) for name in ("height", "width", "channels", "n")]
    _fields_ += [(name, ctypes.c_float) for name in ("k", "alpha", "beta")]


def available(device: torch.device) -> bool:
    """Whether the C++ forms, or on a GPU the Triton forms, are to be used; while torch.compile looks on, what was found before.

    AlexNetError if ALEXNET_KERNELS asks for them and they cannot be had.
    """
    if not torch.compiler.is_compiling():
        _found[device] = library() is not None if device.type == "cpu" else _triton_is_to_be_used(device)
    return _found.get(device, False)


def form(device: torch.device) -> str:
    """Which form the norm has on that device, in words; where it is the plain one, why."""
    if device.type == "cpu":
        return state()
    if device.type != "cuda":
        return f"plain torch: there are no kernels for {device.type}"
    if setting() == "plain":
        return "plain torch, as ALEXNET_KERNELS asks"
    complaint = _complaint(device)
    return f"plain torch: {complaint}" if complaint else "Triton"


def _triton_is_to_be_used(device: torch.device) -> bool:
    wanted = setting()
    complaint = "" if wanted == "plain" else _complaint(device)
    if complaint and wanted == "native":
        raise AlexNetError(f"ALEXNET_KERNELS=native: {complaint}; mend that or leave the setting out")
    return wanted != "plain" and not complaint


@functools.cache
def _complaint(device: torch.device) -> str:
    """Why the Triton forms cannot be had on that GPU, in a line; nothing if they can, which a tiny norm shows, once a process."""
    capability = torch.cuda.get_device_capability(device)
    if capability < GPU_CAPABILITY:
        return "the GPU's compute capability is {}.{}, the kernels need {}.{}".format(*capability, *GPU_CAPABILITY)
    x = torch.zeros(1, 8, 1, 1, device=device)  # before the trial: a GPU that is full or broken is not Triton's failure
    try:
        _on_gpu("norm", x, *TRIAL)
    # Triton first compiles a driver, then the kernel. Whether a C compiler, Python.h, ldconfig or room for its cache is missing,
    # each shows as an error of another kind (RuntimeError, CalledProcessError, FileNotFoundError, ImportError, Triton's own);
    # whatever it is, the plain form computes the same, and the reason is told by `form`.
    except Exception as reason:
        return f"Triton does not work ({(str(reason).strip() or type(reason).__name__).splitlines()[0]})"
    return ""


def takes(x: Tensor, n: int) -> bool:
    """Whether the C++ forms, or on a GPU the Triton forms, can compute this one."""
    if x.device.type == "cuda":
        return x.dtype in GPU_TYPES and n <= WIDEST and x.shape[1] <= GPU_MAPS and x.numel() > 0 and available(x.device)
    return x.device.type == "cpu" and x.dtype in KINDS and n <= WIDEST and x.numel() > 0 and available(x.device)


@torch.library.custom_op("alexnet::norm", mutates_args=(), device_types="cpu")
def norm(
    x: Tensor, n: int, k: float, alpha: float, beta: float, towers: int,
    relu_before: bool, size: int, stride: int, up: bool, relu_after: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """x (N, C, H, W) -> [relu,] norm [, max pool where size is not 0] [, relu], and the winners of the pool (N, C, H', W')."""
    x = x.contiguous(memory_format=torch.channels_last)
    y, winners = _empty(x, size, stride, up)
    block = _block(x, y, n, k, alpha, beta, towers, relu_before, size, stride, relu_after)
    _call("norm_forward", x, ctypes.byref(block), at(x), at(y), at(winners), ctypes.c_int64(len(x)))
    return y, winners


@torch.library.custom_op("alexnet::norm_gradient", mutates_args=(), device_types="cpu")
def norm_gradient(
    x: Tensor, g: Tensor, winners: Tensor, n: int, k: float, alpha: float, beta: float, towers: int,
    relu_before: bool, size: int, stride: int, relu_after: bool,
) -> Tensor:  # fmt: skip
    """The gradient with respect to x, from that with respect to the output of `norm`."""
    x, g = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (x, g))
    gx = torch.empty_like(x)
    block = _block(x, g, n, k, alpha, beta, towers, relu_before, size, stride, relu_after)
    _call("norm_backward", x, ctypes.byref(block), at(x), at(g), at(winners), at(gx), ctypes.c_int64(len(x)))
    return gx


@torch.library.custom_op("alexnet::norm_over_space", mutates_args=(), device_types="cpu")
def space(x: Tensor, n: int, k: float, alpha: float, beta: float) -> Tensor:
    """x (N, C, H, W) -> the spatial norm of it."""
    return _space(x, None, n, k, alpha, beta)


@torch.library.custom_op("alexnet::norm_over_space_gradient", mutates_args=(), device_types="cpu")
def space_gradient(x: Tensor, g: Tensor, n: int, k: float, alpha: float, beta: float) -> Tensor:
    """The gradient with respect to x, from that with respect to the output of `space`."""
    return _space(x, g.contiguous(memory_format=torch.channels_last), n, k, alpha, beta)


def _space(x: Tensor, g: Tensor | None, n: int, k: float, alpha: float, beta: float) -> Tensor:
    x = x.contiguous(memory_format=torch.channels_last)
    out = torch.empty_like(x)
    rule = _Space(x.shape[2], x.shape[3], x.shape[1], n, k, alpha, beta)
    _call("space", x, ctypes.byref(rule), at(x), at(g), at(out), ctypes.c_int64(len(x)))
    return out


def _empty(x: Tensor, size: int, stride: int, up: bool) -> tuple[Tensor, Tensor]:
    """Room for what `norm` gives; no winners without a pool."""
    height, width = (windows(side, size, stride, up) if size else side for side in x.shape[2:])
    sizes = len(x), x.shape[1], height, width
    y = torch.empty(sizes, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    return y, torch.empty_like(y, dtype=torch.uint8) if size else x.new_empty(0, dtype=torch.uint8)


def _block(
    x: Tensor, y: Tensor, n: int, k: float, alpha: float, beta: float, towers: int,
    relu_before: bool, size: int, stride: int, relu_after: bool,
) -> _Block:  # fmt: skip
    (_, channels, height, width), (_, _, out_height, out_width) = x.shape, y.shape
    sizes = height, width, channels, towers, n, relu_before, relu_after, size, stride, out_height, out_width
    return _Block(*sizes, k, alpha, beta)


def _call(name: str, x: Tensor, *arguments: object) -> None:
    found = library()
    if found is None:
        raise AlexNetError("the C++ kernels are wanted and cannot be had here; `alexnet doctor` says why")
    getattr(found, f"{name}_{KINDS[x.dtype]}")(*arguments)


def _on_gpu(form: str, *arguments: object) -> Any:
    """The form of that name in `norm_triton`, imported when the first tensor on a GPU arrives: Triton is not everywhere."""
    return getattr(importlib.import_module("alexnet.network.norm_triton"), form)(*arguments)


norm.register_kernel("cuda", functools.partial(_on_gpu, "norm"))
norm_gradient.register_kernel("cuda", functools.partial(_on_gpu, "norm_gradient"))
space.register_kernel("cuda", functools.partial(_on_gpu, "space"))
space_gradient.register_kernel("cuda", functools.partial(_on_gpu, "space_gradient"))


@norm.register_fake
def _(x, n, k, alpha, beta, towers, relu_before, size, stride, up, relu_after):  # type: ignore[no-untyped-def]
    return _empty(x, size, stride, up)


@norm_gradient.register_fake
def _(x, g, winners, n, k, alpha, beta, towers, relu_before, size, stride, relu_after):  # type: ignore[no-untyped-def]
    return torch.empty_like(x, memory_format=torch.channels_last)


@space.register_fake
def _(x, n, k, alpha, beta):  # type: ignore[no-untyped-def]
    return torch.empty_like(x, memory_format=torch.channels_last)


@space_gradient.register_fake
def _(x, g, n, k, alpha, beta):  # type: ignore[no-untyped-def]
    return torch.empty_like(x, memory_format=torch.channels_last)


def _keep(ctx, inputs, output):  # type: ignore[no-untyped-def]
    x, *rule = inputs
    winners = (output[1],) if isinstance(output, tuple) else ()
    ctx.save_for_backward(x, *winners)
    ctx.rule = rule


def _norm_backward(ctx, g, _):  # type: ignore[no-untyped-def]
    x, winners = ctx.saved_tensors
    *front, _, relu_after = ctx.rule  # without `up`, which only shaped the output
    return norm_gradient(x, g, winners, *front, relu_after), *(None for _ in ctx.rule)


def _space_backward(ctx, g):  # type: ignore[no-untyped-def]
    (x,) = ctx.saved_tensors
    return space_gradient(x, g, *ctx.rule), *(None for _ in ctx.rule)


norm.register_autograd(_norm_backward, setup_context=_keep)
space.register_autograd(_space_backward, setup_context=_keep)
