"""Rows of features: what the stations say, in the pictures' order; and an index made once and believed only where it fits."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import alexnet.insight.nearest.features as room
from alexnet.data.groups import from_files, from_split
from alexnet.data.store import Split, Store
from alexnet.errors import AlexNetError, UsageError
from alexnet.evaluate import Seer
from alexnet.insight.nearest.features import Kept, features, kept, names_beside, width, write_features
from alexnet.model import load, view_of, write_model
from alexnet.network.alexnet import AlexNet, start
from alexnet.recipes.named import MODERN, ORIGINAL
from alexnet.recipes.recipe import Recipe
from tests.conftest import CPU, tiny


def write_started(path: Path, store: Store, recipe: Recipe = MODERN, seed: int = 0) -> Path:
    """The model file of a tiny net at its start."""
    small = tiny(recipe)
    network = start(AlexNet(small.network, len(store.classes)), seed)
    write_model(path, dict(network.named_parameters()), view_of(store, small), small, {"epoch": 0})
    return path


@pytest.fixture
def model(store: Store, tmp_path: Path) -> Path:
    return write_started(tmp_path / "model.safetensors", store)


def quiet(done: int, of: int) -> None:
    """A progress that nobody watches."""


def by_hand(seer: Seer, split: Split, station: str) -> np.ndarray:
    """A station's values for each record, one at a time."""
    network, view = seer
    views = [view.tensor(view.centre(split.pixels(i)[None])) for i in range(len(split))]
    return np.concatenate([network.stations(each)[station].flatten(1).numpy() for each in views])


@pytest.mark.parametrize("station", ["fc7", "pool2", "prob"])
def test_rows_are_the_stations_values_in_the_pictures_order(model: Path, store: Store, tmp_path: Path, station: str) -> None:
    seer, split = load(model), store.splits["val"]
    numbers = [*range(len(split))][::-1]
    groups = from_split(split, numbers, workers=2, at_once=5)  # several, the last one smaller
    written = write_features(tmp_path / "rows.npy", seer, groups, len(split), station, CPU, quiet)
    rows = np.load(tmp_path / "rows.npy")
    assert rows.dtype == np.float32 and rows.shape == (len(split), written.values) and written.values == width(seer[0], station)
    np.testing.assert_allclose(rows, by_hand(seer, split, station)[::-1], rtol=1e-4, atol=1e-6)
    names = [json.loads(line) for line in (tmp_path / "rows.names").read_text().splitlines()]
    assert names == [split.names[i] for i in numbers] == list(written.names)


def test_a_file_gets_its_records_row_and_a_bad_one_none(model: Path, store: Store, pictures: Path, tmp_path: Path) -> None:
    seer, split = load(model), store.splits["val"]
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    files = [pictures / split.names[0], tmp_path / "bad.jpg", pictures / split.names[1], tmp_path / "missing.png"]
    written = write_features(tmp_path / "rows.npy", seer, from_files(seer[1], files, 1), len(files), "fc7", CPU, quiet)
    squares = np.stack([split.pixels(0), split.pixels(1)])
    assert np.array_equal(np.load(tmp_path / "rows.npy"), features(seer, squares, "fc7", CPU).numpy())
    assert written.names == (str(files[0]), str(files[2]))
    assert [name for name, _ in written.unread] == [str(files[1]), str(files[3])]


def test_no_readable_picture_is_a_file_of_no_rows(model: Path, tmp_path: Path) -> None:
    seer, values = load(model), 64
    write_features(tmp_path / "rows.npy", seer, from_files(seer[1], [tmp_path / "missing"], 1), 1, "fc7", CPU, quiet)
    assert np.load(tmp_path / "rows.npy").shape == (0, values) and names_beside(tmp_path / "rows.npy").read_text() == ""


def test_an_unknown_station_names_the_others(model: Path) -> None:
    network, _ = load(model)
    assert width(network, "fc8") == width(network, "prob") == network.classes
    for station in ("fc9", ""):
        with pytest.raises(UsageError, match="it has conv1, .*fc8, prob"):
            width(network, station)


# ---- the index


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of 20 records, so that the index of the small store has several."""
    monkeypatch.setattr(room, "ROWS", 20)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The records that were decoded, as it goes."""
    numbers, real = [], Split.pixels

    def counting(split: Split, i: int) -> np.ndarray:
        numbers.append(i)
        return real(split, i)

    monkeypatch.setattr(Split, "pixels", counting)
    return numbers


def index(model: Path, store: Store, **changes: Any) -> Kept:
    """The index of the train records by fc7, read or made."""
    runtime = replace(CPU, **changes)
    network, view = load(model)
    return kept(model, (network.to(runtime.dtype), view), store, store.splits["train"], "fc7", runtime, quiet)


def test_the_index_holds_every_row_as_float16(model: Path, store: Store) -> None:
    found = index(model, store)
    expected = by_hand(load(model), store.splits["train"], "fc7")
    assert len(found.rows) == len(expected) and len(found.rows.parts) == -(-len(expected) // 20) > 1
    rows = found.rows.take(range(len(expected)))
    assert rows.dtype == torch.float16
    np.testing.assert_allclose(rows.float().numpy(), expected, rtol=2e-3, atol=1e-4)
    assert np.array_equal(found.rows.squares.numpy(), (rows.double().numpy() ** 2).sum(1))


def test_the_index_is_made_once(model: Path, store: Store, decoded: list[int]) -> None:
    first = index(model, store)
    assert sorted(decoded) == list(range(len(first.rows)))
    decoded.clear()
    again = index(model, store)
    assert not decoded and all(torch.equal(one, two) for one, two in zip(first.rows.parts, again.rows.parts, strict=True))


def test_only_a_missing_or_damaged_part_is_made_again(model: Path, store: Store, decoded: list[int]) -> None:
    first = index(model, store)
    files = sorted(first.folder.iterdir())
    rows = [part.clone() for part in first.rows.parts]
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:-1] + b"?")
    decoded.clear()
    again = index(model, store)
    assert sorted(decoded) == list(range(40))
    assert all(torch.equal(one, two) for one, two in zip(rows, again.rows.parts, strict=True))


def test_a_stop_loses_no_more_than_the_part_under_way(model: Path, store: Store, decoded: list[int]) -> None:
    told: list[int] = []

    def stopped(done: int, of: int) -> None:
        told.append(done)
        if done == 40:
            raise KeyboardInterrupt

    train = store.splits["train"]
    with pytest.raises(KeyboardInterrupt):
        kept(model, load(model), store, train, "fc7", CPU, stopped)
    decoded.clear()
    assert told == [20, 40] and len(index(model, store).rows) == len(train) and sorted(decoded) == list(range(40, len(train)))


def test_a_changed_model_or_precision_makes_it_anew(model: Path, store: Store, decoded: list[int]) -> None:
    first = index(model, store)
    rows = first.rows.parts[0].clone()
    write_started(model, store, seed=1)
    decoded.clear()
    again = index(model, store)
    assert again.folder == first.folder and len(decoded) == len(again.rows) and not torch.equal(rows, again.rows.parts[0])
    decoded.clear()
    assert index(model, store, dtype=torch.bfloat16).origin["precision"] == "bf16" and len(decoded) == len(again.rows)


def test_another_store_has_an_index_of_its_own(model: Path, store: Store) -> None:
    changed = replace(store, digest="0" * 64)
    assert index(model, store).folder != index(model, changed).folder


def test_what_float16_cannot_hold_is_refused(store: Store, tmp_path: Path) -> None:
    small = tiny(ORIGINAL)
    network = start(AlexNet(small.network, len(store.classes)), 0)
    weights = {name: weight * (1e9 if name == "fc7.weight" else 1) for name, weight in network.named_parameters()}
    write_model(tmp_path / "model.safetensors", weights, view_of(store, small), small, {"epoch": 0})
    with pytest.raises(AlexNetError, match="record 0 of train: fc7 is beyond 65,504"):
        index(tmp_path / "model.safetensors", store)
