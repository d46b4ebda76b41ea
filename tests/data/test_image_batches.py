"""Batches of image files and records: found by path or pattern, in order, errors with reasons."""

import os
from errno import ENOENT
from pathlib import Path

import numpy as np
import pytest

from alexnet.core.errors import AlexNetError
from alexnet.data.image_batches import find_images, from_files, from_split
from alexnet.data.images import BadImage, to_square
from alexnet.data.prepared import PreparedDataset
from alexnet.models.model_file import make_preprocessor
from alexnet.recipes.presets import MODERN
from tests.conftest import tiny


def test_files_directories_and_patterns_are_found(
    images: Path, dataset: PreparedDataset, tmp_path: Path
) -> None:
    assert len(find_images([str(images)])) == len(list(images.rglob("*.png")))
    matches = find_images([f"{images}/dots/00[01].png"])
    assert [path.name for path in matches] == ["000.png", "001.png"]
    with pytest.raises(AlexNetError, match="no such file"):
        find_images(["nowhere/*.jpg"])
    with pytest.raises(AlexNetError, match="no images in it"):
        find_images([str(tmp_path)])
    with pytest.raises(AlexNetError, match="a prepared dataset, expected image files"):
        find_images([str(images), str(dataset.path)])


def test_batches_keep_the_order_and_name_the_reason_of_a_bad_image(
    dataset: PreparedDataset, images: Path, tmp_path: Path
) -> None:
    split = dataset.splits["val"]
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no image")
    missing = tmp_path / "missing.png"
    first, second, third = [images / name for name in split.names[:3]]
    files = [first, bad, second, missing, third]
    preprocessor = make_preprocessor(dataset, tiny(MODERN))
    batches = list(from_files(preprocessor, files, workers=2, batch_size=2))
    assert [len(batch.names) for batch in batches] == [2, 2, 1]
    assert [name for batch in batches for name in batch.names] == [str(file) for file in files]
    unreadable = [pair for batch in batches for pair in batch.unreadable]
    assert [name for name, _ in unreadable] == [str(bad), str(missing)]
    with pytest.raises(BadImage) as error:
        to_square(b"no image", dataset.decode_config)
    reasons = [reason for _, reason in unreadable]
    assert reasons == [f"cannot be read: {why}" for why in (error.value, os.strerror(ENOENT))]
    assert [list(batch.readable_only.names) for batch in batches] == [
        [str(first)],
        [str(second)],
        [str(third)],
    ]
    (records,) = from_split(split, [0, 1, 2], workers=1)
    assert records.labels == [int(label) for label in split.labels[:3]]
    readable = [image for batch in batches for image in batch.readable]
    assert np.array_equal(readable, records.readable)
