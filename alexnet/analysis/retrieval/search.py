"""Exact nearest-neighbor search: the answer of float64 at a fraction of its cost.

Distances are Euclidean, between float16 features on both sides. One pass of float32 products over
all features gives approximate distances with a bound on their error; every feature that may be
among the nearest by that bound is then measured in float64. Memory-mapped features are converted
to float32 in chunks that stay in the processor's cache, threads take several parts each, and
several queries share a pass. Nothing here knows of images and classes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from threading import Lock
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from alexnet.analysis.retrieval.features import Features, squared_norms
from alexnet.data.prefetch import prefetch

CHUNK_ROWS = 64  # features converted to float32 at a time: 1 MiB of fc7
PARTS_PER_JOB = 8  # smaller jobs cost more in scheduling than they gain on a busy machine
MAX_APPROX_DISTANCES = 2**24  # in memory at a time: limits how many queries share a pass

_single_thread_lock = Lock()


class SearchResult(NamedTuple):
    """The nearest features of one query, nearest first."""

    distances: np.ndarray  # (k,), ascending
    indices: np.ndarray  # (k,)


SearchFn = Callable[[Tensor, int], list[SearchResult]]  # (queries float16 (Q, dim), top_k)


def exact_search(features: Features) -> SearchFn:
    """Return the search that compares a query with every feature."""

    def search(queries: Tensor, top_k: int) -> list[SearchResult]:
        results: list[SearchResult] = []
        for batch in queries.split(max(1, MAX_APPROX_DISTANCES // len(features))):
            approximate = _approximate_distances(features, batch)
            for query, distances in zip(batch, approximate, strict=True):
                results.append(_refine(features, query, distances, top_k))
        return results

    return search


def rank_candidates(
    features: Features, query: Tensor, candidates: np.ndarray, top_k: int
) -> SearchResult:
    """Return the nearest of some features in float64; ties are ordered by index."""
    chunks = [
        features.take(candidates[start : start + CHUNK_ROWS])
        for start in range(0, len(candidates), CHUNK_ROWS)
    ]
    distances = np.concatenate(
        [squared_norms(chunk.double() - query.double()).sqrt().numpy() for chunk in chunks]
    )
    order = np.lexsort((candidates, distances))[:top_k]
    return SearchResult(distances[order], candidates[order])


def _refine(features: Features, query: Tensor, approximate: Tensor, top_k: int) -> SearchResult:
    """Return the exact nearest, from approximate distances (N,) whose error is bounded.

    In float32 a sum of n products is off by at most n 2^-24 |x| |q|, in any order of summation
    (a tenth is added for the higher-order terms); twice that, and the rounding of the squared
    norms, bounds the error of an approximate distance.
    """
    norms = features.squared_norms.sqrt()
    query_norm = float(query.double().norm())
    error_bound = 2.0**-23 * (
        (1.1 * features.dim + 4) * query_norm * norms + features.squared_norms
    )
    limit = (approximate + error_bound).kthvalue(min(top_k, len(features))).values
    candidates = (approximate - error_bound <= limit).nonzero().flatten().numpy()
    return rank_candidates(features, query, candidates, top_k)


def _approximate_distances(features: Features, queries: Tensor) -> Tensor:
    """Return |x|^2 - 2 x.q, float32 (Q, N): the squared distances without the constant |q|^2."""
    multiplier = -2 * queries.float().T  # (dim, Q)
    parts = features.parts
    groups = (parts[start : start + PARTS_PER_JOB] for start in range(0, len(parts), PARTS_PER_JOB))
    with single_threaded_ops() as threads:
        jobs = (partial(_products, group, multiplier) for group in groups)
        products = torch.cat(list(prefetch(jobs, threads)))
    return products.add_(features.squared_norms.float()[:, None]).T


def _products(parts: Sequence[Tensor], multiplier: Tensor) -> Tensor:
    """Return the features (n, dim) of some parts times a multiplier (dim, Q): float32 (n, Q)."""
    chunks = [chunk for part in parts for chunk in part.split(CHUNK_ROWS)]
    sizes = [len(chunk) for chunk in chunks]
    buffer = torch.empty(CHUNK_ROWS, len(multiplier))  # allocated once for all chunks
    products = torch.empty(sum(sizes), multiplier.shape[1])
    for chunk, target in zip(chunks, products.split(sizes), strict=True):
        torch.mm(buffer[: len(chunk)].copy_(chunk), multiplier, out=target)
    return products


@contextmanager
def single_threaded_ops() -> Iterator[int]:
    """Make every torch operation run on its calling thread; yield the former number of threads.

    Splitting each of the thousands of small operations of a pass over threads would mean waiting
    for the slowest thread as often, which is costly when other programs compute on the machine.
    """
    with _single_thread_lock:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield threads
        finally:
            torch.set_num_threads(threads)
