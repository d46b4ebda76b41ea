"""The norm across maps with the relus and the max pool around it, and the spatial norm, on a GPU: kernels in Triton.

The operations are those of `norm_kernels`, which registers these forms of them; the formulas are in `response_norm`. Tensors are
channels last, float32, bf16 or fp16; everything in between is float32. A program computes a block: pixels of one picture (rows)
by the channels of one tower (columns, filled up with zeros to a power of two). As a block holds a tower's channels whole, x is
read once, and what each channel needs of its neighbours, their squares and for the gradient also their g x d**(-beta - 1), is
within the program. Loads from shifted addresses would find the squares as well, but for the gradient they would have to work out
d, and what comes back through the pool, for each of the n neighbours again. For n = 5, the paper's, a thread sums windows from
four channels in a row among its own registers, and only those at the border of four pass between threads. Other widths pass every
neighbour (`tl.gather`), which Triton turns into a shuffle for each value that a thread wants and each of the row's that it holds:
for the paper's first norm 256 a thread instead of 16. Before a pool every window normalises its own pixels: 3 x 3 windows 2 apart
do so 2.25 times for each value, and find it in the cache. The spatial norm's windows cross blocks, so its gradient takes two
kernels with two float32 buffers between them. The sizes of blocks follow from the number of channels; they were chosen from what
the compiler reports, not by measuring on a GPU.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from alexnet.network.geometry import windows

VALUES = 2048  # of a block, 16 for each of a program's 128 threads: all that a gradient holds at once stays in registers
WIDEST = 64  # channels of a block where channels do not need each other: 128 bytes of bf16, a line of the cache


def norm(
    x: Tensor, n: int, k: float, alpha: float, beta: float, towers: int,
    relu_before: bool, size: int, stride: int, up: bool, relu_after: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """x (N, C, H, W) -> [relu,] norm [, max pool where size is not 0] [, relu], and the winners of the pool (N, C, H', W')."""
    x = x.contiguous(memory_format=torch.channels_last)
    sides = tuple(windows(side, size, stride, up) if size else side for side in x.shape[2:])
    y = torch.empty((*x.shape[:2], *sides), dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    winners = torch.empty_like(y, dtype=torch.uint8) if size else None
    run = x.shape[1] // towers
    grid, block = _blocks(y, run)
    rule = k, alpha, beta, x.shape[1], run, n // 2, relu_before, size or 1, stride or 1, relu_after, *block
    with torch.cuda.device_of(x):
        _norm_kernel[grid](x, y, winners, *x.shape[2:], *sides, *rule, enable_fp_fusion=True)
    return y, x.new_empty(0, dtype=torch.uint8) if winners is None else winners


def norm_gradient(
    x: Tensor, g: Tensor, winners: Tensor, n: int, k: float, alpha: float, beta: float, towers: int,
    relu_before: bool, size: int, stride: int, relu_after: bool,
) -> Tensor:  # fmt: skip
    """The gradient with respect to x, from that with respect to the output of `norm`."""
    x, g = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (x, g))
    gx, run = torch.empty_like(x), x.shape[1] // towers
    grid, block = _blocks(x, run)
    rule = k, alpha, beta, x.shape[1], run, n // 2, relu_before, size or 1, stride or 1, relu_after, *block
    with torch.cuda.device_of(x):
        found = winners if size else None
        _norm_gradient_kernel[grid](x, g, found, gx, *x.shape[2:], *g.shape[2:], *rule, enable_fp_fusion=True)
    return gx


def space(x: Tensor, n: int, k: float, alpha: float, beta: float) -> Tensor:
    """x (N, C, H, W) -> the spatial norm of it."""
    x = x.contiguous(memory_format=torch.channels_last)
    y = torch.empty_like(x)
    grid, block = _blocks(x, min(x.shape[1], WIDEST))
    with torch.cuda.device_of(x):
        _space_kernel[grid](x, None, y, None, *x.shape[2:], k, alpha, beta, x.shape[1], n // 2, *block, enable_fp_fusion=True)
    return y


def space_gradient(x: Tensor, g: Tensor, n: int, k: float, alpha: float, beta: float) -> Tensor:
    """The gradient with respect to x, from that with respect to the output of `space`."""
    x, g = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (x, g))
    direct, shared = (torch.empty_like(x, dtype=torch.float32) for _ in range(2))
    gx = torch.empty_like(x)
    grid, block = _blocks(x, min(x.shape[1], WIDEST))
    rule = *x.shape[2:], k, alpha, beta, x.shape[1], n // 2, *block
    with torch.cuda.device_of(x):
        _space_kernel[grid](x, g, direct, shared, *rule, enable_fp_fusion=True)
        _space_gradient_kernel[grid](x, direct, shared, gx, *rule, enable_fp_fusion=True)
    return gx


def _blocks(maps: Tensor, channels: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """How many programs cover maps (N, C, H, W), by pixels and by groups of `channels`; pixels and channels of one's block."""
    count, of, height, width = maps.shape
    columns = triton.next_power_of_2(channels)
    rows = max(1, VALUES // columns)
    return (count * triton.cdiv(height * width, rows), triton.cdiv(of, channels)), (rows, columns)


# ---- what the kernels share: places, neighbours, powers


@triton.jit
def _pixels(area: tl.tensor, PIXELS: tl.constexpr) -> tuple[tl.tensor, tl.tensor]:
    """This program's picture, and its pixels' places in it (PIXELS,); a picture's last block may run past its `area`.

    The picture is int64: a batch may hold more than 2**31 values, a picture does not.
    """
    blocks = tl.cdiv(area, PIXELS)
    return (tl.program_id(0) // blocks).to(tl.int64), tl.program_id(0) % blocks * PIXELS + tl.arange(0, PIXELS)


@triton.jit
def _read(maps: tl.tensor, pixel: tl.tensor, channel: tl.tensor, inside: tl.tensor, CHANNELS: tl.constexpr) -> tl.tensor:
    """maps at pixel (PIXELS,) and channel (BLOCK,) -> float32 (PIXELS, BLOCK), 0 where not inside."""
    return tl.load(maps + pixel[:, None] * CHANNELS + channel[None, :], mask=inside, other=0).to(tl.float32)


@triton.jit
def _window_sum(values: tl.tensor, HALF: tl.constexpr) -> tl.tensor:
    """values (PIXELS, BLOCK), 0 past the tower's channels -> for each channel the sum of it and HALF on either side."""
    if HALF == 2 and values.shape[1] >= 8:
        return _sum_of_five(values)
    else:
        channel = tl.arange(0, values.shape[1])
        total = values
        for step in tl.static_range(1, HALF + 1):
            total += _columns(values, channel - step) + _columns(values, channel + step)
        return total


@triton.jit
def _sum_of_five(values: tl.tensor) -> tl.tensor:
    """The window sum for HALF = 2, four channels at a time: a b c d, with two of the four before them and two of those behind.

    A thread's loads are of neighbouring channels, so the four are taken apart and joined among its own registers.
    """
    FOURS: tl.constexpr = values.shape[1] // 4
    a_c, b_d = tl.split(tl.reshape(values, (values.shape[0], FOURS, 2, 2)))
    a, c = tl.split(a_c)  # (PIXELS, FOURS) each
    b, d = tl.split(b_d)
    four = tl.arange(0, FOURS)
    c_before, d_before = _columns(c, four - 1), _columns(d, four - 1)
    a_behind, b_behind = _columns(a, four + 1), _columns(b, four + 1)
    abc, bcd = a + (b + c), (b + c) + d
    at_a_c = tl.join(c_before + d_before + abc, abc + d + a_behind)
    at_b_d = tl.join(d_before + abc + d, bcd + a_behind + b_behind)
    return tl.reshape(tl.join(at_a_c, at_b_d), values.shape)


@triton.jit
def _columns(values: tl.tensor, which: tl.tensor) -> tl.tensor:
    """values (PIXELS, COLUMNS) at these columns (COLUMNS,), 0 for those that there are not."""
    inside = (which >= 0) & (which < values.shape[1])
    index = tl.broadcast_to(tl.where(inside, which, 0)[None, :], values.shape)
    return tl.where(inside[None, :], tl.gather(values, index, 1), 0.0)


@triton.jit
def _power(d: tl.tensor, BETA: tl.constexpr) -> tl.tensor:
    """d ** -BETA; for the paper's 3/4 by two roots."""
    if BETA == 0.75:
        root = tl.rsqrt(d)
        return root * tl.sqrt(root)
    else:
        return tl.exp2(-BETA * tl.log2(d))


@triton.jit
def _relu(values: tl.tensor) -> tl.tensor:
    return tl.where(values < 0, 0.0, values)  # keeps what is no number, as torch's does


# ---- a norm across maps, with the relus and the pool around it


@triton.jit
def _norm_kernel(
    x: tl.tensor, y: tl.tensor, winners: tl.tensor,
    height: tl.tensor, width: tl.tensor, out_height: tl.tensor, out_width: tl.tensor,
    k: tl.tensor, alpha: tl.tensor, BETA: tl.constexpr,
    CHANNELS: tl.constexpr, RUN: tl.constexpr, HALF: tl.constexpr,
    RELU_BEFORE: tl.constexpr, SIZE: tl.constexpr, STRIDE: tl.constexpr, RELU_AFTER: tl.constexpr,
    PIXELS: tl.constexpr, BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    """A block of y, and of the pool's winners; without a pool (winners: None) every window is one pixel."""
    picture, pixel = _pixels(out_height * out_width, PIXELS)
    channel, first = tl.arange(0, BLOCK), tl.program_id(1) * RUN
    there = (pixel < out_height * out_width)[:, None] & (channel < RUN)[None, :]
    x += picture * height * width * CHANNELS + first
    best = tl.full((PIXELS, BLOCK), float("-inf"), tl.float32)
    place = tl.full((PIXELS, BLOCK), 255, tl.int32)
    for down in range(SIZE):
        for right in range(SIZE):
            row, column = pixel // out_width * STRIDE + down, pixel % out_width * STRIDE + right
            inside = there & ((row < height) & (column < width))[:, None]
            a = _read(x, row * width + column, channel, inside, CHANNELS)
            if RELU_BEFORE:
                a = _relu(a)
            value = a * _power(k + alpha * _window_sum(a * a, HALF), BETA)
            better = inside & ((value > best) | (value != value))  # the first of equals wins; what is no number goes through
            best = tl.where(better, value, best)
            place = tl.where(better, down * SIZE + right, place)
    if RELU_AFTER:
        place = tl.where(best <= 0, 255, place)
        best = _relu(best)
    out = picture * out_height * out_width * CHANNELS + first + pixel[:, None] * CHANNELS + channel[None, :]
    tl.store(y + out, best, mask=there)
    if winners is not None:
        tl.store(winners + out, place, mask=there)


@triton.jit
def _norm_gradient_kernel(
    x: tl.tensor, g: tl.tensor, winners: tl.tensor, gx: tl.tensor,
    height: tl.tensor, width: tl.tensor, out_height: tl.tensor, out_width: tl.tensor,
    k: tl.tensor, alpha: tl.tensor, BETA: tl.constexpr,
    CHANNELS: tl.constexpr, RUN: tl.constexpr, HALF: tl.constexpr,
    RELU_BEFORE: tl.constexpr, SIZE: tl.constexpr, STRIDE: tl.constexpr, RELU_AFTER: tl.constexpr,
    PIXELS: tl.constexpr, BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    """A block of gx; winners is None where there is no pool."""
    picture, pixel = _pixels(height * width, PIXELS)
    channel, first = tl.arange(0, BLOCK), tl.program_id(1) * RUN
    there = (pixel < height * width)[:, None] & (channel < RUN)[None, :]
    at = picture * height * width * CHANNELS + first
    g += picture * out_height * out_width * CHANNELS + first
    a = _read(x + at, pixel, channel, there, CHANNELS)
    if RELU_BEFORE:
        a = _relu(a)
    if winners is not None:
        winners += picture * out_height * out_width * CHANNELS + first
        row, column = pixel // width, pixel % width
        coming = _through_pool(g, winners, row, column, channel, there, out_height, out_width, CHANNELS, SIZE, STRIDE)
    else:
        coming = _read(g, pixel, channel, there, CHANNELS)
        if RELU_AFTER:  # the norm keeps signs
            coming = tl.where(a <= 0, 0.0, coming)
    d = k + alpha * _window_sum(a * a, HALF)
    direct = coming * _power(d, BETA)
    shared = tl.where(there, direct * a / d, 0.0)  # for k = 0 it may be 0 / 0 past the tower's channels
    out = direct - 2 * alpha * BETA * a * _window_sum(shared, HALF)
    if RELU_BEFORE:
        out = tl.where(a <= 0, 0.0, out)
    tl.store(gx + at + pixel[:, None] * CHANNELS + channel[None, :], out, mask=there)


@triton.jit
def _through_pool(
    g: tl.tensor, winners: tl.tensor, row: tl.tensor, column: tl.tensor, channel: tl.tensor, there: tl.tensor,
    out_height: tl.tensor, out_width: tl.tensor, CHANNELS: tl.constexpr, SIZE: tl.constexpr, STRIDE: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """What reaches each place from the windows in which it was the largest; gathered, so no two programs add to one place."""
    coming = tl.zeros(there.shape, tl.float32)
    for up in range((SIZE - 1) // STRIDE + 1):
        for left in range((SIZE - 1) // STRIDE + 1):
            y, x = row // STRIDE - up, column // STRIDE - left  # of a window
            down, right = row - y * STRIDE, column - x * STRIDE  # of the place in it
            covered = (y >= 0) & (y < out_height) & (x >= 0) & (x < out_width) & (down < SIZE) & (right < SIZE)
            inside = there & covered[:, None]
            won = tl.load(winners + (y * out_width + x)[:, None] * CHANNELS + channel[None, :], mask=inside, other=255)
            sent = _read(g, y * out_width + x, channel, inside, CHANNELS)
            coming += tl.where(won == (down * SIZE + right)[:, None], sent, 0.0)
    return coming


# ---- the norm over the pixels around, map by map


@triton.jit
def _space_kernel(
    x: tl.tensor, g: tl.tensor, out: tl.tensor, shared: tl.tensor,
    height: tl.tensor, width: tl.tensor, k: tl.tensor, alpha: tl.tensor, BETA: tl.constexpr,
    CHANNELS: tl.constexpr, HALF: tl.constexpr, PIXELS: tl.constexpr, BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    """A block of the normalised maps; where there is a g, of the gradient's two terms: g d**-beta, and g x d**(-beta - 1)."""
    picture, pixel = _pixels(height * width, PIXELS)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    there = (pixel < height * width)[:, None] & (channel < CHANNELS)[None, :]
    of = picture * height * width * CHANNELS
    to = of + pixel[:, None] * CHANNELS + channel[None, :]
    a = _read(x + of, pixel, channel, there, CHANNELS)
    d = k + alpha * _space_sum(x + of, pixel, channel, there, height, width, CHANNELS, HALF, True)
    if g is None:
        tl.store(out + to, a * _power(d, BETA), mask=there)
    else:
        direct = _read(g + of, pixel, channel, there, CHANNELS) * _power(d, BETA)
        tl.store(out + to, direct, mask=there)
        tl.store(shared + to, direct * a / d, mask=there)


@triton.jit
def _space_gradient_kernel(
    x: tl.tensor, direct: tl.tensor, shared: tl.tensor, gx: tl.tensor,
    height: tl.tensor, width: tl.tensor, k: tl.tensor, alpha: tl.tensor, BETA: tl.constexpr,
    CHANNELS: tl.constexpr, HALF: tl.constexpr, PIXELS: tl.constexpr, BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    """A block of gx, from the two terms."""
    picture, pixel = _pixels(height * width, PIXELS)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    there = (pixel < height * width)[:, None] & (channel < CHANNELS)[None, :]
    of = picture * height * width * CHANNELS
    around = _space_sum(shared + of, pixel, channel, there, height, width, CHANNELS, HALF, False)
    a = _read(x + of, pixel, channel, there, CHANNELS)
    out = _read(direct + of, pixel, channel, there, CHANNELS) - 2 * alpha * BETA * a * around
    tl.store(gx + of + pixel[:, None] * CHANNELS + channel[None, :], out, mask=there)


@triton.jit
def _space_sum(
    maps: tl.tensor, pixel: tl.tensor, channel: tl.tensor, there: tl.tensor, height: tl.tensor, width: tl.tensor,
    CHANNELS: tl.constexpr, HALF: tl.constexpr, SQUARES: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """The sum of maps, or of their squares, over the pixels at most HALF rows and HALF columns away (PIXELS, BLOCK)."""
    total = tl.zeros(there.shape, tl.float32)
    for down in range(-HALF, HALF + 1):
        for right in range(-HALF, HALF + 1):
            row, column = pixel // width + down, pixel % width + right
            inside = there & ((row >= 0) & (row < height) & (column >= 0) & (column < width))[:, None]
            value = _read(maps, row * width + column, channel, inside, CHANNELS)
            total += value * value if SQUARES else value
    return total
