"""Read CIFAR-10's Python batches without running what their pickles ask for.

A pickle can call anything when it is loaded. So nothing it names is called: a recorder stands in
for numpy's functions and notes their arguments, from which the array is made here. Any other name
is refused. What the pickle states (shapes, sizes) is compared with its bytes before memory is
allocated.
"""

import io
import pickle
import pickletools
from collections.abc import Mapping
from typing import Any

import numpy as np

from alexnet.core.errors import AlexNetError

PIXELS = 3 * 32 * 32  # of an image
NUMPY_NAMES = (
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.ndarray",
    "numpy.dtype",
)

Buffer = bytes | memoryview


def read_pickled_names(data: Buffer) -> list[str]:
    """Return the class names of batches.meta; AlexNetError."""
    return [_as_text(name) for name in _get_list(_unpickle(data), "label_names")]


def read_pickled_batch(data: Buffer) -> tuple[np.ndarray, np.ndarray]:
    """Return a batch's labels (images,) and pixels (images, PIXELS), both uint8; AlexNetError."""
    batch = _unpickle(data)
    labels = _get_list(batch, "labels")
    if not all(type(label) is int and 0 <= label < 256 for label in labels):
        raise AlexNetError("labels that are not class indices, expected 0 to 9")
    pixels = _pixel_array(batch.get("data"))
    if len(pixels) != len(labels):
        raise AlexNetError(f"{len(labels)} labels, expected {len(pixels)}, one for each image")
    return np.array(labels, np.uint8), pixels


class Recorder:
    """Stands in for what a pickle calls by name; notes the arguments and the state it is given."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class SafeUnpickler(pickle.Unpickler):
    """Builds plain values and recorders; any name that is not numpy's is an AlexNetError."""

    def find_class(self, module: str, name: str) -> type[Recorder]:
        """Return the recorder for numpy's names; AlexNetError for any other."""
        requested = f"{module}.{name}"
        if requested not in NUMPY_NAMES:
            raise AlexNetError(
                f"its pickle asks for {requested!r}, expected only numpy's arrays: "
                "not the official file"
            )
        return Recorder


def _unpickle(data: Buffer) -> Mapping[str, Any]:
    """Return the dictionary in a pickle, its keys as text."""
    try:
        _check_memo_size(bytes(data))
        value = SafeUnpickler(io.BytesIO(data), fix_imports=False, encoding="bytes").load()
        return {_as_text(key): item for key, item in value.items()}
    except AlexNetError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise AlexNetError(
            f"damaged pickle ({type(error).__name__}), expected a dictionary"
        ) from error


def _check_memo_size(data: bytes) -> None:
    """Refuse memo indices that would make the memo larger than the pickle."""
    argument: Any
    for operation, argument, position in pickletools.genops(data):
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > len(data):
            raise AlexNetError(
                f"damaged pickle (memo {argument} at byte {position}), expected at most {len(data)}"
            )


def _pixel_array(array: Any) -> np.ndarray:
    """Return the array that a recorder describes, uint8 (images, PIXELS)."""
    is_array = isinstance(array, Recorder) and isinstance(array.state, tuple)
    if not is_array or len(array.state) != 5:
        raise AlexNetError("no array under data, expected the images")
    _, shape, dtype, is_fortran, raw = array.state
    is_bytes = isinstance(dtype, Recorder) and dtype.arguments[:1] in ((b"u1",), ("u1",))
    if not is_bytes or not isinstance(raw, bytes):
        raise AlexNetError("an array of another kind under data, expected bytes")
    if not raw or len(raw) % PIXELS or shape != (len(raw) // PIXELS, PIXELS):
        raise AlexNetError(
            f"an array {shape} of {len(raw)} bytes under data, expected images x {PIXELS}"
        )
    return np.frombuffer(raw, np.uint8).reshape(shape, order="F" if is_fortran else "C")


def _get_list(value: Mapping[str, Any], key: str) -> list[Any]:
    items = value.get(key)
    if not isinstance(items, list):
        raise AlexNetError(f"no list under {key}, expected one")
    return items


def _as_text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)
