"""Do pictures of a kind lie close together? The share of the five nearest train records that are of the query's class.

Queries are records of test, else val. Distance is Euclidean between a model's features, between those of the same net at its
start (seed 0), and between pixels: of the centre view, and of the record shrunk to 32 x 32. By chance the share is that of
the query's class in train. The paper's remark (section 6.1) is that features see what pixels do not.

    python benchmarks/nearest.py STORE MODEL... --queries 500
"""

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from alexnet.data.groups import Group, from_split
from alexnet.data.store import Split, open_store
from alexnet.evaluate import must_be_seen, scored_split
from alexnet.insight.nearest.features import Rows, rows_of, squares
from alexnet.insight.nearest.neighbours import drawn
from alexnet.insight.nearest.search import exactly
from alexnet.model import Model, ready
from alexnet.network.alexnet import AlexNet, start
from alexnet.runtime import Runtime, choose

NEAREST, SMALL = 5, 32
Describe = Callable[[Group], Tensor]  # of some records, rows (n, values)


def share(describe: Describe, train: Split, asked: Split, numbers: list[int], workers: int) -> float:
    """The mean share of the nearest that are of the query's class, in percent."""
    parts = [describe(group).half() for group in from_split(train, range(len(train)), workers)]
    rows, hits = Rows(tuple(parts), torch.cat([squares(part) for part in parts])), []
    search = exactly(rows)
    for group in from_split(asked, numbers, workers):
        for label, (_, found) in zip(group.labels, search(describe(group).half(), NEAREST), strict=True):
            hits.append(np.mean(train.labels[found] == label))
    return 100 * float(np.mean(hits))


def shrunk(square: np.ndarray) -> np.ndarray:
    """A record (S, S, C) at 32 x 32."""
    return np.asarray(Image.fromarray(square.squeeze()).resize((SMALL, SMALL), Image.Resampling.BOX))


def as_rows(pictures: Iterable[np.ndarray]) -> Tensor:
    """Pixels as rows; levels up to 255 are exact in float16."""
    return torch.from_numpy(np.stack([picture.reshape(-1) for picture in pictures])).float()


def ways(name: str, model: Model, runtime: Runtime) -> dict[str, Describe]:
    """What a model's records are compared by."""
    view, network = model.view, model.network
    random = start(AlexNet(network.description, network.classes), seed=0).eval().to(runtime.device, runtime.dtype)
    return {
        f"fc7 of {name}": lambda group: rows_of((network, view), group, "fc7", runtime),
        f"fc7 of {name} at its start": lambda group: rows_of((random, view), group, "fc7", runtime),
        f"pixels, {view.input[1]} x {view.input[2]}": lambda group: as_rows(view.centre(np.stack(list(group.squares)))),
        f"pixels, {SMALL} x {SMALL}": lambda group: as_rows(shrunk(np.asarray(square)) for square in group.squares),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--queries", type=int, default=500)
    given = parser.parse_args()
    store, runtime, told = open_store(given.store), choose(), set()
    train, asked = store.splits["train"], scored_split(store, None)
    numbers = drawn(asked, given.queries, seed=0)
    frequency = np.bincount(train.labels, minlength=len(store.classes)) / len(train)
    print(f"{len(numbers)} records of {asked.name} among {len(train)} of train; the nearest {NEAREST} of the same class:")
    print(f"by chance: {100 * frequency[asked.labels[numbers]].mean():.1f} %", flush=True)
    for path in given.models:
        model = ready(path, runtime)
        must_be_seen(model.view, store)
        for way, describe in ways(f"{path} ({model.recipe.name})", model, runtime).items():
            if way not in told:  # pixels are the same for all models of an input size
                print(f"{way}: {share(describe, train, asked, numbers, runtime.workers):.1f} %", flush=True)
            told.add(way)


if __name__ == "__main__":
    main()
