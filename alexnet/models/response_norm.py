"""Response normalization: y = x * d**-beta with d = k + alpha * S(x**2) (paper, section 3.3).

S sums over a window around x: n neighboring channels at the same pixel (local response norm), or
n x n neighboring pixels of the same channel (spatial; in the 2012 program, not in the text). S is
its own transpose, so the exact gradient of both is
gx = g * d**-beta - 2 * alpha * beta * x * S(g * x * d**(-beta - 1)), from x alone: nothing else is
kept for the backward pass.

Where there is a compiler, `kernels.norm` computes this in one pass, with the relus and the pool
around it. The plain form here does the same by torch's own operations, for any device and dtype, at
least in float32: the sum over channels is a product with a banded matrix, and a CPU takes a few
images at a time so that its buffers stay in cache.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from alexnet.models.kernels import norm

WindowSum = Callable[[Tensor], Tensor]  # (n, C, H, W) -> the same shape; its own transpose

# Elements at a time on a CPU: few enough to stay in cache, enough to keep every core busy.
CHUNK = 2**18
# Channels whose sums are one product: narrower bands have fewer zeros, wider ones run faster.
BAND_CHANNELS = 48


def response_norm(
    x: Tensor,
    n: int,
    k: float,
    alpha: float,
    beta: float,
    towers: int = 1,
    *,
    relu_before: bool = False,
    pool: tuple[int, int, bool] | None = None,
    relu_after: bool = False,
) -> Tensor:
    """Return x (N, C, H, W), any float dtype, normalized over n channels centered on each.

    Windows end at the borders of `towers` equal parts of C. With the layers around it, in this
    order: a relu, the norm, a max pool (kernel_size, stride, ceil_mode), a relu. Paper, section
    3.3.
    """
    if norm.is_supported(x, n):
        size, stride, ceil_mode = pool or (0, 0, False)
        y, _ = norm.norm(
            x, n, k, alpha, beta, towers, relu_before, size, stride, ceil_mode, relu_after
        )
        return y
    x = _over_channels(F.relu(x) if relu_before else x, n, k, alpha, beta, towers)
    if pool is not None:
        size, stride, ceil_mode = pool
        x = F.max_pool2d(x, size, stride, ceil_mode=ceil_mode)
    return F.relu(x) if relu_after else x


def spatial_response_norm(x: Tensor, n: int, k: float, alpha: float, beta: float) -> Tensor:
    """Return x (N, C, H, W), any float dtype, normalized over the n x n pixels around each.

    Channels do not see each other. From the 2012 program; not in the paper.
    """
    if norm.is_supported(x, n):
        return norm.spatial_norm(x, n, k, alpha, beta)
    return _over_pixels(x, n, k, alpha, beta)


def _over_channels(x: Tensor, n: int, k: float, alpha: float, beta: float, towers: int) -> Tensor:
    channels = x.shape[1]
    # In the columns of one product all rows of the band are 0 but those near the columns.
    pieces = [
        (
            slice(start, start + BAND_CHANNELS),
            slice(max(0, start - n // 2), start + BAND_CHANNELS + n // 2),
        )
        for start in range(0, channels, BAND_CHANNELS)
    ]

    def scaled_sum(factor: float) -> WindowSum:
        band = _band(channels, n, x, towers) * factor

        def window_sum(part: Tensor) -> Tensor:
            rows = part.permute(0, 2, 3, 1).reshape(-1, channels)
            sums = [rows[:, near] @ band[near, columns] for columns, near in pieces]
            return torch.cat(sums, 1).view(len(part), *part.shape[2:], channels).permute(0, 3, 1, 2)

        return window_sum

    return _ResponseNorm.apply(x, scaled_sum, k, alpha, beta)


def _over_pixels(x: Tensor, n: int, k: float, alpha: float, beta: float) -> Tensor:
    _, channels, height, width = x.shape

    def scaled_sum(factor: float) -> WindowSum:
        band_of_rows = _band(height, n, x)
        band_of_columns = _band(width, n, x) * factor

        def window_sum(part: Tensor) -> Tensor:
            rows = part.permute(0, 2, 3, 1).reshape(-1, height, width * channels)
            columns = (band_of_rows @ rows).view(-1, width, channels)
            sums = band_of_columns @ columns
            return sums.view(-1, height, width, channels).permute(0, 3, 1, 2)

        return window_sum

    return _ResponseNorm.apply(x, scaled_sum, k, alpha, beta)


def _band(count: int, n: int, like: Tensor, towers: int = 1) -> Tensor:
    """Return count x count ones where indices are at most n // 2 apart, and in the same tower."""
    index = torch.arange(count, device=like.device)
    tower = index // (count // towers)
    near = (index[:, None] - index).abs() <= n // 2
    return (near & (tower[:, None] == tower)).to(_compute_dtype(like))


class _ResponseNorm(torch.autograd.Function):
    """`scaled_sum` makes the window sum, times a factor: within its matrix that costs no pass."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        scaled_sum: Callable[[float], WindowSum],
        k: float,
        alpha: float,
        beta: float,
    ) -> Tensor:
        ctx.save_for_backward(x)
        ctx.settings = scaled_sum, k, alpha, beta
        window_sum = scaled_sum(alpha)
        if torch.compiler.is_compiling():  # the compiler divides the work itself
            wide = x.to(_compute_dtype(x))
            return (wide / _power(window_sum(wide * wide) + k, beta)).to(x.dtype)
        y = torch.empty_like(x)
        for out, part in _chunks(y, x):
            d = window_sum(part * part).add_(k)
            torch.div(part, _power(d, beta), out=out)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        scaled_sum, k, alpha, beta = ctx.settings
        window_sum = scaled_sum(alpha)
        gradient_sum = scaled_sum(2 * alpha * beta)
        if torch.compiler.is_compiling():
            wide = x.to(_compute_dtype(x))
            d = window_sum(wide * wide) + k
            direct = grads[0].to(wide.dtype) / _power(d, beta)
            shared = gradient_sum(direct * wide / d)
            return (direct - shared * wide).to(x.dtype), None, None, None, None
        gx = torch.empty_like(x)
        for out, part, g in _chunks(gx, x, grads[0]):
            d = window_sum(part * part).add_(k)
            direct = g / _power(d, beta)
            shared = gradient_sum((direct * part).div_(d))
            torch.addcmul(direct, shared, part, value=-1, out=out)
        return gx, None, None, None, None


def _chunks(result: Tensor, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield a few images at a time of a result to write and of its inputs, at least in float32."""
    dtype = _compute_dtype(result)
    size = max(1, len(result))
    if result.device.type == "cpu":
        size = max(1, CHUNK // max(1, result[:1].numel()))
    for target, *parts in zip(*(tensor.split(size) for tensor in (result, *tensors)), strict=True):
        out = target if target.dtype == dtype else torch.empty_like(target, dtype=dtype)
        yield out, *(part.to(dtype) for part in parts)
        if out is not target:  # torch writes into a narrower type at half the speed
            target.copy_(out)


def _compute_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype that is computed in: float32 for narrower ones."""
    return torch.promote_types(x.dtype, torch.float32)


def _power(d: Tensor, beta: float) -> Tensor:
    """Return d ** beta; for the paper's 3/4 by two square roots, several times faster than pow."""
    if beta == 0.75:
        root = d.sqrt()
        return root.sqrt().mul_(root)
    return d.pow(beta)
