"""The dataset of a served model: opened once, and its images as the page loads them."""

import asyncio
from contextlib import suppress
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from PIL import Image

from alexnet.data.dataset_format import DESCRIPTION
from alexnet.data.images import decode_record
from alexnet.data.prepared import PreparedDataset, Split, open_dataset
from alexnet.data.remote import is_address
from alexnet.evaluation.evaluate import require_same_images
from alexnet.inference.server.api_error import ApiError
from alexnet.inference.server.model_store import ServedModel
from alexnet.inference.server.service import Service

MAX_OPEN = 8  # datasets
JPEG_START = b"\xff\xd8"


async def served_dataset(service: Service, model: ServedModel) -> PreparedDataset:
    """Return the open dataset of a model; ApiError 404 where none is known.

    AlexNetError where it is damaged, or its images are not of the model's size.
    """
    location = service.dataset_for(model.dataset)
    if location is None:
        raise ApiError(404, f"model {model.name!r}: no dataset is known; serve it with --dataset")
    dataset = await asyncio.to_thread(_open_current, location)
    require_same_images(model.classifier.preprocessor, dataset)
    return dataset


def served_split(dataset: PreparedDataset, name: str | None) -> Split:
    """Return a split with images, by default val, test or train; ApiError 404 for another name."""
    filled = {key: split for key, split in dataset.splits.items() if len(split)}
    if name is None:
        name = next((usual for usual in ("val", "test", "train") if usual in filled), None)
    if name not in filled:
        raise ApiError(404, f"split {name!r}: expected one of {', '.join(filled)}")
    return filled[name]


def image_json(model: ServedModel, split: Split, index: int) -> dict[str, Any]:
    """Return what names an image of a split: split, index, name and the path of its picture."""
    return {
        "split": split.name,
        "index": index,
        "name": split.names[index],
        "image": image_path(model, split.name, index),
    }


def image_path(model: ServedModel, split: str, index: int) -> str:
    """Return the path, below the page's, of the picture of an image of a model's dataset."""
    query = urlencode({"model": model.name})
    return f"v1/dataset/{quote(split, safe='')}/{index}.jpg?{query}"


def image_file(split: Split, index: int) -> tuple[bytes, str]:
    """Return an image of a split as a file and its media type: the JPEG as it is stored, or PNG."""
    record = split.record(index)
    if record.startswith(JPEG_START):
        return record, "image/jpeg"
    pixels = decode_record(record)
    data = BytesIO()
    Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(data, "PNG")
    return data.getvalue(), "image/png"


def _open_current(location: str) -> PreparedDataset:
    """Return a dataset that is opened once, and again where another one was prepared there."""
    changed = 0  # at an address, whose files do not change while they are served
    if not is_address(location):
        with suppress(OSError):  # open_dataset says what is missing
            changed = (Path(location) / DESCRIPTION).stat().st_mtime_ns
    return _open(location, changed)


@lru_cache(MAX_OPEN)
def _open(location: str, changed: int) -> PreparedDataset:
    return open_dataset(location)
