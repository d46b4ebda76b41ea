"""Public weights by name: fetched once into the cache, checked, turned into a model file.

The table says where each file is published and under which hash; nothing that does not have it is
ever read. `provide_model` gives the model file, which is then like any other. A file put into the
folder by hand counts as fetched, and torch's own cache is looked into before a download. Caffe's
archive brings the mean image and the words of ImageNet's classes, which no weights contain. Without
it the classes are numbered, and Caffe's models subtract the mean color.
"""

import hashlib
import json
import os
import tarfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from alexnet.core.cache import cache_folder
from alexnet.core.console import Stage, ignore_progress, same_for_every_stage
from alexnet.core.download import DownloadError, PublishedFile, has_digest, provide_file
from alexnet.core.errors import UsageError, require
from alexnet.core.locks import waiting_lock
from alexnet.models.convert.caffe import import_caffe
from alexnet.models.convert.imported import Imported, read_classes
from alexnet.models.convert.torchvision import import_torchvision
from alexnet.models.model_file import FORMAT
from alexnet.recipes.overrides import to_json
from alexnet.recipes.presets import get_recipe

MIRROR = "ALEXNET_WEIGHTS_MIRROR"  # the environment variable: a folder's address, tried first
MEAN_FILE = "imagenet_mean.binaryproto"  # in the archive
WORDS_FILE = "synset_words.txt"

Notify = Callable[[str], None]  # receives a line for the user


@dataclass(frozen=True)
class ArchiveContent:
    """What the archive holds: the mean image's file and the names of the classes, or neither."""

    mean: Path | None = None
    classes: tuple[str, ...] | None = None


Converter = Callable[[Path, Path, ArchiveContent, Mapping[str, str]], Imported]


@dataclass(frozen=True)
class PublicWeights:
    """Published weights of a recipe's network, and how they become a model file.

    `megabytes`: of the file, rounded, to say what a download costs. The errors are the published
    ones on ILSVRC-2012's validation images, in percent, of the center crop. `source`: the page that
    states license and errors.
    """

    name: str
    recipe: str
    file: PublishedFile
    megabytes: int
    archive: PublishedFile
    convert: Converter
    license: str
    top1_error: float
    top5_error: float
    source: str


def _convert_caffe(
    file: Path, model: Path, content: ArchiveContent, origin: Mapping[str, str]
) -> Imported:
    return import_caffe(file, model, content.mean, content.classes, origin)


def _convert_torchvision(
    file: Path, model: Path, content: ArchiveContent, origin: Mapping[str, str]
) -> Imported:
    return import_torchvision(file, model, content.classes, origin)


CAFFE_HOST = "http://dl.caffe.berkeleyvision.org/"  # often down; the hash protects what it sends
CAFFE_ILSVRC12 = PublishedFile(
    "caffe_ilsvrc12.tar.gz",
    None,
    "e35c0c1994a21f7d8ed49d01881ce17ab766743d3b0372cdc0183ff4d0dfc491",
    (
        f"{CAFFE_HOST}caffe_ilsvrc12.tar.gz",
        "https://download.openmmlab.com/mmclassification/datasets/imagenet/meta/"
        "caffe_ilsvrc12.tar.gz",
    ),
)
TORCHVISION = PublicWeights(
    name="torchvision",
    recipe="owt",
    file=PublishedFile(
        "alexnet-owt-7be5be79.pth",
        244_408_911,
        "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        ("https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",),
    ),
    megabytes=244,
    archive=CAFFE_ILSVRC12,
    convert=_convert_torchvision,
    license="BSD-3-Clause",
    top1_error=43.478,
    top5_error=20.934,
    source="https://pytorch.org/vision/stable/models/alexnet.html",
)
CAFFE = PublicWeights(
    name="caffe",
    recipe="caffe",
    file=PublishedFile(
        "bvlc_alexnet.caffemodel",
        None,
        "9116a64c0fbe4459d18f4bb6b56d647b63920377",
        (
            f"{CAFFE_HOST}bvlc_alexnet.caffemodel",
            "https://nvidia.box.com/shared/static/5j264j7mky11q8emy4q14w3r8hl5v6zh.caffemodel",
        ),
    ),
    megabytes=244,
    archive=CAFFE_ILSVRC12,
    convert=_convert_caffe,
    license="unrestricted",
    top1_error=42.9,
    top5_error=19.8,
    source="https://github.com/BVLC/caffe/tree/master/models/bvlc_alexnet",
)
CAFFENET = PublicWeights(
    name="caffenet",
    recipe="caffenet",
    file=PublishedFile(
        "bvlc_reference_caffenet.caffemodel",
        None,
        "472d4a06035497b180636d8a82667129960371375bd10fcb6df5c6c7631f25e0",
        (f"{CAFFE_HOST}bvlc_reference_caffenet.caffemodel",),
    ),
    megabytes=244,
    archive=CAFFE_ILSVRC12,
    convert=_convert_caffe,
    license="unrestricted",
    top1_error=42.6,
    top5_error=19.6,
    source="https://github.com/BVLC/caffe/tree/master/models/bvlc_reference_caffenet",
)
PRETRAINED = {weights.name: weights for weights in (TORCHVISION, CAFFE, CAFFENET)}


def get_weights(name: str) -> PublicWeights:
    """Return the public weights of that name; an unknown one is a UsageError with the nearest."""
    if name not in PRETRAINED:
        near = get_close_matches(name, PRETRAINED, n=3) or list(PRETRAINED)
        raise UsageError(f"unknown weights {name!r}; nearest: {', '.join(near)}")
    return PRETRAINED[name]


def provide_model(name: str, stage: Stage | None = None, notify: Notify | None = None) -> Path:
    """Return the model file of public weights: the one in the cache, or one fetched and made now.

    `stage` shows the progress of each download, `notify` receives the license and what is missing,
    both once. UsageError for an unknown name; AlexNetError that says which file to put where.
    """
    weights = get_weights(name)
    stage = stage or same_for_every_stage(ignore_progress)
    return find_in_cache(weights) or fetch(weights, stage, notify or _ignore)


def fetch(weights: PublicWeights, stage: Stage, notify: Notify) -> Path:
    """Return the model file with the names of the classes, fetching what is not in the cache.

    Where the archive cannot be had, the classes are numbered. Other processes that want weights
    wait for this one. AlexNetError.
    """
    complete = model_path(weights, is_named=True)

    def notify_waiting() -> None:
        notify(f"{weights.name}: waiting for another process that fetches weights")

    with waiting_lock(weights_folder() / "lock", notify_waiting):
        return complete if complete.is_file() else _make_model(weights, stage, notify)


def weights_folder() -> Path:
    """Return the folder of the fetched files and their model files; it need not exist yet."""
    return cache_folder() / "weights"


def find_in_cache(weights: PublicWeights) -> Path | None:
    """Return the model file of weights in the cache, None where it is still to be made.

    One with numbered classes counts until there is an archive.
    """
    complete = model_path(weights, is_named=True)
    if complete.is_file():
        return complete
    numbered = model_path(weights, is_named=False)
    is_archive_there = (weights_folder() / weights.archive.name).exists()
    return numbered if numbered.is_file() and not is_archive_there else None


def find_downloaded(weights: PublicWeights) -> Path | None:
    """Return the published file of weights if it was downloaded, by torch.hub or here."""
    files = _in_torch_cache(weights.file), weights_folder() / weights.file.name
    return next((file for file in files if file.is_file()), None)


def _in_torch_cache(file: PublishedFile) -> Path:
    """Return where torch.hub keeps a file of this name."""
    return Path(torch.hub.get_dir()) / "checkpoints" / file.name


def model_path(weights: PublicWeights, is_named: bool) -> Path:
    """Return the path of a model file; its name changes with all that its content is made of."""
    recipe = to_json(get_recipe(weights.recipe))
    archive = weights.archive.digest if is_named else None
    made_of = json.dumps([FORMAT, recipe, weights.file.digest, archive])
    digest = hashlib.sha256(made_of.encode()).hexdigest()
    return weights_folder() / f"{weights.name}-{digest[:12]}.safetensors"


# ---- making a model file


def _make_model(weights: PublicWeights, stage: Stage, notify: Notify) -> Path:
    """Write the model file of weights, in the place of older ones."""
    notify(f"{weights.name}: license {weights.license}, {weights.source}")
    file = _provide_weights(weights.file, stage)
    archive = _provide_archive(weights, stage, notify)
    model = model_path(weights, is_named=archive is not None)
    origin = {"weights": weights.name, "license": weights.license, "source": weights.source}
    with TemporaryDirectory() as folder:
        content = ArchiveContent() if archive is None else _unpack(archive, Path(folder))
        weights.convert(file, model, content, origin)
    for other in weights_folder().glob(f"{weights.name}-*.safetensors"):
        if other != model:
            with suppress(OSError):  # Windows keeps a file that is open
                other.unlink()
    return model


def _provide_weights(file: PublishedFile, stage: Stage) -> Path:
    """Return the checked file of the weights: torch's own copy, or that in our cache."""
    torch_copy = _in_torch_cache(file)
    if torch_copy.is_file() and has_digest(torch_copy, file):
        return torch_copy
    return _provide(file, stage)


def _provide_archive(weights: PublicWeights, stage: Stage, notify: Notify) -> Path | None:
    """Return the checked archive; None, with its reason told, where no address gives it."""
    try:
        return _provide(weights.archive, stage)
    except DownloadError as error:
        notify(
            f"{weights.name}: the classes are numbered and the mean is a color until "
            f"`alexnet weights {weights.name}` gets the rest; {error}"
        )
        return None


def _provide(file: PublishedFile, stage: Stage) -> Path:
    mirror = os.environ.get(MIRROR, "")
    if mirror:
        require(
            mirror.startswith(("http://", "https://", "file://")),
            f"{MIRROR}={mirror}: expected the address of a folder, http://HOST/FOLDER",
        )
        file = replace(file, urls=(f"{mirror.rstrip('/')}/{file.name}", *file.urls))
    with stage(f"fetching {file.name}", "bytes") as progress:
        return provide_file(file, weights_folder(), progress)


def _unpack(archive: Path, folder: Path) -> ArchiveContent:
    """Return the mean image and the words in a checked archive, unpacked into a folder."""
    with tarfile.open(archive) as members:
        for member in members:
            name = Path(member.name).name
            content = members.extractfile(member) if name in (MEAN_FILE, WORDS_FILE) else None
            if content is not None:
                (folder / name).write_bytes(content.read())
    return ArchiveContent(folder / MEAN_FILE, read_classes(folder / WORDS_FILE))


def _ignore(text: str) -> None:
    pass
