"""Small files of the structure of the public weights, served in a test under the real names.

The networks have an eighth of the channels and 99 pixels, so that files are small; everything else
is as published: a .pth with torchvision's names, .caffemodel files, and Caffe's archive.
"""

import functools
import gzip
import io
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from alexnet.models import pretrained
from alexnet.models.convert import caffe, torchvision
from alexnet.models.convert.torchvision import LAYER_NAMES
from alexnet.models.pretrained import PRETRAINED
from alexnet.recipes.presets import get_recipe
from alexnet.recipes.recipe import Recipe
from tests.conftest import tiny
from tests.helpers.caffe_files import ORDERS, blob_proto, caffemodel, random_weights
from tests.helpers.file_site import Site

NUM_CLASSES = 12
CLASSES = tuple(f"n{index:08d} word {index}, other word" for index in range(NUM_CLASSES))
MEAN_BGR = (104.0, 117.0, 123.0)


def tiny_recipe(name: str) -> Recipe:
    """Return the recipe of that name with a small network."""
    return tiny(get_recipe(name))


@functools.cache
def caffe_file(name: str) -> bytes:
    """Return a .caffemodel of the network `caffe` or `caffenet`."""
    weights = random_weights(tiny_recipe(name), NUM_CLASSES)
    content: bytes = caffemodel(weights, ORDERS[name], 2).SerializeToString()
    return content


@functools.cache
def torchvision_file() -> bytes:
    """Return a .pth with torchvision's names."""
    weights = random_weights(tiny_recipe("owt"), NUM_CLASSES)
    state = {
        f"{theirs}.{part}": torch.from_numpy(weights[f"{ours}.{part}"])
        for theirs, ours in LAYER_NAMES.items()
        for part in ("weight", "bias")
    }
    content = io.BytesIO()
    torch.save(state, content)
    return content.getvalue()


@functools.cache
def archive_file() -> bytes:
    """Return caffe_ilsvrc12.tar.gz: a mean image, the classes' words, and a file that is unused."""
    mean = np.broadcast_to(np.array(MEAN_BGR, np.float32)[:, None, None], (3, 256, 256))
    files = {
        "./imagenet_mean.binaryproto": blob_proto(mean, legacy=True).SerializeToString(),
        "./synset_words.txt": "".join(f"{name}\n" for name in CLASSES).encode(),
        "./val.txt": b"ILSVRC2012_val_00000001.JPEG 65\n",
    }
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return gzip.compress(content.getvalue(), mtime=0)


def publish_weights(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve small files under the names of the public ones, and put them into the table."""
    monkeypatch.setattr(caffe, "get_recipe", tiny_recipe)
    monkeypatch.setattr(torchvision, "get_recipe", tiny_recipe)
    monkeypatch.delenv(pretrained.MIRROR, raising=False)
    contents = {
        "torchvision": torchvision_file(),
        "caffe": caffe_file("caffe"),
        "caffenet": caffe_file("caffenet"),
    }
    archive = site.publish(pretrained.CAFFE_ILSVRC12.name, archive_file())
    for name, content in contents.items():
        weights = PRETRAINED[name]
        kind = "sha1" if name == "caffe" else "sha256"
        file = site.publish(weights.file.name, content, kind)
        changed = replace(weights, file=file, archive=replace(archive, size=None))
        monkeypatch.setitem(PRETRAINED, name, changed)
