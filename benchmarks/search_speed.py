"""How long does a search in many images take? Random features, sparse and positive as fc7's.

Searches take turns: exact search for one query, exact search for eight queries that share a pass,
and binary codes, which are random here because only the time matters. Best and median after a
warm-up round; nothing is read from disk.

    python benchmarks/search_speed.py --images 100000 --dim 4096
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from alexnet.analysis.retrieval.binary_codes import hamming_distances, smallest_distances
from alexnet.analysis.retrieval.features import (
    MAX_PART_IMAGES,
    MAX_PART_VALUES,
    Features,
    squared_norms,
)
from alexnet.analysis.retrieval.search import exact_search

TOP_K = 6
BATCH_QUERIES = 8
HASH_BITS = 256


def random_features(images: int, dim: int, folder: Path, seed: int) -> Features:
    """Return float16 features, three quarters zeros, memory-mapped in parts as an index has."""
    random = np.random.default_rng(seed)
    length = min(MAX_PART_IMAGES, MAX_PART_VALUES // dim)
    parts = []
    for start in range(0, images, length):
        shape = (min(length, images - start), dim)
        values = random.standard_normal(shape, np.float32) - 0.67
        path = folder / f"{start}.npy"
        np.save(path, values.clip(0).astype(np.float16))
        parts.append(torch.from_numpy(np.load(path, mmap_mode="c")))
    return Features(tuple(parts), torch.cat([squared_norms(part) for part in parts]))


def time_in_turns(
    searches: dict[str, Callable[[], object]], repeats: int
) -> dict[str, list[float]]:
    """Return the seconds of each search's repetitions, without a first warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in searches}
    for _ in range(repeats + 1):
        for name, search in searches.items():
            start = time.perf_counter()
            search()
            seconds[name].append(time.perf_counter() - start)
    return {name: each[1:] for name, each in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        features = random_features(args.images, args.dim, Path(folder), seed=0)
        queries = features.take(range(BATCH_QUERIES))
        search = exact_search(features)
        shape = (args.images, HASH_BITS // 8)
        codes = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        single = "exact, one query"
        batch = f"exact, a query of {BATCH_QUERIES} that share a pass"
        binary = f"codes of {HASH_BITS} bits"
        searches: dict[str, Callable[[], object]] = {
            single: lambda: search(queries[:1], TOP_K),
            batch: lambda: search(queries, TOP_K),
            binary: lambda: smallest_distances(hamming_distances(codes, codes[0]), TOP_K),
        }
        seconds = time_in_turns(searches, args.repeats)
    seconds[batch] = [each / BATCH_QUERIES for each in seconds[batch]]
    threads = torch.get_num_threads()
    print(f"{args.images:,} images of {args.dim:,} values, {threads} threads; seconds a query:")
    for name, each in seconds.items():
        print(f"{name}: {min(each):.3f} ({statistics.median(each):.3f})")


if __name__ == "__main__":
    main()
