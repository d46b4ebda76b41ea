"""Neighbours: those of brute force in float64, whatever the way of searching; and what the verbs say of them."""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

import alexnet.__main__ as verbs
from alexnet.data.groups import from_files, from_split
from alexnet.data.store import Split, Store
from alexnet.errors import AlexNetError, UsageError
from alexnet.evaluate import scored_split
from alexnet.insight.figures import drawing
from alexnet.insight.nearest import autoencoder, cells, neighbours, search
from alexnet.insight.nearest.features import Kept, Rows, kept, squares
from alexnet.insight.nearest.neighbours import Answer, Neighbour, answers, drawn, searching, sheet, way, with_squares
from alexnet.insight.nearest.search import exactly
from alexnet.model import load
from tests.conftest import CPU
from tests.test_features import quiet, write_started


def rows_of(values: np.ndarray, length: int = 100) -> Rows:
    """Values (N, n) as rows to be searched, in parts of so many."""
    halves = torch.from_numpy(values).half()
    return Rows(halves.split(length), squares(halves))


def brute(rows: Rows, query: torch.Tensor, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The nearest by numpy alone, in float64; equals by number."""
    stored = torch.cat(rows.parts).double().numpy()
    distances = np.sqrt(((stored - query.double().numpy()) ** 2).sum(1))
    order = np.lexsort((np.arange(len(stored)), distances))[:count]
    return distances[order], order


@pytest.mark.parametrize("spread", [1.0, 1e-3, 300.0])
def test_the_exact_search_is_brute_force_in_float64(spread: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where rows lie so close together, far from 0, that float32 alone could not tell them apart."""
    monkeypatch.setattr(search, "ROUGH", 3 * 777)  # three queries a pass
    monkeypatch.setattr(search, "PARTS", 3)  # eight parts are three jobs
    draw = np.random.default_rng(0)
    rows = rows_of(40 + spread * draw.standard_normal((777, 301)))
    queries = torch.cat([rows.take([5, 700]), torch.from_numpy(40 + spread * draw.standard_normal((6, 301))).half()])
    for query, (distances, numbers) in zip(queries, exactly(rows)(queries, 9), strict=True):
        expected, order = brute(rows, query, 9)
        assert numbers.tolist() == order.tolist()
        np.testing.assert_allclose(distances, expected, rtol=1e-12)


def test_equal_distances_stand_in_stored_order() -> None:
    draw = np.random.default_rng(1)
    rows = rows_of(draw.standard_normal((4, 50))[draw.integers(0, 4, 300)])  # four different rows, again and again
    ((distances, numbers),) = exactly(rows)(rows.take([7]), 300)
    assert distances[0] == 0 and len(set(distances)) == 4
    for distance in set(distances):
        assert (np.diff(numbers[distances == distance]) > 0).all()


def test_there_are_never_more_neighbours_than_rows() -> None:
    rows = rows_of(np.eye(3, 8))
    ((distances, numbers),) = exactly(rows)(rows.take([1]), 10)
    assert numbers.tolist() == [1, 0, 2] and distances.tolist() == pytest.approx([0, 2**0.5, 2**0.5])


# ---- codes


def test_bits_are_counted_as_python_counts_them() -> None:
    draw = np.random.default_rng(2)
    codes, code = draw.integers(0, 256, (200, 32), np.uint8), draw.integers(0, 256, 32, np.uint8)
    expected = [(int.from_bytes(row.tobytes()) ^ int.from_bytes(code.tobytes())).bit_count() for row in codes]
    assert autoencoder.hamming(codes, code).tolist() == expected


def clusters(count: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """Rows about eight centres, and whose each is."""
    draw = np.random.default_rng(3)
    labels = draw.integers(0, 8, count)
    return np.maximum(draw.standard_normal((8, 64))[labels] + 0.5 * draw.standard_normal((count, 64)), 0), labels


def test_codes_keep_together_what_belongs_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoencoder, "STEPS", 200)
    values, labels = clusters()
    rows = rows_of(values)
    encoder = autoencoder.learnt(rows, 32, seed=0)
    codes = encoder.codes(torch.cat(rows.parts))
    assert codes.shape == (600, 4) and np.array_equal(codes, autoencoder.learnt(rows, 32, seed=0).codes(torch.cat(rows.parts)))
    nearest = [autoencoder._fewest(autoencoder.hamming(codes, code), 6)[1] for code in codes[:100]]
    right = np.mean([labels[numbers] == label for numbers, label in zip(nearest, labels[:100], strict=True)])
    assert right > 0.8  # by chance it would be one in eight


# ---- ways


def test_ways_are_chosen_and_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for installed in (True, False):
        monkeypatch.setattr(neighbours, "find_spec", lambda name, there=installed: there or None)
        assert way("auto", None, 1000) == way("exact", None, 10**9) == "exact" and way("auto", 256, 10**9) == "codes"
        assert way("auto", None, 10**9) == ("faiss" if installed else "exact")
    with pytest.raises(UsageError, match=r"pip install 'alexnet\[search\]'"):
        way("faiss", None, 1000)
    with pytest.raises(UsageError, match="codes have a search of their own"):
        way("faiss", 256, 1000)
    with pytest.raises(UsageError, match="--codes 12: expected a multiple of 8"):
        way("auto", 12, 1000)


@pytest.fixture
def index(store: Store, tmp_path: Path) -> Iterator[Kept]:
    """The index of a tiny net's fc7 over the train records."""
    model = write_started(tmp_path / "model.safetensors", store)
    yield kept(model, load(model), store, store.splits["train"], "fc7", CPU, quiet)


def with_faiss(test: Callable[..., None]) -> Callable[..., None]:
    """A test of the search by faiss, skipped where that is not installed."""
    missing = pytest.mark.skipif(find_spec("faiss") is None, reason="faiss is not installed; it comes with the extra `search`")
    warns = pytest.mark.filterwarnings("ignore:builtin type:DeprecationWarning")  # of its wrapper, in newer Pythons
    return missing(warns(test))


@with_faiss
def test_faiss_finds_what_looking_at_each_finds(index: Kept) -> None:
    values, _ = clusters(4000)
    large = replace(index, rows=rows_of(values))
    queries = large.rows.take(range(0, 4000, 100))
    exact, found = exactly(large.rows)(queries, 5), cells.in_cells(large, quiet)(queries, 5)
    hits = np.mean([np.isin(one[1], two[1]).mean() for one, two in zip(exact, found, strict=True)])
    assert hits > 0.95 and all(two[0][0] == 0 for two in found)
    learnt = []
    again = cells.in_cells(large, lambda done, of: learnt.append(done))(queries, 5)
    assert not learnt and all(np.array_equal(one[1], two[1]) for one, two in zip(found, again, strict=True))


@with_faiss
@pytest.mark.parametrize("records", [1, 20, 50, 130])
def test_faiss_searches_fewer_records_than_it_keeps_directions(index: Kept, records: int) -> None:
    """With one cell, or cells of which each is looked into, nothing can be missed."""
    few = replace(index, rows=rows_of(np.random.default_rng(4).standard_normal((records, 300))))
    queries = few.rows.take(range(min(records, 5)))
    for one, two in zip(exactly(few.rows)(queries, 3), cells.in_cells(few, quiet)(queries, 3), strict=True):
        assert np.array_equal(one[1], two[1]) and np.array_equal(one[0], two[0])


@with_faiss
def test_faiss_gives_as_many_as_are_asked_for(index: Kept) -> None:
    """Here it looks into 8 cells of 46, so that they hold enough for few neighbours only."""
    large = replace(index, rows=rows_of(clusters(2200)[0]))
    queries, search = large.rows.take([0, 700, 1400]), cells.in_cells(large, quiet)
    for count in (300, 1800, 5000):
        assert [len(numbers) for _, numbers in search(queries, count)] == [min(count, 2200)] * 3
    for one, two in zip(exactly(large.rows)(queries, 1800), search(queries, 1800), strict=True):
        assert np.array_equal(one[1], two[1]) and np.array_equal(one[0], two[0])


def test_codes_are_learnt_once(index: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoencoder, "STEPS", 20)
    queries = index.rows.take([3, 1])
    first = searching(index, "codes", 16, quiet)(queries, 4)
    monkeypatch.setattr(autoencoder, "learnt", None)  # would fail if it were called
    again = searching(index, "codes", 16, quiet)(queries, 4)
    assert [one[1].tolist() for one in first] == [two[1].tolist() for two in again] and first[0][0][0] == 0


# ---- answers


def test_answers_name_records_and_bad_pictures(index: Kept, store: Store, pictures: Path, tmp_path: Path) -> None:
    train, seer = store.splits["train"], load(tmp_path / "model.safetensors")
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    files = [tmp_path / "bad.jpg", pictures / train.names[4]]
    bad, good = answers(index, store.classes, seer, from_files(seer[1], files, 1), 3, exactly(index.rows), CPU)
    assert bad.error and "cannot be read" in bad.to_json()["error"] and not bad.nearest
    where = {"name": train.names[4], "class": store.classes[train.labels[4]], "split": "train", "number": 4}
    assert good.to_json()["nearest"][0] == where | {"distance": pytest.approx(0, abs=1e-3)}  # a batch of 1 may round otherwise
    assert [near.distance for near in good.nearest] == sorted(near.distance for near in good.nearest)
    (asked,) = answers(index, store.classes, seer, from_split(train, [4], 1), 3, exactly(index.rows), CPU)
    assert asked.nearest == good.nearest and asked.class_name == store.classes[train.labels[4]] and good.class_name is None


def test_the_sheet_has_a_row_a_query(index: Kept, store: Store, tmp_path: Path) -> None:
    train, seer = store.splits["train"], load(tmp_path / "model.safetensors")
    found = list(answers(index, store.classes, seer, from_split(train, [9, 2], 1), 3, exactly(index.rows), CPU))
    axes = sheet(found, train).axes
    assert len(axes) == 8
    for row, answer in zip((axes[:4], axes[4:]), found, strict=True):
        assert row[0].get_xlabel() == f"{answer.class_name}\nquery"
        assert [cell.get_xlabel() for cell in row[1:]] == [f"{near.class_name}\n{near.distance:.2f}" for near in answer.nearest]
        assert np.array_equal(np.asarray(row[1].images[0].get_array()), train.pixels(answer.nearest[0].number))


def test_the_sheet_says_bits_and_leaves_empty_what_is_not_there(store: Store) -> None:
    train = store.splits["train"]
    near = [Neighbour(train.names[i], f"class {i}", "train", i, distance) for i, distance in enumerate((1, 12, 2e-6))]
    found = [Answer(name, None, tuple(near[:n]), train.pixels(0)) for name, n in (("a/one.png", 3), ("a/two.png", 1))]
    said = [axes.get_xlabel() for axes in sheet(found, train).axes]
    assert said[:4] == ["one.png\nquery", "class 0\n1 bit", "class 1\n12 bits", "class 2\n0.00"]
    assert said[4:] == ["two.png\nquery", "class 0\n1 bit", "", ""]


def test_squares_are_kept_of_the_first_that_could_be_read() -> None:
    square = np.zeros((2, 2, 3), np.uint8)
    found = [Answer("bad", None, (), error="cannot be read"), *(Answer(name, None, (), square) for name in "abc")]
    for count in (0, 2, 9):
        passed = list(with_squares(found, count))
        assert [answer.path for answer in passed if answer.square is not None] == ["a", "b", "c"][:count]
        assert [answer.path for answer in passed] == ["bad", "a", "b", "c"] and passed[0].error


def test_records_are_drawn_by_counting(store: Store) -> None:
    split = store.splits["val"]
    first = drawn(split, 8, seed=0)
    assert first == drawn(split, 20, seed=0)[:8] != drawn(split, 8, seed=1)
    assert sorted(drawn(split, 10**6, seed=3)) == list(range(len(split)))


# ---- the verbs


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a verb in this process; its status and what it said on standard output and error."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["alexnet", *map(str, words), "--device=cpu", "--precision=fp32"])
        with pytest.raises(SystemExit) as ended:
            verbs.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


def test_neighbours_by_the_verb(
    verb: Callable[..., Any], store: Store, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, picture = write_started(tmp_path / "model.safetensors", store), pictures / store.splits["train"].names[0]
    words = ["neighbours", model, store.path, picture, "--records", 2, "--count", 4]
    status, out, _ = verb(*words, "--json", "--out", tmp_path / "nearest.png")
    asked = json.loads(out)
    assert status == 0 and [len(query["nearest"]) for query in asked] == [4, 4, 4] and "class" in asked[1]
    assert asked[0]["path"] == str(picture) and asked[0]["nearest"][0]["distance"] < 1e-3
    with Image.open(tmp_path / "nearest.png") as drawn_sheet:
        assert drawn_sheet.format == "PNG" and drawn_sheet.width > drawn_sheet.height
    monkeypatch.setattr(Split, "pixels", lambda split, i: pytest.fail("a record was decoded again"))
    again = json.loads(verb("neighbours", model, store.path, picture, "--count", 4, "--json")[1])
    assert again == asked[:1]
    status, out, err = verb("neighbours", model, store.path, tmp_path / "model.safetensors", picture)
    assert status == 1 and "cannot be read" in out and "search: exact" in out and "1 of 2 pictures" in err


def test_answers_are_printed_before_a_sheet_of_the_first_is_drawn(
    verb: Callable[..., Any], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "SHEET", 2)
    model, out = write_started(tmp_path / "model.safetensors", store), tmp_path / "nearest.png"
    words, test = ["neighbours", model, store.path, "--records", 3, "--out", out], scored_split(store, None)
    _, said, _ = verb(*words)
    number = drawn(test, 3, 0)[0]
    assert f"{test.names[number]} ({store.classes[test.labels[number]]})" in " ".join(said.split())
    assert said.endswith(f"{out}: shows the first 2 of 3 pictures\n")
    monkeypatch.setattr(drawing, "png", full)
    status, said, err = verb(*words, "--json")
    assert status == 1 and len(json.loads(said)) == 3 and "no space left" in err


def full(figure: Figure) -> bytes:
    """A drawing that fails."""
    raise AlexNetError("no space left")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "found no picture"),
        (["--records=1", "--out=nearest.pdf"], "ends in .png"),
        (["--records=1", "--station=fc9"], "no such station"),
        (["--records=1", "--codes=20"], "a multiple of 8"),
    ],
)
def test_wrong_calls_end_with_status_2(
    verb: Callable[..., Any], store: Store, tmp_path: Path, words: list[str], complaint: str
) -> None:
    status, _, err = verb("neighbours", write_started(tmp_path / "model.safetensors", store), store.path, *words)
    assert status == 2 and complaint in err and not list(tmp_path.glob("*.index"))  # before anything is computed


def test_features_by_the_verb(verb: Callable[..., Any], store: Store, pictures: Path, tmp_path: Path) -> None:
    model, rows = write_started(tmp_path / "model.safetensors", store), tmp_path / "rows.npy"
    status, out, _ = verb("features", model, store.path, "--split", "val", "--out", rows, "--json")
    val, of_store = store.splits["val"], np.load(rows)
    assert status == 0 and json.loads(out)["rows"] == len(of_store) == len(val) and json.loads(out)["values"] == of_store.shape[1]
    status, _, err = verb("features", model, *(pictures / name for name in val.names), model, "--out", rows)
    np.testing.assert_array_equal(np.load(rows), of_store)
    assert status == 1 and f"1 of {len(val) + 1} pictures could not be read" in err
    assert verb("features", model, pictures, "--split", "val", "--out", rows)[0] == 2
    assert verb("features", model, pictures, "--out", tmp_path / "rows.csv")[0] == 2
