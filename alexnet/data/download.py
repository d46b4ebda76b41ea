"""Download public data sets by name, once, into the cache folder.

How a file is downloaded, resumed and checked is in `core.download`. Compressed tars are unpacked
once, since they cannot be read in any order. Nothing is downloaded unless it is asked for by name.
"""

import gzip
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO
from zipfile import BadZipFile, ZipFile

from alexnet.core.atomic_io import atomic_write, write_error
from alexnet.core.cache import cache_folder
from alexnet.core.console import ProgressFn
from alexnet.core.download import CHUNK, PublishedFile, provide_file
from alexnet.core.errors import AlexNetError, UsageError


@dataclass(frozen=True)
class PublicDataset:
    """A set of images as it is published."""

    files: tuple[PublishedFile, ...]
    tar: str = ""  # what the one file is unpacked to, if it cannot be read as it is
    zip_member: str = ""  # the compressed tar in a zip

    @property
    def source_file(self) -> str:
        """What `open_source` opens, in the set's folder: a file, or "" for the folder itself."""
        if self.tar:
            return self.tar
        return self.files[0].name if len(self.files) == 1 else ""


def _file(folder: str, name: str, size: int, digest: str) -> PublishedFile:
    """Return a file that is published under its own name in a folder of the web."""
    return PublishedFile(name, size, digest, (folder + name,))


FASHION_MNIST = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
CIFAR10 = "https://www.cs.toronto.edu/~kriz/"
CALTECH = "https://data.caltech.edu/records/mzrjq-6wc02/files/"
IMAGENETTE = "https://s3.amazonaws.com/fast-ai-imageclas/"

# The md5 is CaltechDATA's own; the sha256 are those that independent projects state for files with
# the published md5.
PUBLIC_DATASETS = {
    "fashion-mnist": PublicDataset(
        (
            _file(
                FASHION_MNIST,
                "train-images-idx3-ubyte.gz",
                26_421_880,
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            ),
            _file(
                FASHION_MNIST,
                "train-labels-idx1-ubyte.gz",
                29_515,
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            ),
            _file(
                FASHION_MNIST,
                "t10k-images-idx3-ubyte.gz",
                4_422_102,
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            ),
            _file(
                FASHION_MNIST,
                "t10k-labels-idx1-ubyte.gz",
                5_148,
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            ),
        ),
    ),
    "cifar10": PublicDataset(
        (
            _file(
                CIFAR10,
                "cifar-10-binary.tar.gz",
                170_052_171,
                "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            ),
        ),
    ),
    "caltech101": PublicDataset(
        (_file(CALTECH, "caltech-101.zip", 137_414_764, "3138e1922a9193bfa496528edbbc45d0"),),
        tar="101_ObjectCategories.tar",
        zip_member="caltech-101/101_ObjectCategories.tar.gz",
    ),
    "imagenette": PublicDataset(
        (
            _file(
                IMAGENETTE,
                "imagenette2-320.tgz",
                341_663_724,
                "569b4497c98db6dd29f335d1f109cf315fe127053cedf69010d047f0188e158c",
            ),
        ),
        tar="imagenette2-320.tar",
    ),
}


def download(name: str, progress: ProgressFn | None = None) -> Path:
    """Download a public data set of PUBLIC_DATASETS into the cache folder, unless it is there.

    Return the path to open with `open_source`. `progress` is called with (done, all) bytes.
    Raises UsageError for an unknown name, AlexNetError if a file cannot be had.
    """
    if name not in PUBLIC_DATASETS:
        raise UsageError(
            f"{name}: no public data set of that name, expected {', '.join(PUBLIC_DATASETS)}"
        )
    return download_files(PUBLIC_DATASETS[name], cache_folder() / name, progress)


def download_files(
    dataset: PublicDataset, folder: Path, progress: ProgressFn | None = None
) -> Path:
    """Download all files of a data set into a folder; return the path to open.

    Raises AlexNetError that says what to do by hand.
    """
    source = folder / dataset.source_file
    if dataset.tar and source.exists():
        return source
    total = sum(file.size or 0 for file in dataset.files)
    finished = 0
    for file in dataset.files:
        path = provide_file(file, folder, partial(_report, progress, finished, total))
        finished += path.stat().st_size
    if not source.exists():
        _unpack(folder / dataset.files[0].name, dataset.zip_member, source)
    return source


def _report(
    progress: ProgressFn | None, finished: int, total: int, done: int, file_size: int
) -> None:
    """Report the bytes of a file as those of the whole set."""
    if progress:
        progress(finished + done, max(total, finished + file_size))


# ---- unpacking


def _unpack(archive: Path, zip_member: str, tar: Path) -> None:
    """Write the tar that is compressed in a file, alone or as a member of a zip."""
    try:
        with atomic_write(tar) as temporary:
            with (
                _open_compressed_tar(archive, zip_member) as compressed,
                gzip.open(compressed) as unpacked,
                temporary.open("wb") as file,
            ):
                shutil.copyfileobj(unpacked, file, CHUNK)
    except (EOFError, KeyError, zlib.error, BadZipFile, gzip.BadGzipFile) as error:
        raise AlexNetError(
            f"{archive}: cannot be unpacked ({error}), expected {zip_member or 'a compressed tar'}"
        ) from error
    except OSError as error:
        raise write_error(tar, error) from error


@contextmanager
def _open_compressed_tar(archive: Path, zip_member: str) -> Iterator[IO[bytes]]:
    if not zip_member:
        with archive.open("rb") as file:
            yield file
    else:
        with ZipFile(archive) as zip_file, zip_file.open(zip_member) as file:
            yield file
