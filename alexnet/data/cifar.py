"""CIFAR-10's official archives, binary or Python, packed or unpacked -> a source of 32 x 32 colour pictures.

The binary batches are records of a label and 3 x 32 x 32 bytes. The Python batches are pickles, which could run anything when
read; so what they ask for by name is never called: a stand-in notes down what numpy would have been told, and the array is made
of that here. Any other name is refused. An archive is read whole, since a compressed tar has no other order. It does not know
CIFAR-100.
"""

import io
import os
import pickle
import pickletools
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from alexnet.data.arrays import array_source, beginning, checked_labels, contents
from alexnet.data.sources import Source
from alexnet.errors import AlexNetError

PIXELS = 3 * 32 * 32
BATCHES = {**{f"data_batch_{number}": "train" for number in range(1, 6)}, "test_batch": "test"}
CLASSES = 10
FIRST_BYTES = 2048  # of an archive: its first headers
NUMPY = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct", "numpy.ndarray", "numpy.dtype")

Data = bytes | memoryview


class Form(NamedTuple):
    """One of the two ways in which the set is published."""

    folder: str
    suffix: str  # of a batch's file
    meta: str  # the file that names the classes
    names: Callable[[Data], list[str]]
    batch: Callable[[Data], tuple[np.ndarray, np.ndarray]]  # -> labels (pictures,), uint8 (pictures, PIXELS)

    def files(self) -> tuple[str, ...]:
        """The files of this form that are read."""
        return (self.meta, *(batch + self.suffix for batch in BATCHES))


def is_cifar(path: str) -> bool:
    """Whether a folder holds any of the set's files, or an archive begins with its folder."""
    if os.path.isdir(path):
        return _place(path) is not None
    start = beginning(path, FIRST_BYTES)
    return any(f"{form.folder}/".encode() in start for form in FORMS)


def cifar_source(path: str) -> Source:
    """The pictures of an archive or its unpacked folder, named like train/frog/00000.ppm; AlexNetError where it is damaged."""
    files = _folder(path) if os.path.isdir(path) else _archive(path)
    form = next((form for form in FORMS if form.meta in files), FORMS[0])
    missing = [name for name in form.files() if name not in files]
    if missing:
        raise AlexNetError(f"{path}: found no {', '.join(missing)}, expected {form.folder}/ to hold it: fetch the archive again")
    with _named(path, form.meta):
        classes = _plain_names(form.names(files[form.meta]))
    pictures = [picture for batch in BATCHES for picture in _pictures(path, form, batch, files[batch + form.suffix])]
    return array_source(path, "cifar10", classes, pictures)


def _pictures(path: str, form: Form, batch: str, data: Data) -> Iterator[tuple[str, int, np.ndarray]]:
    with _named(path, batch + form.suffix):
        labels, rows = form.batch(data)
        numbers = checked_labels(labels, CLASSES)
    pictures = rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)  # colour planes -> pictures × 32 × 32 × 3, a view
    for number, picture in zip(numbers, pictures, strict=True):
        yield BATCHES[batch], number, picture


@contextmanager
def _named(path: str, file: str) -> Iterator[None]:
    """Let an error inside say which file it is about."""
    try:
        yield
    except AlexNetError as reason:
        raise AlexNetError(f"{path}: {file}: {reason}: fetch it again") from reason


# ---- where the files are


def _place(path: str) -> str | None:
    """The folder with the files: the given one or one below it by its official name."""
    for place in (path, *(os.path.join(path, form.folder) for form in FORMS)):
        if any(os.path.isfile(os.path.join(place, name)) for form in FORMS for name in form.files()):
            return place
    return None


def _folder(path: str) -> dict[str, Data]:
    place = _place(path) or path
    found = {name: os.path.join(place, name) for form in FORMS for name in form.files()}
    return {name: contents(file) for name, file in found.items() if os.path.isfile(file)}


def _archive(path: str) -> dict[str, Data]:
    """The set's files in a tar, as views of its bytes."""
    data = contents(path)
    wanted = {f"{form.folder}/{name}" for form in FORMS for name in form.files()}
    found: dict[str, Data] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for member in archive:
                if member.isreg() and member.name.removeprefix("./") in wanted:
                    found[os.path.basename(member.name)] = _slice(data, member)
    except (tarfile.TarError, AlexNetError) as reason:
        raise AlexNetError(f"{path}: damaged tar ({reason}), expected a whole one: fetch it again") from reason
    return found


def _slice(data: bytes, member: tarfile.TarInfo) -> memoryview:
    view = memoryview(data)[member.offset_data : member.offset_data + member.size]
    if len(view) != member.size:
        raise AlexNetError(f"{member.name} is {len(view)} bytes, expected {member.size}")
    return view


# ---- the two forms


def _plain_names(names: list[str]) -> tuple[str, ...]:
    """Class names that can be folders."""
    plain = [name for name in names if name.isascii() and name.replace("-", "").replace("_", "").isalnum()]
    if len(set(plain)) != CLASSES or len(names) != CLASSES:
        raise AlexNetError(f"{len(names)} class names, of which {len(set(plain))} plain and different, expected {CLASSES}")
    return tuple(names)


def _binary_names(data: Data) -> list[str]:
    return bytes(data).decode("latin1").split()


def _binary_batch(data: Data) -> tuple[np.ndarray, np.ndarray]:
    if not len(data) or len(data) % (1 + PIXELS):
        raise AlexNetError(f"{len(data)} bytes, expected records of {1 + PIXELS}")
    records = np.frombuffer(data, np.uint8).reshape(-1, 1 + PIXELS)
    return records[:, 0], records[:, 1:]


def _pickled_names(data: Data) -> list[str]:
    return [_text(name) for name in _list(_unpickled(data), "label_names")]


def _pickled_batch(data: Data) -> tuple[np.ndarray, np.ndarray]:
    found = _unpickled(data)
    labels = _list(found, "labels")
    if not all(type(label) is int and 0 <= label < 256 for label in labels):
        raise AlexNetError(f"labels that are no numbers of classes, expected 0 to {CLASSES - 1}")
    pixels = _pixels(found.get("data"))
    if len(pixels) != len(labels):
        raise AlexNetError(f"{len(labels)} labels, expected {len(pixels)}, as many as pictures")
    return np.array(labels, np.uint8), pixels


FORMS = (
    Form("cifar-10-batches-bin", ".bin", "batches.meta.txt", _binary_names, _binary_batch),
    Form("cifar-10-batches-py", "", "batches.meta", _pickled_names, _pickled_batch),
)


# ---- pickles, without running what they ask for


class Noted:
    """Stands in for whatever of numpy a pickle asks for: notes how it was called and what state it was given."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class Unpickler(pickle.Unpickler):
    """Builds plain values and `Noted` ones; every other name a pickle asks for is refused."""

    def find_class(self, module: str, name: str) -> type[Noted]:
        """The stand-in for numpy's three names; AlexNetError for any other."""
        asked = f"{module}.{name}"
        if asked not in NUMPY:
            raise AlexNetError(f"its pickle asks for {asked!r}, expected only numpy's arrays: not the official file")
        return Noted


def _unpickled(data: Data) -> Mapping[str, Any]:
    """The dictionary in a pickle, its keys as text."""
    try:
        _expect_small_memo(bytes(data))
        found = Unpickler(io.BytesIO(data), fix_imports=False, encoding="bytes").load()
        return {_text(key): value for key, value in found.items()}
    except AlexNetError:
        raise
    except Exception as reason:  # a damaged pickle can raise anything
        raise AlexNetError(f"damaged pickle ({type(reason).__name__}), expected a dictionary") from reason


def _expect_small_memo(data: bytes) -> None:
    """Refuse numbers in the pickle that would have its memo take more room than the pickle."""
    argument: Any
    for operation, argument, at in pickletools.genops(data):
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > len(data):
            raise AlexNetError(f"damaged pickle (memo {argument} at byte {at}), expected at most {len(data)}")


def _pixels(array: Any) -> np.ndarray:
    """What an array's pickle told -> uint8 (pictures, PIXELS), its shape compared with its bytes first."""
    if not (isinstance(array, Noted) and isinstance(array.state, tuple) and len(array.state) == 5):
        raise AlexNetError("no array under data, expected the pictures")
    _, shape, kind, fortran, raw = array.state
    if not (isinstance(kind, Noted) and kind.arguments[:1] in ((b"u1",), ("u1",)) and isinstance(raw, bytes)):
        raise AlexNetError("an array of another kind under data, expected bytes")
    if not raw or len(raw) % PIXELS or shape != (len(raw) // PIXELS, PIXELS):
        raise AlexNetError(f"an array {shape} of {len(raw)} bytes under data, expected pictures x {PIXELS}")
    return np.frombuffer(raw, np.uint8).reshape(shape, order="F" if fortran else "C")


def _list(found: Mapping[str, Any], key: str) -> list[Any]:
    value = found.get(key)
    if not isinstance(value, list):
        raise AlexNetError(f"no list under {key}, expected one")
    return value


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)
