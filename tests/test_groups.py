"""Pictures that are asked about: found where they are said to be, in their order, a bad one with its reason."""

import os
from errno import ENOENT
from pathlib import Path

import numpy as np
import pytest

from alexnet.data.groups import find_pictures, from_files, from_split
from alexnet.data.store import Store
from alexnet.errors import AlexNetError
from alexnet.model import view_of
from alexnet.recipes.named import MODERN
from tests.conftest import tiny


def test_files_folders_and_patterns_are_found(pictures: Path, store: Store, tmp_path: Path) -> None:
    assert len(find_pictures([str(pictures)])) == len(list(pictures.rglob("*.png")))
    assert [path.name for path in find_pictures([f"{pictures}/dots/00[01].png"])] == ["000.png", "001.png"]
    with pytest.raises(AlexNetError, match="no such file"):
        find_pictures(["nowhere/*.jpg"])
    with pytest.raises(AlexNetError, match="no pictures in it"):
        find_pictures([str(tmp_path)])
    with pytest.raises(AlexNetError, match="a store; expected files"):
        find_pictures([str(pictures), str(store.path)])


def test_groups_keep_the_order_and_say_what_is_wrong_with_a_picture(store: Store, pictures: Path, tmp_path: Path) -> None:
    split, bad = store.splits["val"], tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    files = [pictures / split.names[0], bad, pictures / split.names[1], tmp_path / "missing.png", pictures / split.names[2]]
    groups = list(from_files(view_of(store, tiny(MODERN)), files, workers=2, at_once=2))
    assert [len(group.names) for group in groups] == [2, 2, 1]
    assert [name for group in groups for name in group.names] == [str(file) for file in files]
    assert [name for group in groups for name, _ in group.unread] == [str(bad), str(files[3])]
    reasons = [why for group in groups for _, why in group.unread]
    assert reasons == [f"cannot be read: {why}" for why in ("not a picture of a kind that can be decoded", os.strerror(ENOENT))]
    assert [list(group.without_unread.names) for group in groups] == [[str(files[0])], [str(files[2])], [str(files[4])]]
    (records,) = from_split(split, [0, 1, 2], workers=1)
    assert records.labels == [int(label) for label in split.labels[:3]]
    assert np.array_equal([square for group in groups for square in group.readable], records.readable)
