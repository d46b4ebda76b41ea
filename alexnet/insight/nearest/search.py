"""The rows nearest to a row, looking at every one of them: the answer of float64, at a fraction of its cost.

Distance is Euclidean, between rows of float16 on both sides. One pass of float32 products over all rows gives rough distances,
with a bound on their error; what may be among the nearest by that bound is measured in float64. Rows are read from where they
are mapped and turned into float32 a few at a time, so that these stay in the processor's cache; threads take several parts each,
and several queries share a pass. It knows nothing of pictures and classes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from alexnet.data.ahead import prefetched
from alexnet.insight.nearest.features import Rows, squares

CHUNK = 64  # rows turned into float32 at a time: 1 MiB of fc7
PARTS = 8  # that a thread takes at once: to hand over less work costs more than it does on a busy machine
ROUGH = 2**24  # rough distances held at a time: queries share a pass as far as these go

Found = tuple[np.ndarray, np.ndarray]  # a query's nearest: distances (count,), ascending, and rows' numbers (count,)
Search = Callable[[Tensor, int], list[Found]]  # of queries float16 (Q, values), for so many nearest each

_in_turn = Lock()


def exactly(rows: Rows) -> Search:
    """The search that looks at every row."""

    def search(queries: Tensor, count: int) -> list[Found]:
        found: list[Found] = []
        for some in queries.split(max(1, ROUGH // len(rows))):
            found += [_nearest(rows, query, rough, count) for query, rough in zip(some, _rough(rows, some), strict=True)]
        return found

    return search


def in_order(rows: Rows, query: Tensor, numbers: np.ndarray, count: int) -> Found:
    """The nearest of the rows of these numbers: distances (count,), numbers (count,); equals by number."""
    parts = [rows.take(numbers[first : first + CHUNK]) for first in range(0, len(numbers), CHUNK)]
    distances = np.concatenate([squares(part.double() - query.double()).sqrt().numpy() for part in parts])
    order = np.lexsort((numbers, distances))[:count]
    return distances[order], numbers[order]


def _nearest(rows: Rows, query: Tensor, rough: Tensor, count: int) -> Found:
    """The nearest rows, from rough distances (N,) whose error is bounded.

    In float32 the sum of n products is off by n 2^-24 |x| |q| at most, in whatever order it is taken (a tenth is added for
    the terms beyond the first); twice that, and the roundings of the squares, is what a rough distance may be off by.
    """
    lengths, reach = rows.squares.sqrt(), float(query.double().norm())
    slack = 2.0**-23 * ((1.1 * rows.values + 4) * reach * lengths + rows.squares)
    limit = (rough + slack).kthvalue(min(count, len(rows))).values
    return in_order(rows, query, (rough - slack <= limit).nonzero().flatten().numpy(), count)


def _rough(rows: Rows, queries: Tensor) -> Tensor:
    """|x|^2 - 2 x.q for queries (Q, values) and all rows x, float32 (Q, N): the squared distance, but for |q|^2."""
    wanted = -2 * queries.float().T
    several = (rows.parts[first : first + PARTS] for first in range(0, len(rows.parts), PARTS))
    with single_threads() as threads:
        products = torch.cat(list(prefetched((partial(_products, parts, wanted) for parts in several), threads)))
    return products.add_(rows.squares.float()[:, None]).T


def _products(parts: Sequence[Tensor], wanted: Tensor) -> Tensor:
    """All rows (n, values) of some parts times wanted (values, Q), float32 (n, Q)."""
    chunks = [chunk for part in parts for chunk in part.split(CHUNK)]
    held, found = torch.empty(CHUNK, len(wanted)), torch.empty(sum(map(len, chunks)), wanted.shape[1])  # memory taken once
    for chunk, into in zip(chunks, found.split([len(chunk) for chunk in chunks]), strict=True):
        torch.mm(held[: len(chunk)].copy_(chunk), wanted, out=into)
    return found


@contextmanager
def single_threads() -> Iterator[int]:
    """While inside, every operation of torch is computed by the thread that calls it; gives how many it used to share it among.

    Sharing each of the thousands of small operations of a pass would mean as many times waiting for the slowest, which is
    costly as soon as something else computes on the machine, too.
    """
    with _in_turn:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield threads
        finally:
            torch.set_num_threads(threads)
