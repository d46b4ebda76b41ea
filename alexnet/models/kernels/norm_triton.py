"""Local response norm with the relus and the max pool around it, and the spatial norm, in Triton.

These are the GPU forms of the operations that `norm` registers; the formulas are in
`response_norm`. Tensors are channels last, float32, bf16 or fp16; everything in between is float32.

A program computes a block: pixels of one image (rows) by the channels of one tower (columns, padded
with zeros to a power of two). As a block holds a tower's channels whole, x is loaded once, and what
each channel needs of its neighbors (their squares and, for the gradient, their g x d**(-beta - 1))
is within the program. Loads from shifted addresses would give the squares as well, but the gradient
would have to compute d, and what comes back through the pool, for each of the n neighbors again.

For n = 5, the paper's, a thread sums windows from four consecutive channels in its own registers,
and only those at the border of four pass between threads. Other widths pass every neighbor
(`tl.gather`), which Triton turns into a shuffle for each value that a thread wants and each value
of the row that it holds: for the paper's first norm 256 a thread instead of 16.

Before a pool every window normalizes its own pixels: 3 x 3 windows 2 apart do so 2.25 times for
each value, and find it in the cache. The spatial norm's windows cross blocks, so its gradient takes
two kernels with two float32 buffers between them. The sizes of blocks follow from the number of
channels; they were chosen from what the compiler reports, not by measuring on a GPU.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from alexnet.models.kernels.norm import empty_outputs

# Values of a block, 16 for each of a program's 128 threads: all that a gradient holds at once then
# stays in registers.
BLOCK_VALUES = 2048
# Channels of a block where channels do not need each other: 128 bytes of bf16, a line of the cache.
SPATIAL_CHANNELS = 64


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
    _, channels, height, width = x.shape
    y, argmax = empty_outputs(x, pool_size, pool_stride, pool_ceil_mode)
    _, _, out_height, out_width = y.shape
    tower_channels = channels // towers
    grid, (pixels, block) = _grid(y, tower_channels)
    with torch.cuda.device_of(x):
        _norm_kernel[grid](
            x,
            y,
            argmax if pool_size else None,
            height,
            width,
            out_height,
            out_width,
            k,
            alpha,
            beta,
            channels,
            tower_channels,
            n // 2,
            relu_before,
            pool_size or 1,
            pool_stride or 1,
            relu_after,
            pixels,
            block,
            enable_fp_fusion=True,
        )
    return y, argmax


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
    _, channels, height, width = x.shape
    _, _, out_height, out_width = g.shape
    gx = torch.empty_like(x)
    tower_channels = channels // towers
    grid, (pixels, block) = _grid(x, tower_channels)
    with torch.cuda.device_of(x):
        _norm_gradient_kernel[grid](
            x,
            g,
            argmax if pool_size else None,
            gx,
            height,
            width,
            out_height,
            out_width,
            k,
            alpha,
            beta,
            channels,
            tower_channels,
            n // 2,
            relu_before,
            pool_size or 1,
            pool_stride or 1,
            relu_after,
            pixels,
            block,
            enable_fp_fusion=True,
        )
    return gx


def spatial_norm(x: Tensor, n: int, k: float, alpha: float, beta: float) -> Tensor:
    """Return the spatial norm of x (N, C, H, W)."""
    x = x.contiguous(memory_format=torch.channels_last)
    _, channels, height, width = x.shape
    y = torch.empty_like(x)
    grid, (pixels, block) = _grid(x, min(channels, SPATIAL_CHANNELS))
    with torch.cuda.device_of(x):
        _spatial_kernel[grid](
            x,
            None,
            y,
            None,
            height,
            width,
            k,
            alpha,
            beta,
            channels,
            n // 2,
            pixels,
            block,
            enable_fp_fusion=True,
        )
    return y


def spatial_norm_gradient(
    x: Tensor, g: Tensor, n: int, k: float, alpha: float, beta: float
) -> Tensor:
    """Return the gradient with respect to x from g, that with respect to the spatial norm."""
    x = x.contiguous(memory_format=torch.channels_last)
    g = g.contiguous(memory_format=torch.channels_last)
    _, channels, height, width = x.shape
    direct = torch.empty_like(x, dtype=torch.float32)  # the gradient's two terms
    shared = torch.empty_like(x, dtype=torch.float32)
    gx = torch.empty_like(x)
    grid, (pixels, block) = _grid(x, min(channels, SPATIAL_CHANNELS))
    with torch.cuda.device_of(x):
        _spatial_kernel[grid](
            x,
            g,
            direct,
            shared,
            height,
            width,
            k,
            alpha,
            beta,
            channels,
            n // 2,
            pixels,
            block,
            enable_fp_fusion=True,
        )
        _spatial_gradient_kernel[grid](
            x,
            direct,
            shared,
            gx,
            height,
            width,
            k,
            alpha,
            beta,
            channels,
            n // 2,
            pixels,
            block,
            enable_fp_fusion=True,
        )
    return gx


def _grid(maps: Tensor, group: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the numbers of programs for maps (N, C, H, W), and the sizes of a program's block.

    Programs: by pixels, and by groups of `group` channels. Block: pixels, and channels.
    """
    count, channels, height, width = maps.shape
    block_channels = triton.next_power_of_2(group)
    block_pixels = max(1, BLOCK_VALUES // block_channels)
    blocks = count * triton.cdiv(height * width, block_pixels)
    return (blocks, triton.cdiv(channels, group)), (block_pixels, block_channels)


# ---- what the kernels share: indices, neighbors, powers


@triton.jit
def _pixels(area: tl.tensor, PIXELS: tl.constexpr) -> tuple[tl.tensor, tl.tensor]:
    """Return the index of this program's image, and of its pixels in it (PIXELS,).

    An image's last block may run past its `area`. The image is int64: a batch may hold more than
    2**31 values, an image does not.
    """
    blocks = tl.cdiv(area, PIXELS)
    image = (tl.program_id(0) // blocks).to(tl.int64)
    return image, tl.program_id(0) % blocks * PIXELS + tl.arange(0, PIXELS)


@triton.jit
def _load(
    maps: tl.tensor, pixel: tl.tensor, channel: tl.tensor, inside: tl.tensor, CHANNELS: tl.constexpr
) -> tl.tensor:
    """Return maps at pixel (PIXELS,) and channel (BLOCK,) as float32, 0 where not inside."""
    address = maps + pixel[:, None] * CHANNELS + channel[None, :]
    return tl.load(address, mask=inside, other=0).to(tl.float32)


@triton.jit
def _window_sum(values: tl.tensor, HALF: tl.constexpr) -> tl.tensor:
    """Return for each channel the sum of it and of HALF on either side.

    values (PIXELS, BLOCK) are 0 past the tower's channels.
    """
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
    """Return the window sum for HALF = 2: of four channels a b c d, and two before and after them.

    A thread's loads are of consecutive channels, so the four are split and joined in its registers.
    """
    FOURS: tl.constexpr = values.shape[1] // 4
    a_c, b_d = tl.split(tl.reshape(values, (values.shape[0], FOURS, 2, 2)))
    a, c = tl.split(a_c)  # (PIXELS, FOURS) each
    b, d = tl.split(b_d)
    four = tl.arange(0, FOURS)
    c_before = _columns(c, four - 1)
    d_before = _columns(d, four - 1)
    a_after = _columns(a, four + 1)
    b_after = _columns(b, four + 1)
    abc = a + (b + c)
    bcd = (b + c) + d
    at_a_c = tl.join(c_before + d_before + abc, abc + d + a_after)
    at_b_d = tl.join(d_before + abc + d, bcd + a_after + b_after)
    return tl.reshape(tl.join(at_a_c, at_b_d), values.shape)


@triton.jit
def _columns(values: tl.tensor, column: tl.tensor) -> tl.tensor:
    """Return values (PIXELS, COLUMNS) at these columns (COLUMNS,), 0 outside."""
    inside = (column >= 0) & (column < values.shape[1])
    index = tl.broadcast_to(tl.where(inside, column, 0)[None, :], values.shape)
    return tl.where(inside[None, :], tl.gather(values, index, 1), 0.0)


@triton.jit
def _power(d: tl.tensor, BETA: tl.constexpr) -> tl.tensor:
    """Return d ** -BETA; for the paper's 3/4 by two square roots."""
    if BETA == 0.75:
        root = tl.rsqrt(d)
        return root * tl.sqrt(root)
    else:
        return tl.exp2(-BETA * tl.log2(d))


@triton.jit
def _relu(values: tl.tensor) -> tl.tensor:
    return tl.where(values < 0, 0.0, values)  # NaN stays NaN, as in torch


# ---- local response norm across channels, with the relus and the pool around it


@triton.jit
def _norm_kernel(
    x: tl.tensor,
    y: tl.tensor,
    argmax: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    out_height: tl.tensor,
    out_width: tl.tensor,
    k: tl.tensor,
    alpha: tl.tensor,
    BETA: tl.constexpr,
    CHANNELS: tl.constexpr,
    TOWER_CHANNELS: tl.constexpr,
    HALF: tl.constexpr,
    RELU_BEFORE: tl.constexpr,
    SIZE: tl.constexpr,
    STRIDE: tl.constexpr,
    RELU_AFTER: tl.constexpr,
    PIXELS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Store a block of y and of the pool's argmax.

    Without a pool argmax is None and every window is one pixel.
    """
    image, pixel = _pixels(out_height * out_width, PIXELS)
    channel = tl.arange(0, BLOCK)
    first = tl.program_id(1) * TOWER_CHANNELS
    valid = (pixel < out_height * out_width)[:, None] & (channel < TOWER_CHANNELS)[None, :]
    x += image * height * width * CHANNELS + first
    best = tl.full((PIXELS, BLOCK), float("-inf"), tl.float32)
    index = tl.full((PIXELS, BLOCK), 255, tl.int32)
    for down in range(SIZE):
        for right in range(SIZE):
            row = pixel // out_width * STRIDE + down
            column = pixel % out_width * STRIDE + right
            inside = valid & ((row < height) & (column < width))[:, None]
            a = _load(x, row * width + column, channel, inside, CHANNELS)
            if RELU_BEFORE:
                a = _relu(a)
            value = a * _power(k + alpha * _window_sum(a * a, HALF), BETA)
            # The first of equals wins; NaN is passed on.
            better = inside & ((value > best) | (value != value))
            best = tl.where(better, value, best)
            index = tl.where(better, down * SIZE + right, index)
    if RELU_AFTER:
        index = tl.where(best <= 0, 255, index)
        best = _relu(best)
    start = image * out_height * out_width * CHANNELS + first
    out = start + pixel[:, None] * CHANNELS + channel[None, :]
    tl.store(y + out, best, mask=valid)
    if argmax is not None:
        tl.store(argmax + out, index, mask=valid)


@triton.jit
def _norm_gradient_kernel(
    x: tl.tensor,
    g: tl.tensor,
    argmax: tl.tensor,
    gx: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    out_height: tl.tensor,
    out_width: tl.tensor,
    k: tl.tensor,
    alpha: tl.tensor,
    BETA: tl.constexpr,
    CHANNELS: tl.constexpr,
    TOWER_CHANNELS: tl.constexpr,
    HALF: tl.constexpr,
    RELU_BEFORE: tl.constexpr,
    SIZE: tl.constexpr,
    STRIDE: tl.constexpr,
    RELU_AFTER: tl.constexpr,
    PIXELS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Store a block of gx; argmax is None without a pool."""
    image, pixel = _pixels(height * width, PIXELS)
    channel = tl.arange(0, BLOCK)
    first = tl.program_id(1) * TOWER_CHANNELS
    valid = (pixel < height * width)[:, None] & (channel < TOWER_CHANNELS)[None, :]
    start = image * height * width * CHANNELS + first
    g += image * out_height * out_width * CHANNELS + first
    a = _load(x + start, pixel, channel, valid, CHANNELS)
    if RELU_BEFORE:
        a = _relu(a)
    if argmax is not None:
        argmax += image * out_height * out_width * CHANNELS + first
        incoming = _pool_gradient(
            g,
            argmax,
            pixel // width,
            pixel % width,
            channel,
            valid,
            out_height,
            out_width,
            CHANNELS,
            SIZE,
            STRIDE,
        )
    else:
        incoming = _load(g, pixel, channel, valid, CHANNELS)
        if RELU_AFTER:  # the norm keeps signs
            incoming = tl.where(a <= 0, 0.0, incoming)
    d = k + alpha * _window_sum(a * a, HALF)
    direct = incoming * _power(d, BETA)
    # For k = 0 it may be 0 / 0 past the tower's channels.
    shared = tl.where(valid, direct * a / d, 0.0)
    out = direct - 2 * alpha * BETA * a * _window_sum(shared, HALF)
    if RELU_BEFORE:
        out = tl.where(a <= 0, 0.0, out)
    tl.store(gx + start + pixel[:, None] * CHANNELS + channel[None, :], out, mask=valid)


@triton.jit
def _pool_gradient(
    g: tl.tensor,
    argmax: tl.tensor,
    row: tl.tensor,
    column: tl.tensor,
    channel: tl.tensor,
    valid: tl.tensor,
    out_height: tl.tensor,
    out_width: tl.tensor,
    CHANNELS: tl.constexpr,
    SIZE: tl.constexpr,
    STRIDE: tl.constexpr,
) -> tl.tensor:
    """Return the gradient for each pixel from the windows in which it was the maximum.

    It is gathered by the pixel, so no two programs add to the same address.
    """
    total = tl.zeros(valid.shape, tl.float32)
    for up in range((SIZE - 1) // STRIDE + 1):
        for left in range((SIZE - 1) // STRIDE + 1):
            y = row // STRIDE - up  # of a window
            x = column // STRIDE - left
            down = row - y * STRIDE  # of the pixel in the window
            right = column - x * STRIDE
            exists = (y >= 0) & (y < out_height) & (x >= 0) & (x < out_width)
            covers = exists & (down < SIZE) & (right < SIZE)
            inside = valid & covers[:, None]
            window = y * out_width + x
            address = argmax + window[:, None] * CHANNELS + channel[None, :]
            index = tl.load(address, mask=inside, other=255)
            value = _load(g, window, channel, inside, CHANNELS)
            total += tl.where(index == (down * SIZE + right)[:, None], value, 0.0)
    return total


# ---- spatial response norm: over the pixels around each, channel by channel


@triton.jit
def _spatial_kernel(
    x: tl.tensor,
    g: tl.tensor,
    out: tl.tensor,
    shared: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    k: tl.tensor,
    alpha: tl.tensor,
    BETA: tl.constexpr,
    CHANNELS: tl.constexpr,
    HALF: tl.constexpr,
    PIXELS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Store a block of the normalized values or, with a g, of the gradient's two terms.

    The terms are g d**-beta (out), and g x d**(-beta - 1) (shared).
    """
    image, pixel = _pixels(height * width, PIXELS)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    valid = (pixel < height * width)[:, None] & (channel < CHANNELS)[None, :]
    start = image * height * width * CHANNELS
    at = start + pixel[:, None] * CHANNELS + channel[None, :]
    a = _load(x + start, pixel, channel, valid, CHANNELS)
    squares = _window_sum_2d(x + start, pixel, channel, valid, height, width, CHANNELS, HALF, True)
    d = k + alpha * squares
    if g is None:
        tl.store(out + at, a * _power(d, BETA), mask=valid)
    else:
        direct = _load(g + start, pixel, channel, valid, CHANNELS) * _power(d, BETA)
        tl.store(out + at, direct, mask=valid)
        tl.store(shared + at, direct * a / d, mask=valid)


@triton.jit
def _spatial_gradient_kernel(
    x: tl.tensor,
    direct: tl.tensor,
    shared: tl.tensor,
    gx: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    k: tl.tensor,
    alpha: tl.tensor,
    BETA: tl.constexpr,
    CHANNELS: tl.constexpr,
    HALF: tl.constexpr,
    PIXELS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Store a block of gx, from the two terms."""
    image, pixel = _pixels(height * width, PIXELS)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    valid = (pixel < height * width)[:, None] & (channel < CHANNELS)[None, :]
    start = image * height * width * CHANNELS
    neighbors = _window_sum_2d(
        shared + start, pixel, channel, valid, height, width, CHANNELS, HALF, False
    )
    a = _load(x + start, pixel, channel, valid, CHANNELS)
    own = _load(direct + start, pixel, channel, valid, CHANNELS)
    out = own - 2 * alpha * BETA * a * neighbors
    tl.store(gx + start + pixel[:, None] * CHANNELS + channel[None, :], out, mask=valid)


@triton.jit
def _window_sum_2d(
    maps: tl.tensor,
    pixel: tl.tensor,
    channel: tl.tensor,
    valid: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    CHANNELS: tl.constexpr,
    HALF: tl.constexpr,
    SQUARES: tl.constexpr,
) -> tl.tensor:
    """Return the sum of maps, or of their squares, in windows of pixels (PIXELS, BLOCK).

    A window reaches HALF rows and HALF columns to each side.
    """
    total = tl.zeros(valid.shape, tl.float32)
    for down in range(-HALF, HALF + 1):
        for right in range(-HALF, HALF + 1):
            row = pixel // width + down
            column = pixel % width + right
            exists = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            inside = valid & exists[:, None]
            value = _load(maps, row * width + column, channel, inside, CHANNELS)
            total += value * value if SQUARES else value
    return total
