"""A second implementation of the network: float64 NumPy, forward and backward, from the formulas.

Its inputs are a recipe's list of layers, weights by name, images and labels; its outputs are the
output of every layer, the loss and all gradients. Each layer is one function that returns its
output and its backward function. Convolution and pooling loop over the offsets in the kernel, the
norms over the neighborhoods, with the derivatives of calculus: slow, but there is little to get
wrong. It shares only the specs of `recipes/layers.py` with the package, and supports only the
layers of the networks that are compared; dropout scales as at test.
"""

from collections.abc import Callable, Iterator

import numpy as np

from alexnet.recipes.layers import (
    Activation,
    Conv,
    Dropout,
    Layer,
    Linear,
    LocalResponseNorm,
    Pool,
    SpatialResponseNorm,
)
from alexnet.recipes.recipe import Network

Tensors = dict[str, np.ndarray]
# from the gradient of the output to those of the input and of the layer's parameters
Backward = Callable[[np.ndarray], tuple[np.ndarray, Tensors]]
Indices = tuple[slice, ...]


def forward_backward(
    network: Network,
    weights: Tensors,
    x: np.ndarray,
    labels: np.ndarray,
    replacements: Tensors | None = None,
) -> tuple[Tensors, float, Tensors]:
    """Return the intermediates, the mean loss and the gradients of `input` and all parameters.

    x (N, C, H, W), labels (N,). `replacements`: intermediates of another implementation that
    replace those computed here, so that every relu and pool decides as it did there. That of a
    linear layer, taken after relu and dropout, replaces the outputs of all three: its signs are
    those that the relu decides by.
    """
    replacements = replacements or {}
    intermediates: Tensors = {}
    backwards: list[tuple[str, Backward]] = []
    current = ""  # the name of the last intermediate
    for layer in network.layers:
        name = getattr(layer, "name", "")
        x, backward = apply_layer(layer, x, weights, network)
        backwards.append((name, backward))
        # the intermediate of a linear layer is taken after its relu and dropout
        if name or current.startswith("fc"):
            current = name or current
            x = replacements.get(current, x)
            intermediates[current] = x
    intermediates["prob"], loss, gradient = cross_entropy(x, labels)
    gradients: Tensors = {}
    for name, backward in reversed(backwards):
        gradient, parameter_gradients = backward(gradient)
        for parameter, value in parameter_gradients.items():
            gradients[f"{name}.{parameter}"] = value
    gradients["input"] = gradient
    return intermediates, loss, gradients


def apply_layer(
    layer: Layer, x: np.ndarray, weights: Tensors, network: Network
) -> tuple[np.ndarray, Backward]:
    """Return the layer's output for x, and its backward function."""
    match layer:
        case Conv(name=name):
            weight = weights[f"{name}.weight"]
            return convolution(x, weight, weights[f"{name}.bias"], layer, network.conv_ceil_mode)
        case Linear(name=name, groups=1):
            return linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])
        case LocalResponseNorm():
            towers = network.towers if layer.scope == "tower" else 1
            windows = list(channel_windows(x.shape[1], layer.n, towers))
            return response_norm(x, windows, (1,), layer)
        case SpatialResponseNorm():
            windows = list(spatial_windows(x.shape[2], x.shape[3], layer.n))
            return response_norm(x, windows, (2, 3), layer)
        case Pool(mode="max"):
            return max_pool(x, layer, network.pool_ceil_mode)
        case Dropout():
            return multiply(x, 1 - layer.p if layer.rescale == "test" else 1.0)
        case Activation(function="relu"):
            return multiply(x, x > 0)
    raise TypeError(f"there is no formula here for the layer {layer}")


def multiply(x: np.ndarray, factor: np.ndarray | float) -> tuple[np.ndarray, Backward]:
    """Return x times a locally constant factor: dropout's at test, or a relu's 0 or 1."""

    def backward(gradient: np.ndarray) -> tuple[np.ndarray, Tensors]:
        return gradient * factor, {}

    return x * factor, backward


def linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, Backward]:
    """Return the linear layer with weight (out_features, in_features) of x (N, ...), flattened."""
    rows = x.reshape(len(x), -1)

    def backward(gradient: np.ndarray) -> tuple[np.ndarray, Tensors]:
        parameter_gradients = {"weight": gradient.T @ rows, "bias": gradient.sum(0)}
        return (gradient @ weight).reshape(x.shape), parameter_gradients

    return rows @ weight.T + bias, backward


def output_size(size: int, kernel_size: int, stride: int, padding: int, ceil_mode: bool) -> int:
    """Return the number of windows along one side."""
    rounded = np.ceil if ceil_mode else np.floor  # up: the last window may reach past the border
    return 1 + int(rounded((size + 2 * padding - kernel_size) / stride))


def pad(
    x: np.ndarray, kernel_size: int, stride: int, padding: int, ceil_mode: bool, fill: float
) -> tuple[np.ndarray, int, int]:
    """Return x padded with `fill`, and the numbers of rows and columns of windows.

    It has `padding` on each side, and more on the right and below if the last windows need it.
    """
    count, channels, height, width = x.shape
    rows = output_size(height, kernel_size, stride, padding, ceil_mode)
    columns = output_size(width, kernel_size, stride, padding, ceil_mode)
    padded_height = max(height + 2 * padding, stride * (rows - 1) + kernel_size)
    padded_width = max(width + 2 * padding, stride * (columns - 1) + kernel_size)
    padded = np.full((count, channels, padded_height, padded_width), fill)
    padded[:, :, padding : padding + height, padding : padding + width] = x
    return padded, rows, columns


def kernel_offsets(
    kernel_size: int, stride: int, rows: int, columns: int
) -> Iterator[tuple[tuple[int, int], Indices]]:
    """Yield each (row, column) in the kernel, with the slices of the values there of all windows.

    `rows`, `columns`: numbers of windows.
    """
    for row, column in np.ndindex(kernel_size, kernel_size):
        vertical = slice(row, row + stride * rows, stride)
        horizontal = slice(column, column + stride * columns, stride)
        yield (row, column), np.s_[:, :, vertical, horizontal]


def convolution(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, conv: Conv, ceil_mode: bool
) -> tuple[np.ndarray, Backward]:
    """Return the convolution of x, each group of channels apart.

    y[m] = bias[m] + sum of weight[m, c, row, column] * x[c, shifted by row and column].
    """
    kernel_size = conv.kernel_size
    padding = conv.padding
    groups = conv.groups
    padded, rows, columns = pad(x, kernel_size, conv.stride, padding, ceil_mode, fill=0.0)
    count, channels, height, width = x.shape
    group_in = channels // groups
    group_out = conv.out_channels // groups
    positions = rows * columns
    kernels = weight.reshape(groups, group_out, group_in, kernel_size, kernel_size)
    kernels = kernels.transpose(3, 4, 0, 1, 2).copy()  # row, column, group, out, in
    offsets = list(kernel_offsets(kernel_size, conv.stride, rows, columns))

    def values_at(index: Indices) -> np.ndarray:
        return padded[index].reshape(count, groups, group_in, positions)

    y = np.zeros((count, groups, group_out, positions))
    for offset, index in offsets:
        y += kernels[offset] @ values_at(index)

    def backward(gradient: np.ndarray) -> tuple[np.ndarray, Tensors]:
        gradient = gradient.reshape(count, groups, group_out, positions)
        padded_gradient = np.zeros_like(padded)
        kernel_gradients = np.empty_like(kernels)
        for offset, index in offsets:
            kernel_gradients[offset] = (gradient @ values_at(index).swapaxes(2, 3)).sum(0)
            products = kernels[offset].swapaxes(1, 2) @ gradient
            padded_gradient[index] += products.reshape(count, -1, rows, columns)
        weight_gradient = kernel_gradients.transpose(2, 3, 4, 0, 1).reshape(weight.shape)
        bias_gradient = gradient.sum((0, 3)).reshape(-1)
        inner = np.s_[:, :, padding : padding + height, padding : padding + width]
        return padded_gradient[inner], {"weight": weight_gradient, "bias": bias_gradient}

    return y.reshape(count, conv.out_channels, rows, columns) + bias[:, None, None], backward


def max_pool(x: np.ndarray, pool: Pool, ceil_mode: bool) -> tuple[np.ndarray, Backward]:
    """Return the maximum of each window; its gradient goes to the first maximum, row by row."""
    padded, rows, columns = pad(x, pool.kernel_size, pool.stride, 0, ceil_mode, fill=-np.inf)
    offsets = list(kernel_offsets(pool.kernel_size, pool.stride, rows, columns))
    # (positions in a window, N, C, rows, columns)
    windows = np.stack([padded[index] for _, index in offsets])
    first_maximum = windows.argmax(0)

    def backward(gradient: np.ndarray) -> tuple[np.ndarray, Tensors]:
        padded_gradient = np.zeros_like(padded)
        for position, (_, index) in enumerate(offsets):
            padded_gradient[index] += gradient * (first_maximum == position)
        return padded_gradient[:, :, : x.shape[2], : x.shape[3]], {}

    return windows.max(0), backward


def channel_windows(channels: int, n: int, towers: int) -> Iterator[tuple[Indices, Indices]]:
    """Yield each channel, and the n channels centered on it, as far as its tower has them."""
    per_tower = channels // towers
    for channel in range(channels):
        first = channel // per_tower * per_tower
        begin = max(first, channel - n // 2)
        end = min(first + per_tower, channel + n // 2 + 1)
        yield np.s_[:, channel : channel + 1], np.s_[:, begin:end]


def spatial_windows(height: int, width: int, n: int) -> Iterator[tuple[Indices, Indices]]:
    """Yield each position, and the n x n positions centered on it, as far as there are any."""
    for row, column in np.ndindex(height, width):
        rows = slice(max(0, row - n // 2), row + n // 2 + 1)
        columns = slice(max(0, column - n // 2), column + n // 2 + 1)
        yield np.s_[:, :, row : row + 1, column : column + 1], np.s_[:, :, rows, columns]


def response_norm(
    x: np.ndarray,
    windows: list[tuple[Indices, Indices]],
    axes: tuple[int, ...],
    norm: LocalResponseNorm | SpatialResponseNorm,
) -> tuple[np.ndarray, Backward]:
    """Return y[i] = x[i] d[i]**-beta, d[i] = k + alpha * sum of x[j]**2 over the j around i.

    Paper, section 3.3.
    """
    d = np.empty_like(x)
    for center, window in windows:
        d[center] = norm.k + norm.alpha * (x[window] ** 2).sum(axes, keepdims=True)

    def backward(gradient: np.ndarray) -> tuple[np.ndarray, Tensors]:
        """Return the gradient of x.

        dy[i]/dx[j] is d[i]**-beta where i is j,
        less 2 alpha beta x[i] x[j] d[i]**(-beta - 1) where j is around i.
        """
        x_gradient = gradient * d**-norm.beta
        factors = 2 * norm.alpha * norm.beta * gradient * x * d ** (-norm.beta - 1)
        for center, window in windows:
            x_gradient[window] -= factors[center] * x[window]
        return x_gradient, {}

    return x * d**-norm.beta, backward


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """Return the probabilities (N, classes), the mean cross-entropy and the logits' gradient."""
    shifted = logits - logits.max(1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    probabilities = np.exp(log_probabilities)
    targets = np.eye(logits.shape[1])[labels]
    loss = float(-(targets * log_probabilities).sum(1).mean())
    return probabilities, loss, (probabilities - targets) / len(labels)
