"""Open any source of images: public data sets, or a folder, tar or zip of class folders.

The public data sets are recognized by the official names of their files, Kaggle's ImageNet by its
folders; everything else is read by its folder names (`layout`), which says what it cannot
understand.
"""

import os
from pathlib import Path

from alexnet.core.errors import AlexNetError
from alexnet.data.dataset_format import TAR_BLOCK
from alexnet.data.readers.cifar import cifar_source, is_cifar
from alexnet.data.readers.folder import list_folder
from alexnet.data.readers.imagenet import imagenet_source, is_imagenet
from alexnet.data.readers.imagenet_kaggle import is_kaggle, kaggle_source
from alexnet.data.readers.layout import source_from_listing
from alexnet.data.readers.listing import Listing
from alexnet.data.readers.mnist import is_mnist, mnist_source
from alexnet.data.readers.source import ImageSource
from alexnet.data.readers.tar import is_tar_start, list_tar
from alexnet.data.readers.zip import list_zip

COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")  # gzip, bzip2, xz, zstd


def open_source(path: str | Path) -> ImageSource:
    """List the images at a path, whatever kind of source it is.

    A folder of class folders, or of train/, val/ and test/ over them; a tar or zip of either; a
    folder with the files of MNIST or Fashion-MNIST; CIFAR-10's archive or its folder; a folder with
    ImageNet's archives, or Kaggle's folder or zip of it. Close the source, or use it in a `with`
    block. Raises AlexNetError if there is none or it is damaged.
    """
    path = os.fspath(path)
    if os.path.isdir(path) and is_mnist(path):
        return mnist_source(path)
    if os.path.exists(path) and is_cifar(path):
        return cifar_source(path)
    if os.path.isdir(path) and is_imagenet(path):
        return imagenet_source(path)
    listing = _open_listing(path)
    name = os.path.basename(os.path.abspath(path))
    try:
        if is_kaggle(listing):
            return kaggle_source(name, listing)
        return source_from_listing(name, listing)
    except AlexNetError as error:
        listing.close()
        raise AlexNetError(f"{path}: {error}") from error


def _open_listing(path: str) -> Listing:
    if not os.path.exists(path):
        raise AlexNetError(f"{path}: not found, expected a folder, a .tar or a .zip of images")
    try:
        return list_folder(path) if os.path.isdir(path) else _list_archive(path)
    except OSError as error:
        raise AlexNetError(
            f"{path}: cannot be read ({error.strerror}), expected a readable folder, .tar or .zip"
        ) from error


def _list_archive(path: str) -> Listing:
    with open(path, "rb") as file:
        start = file.read(TAR_BLOCK)
    if start.startswith(COMPRESSED):
        raise AlexNetError(
            f"{path}: compressed, so its images cannot be read one by one: "
            "unpack it to a .tar first (gunzip)"
        )
    if start.startswith(b"PK"):
        return list_zip(path)
    if is_tar_start(start):
        return list_tar(path)
    raise AlexNetError(
        f"{path}: neither a folder nor an archive, expected a folder, a .tar or a .zip of images"
    )
