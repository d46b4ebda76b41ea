"""Nearest neighbors: every search against brute force in float64; and what the commands print."""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

import alexnet.__main__ as command_line
from alexnet.analysis.plots import figure_io
from alexnet.analysis.plots.style import shorten
from alexnet.analysis.retrieval import binary_codes, faiss_ivf, neighbors, search
from alexnet.analysis.retrieval.features import (
    FeatureIndex,
    Features,
    load_or_build_index,
    squared_norms,
)
from alexnet.analysis.retrieval.neighbors import (
    Neighbor,
    QueryResult,
    choose_search,
    contact_sheet,
    find_neighbors,
    keep_images,
    make_search,
    sample_queries,
)
from alexnet.analysis.retrieval.search import SearchResult, exact_search
from alexnet.core.errors import AlexNetError, UsageError
from alexnet.data.image_batches import from_files, from_split
from alexnet.data.prepared import PreparedDataset, Split
from alexnet.evaluation.evaluate import scored_split
from alexnet.models.model_file import Classifier, read_model_file
from tests.analysis.test_features import ignore_progress, write_untrained_model
from tests.conftest import CPU

RunCommand = Callable[..., tuple[int, str, str]]


def make_features(values: np.ndarray, length: int = 100) -> Features:
    """Values (N, dim) as float16 features in parts of some length."""
    half = torch.from_numpy(values).half()
    return Features(half.split(length), squared_norms(half))


def brute_force(features: Features, query: torch.Tensor, top_k: int) -> SearchResult:
    """The nearest by numpy alone, in float64; ties ordered by index."""
    stored = torch.cat(features.parts).double().numpy()
    distances = np.sqrt(((stored - query.double().numpy()) ** 2).sum(1))
    order = np.lexsort((np.arange(len(stored)), distances))[:top_k]
    return SearchResult(distances[order], order)


def assert_same_results(first: list[SearchResult], second: list[SearchResult]) -> None:
    """Assert that two searches found the same neighbors at the same distances."""
    for one, two in zip(first, second, strict=True):
        assert np.array_equal(one.indices, two.indices)
        assert np.array_equal(one.distances, two.distances)


@pytest.mark.parametrize("spread", [1.0, 1e-3, 300.0])
def test_exact_search_equals_brute_force_in_float64(
    spread: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for features so close together, far from 0, that float32 cannot tell them apart."""
    monkeypatch.setattr(search, "MAX_APPROX_DISTANCES", 3 * 777)  # three queries a pass
    monkeypatch.setattr(search, "PARTS_PER_JOB", 3)  # eight parts are three jobs
    random = np.random.default_rng(0)
    features = make_features(40 + spread * random.standard_normal((777, 301)))
    new_queries = torch.from_numpy(40 + spread * random.standard_normal((6, 301))).half()
    queries = torch.cat([features.take([5, 700]), new_queries])
    results = exact_search(features)(queries, 9)
    for query, result in zip(queries, results, strict=True):
        expected = brute_force(features, query, 9)
        assert result.indices.tolist() == expected.indices.tolist()
        np.testing.assert_allclose(result.distances, expected.distances, rtol=1e-12)


def test_ties_are_in_stored_order() -> None:
    random = np.random.default_rng(1)
    distinct = random.standard_normal((4, 50))
    features = make_features(distinct[random.integers(0, 4, 300)])
    ((distances, indices),) = exact_search(features)(features.take([7]), 300)
    assert distances[0] == 0
    assert len(set(distances)) == 4
    for distance in set(distances):
        assert (np.diff(indices[distances == distance]) > 0).all()


def test_top_k_is_limited_by_the_number_of_features() -> None:
    features = make_features(np.eye(3, 8))
    ((distances, indices),) = exact_search(features)(features.take([1]), 10)
    assert indices.tolist() == [1, 0, 2]
    assert distances.tolist() == pytest.approx([0, 2**0.5, 2**0.5])


# ---- binary codes


def test_hamming_distances_equal_pythons_bit_count() -> None:
    random = np.random.default_rng(2)
    codes = random.integers(0, 256, (200, 32), np.uint8)
    code = random.integers(0, 256, 32, np.uint8)
    expected = [
        (int.from_bytes(stored.tobytes()) ^ int.from_bytes(code.tobytes())).bit_count()
        for stored in codes
    ]
    assert binary_codes.hamming_distances(codes, code).tolist() == expected


def clusters(count: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """Values (count, 64) around eight cluster centers, and the cluster of each."""
    random = np.random.default_rng(3)
    labels = random.integers(0, 8, count)
    centers = random.standard_normal((8, 64))
    values = centers[labels] + 0.5 * random.standard_normal((count, 64))
    return np.maximum(values, 0), labels


def test_codes_preserve_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary_codes, "STEPS", 200)
    values, labels = clusters()
    features = make_features(values)
    encoder = binary_codes.train_encoder(features, 32, seed=0)
    codes = encoder.encode(torch.cat(features.parts))
    assert codes.shape == (600, 4)
    retrained = binary_codes.train_encoder(features, 32, seed=0)
    assert np.array_equal(codes, retrained.encode(torch.cat(features.parts)))
    precisions = []
    for code, label in zip(codes[:100], labels[:100], strict=True):
        distances = binary_codes.hamming_distances(codes, code)
        nearest = binary_codes.smallest_distances(distances, 6).indices
        precisions.append(labels[nearest] == label)
    assert np.mean(precisions) > 0.8  # by chance it would be one in eight


# ---- choosing a search


def test_the_search_is_chosen_by_options_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    for installed in (True, False):
        monkeypatch.setattr(neighbors, "find_spec", lambda name, spec=installed: spec or None)
        assert choose_search("auto", None, 1000) == "exact"
        assert choose_search("exact", None, 10**9) == "exact"
        assert choose_search("auto", 256, 10**9) == "codes"
        assert choose_search("auto", None, 10**9) == ("faiss" if installed else "exact")
    with pytest.raises(UsageError, match=r"pip install 'alexnet\[search\]'"):
        choose_search("faiss", None, 1000)
    with pytest.raises(UsageError, match="binary codes have their own search"):
        choose_search("faiss", 256, 1000)
    with pytest.raises(UsageError, match="--hash-bits 12: expected a multiple of 8"):
        choose_search("auto", 12, 1000)


@pytest.fixture
def index(dataset: PreparedDataset, tmp_path: Path) -> Iterator[FeatureIndex]:
    """The index of a tiny network's fc7 over the train split."""
    path = write_untrained_model(tmp_path / "model.safetensors", dataset)
    classifier = read_model_file(path)
    train = dataset.splits["train"]
    yield load_or_build_index(path, classifier, dataset, train, "fc7", CPU, ignore_progress)


@pytest.fixture
def classifier(index: FeatureIndex, tmp_path: Path) -> Classifier:
    """The network of the index."""
    return read_model_file(tmp_path / "model.safetensors")


def requires_faiss(test: Callable[..., None]) -> Callable[..., None]:
    """Skip a test where faiss is not installed."""
    skip = pytest.mark.skipif(
        find_spec("faiss") is None,
        reason="faiss is not installed; it comes with the extra `search`",
    )
    # faiss's wrapper warns in newer versions of Python.
    ignore_warning = pytest.mark.filterwarnings("ignore:builtin type:DeprecationWarning")
    return skip(ignore_warning(test))


@requires_faiss
def test_faiss_finds_the_exact_neighbors(index: FeatureIndex) -> None:
    values, _ = clusters(4000)
    large = replace(index, features=make_features(values))
    queries = large.features.take(range(0, 4000, 100))
    exact = exact_search(large.features)(queries, 5)
    results = faiss_ivf.ivf_search(large, ignore_progress)(queries, 5)
    recall = np.mean(
        [np.isin(one.indices, two.indices).mean() for one, two in zip(exact, results, strict=True)]
    )
    assert recall > 0.95
    assert all(result.distances[0] == 0 for result in results)
    reported: list[int] = []
    stored = faiss_ivf.ivf_search(large, lambda done, total: reported.append(done))
    again = stored(queries, 5)
    assert not reported, "the index was built again"
    assert all(
        np.array_equal(one.indices, two.indices) for one, two in zip(results, again, strict=True)
    )


@requires_faiss
@pytest.mark.parametrize("count", [1, 20, 50, 130])
def test_faiss_searches_fewer_images_than_pca_dimensions(index: FeatureIndex, count: int) -> None:
    """With one cell, or with all cells probed, no neighbor can be missed."""
    values = np.random.default_rng(4).standard_normal((count, 300))
    small = replace(index, features=make_features(values))
    queries = small.features.take(range(min(count, 5)))
    exact = exact_search(small.features)(queries, 3)
    assert_same_results(exact, faiss_ivf.ivf_search(small, ignore_progress)(queries, 3))


@requires_faiss
def test_faiss_returns_as_many_neighbors_as_requested(index: FeatureIndex) -> None:
    """Here 8 cells of 46 are probed, which hold enough candidates for few neighbors only."""
    large = replace(index, features=make_features(clusters(2200)[0]))
    queries = large.features.take([0, 700, 1400])
    faiss_search = faiss_ivf.ivf_search(large, ignore_progress)
    for top_k in (300, 1800, 5000):
        results = faiss_search(queries, top_k)
        assert [len(result.indices) for result in results] == [min(top_k, 2200)] * 3
    exact = exact_search(large.features)(queries, 1800)
    assert_same_results(exact, faiss_search(queries, 1800))


def test_codes_are_trained_once(index: FeatureIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary_codes, "STEPS", 20)
    queries = index.features.take([3, 1])
    first = make_search(index, "codes", 16, ignore_progress)(queries, 4)
    monkeypatch.setattr(binary_codes, "train_encoder", None)  # would fail if it were called
    second = make_search(index, "codes", 16, ignore_progress)(queries, 4)
    assert [one.indices.tolist() for one in first] == [two.indices.tolist() for two in second]
    assert first[0].distances[0] == 0


# ---- results


def test_results_name_neighbors_and_unreadable_files(
    index: FeatureIndex, classifier: Classifier, images: Path, tmp_path: Path
) -> None:
    train = index.split
    class_name = index.dataset.classes[train.labels[4]]
    exact = exact_search(index.features)
    (tmp_path / "bad.jpg").write_bytes(b"not an image")
    files = [tmp_path / "bad.jpg", images / train.names[4]]
    batches = from_files(classifier.preprocessor, files, 1)
    bad, good = find_neighbors(index, classifier, batches, 3, exact, CPU)
    assert bad.error
    assert "cannot be read" in bad.to_json()["error"]
    assert not bad.neighbors
    assert good.to_json()["neighbors"][0] == {
        "name": train.names[4],
        "class": class_name,
        "split": "train",
        "index": 4,
        "distance": pytest.approx(0, abs=1e-3),  # a batch of 1 may be rounded differently
    }
    distances = [neighbor.distance for neighbor in good.neighbors]
    assert distances == sorted(distances)
    (record,) = find_neighbors(index, classifier, from_split(train, [4], 1), 3, exact, CPU)
    assert record.neighbors == good.neighbors
    assert record.class_name == class_name
    assert good.class_name is None


def test_the_contact_sheet_has_a_row_for_each_query(
    index: FeatureIndex, classifier: Classifier
) -> None:
    train = index.split
    batches = from_split(train, [9, 2], 1)
    exact = exact_search(index.features)
    results = list(find_neighbors(index, classifier, batches, 3, exact, CPU))
    axes = contact_sheet(results, train).axes
    assert len(axes) == 8
    for row, result in zip((axes[:4], axes[4:]), results, strict=True):
        file_name = shorten(Path(result.path).name, 19)
        assert row[0].get_xlabel() == f"{result.class_name}\n{file_name}\nquery"
        assert [cell.get_xlabel() for cell in row[1:]] == [
            f"{near.class_name}\n{shorten(Path(near.name).name, 19)}\n{near.distance:.2f}"
            for near in result.neighbors
        ]
        pixels = np.asarray(row[1].images[0].get_array())
        assert np.array_equal(pixels, train.pixels(result.neighbors[0].index))


def test_the_contact_sheet_prints_bits_and_leaves_missing_neighbors_empty(
    dataset: PreparedDataset,
) -> None:
    train = dataset.splits["train"]
    nearest = [
        Neighbor(train.names[i], f"class {i}", "train", i, distance)
        for i, distance in enumerate((1, 12, 2e-6))
    ]
    results = [
        QueryResult(name, None, tuple(nearest[:count]), train.pixels(0))
        for name, count in (("a/one.png", 3), ("a/two.png", 1))
    ]
    labels = [axes.get_xlabel() for axes in contact_sheet(results, train).axes]
    files = [shorten(Path(train.names[i]).name, 19) for i in range(3)]
    first = f"class 0\n{files[0]}\n1 bit"
    others = [f"class 1\n{files[1]}\n12 bits", f"class 2\n{files[2]}\n0.00"]
    assert labels[:4] == ["one.png\nquery", first, *others]
    assert labels[4:] == ["two.png\nquery", first, "", ""]


def test_images_are_kept_for_the_first_readable_queries() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    results = [
        QueryResult("bad", None, (), error="cannot be read"),
        *(QueryResult(name, None, (), image) for name in "abc"),
    ]
    for limit in (0, 2, 9):
        limited = list(keep_images(results, limit))
        with_image = [result.path for result in limited if result.image is not None]
        assert with_image == ["a", "b", "c"][:limit]
        assert [result.path for result in limited] == ["bad", "a", "b", "c"]
        assert limited[0].error


def test_sampled_queries_depend_on_the_seed_only(dataset: PreparedDataset) -> None:
    split = dataset.splits["val"]
    first = sample_queries(split, 8, seed=0)
    assert first == sample_queries(split, 20, seed=0)[:8] != sample_queries(split, 8, seed=1)
    assert sorted(sample_queries(split, 10**6, seed=3)) == list(range(len(split)))


# ---- the commands


@pytest.fixture
def run_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunCommand:
    """Run a command in this process; return its status, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        words = ["alexnet", *map(str, arguments), "--device=cpu", "--precision=fp32"]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            command_line.main()
        output = capsys.readouterr()
        return int(ended.value.code or 0), output.out, output.err

    return run


@pytest.fixture
def model_path(dataset: PreparedDataset, tmp_path: Path) -> Path:
    return write_untrained_model(tmp_path / "model.safetensors", dataset)


def test_the_neighbors_command(
    run_command: RunCommand,
    dataset: PreparedDataset,
    images: Path,
    model_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = images / dataset.splits["train"].names[0]
    sheet = tmp_path / "neighbors.png"
    command = ["neighbors", model_path, dataset.path, image, "--top-k", 4, "--json"]
    status, out, _ = run_command(*command, "--records", 2, "--out", sheet)
    results = json.loads(out)
    assert status == 0
    assert [len(result["neighbors"]) for result in results] == [4, 4, 4]
    assert "class" in results[1]
    assert results[0]["path"] == str(image)
    assert results[0]["neighbors"][0]["distance"] < 1e-3
    with Image.open(sheet) as opened:
        assert opened.format == "PNG"
        assert opened.width > opened.height
    monkeypatch.setattr(Split, "pixels", lambda split, i: pytest.fail("an image was decoded again"))
    assert json.loads(run_command(*command)[1]) == results[:1]
    status, out, err = run_command("neighbors", model_path, dataset.path, model_path, image)
    assert status == 1
    assert "cannot be read" in out
    assert "search: exact" in out
    assert "1 of 2" in err


def test_results_are_printed_before_the_contact_sheet_is_drawn(
    run_command: RunCommand,
    dataset: PreparedDataset,
    model_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(neighbors, "MAX_SHEET_QUERIES", 2)
    out = tmp_path / "neighbors.png"
    command = ["neighbors", model_path, dataset.path, "--records", 3, "--out", out]
    _, printed, _ = run_command(*command)
    test = scored_split(dataset, None)
    query = sample_queries(test, 3, 0)[0]
    title = f"{test.names[query]} ({dataset.classes[test.labels[query]]})"
    assert title in " ".join(printed.split())
    assert f"{out}: shows the first 2 of 3" in printed.splitlines()[-1]
    monkeypatch.setattr(figure_io, "to_png", fail_to_draw)
    status, printed, err = run_command(*command, "--json")
    assert status == 1
    assert len(json.loads(printed)) == 3
    assert "no space left" in err


def fail_to_draw(figure: Figure) -> bytes:
    """Stand in for a drawing that fails."""
    raise AlexNetError("no space left")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "found no image"),
        (["--records=1", "--out=neighbors.pdf"], "ends in .png"),
        (["--records=1", "--layer=fc9"], "no such layer"),
        (["--records=1", "--hash-bits=20"], "a multiple of 8"),
    ],
)
def test_usage_errors_end_with_status_2_before_anything_is_computed(
    run_command: RunCommand,
    dataset: PreparedDataset,
    model_path: Path,
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    status, _, err = run_command("neighbors", model_path, dataset.path, *arguments)
    assert status == 2
    assert message in err
    assert not list(tmp_path.glob("*.index"))


def test_the_features_command(
    run_command: RunCommand,
    dataset: PreparedDataset,
    images: Path,
    model_path: Path,
    tmp_path: Path,
) -> None:
    path = tmp_path / "features.npy"
    val = dataset.splits["val"]
    command = ["features", model_path, "--out", path]
    status, out, _ = run_command(*command, dataset.path, "--split", "val", "--json")
    from_dataset = np.load(path)
    summary = json.loads(out)
    assert status == 0
    assert summary["rows"] == len(from_dataset) == len(val)
    assert summary["values"] == from_dataset.shape[1]
    files = [images / name for name in val.names]
    status, _, err = run_command(*command, *files, model_path)
    np.testing.assert_array_equal(np.load(path), from_dataset)
    assert status == 1
    assert f"1 of {len(val) + 1}" in err
    assert run_command(*command, images, "--split", "val")[0] == 2
    assert run_command("features", model_path, images, "--out", tmp_path / "features.csv")[0] == 2
