"""Neighbours in a set too large to look at every record: faiss finds candidates, our own rows give their distances and order.

The rows are turned to their 256 main directions, kept in 8 bits each, and sorted into cells (k-means; faiss's inverted lists).
A query looks into the nearest cells only, and the candidates found there are then measured exactly; so a distance is always
right, but a neighbour can be missed. Where the cells hold fewer candidates than neighbours are asked for, and where there are too
few rows for a single cell, every row is looked at instead. What faiss has learnt lies in the index folder beside the rows and is
about the same model and store. faiss comes with the extra `search` and is imported where it is used.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from alexnet.evaluate import Tick
from alexnet.insight.nearest.features import FORMAT, Kept, Rows, still_good
from alexnet.insight.nearest.search import Found, Search, exactly, in_order
from alexnet.randomness import key, permutation
from alexnet.tensorfile import write_tensors

DIRECTIONS = 256
PER_CELL, AT_LEAST = 39, 2048  # records from which faiss wants to learn a cell, and we the main directions
LOOKED_INTO = 16  # one cell of so many, though eight at least
CANDIDATES = 32  # measured exactly, for each neighbour asked for


def in_cells(kept: Kept, progress: Tick) -> Search:
    """The search by faiss, its cells read from the index folder, or learnt and put there; `progress`: (done, all) records."""
    import faiss

    looking_at_each = exactly(kept.rows)
    if len(kept.rows) < PER_CELL:
        return looking_at_each
    path, about = kept.folder / "cells.safetensors", {**kept.origin, "records": len(kept.rows), "faiss": faiss.__version__}
    found = still_good(path, about)
    if found is None:
        found = {"cells": torch.from_numpy(faiss.serialize_index(_learnt(kept.rows, progress)))}
        write_tensors(path, FORMAT, found, about)
    cells = faiss.deserialize_index(found["cells"].numpy())
    inverted = faiss.extract_index_ivf(cells)
    inverted.nprobe = min(inverted.nlist, max(8, inverted.nlist // LOOKED_INTO))

    def nearest(query: Tensor, candidates: np.ndarray, count: int) -> Found:
        if len(candidates) < min(count, len(kept.rows)):  # the cells looked into hold too few
            return looking_at_each(query[None], count)[0]
        return in_order(kept.rows, query, candidates, count)

    def search(queries: Tensor, count: int) -> list[Found]:
        _, candidates = cells.search(queries.float().numpy(), min(len(kept.rows), CANDIDATES * count))
        found = (some[some >= 0] for some in candidates)  # -1 stands where the cells hold no more
        return [nearest(query, some, count) for query, some in zip(queries, found, strict=True)]

    return search


def _learnt(rows: Rows, progress: Tick) -> Any:
    """A faiss index of the rows, learnt from some of them, drawn, and filled with all."""
    import faiss

    cells = max(1, min(int(len(rows) ** 0.5), len(rows) // PER_CELL))
    some = rows.take(permutation(key(0, "cells"), len(rows))[: max(AT_LEAST, PER_CELL * cells)]).float().numpy()
    directions = min(DIRECTIONS, *some.shape)  # n rows have no more than n directions
    index = faiss.index_factory(rows.values, f"PCA{directions},IVF{cells},SQ8")
    index.train(some)
    for part in rows.parts:
        index.add(part.float().numpy())
        progress(index.ntotal, len(rows))
    return index
