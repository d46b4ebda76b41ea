"""The images of a dataset that are nearest to given images, by a network's features (section 6.1).

Queries are files or images of the dataset; results are values, JSON or a contact sheet (the right
half of the paper's figure 4). An image of the searched split finds itself at distance 0 or close to
it: batches of another size are rounded differently inside the network, which has put images 2e-6 or
3e-4 from themselves. Ties are in stored order. The searches themselves are in `search` (exact),
`faiss_ivf` and `binary_codes` (approximate).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alexnet.analysis.plots.style import SMALL_FONT, figure_style, hide_axes, shorten, show_image
from alexnet.analysis.retrieval.binary_codes import binary_code_search
from alexnet.analysis.retrieval.faiss_ivf import ivf_search
from alexnet.analysis.retrieval.features import FeatureIndex, batch_features
from alexnet.analysis.retrieval.search import SearchFn, SearchResult, exact_search
from alexnet.core.device import Runtime
from alexnet.core.errors import UsageError, require
from alexnet.core.rng import key, permutation
from alexnet.data.image_batches import ImageBatch
from alexnet.data.prepared import Split
from alexnet.evaluation.evaluate import ProgressFn
from alexnet.models.model_file import Classifier

FAISS_THRESHOLD = 500_000  # images above which `auto` searches by faiss, if it is installed
MAX_LABEL_CHARS = 19  # of a name under an image
MAX_SHEET_QUERIES = 40  # few programs open larger figures


@dataclass(frozen=True)
class Neighbor:
    """One retrieved image."""

    name: str
    class_name: str
    split: str
    index: int  # in its split
    distance: float  # Euclidean; for binary codes the number of differing bits, an int

    def to_json(self) -> dict[str, Any]:
        """Return the neighbor as plain data."""
        return {
            "name": self.name,
            "class": self.class_name,
            "split": self.split,
            "index": self.index,
            "distance": self.distance,
        }


@dataclass(frozen=True, eq=False)
class QueryResult:
    """A query image and its neighbors, nearest first; or the reason why it could not be read."""

    path: str
    class_name: str | None  # known where the query is an image of the dataset
    neighbors: tuple[Neighbor, ...]
    image: np.ndarray | None = field(default=None, repr=False)  # uint8 (S, S, C), for the sheet
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain data."""
        query = {"path": self.path, "class": self.class_name, "error": self.error}
        document: dict[str, Any] = {
            name: value for name, value in query.items() if value is not None
        }
        document["neighbors"] = [neighbor.to_json() for neighbor in self.neighbors]
        return document


def find_neighbors(
    index: FeatureIndex,
    classifier: Classifier,
    batches: Iterable[ImageBatch],
    top_k: int,
    search: SearchFn,
    runtime: Runtime,
) -> Iterator[QueryResult]:
    """Yield a result for every image, in order; the images of a batch share their search."""
    classes = index.dataset.classes
    for batch in batches:
        queries = batch_features(classifier, batch, index.layer, runtime).half()
        search_result = iter(search(queries, top_k))
        for name, image, label in zip(*batch, strict=True):
            class_name = None if label is None else classes[label]
            if isinstance(image, str):
                yield QueryResult(name, class_name, (), error=image)
            else:
                yield QueryResult(name, class_name, _neighbors(index, next(search_result)), image)


def _neighbors(index: FeatureIndex, search_result: SearchResult) -> tuple[Neighbor, ...]:
    split = index.split
    classes = index.dataset.classes
    return tuple(
        Neighbor(split.names[i], classes[split.labels[i]], split.name, i, distance)
        for distance, i in zip(
            search_result.distances.tolist(), search_result.indices.tolist(), strict=True
        )
    )


def keep_images(results: Iterable[QueryResult], limit: int) -> Iterator[QueryResult]:
    """Yield the results, dropping the query images after the first `limit` readable ones."""
    for result in results:
        yield result if limit > 0 else replace(result, image=None)
        if result.error is None:
            limit -= 1


def sample_queries(split: Split, count: int, seed: int) -> list[int]:
    """Return the indices of a random sample of a split, without replacement."""
    return permutation(key(seed, "queries"), len(split))[:count].tolist()


# ---- choosing a search


def choose_search(requested: str, hash_bits: int | None, images: int) -> str:
    """Return `exact`, `faiss` or `codes` for what was requested (exact, faiss or auto).

    UsageError where the options contradict each other or faiss is not installed.
    """
    faiss_installed = find_spec("faiss") is not None  # it comes with the extra `search`
    require(
        hash_bits is None or (hash_bits > 0 and hash_bits % 8 == 0),
        f"--hash-bits {hash_bits}: expected a multiple of 8 bits, such as 256",
    )
    if requested == "faiss" and hash_bits:
        raise UsageError(
            "--search faiss with --hash-bits: binary codes have their own search; use one of them"
        )
    if requested == "faiss" and not faiss_installed:
        raise UsageError(
            "--search faiss: faiss is not installed; pip install 'alexnet[search]', "
            "or use --search exact"
        )
    if hash_bits:
        return "codes"
    if requested == "auto":
        return "faiss" if faiss_installed and images > FAISS_THRESHOLD else "exact"
    return requested


def make_search(
    index: FeatureIndex, method: str, hash_bits: int | None, progress: ProgressFn
) -> SearchFn:
    """Return the search of a method that `choose_search` returned, trained and stored if need be.

    `progress` receives (done, total) training steps (codes) or images (faiss).
    """
    if hash_bits:
        return binary_code_search(index, hash_bits, progress)
    if method == "faiss":
        return ivf_search(index, progress)
    return exact_search(index.features)


# ---- the contact sheet


@figure_style()
def contact_sheet(results: Sequence[QueryResult], split: Split) -> Figure:
    """Draw a row for each query that has its image: the query, then its neighbors."""
    shown = [(result, result.image) for result in results if result.image is not None]
    rows = max(1, len(shown))
    columns = 1 + max((len(result.neighbors) for result, _ in shown), default=0)
    figure = Figure((1.3 * columns, 1.85 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        hide_axes(axes)  # also where a query has fewer neighbors than the others, or none is shown
    for row, (result, query_image) in zip(grid, shown, strict=False):
        _draw_image(row[0], query_image, result.class_name, result.path, "query")
        for axes, neighbor in zip(row[1:], result.neighbors, strict=False):
            image = split.pixels(neighbor.index)
            distance = _distance_label(neighbor.distance)
            _draw_image(axes, image, neighbor.class_name, neighbor.name, distance)
    return figure


def _distance_label(distance: float) -> str:
    """Format a distance; binary codes differ in whole bits."""
    if isinstance(distance, float):
        return f"{distance:.2f}"
    return f"{distance} bit{'' if distance == 1 else 's'}"


def _draw_image(
    axes: Axes, image: np.ndarray, class_name: str | None, path: str, caption: str
) -> None:
    """Draw an image with its class, if known, its file name and a caption below it."""
    show_image(axes, image)
    names = [Path(path).name] if class_name is None else [class_name, Path(path).name]
    lines = [*(shorten(name, MAX_LABEL_CHARS) for name in names), caption]
    axes.set_xlabel("\n".join(lines), fontsize=SMALL_FONT)
