"""The network a second time: plain float64 NumPy, forward and backward, from the formulas alone.

In go a recipe's list of layers, weights by name, pictures and their labels; out come every station, the loss and all gradients.
Each layer is one function that gives its output and the way back through it. Convolution and pooling are walked offset by
offset of the kernel, the norms neighbourhood by neighbourhood, with derivatives as calculus gives them: slow, but there is
little to get wrong. It shares only the words of `recipes/layers.py` with the package, and knows just the layers that the nets
of the comparison have; dropout is at test scaling.
"""

from collections.abc import Callable, Iterator

import numpy as np

from alexnet.recipes.layers import Activation, Conv, Dropout, Full, Layer, Norm, Pool, Rounding, SpatialNorm
from alexnet.recipes.recipe import Network

Tensors = dict[str, np.ndarray]
Back = Callable[[np.ndarray], tuple[np.ndarray, Tensors]]  # gradient of the output -> of the input, of the layer's own tensors
Indices = tuple[slice, ...]


def forward_backward(
    network: Network, weights: Tensors, x: np.ndarray, labels: np.ndarray, given: Tensors | None = None
) -> tuple[Tensors, float, Tensors]:
    """Stations, mean loss, and gradients (of `input` and of every weight and bias) for x (N, C, H, W) and labels (N,).

    `given` stations, of another computation, take the place of ours: every relu and pool then decides as it did there, also
    the relu of a full layer, whose station (behind relu and dropout) stands in for each of its steps and has the same signs.
    """
    stations: Tensors = {}
    backs: list[tuple[str, Back]] = []
    station = ""
    for layer in network.layers:
        name = getattr(layer, "name", "")
        x, back = applied(layer, x, weights, network)
        backs.append((name, back))
        if name or station.startswith("fc"):  # the station of a full layer lies behind its relu and dropout
            station = name or station
            stations[station] = x = (given or {}).get(station, x)
    stations["prob"], loss, g = cross_entropy(x, labels)
    gradients: Tensors = {}
    for name, back in reversed(backs):
        g, found = back(g)
        gradients |= {f"{name}.{part}": gradient for part, gradient in found.items()}
    return stations, loss, gradients | {"input": g}


def applied(layer: Layer, x: np.ndarray, weights: Tensors, network: Network) -> tuple[np.ndarray, Back]:
    """The layer's output for x, and the way back."""
    match layer:
        case Conv(name=name) as conv:
            return convolution(x, weights[f"{name}.weight"], weights[f"{name}.bias"], conv, network.round_conv)
        case Full(name=name, groups=1):
            return full(x, weights[f"{name}.weight"], weights[f"{name}.bias"])
        case Norm() as norm:
            towers = network.towers if norm.within == "tower" else 1
            return normalised(x, list(maps_around(x.shape[1], norm.n, towers)), (1,), norm)
        case SpatialNorm() as norm:
            return normalised(x, list(pixels_around(x.shape[2], x.shape[3], norm.n)), (2, 3), norm)
        case Pool(takes="max") as pool:
            return max_pool(x, pool, network.round_pool)
        case Dropout() as dropout:
            return times(x, 1 - dropout.p if dropout.rescale == "test" else 1.0)
        case Activation(function="relu"):
            return times(x, x > 0)
    raise TypeError(f"no formula here for the layer {layer}")


def times(x: np.ndarray, factor: np.ndarray | float) -> tuple[np.ndarray, Back]:
    """x times what does not change with x around it: the share kept at test, or where a relu lets through."""
    return x * factor, lambda g: (g * factor, {})


def full(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, Back]:
    """x (N, ...) flattened, through weight (units, inputs)."""
    rows = x.reshape(len(x), -1)
    return rows @ weight.T + bias, lambda g: ((g @ weight).reshape(x.shape), {"weight": g.T @ rows, "bias": g.sum(0)})


def framed(x: np.ndarray, pad: int, size: int, stride: int, rounding: Rounding, fill: float) -> tuple[np.ndarray, int, int]:
    """x in a frame of `fill`: `pad` on each side, more right and below if the last windows need it; rows, columns of windows."""
    count, channels, *sides = x.shape
    rounded = np.ceil if rounding == "up" else np.floor  # up: the last windows may run past the edge
    high, wide = (1 + int(rounded((side + 2 * pad - size) / stride)) for side in sides)
    reach = [max(side + 2 * pad, stride * (n - 1) + size) for side, n in zip(sides, (high, wide), strict=True)]
    frame = np.full((count, channels, *reach), fill)
    frame[:, :, pad : pad + sides[0], pad : pad + sides[1]] = x
    return frame, high, wide


def offsets(size: int, stride: int, high: int, wide: int) -> Iterator[tuple[tuple[int, int], Indices]]:
    """Each place (row, column) in a window, with the slices of all windows' values there."""
    for row, column in np.ndindex(size, size):
        yield (row, column), np.s_[:, :, row : row + stride * high : stride, column : column + stride * wide : stride]


def convolution(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, conv: Conv, rounding: Rounding) -> tuple[np.ndarray, Back]:
    """y[m] = bias[m] + sum of weight[m, c, row, column] * x[c, shifted by row and column], each group among its own c and m."""
    frame, high, wide = framed(x, conv.pad, conv.size, conv.stride, rounding, fill=0.0)
    n, c, m, places = len(x), x.shape[1] // conv.groups, conv.maps // conv.groups, high * wide
    kernels = weight.reshape(conv.groups, m, c, conv.size, conv.size).transpose(3, 4, 0, 1, 2).copy()  # row, column, group, m, c
    steps = list(offsets(conv.size, conv.stride, high, wide))

    def seen(at: Indices) -> np.ndarray:
        return frame[at].reshape(n, conv.groups, c, places)

    y = np.zeros((n, conv.groups, m, places))
    for place, at in steps:
        y += kernels[place] @ seen(at)

    def back(g: np.ndarray) -> tuple[np.ndarray, Tensors]:
        g = g.reshape(n, conv.groups, m, places)
        gframe, gkernels = np.zeros_like(frame), np.empty_like(kernels)
        for place, at in steps:
            gkernels[place] = (g @ seen(at).swapaxes(2, 3)).sum(0)
            gframe[at] += (kernels[place].swapaxes(1, 2) @ g).reshape(n, -1, high, wide)
        gx = gframe[:, :, conv.pad : conv.pad + x.shape[2], conv.pad : conv.pad + x.shape[3]]
        return gx, {"weight": gkernels.transpose(2, 3, 4, 0, 1).reshape(weight.shape), "bias": g.sum((0, 3)).reshape(-1)}

    return y.reshape(n, conv.maps, high, wide) + bias[:, None, None], back


def max_pool(x: np.ndarray, pool: Pool, rounding: Rounding) -> tuple[np.ndarray, Back]:
    """The largest of each window; its gradient goes to the first of the largest, row by row."""
    frame, high, wide = framed(x, 0, pool.size, pool.stride, rounding, fill=-np.inf)
    steps = list(offsets(pool.size, pool.stride, high, wide))
    seen = np.stack([frame[at] for _, at in steps])  # (places in a window, N, C, high, wide)
    first = seen.argmax(0)

    def back(g: np.ndarray) -> tuple[np.ndarray, Tensors]:
        gframe = np.zeros_like(frame)
        for place, (_, at) in enumerate(steps):
            gframe[at] += g * (first == place)
        return gframe[:, :, : x.shape[2], : x.shape[3]], {}

    return seen.max(0), back


def maps_around(maps: int, n: int, towers: int) -> Iterator[tuple[Indices, Indices]]:
    """Each map, and the n maps centred on it as far as its tower has them."""
    share = maps // towers
    for i in range(maps):
        begin = i // share * share
        yield np.s_[:, i : i + 1], np.s_[:, max(begin, i - n // 2) : min(begin + share, i + n // 2 + 1)]


def pixels_around(height: int, width: int, n: int) -> Iterator[tuple[Indices, Indices]]:
    """Each pixel, and the n x n pixels centred on it as far as there are any."""
    for r, c in np.ndindex(height, width):
        around = np.s_[:, :, max(0, r - n // 2) : r + n // 2 + 1, max(0, c - n // 2) : c + n // 2 + 1]
        yield np.s_[:, :, r : r + 1, c : c + 1], around


def normalised(
    x: np.ndarray, places: list[tuple[Indices, Indices]], axes: tuple[int, ...], norm: Norm | SpatialNorm
) -> tuple[np.ndarray, Back]:
    """y[i] = x[i] d[i]**-beta with d[i] = k + alpha * sum of x[j]**2 over the j around i (paper, section 3.3)."""
    d = np.empty_like(x)
    for own, around in places:
        d[own] = norm.k + norm.alpha * (x[around] ** 2).sum(axes, keepdims=True)

    def back(g: np.ndarray) -> tuple[np.ndarray, Tensors]:
        """dy[i]/dx[j] is d[i]**-beta where i is j, less 2 alpha beta x[i] x[j] d[i]**(-beta - 1) where j is around i."""
        gx = g * d**-norm.beta
        pulls = 2 * norm.alpha * norm.beta * g * x * d ** (-norm.beta - 1)
        for own, around in places:
            gx[around] -= pulls[own] * x[around]
        return gx, {}

    return x * d**-norm.beta, back


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """Probabilities (N, classes), the mean of -log of the labels' ones, and its gradient in the logits."""
    shifted = logits - logits.max(1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    wanted = np.eye(logits.shape[1])[labels]
    return np.exp(logs), float(-(wanted * logs).sum(1).mean()), (np.exp(logs) - wanted) / len(labels)
