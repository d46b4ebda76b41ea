"""How long does a search take among many records? Rows are drawn, sparse and positive as fc7's are; nothing is read from disk.

Ways take turns: looking at every row for one query, the same for eight that share a pass, and the codes of an autoencoder
that is not trained here, for only the time is asked. After a round that does not count, best and median of the others.

    python benchmarks/search_speed.py --records 100000 --values 4096
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from alexnet.insight.nearest.autoencoder import hamming
from alexnet.insight.nearest.features import ROWS, VALUES, Rows, squares
from alexnet.insight.nearest.search import exactly

NEAREST, SHARING, BITS = 6, 8, 256


def drawn(records: int, values: int, folder: Path, seed: int) -> Rows:
    """Rows of float16, three quarters of them zeros, in mapped files of the lengths an index has."""
    generator, length = np.random.default_rng(seed), min(ROWS, VALUES // values)
    parts = []
    for first in range(0, records, length):
        some = generator.standard_normal((min(length, records - first), values), np.float32) - 0.67
        path = folder / f"{first}.npy"
        np.save(path, some.clip(0).astype(np.float16))
        parts.append(torch.from_numpy(np.load(path, mmap_mode="c")))
    return Rows(tuple(parts), torch.cat([squares(part) for part in parts]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--values", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = drawn(given.records, given.values, Path(folder), seed=0)
        queries = rows.take(range(SHARING))
        search = exactly(rows)
        codes = np.random.default_rng(0).integers(0, 256, (given.records, BITS // 8), np.uint8)
        ways = {
            "exact, one query": (1, lambda: search(queries[:1], NEAREST)),
            f"exact, each of {SHARING} that share a pass": (SHARING, lambda: search(queries, NEAREST)),
            f"codes of {BITS} bits": (1, lambda: hamming(codes, codes[0]).argsort(kind="stable")[:NEAREST]),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(given.rounds + 1):
            for name, (shared, ask) in ways.items():
                begun = time.perf_counter()
                ask()
                seconds[name].append((time.perf_counter() - begun) / shared)
    print(f"{given.records:,} records of {given.values:,} values, {torch.get_num_threads()} threads; seconds a query:")
    for name, all_of_them in seconds.items():
        counted = all_of_them[1:]
        print(f"{name}: {min(counted):.3f} ({statistics.median(counted):.3f})")


if __name__ == "__main__":
    main()
