"""Which kind of source is this path? IDX files, a CIFAR-10 archive, or a folder, tar or zip of picture files.

The first two are told by their files' official names; everything else is left to `sources`, which says what it cannot read.
"""

import os

from alexnet.data.cifar import cifar_source, is_cifar
from alexnet.data.idx import idx_source, is_idx
from alexnet.data.sources import Source, open_source


def open_any(path: str) -> Source:
    """The source at a path, whatever its kind; AlexNetError where there is none or it is damaged."""
    if os.path.isdir(path) and is_idx(path):
        return idx_source(path)
    if os.path.exists(path) and is_cifar(path):
        return cifar_source(path)
    return open_source(path)
