"""Approximate search by faiss for sets that are too large to compare with every image.

Features are reduced by PCA to 256 dimensions, quantized to 8 bits each and sorted into the cells
of an inverted file (IVF, k-means). A query probes the nearest cells only; the candidates found
there are ranked by their exact distances, so a distance is always right, but a neighbor can be
missed. Where the probed cells hold fewer candidates than neighbors are wanted, and where there are
too few images for a single cell, the search is exact. faiss's index is stored in the folder of the
feature index. faiss comes with the extra `search` and is imported where it is used.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from alexnet.analysis.retrieval.features import FORMAT, FeatureIndex, Features, read_if_current
from alexnet.analysis.retrieval.search import (
    SearchFn,
    SearchResult,
    exact_search,
    rank_candidates,
)
from alexnet.core.rng import key, permutation
from alexnet.core.safetensors_io import write_tensors
from alexnet.evaluation.evaluate import ProgressFn

PCA_DIM = 256
MIN_PER_CELL = 39  # images per cell below which faiss warns that k-means has too few points
MIN_TRAINING_IMAGES = 2048  # for PCA
CELLS_PER_PROBE = 16  # one cell of this many is probed
MIN_PROBES = 8
CANDIDATES_PER_NEIGHBOR = 32  # ranked by exact distance


def ivf_search(index: FeatureIndex, progress: ProgressFn) -> SearchFn:
    """Return the search by faiss, whose index is built on first use and then stored.

    `progress` receives (done, total) images while it is built.
    """
    import faiss

    features = index.features
    exact = exact_search(features)
    if len(features) < MIN_PER_CELL:
        return exact
    ivf = _load_or_build(index, progress)
    inverted_lists = faiss.extract_index_ivf(ivf)
    cells = inverted_lists.nlist
    inverted_lists.nprobe = min(cells, max(MIN_PROBES, cells // CELLS_PER_PROBE))

    def search_one(query: Tensor, candidates: np.ndarray, top_k: int) -> SearchResult:
        if len(candidates) < min(top_k, len(features)):  # the probed cells hold too few
            return exact(query[None], top_k)[0]
        return rank_candidates(features, query, candidates, top_k)

    def search(queries: Tensor, top_k: int) -> list[SearchResult]:
        num_candidates = min(len(features), CANDIDATES_PER_NEIGHBOR * top_k)
        _, candidates = ivf.search(queries.float().numpy(), num_candidates)
        return [
            search_one(query, indices_found[indices_found >= 0], top_k)  # faiss fills up with -1
            for query, indices_found in zip(queries, candidates, strict=True)
        ]

    return search


def _load_or_build(index: FeatureIndex, progress: ProgressFn) -> Any:
    """Return faiss's index, read from the folder of the feature index or built and stored there."""
    import faiss

    path = index.folder / "faiss-ivf.safetensors"
    metadata = {**index.metadata, "images": len(index.features), "faiss": faiss.__version__}
    stored = read_if_current(path, metadata)
    if stored is None:
        serialized = faiss.serialize_index(_build(index.features, progress))
        stored = {"index": torch.from_numpy(serialized)}
        write_tensors(path, FORMAT, stored, metadata)
    return faiss.deserialize_index(stored["index"].numpy())


def _build(features: Features, progress: ProgressFn) -> Any:
    """Train a faiss index on a random sample of the features and add all of them."""
    import faiss

    count = len(features)
    cells = max(1, min(int(count**0.5), count // MIN_PER_CELL))
    sample_size = max(MIN_TRAINING_IMAGES, MIN_PER_CELL * cells)
    sample = features.take(permutation(key(0, "cells"), count)[:sample_size]).float().numpy()
    pca_dim = min(PCA_DIM, *sample.shape)  # n points span no more than n directions
    index = faiss.index_factory(features.dim, f"PCA{pca_dim},IVF{cells},SQ8")
    index.train(sample)
    for part in features.parts:
        index.add(part.float().numpy())
        progress(index.ntotal, count)
    return index
