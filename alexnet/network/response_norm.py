"""Response normalisation: y = x * d**-beta with d = k + alpha * S(x**2) (paper, section 3.3).

S sums over a window around x: n neighbouring maps at the same place (across maps), or n x n neighbouring pixels of the same map
(spatial; in the 2012 program, not in the text). S is its own transpose, so the exact gradient for both is
gx = g * d**-beta - 2 * alpha * beta * x * S(g * x * d**(-beta - 1)), from x alone: nothing else is kept for the backward pass.
Where there is a compiler, `norm_kernels` computes this in one pass, with the relus and the pool next to it. The plain form here
does the same in torch's own operations, for any device and dtype, at least in float32: across maps S is a product with a banded
matrix, and the work goes a few pictures at a time so that its buffers stay in cache.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from alexnet.network import norm_kernels

WindowSum = Callable[[Tensor], Tensor]  # (n, C, H, W) -> the same shape; its own transpose

CHUNK = 2**18  # elements at a time on a CPU: few enough to stay in cache, enough to keep every core busy
WIDTH = 48  # maps whose sums are one product: narrower ones have fewer zeros in the band, wider ones suit the libraries


def norm_across_maps(
    x: Tensor, n: int, k: float, alpha: float, beta: float, towers: int = 1, *,
    relu_before: bool = False, pool: tuple[int, int, bool] | None = None, relu_after: bool = False,
) -> Tensor:  # fmt: skip
    """x (N, C, H, W) normalised over n maps centred on each, within each of `towers` equal parts of C. Any float dtype.

    With its neighbours in the network, in this order: a relu, the norm, a max pool (size, stride, rounding up), a relu.
    """
    if norm_kernels.takes(x, n):
        size, stride, up = pool or (0, 0, False)
        return norm_kernels.norm(x, n, k, alpha, beta, towers, relu_before, size, stride, up, relu_after)[0]
    x = _across_maps(F.relu(x) if relu_before else x, n, k, alpha, beta, towers)
    if pool is not None:
        x = F.max_pool2d(x, pool[0], pool[1], ceil_mode=pool[2])
    return F.relu(x) if relu_after else x


def norm_over_space(x: Tensor, n: int, k: float, alpha: float, beta: float) -> Tensor:
    """x (N, C, H, W) normalised over the n x n pixels around each, in its own map. Any float dtype."""
    return norm_kernels.space(x, n, k, alpha, beta) if norm_kernels.takes(x, n) else _over_space(x, n, k, alpha, beta)


def _across_maps(x: Tensor, n: int, k: float, alpha: float, beta: float, towers: int) -> Tensor:
    maps = x.shape[1]
    firsts = range(0, maps, WIDTH)  # in the columns of a piece, all elements of the band but those of the rows near it are 0
    pieces = [(slice(at, at + WIDTH), slice(max(0, at - n // 2), at + WIDTH + n // 2)) for at in firsts]

    def times(factor: float) -> WindowSum:
        band = _band(maps, n, x, towers) * factor

        def window_sum(part: Tensor) -> Tensor:
            rows = part.permute(0, 2, 3, 1).reshape(-1, maps)
            sums = torch.cat([rows[:, near] @ band[near, some] for some, near in pieces], 1)
            return sums.view(len(part), *part.shape[2:], maps).permute(0, 3, 1, 2)

        return window_sum

    return _Norm.apply(x, times, k, alpha, beta)


def _over_space(x: Tensor, n: int, k: float, alpha: float, beta: float) -> Tensor:
    _, maps, height, width = x.shape

    def times(factor: float) -> WindowSum:
        down, along = _band(height, n, x), _band(width, n, x) * factor

        def window_sum(part: Tensor) -> Tensor:
            columns = down @ part.permute(0, 2, 3, 1).reshape(-1, height, width * maps)  # sums over rows of pixels
            sums = along @ columns.view(-1, width, maps)  # then along them
            return sums.view(-1, height, width, maps).permute(0, 3, 1, 2)

        return window_sum

    return _Norm.apply(x, times, k, alpha, beta)


def _band(count: int, n: int, like: Tensor, parts: int = 1) -> Tensor:
    """count x count ones where two places are at most n // 2 apart and in the same of `parts` equal parts; n is odd."""
    place = torch.arange(count, device=like.device)
    part = place // (count // parts)
    return (((place[:, None] - place).abs() <= n // 2) & (part[:, None] == part)).to(_wide(like))


class _Norm(torch.autograd.Function):
    """`times` makes the window's sum, times a factor: a factor within its matrix costs no pass over the maps."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, times: Callable[[float], WindowSum], k: float, alpha: float, beta: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.rule = times, k, alpha, beta
        y, squares = torch.empty_like(x), times(alpha)
        for out, part in _chunks(y, x):
            torch.div(part, _power(squares(part * part).add_(k), beta), out=out)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (x,), (times, k, alpha, beta) = ctx.saved_tensors, ctx.rule
        gx, squares, neighbours = torch.empty_like(x), times(alpha), times(2 * alpha * beta)
        for out, part, g in _chunks(gx, x, grads[0]):
            d = squares(part * part).add_(k)
            direct = g / _power(d, beta)
            torch.addcmul(direct, neighbours((direct * part).div_(d)), part, value=-1, out=out)
        return gx, None, None, None, None


def _chunks(result: Tensor, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Some pictures at a time of a result that is to be written and of what it comes from, all at least in float32."""
    wide, one = _wide(result), max(1, result[:1].numel())
    size = max(1, CHUNK // one) if result.device.type == "cpu" else max(1, len(result))
    for target, *parts in zip(*(tensor.split(size) for tensor in (result, *tensors)), strict=True):
        out = target if target.dtype == wide else torch.empty_like(target, dtype=wide)
        yield out, *(part.to(wide) for part in parts)
        if out is not target:  # torch writes into a narrower type at half the speed
            target.copy_(out)


def _wide(x: Tensor) -> torch.dtype:
    """The type that is computed in: float32 for what is narrower."""
    return torch.promote_types(x.dtype, torch.float32)


def _power(d: Tensor, beta: float) -> Tensor:
    """d ** beta; for the paper's 3/4 by two roots, several times faster than pow."""
    if beta == 0.75:
        root = d.sqrt()
        return root.sqrt().mul_(root)
    return d.pow(beta)
