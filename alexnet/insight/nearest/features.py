"""Pictures in, rows of numbers out: what a network makes of them at one station, written out or kept beside the model.

A row is a station's value for the centre view, maps laid out flat (channels, rows, columns); fc7 is the paper's feature vector
(section 6.1). Written out (`write_features`), rows are float32 in the order of the pictures. Kept to be searched (`kept`), they
are float16, half as much to read and exact enough: an index is a folder of parts beside the model file, each with its own hash
and with the model, store, split, station and precision it was made from. A part that does not match is made anew, a kill loses
no more than the part under way, and memory holds one part at most, since finished ones are mapped. Nothing here compares rows.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from alexnet.data.ahead import prefetched
from alexnet.data.groups import Group, from_split
from alexnet.data.store import Split, Store, file_hash
from alexnet.durable import unwritten, whole, write_bytes
from alexnet.errors import AlexNetError, UsageError
from alexnet.evaluate import Seer, Tick
from alexnet.network.alexnet import AlexNet
from alexnet.runtime import Runtime
from alexnet.tensorfile import read_tensors, write_tensors

FORMAT = "alexnet-features/1"
ROWS, VALUES = 512, 2**24  # of a part, at most: what a stop can lose, and what is made before progress is told again


@dataclass(frozen=True)
class Written:
    """What `write_features` wrote: the rows' names, values in a row, and (name, reason) of the pictures without a row."""

    names: tuple[str, ...]
    values: int
    unread: tuple[tuple[str, str], ...]


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows to be searched: float16 in parts of equal length (the last may be shorter), and the squares of their lengths."""

    parts: tuple[Tensor, ...] = field(repr=False)  # each (n, values)
    squares: Tensor = field(repr=False)  # float64 (N,)

    def __len__(self) -> int:
        return len(self.squares)

    @property
    def values(self) -> int:
        """Values in a row."""
        return self.parts[0].shape[1]

    def take(self, numbers: Sequence[int] | np.ndarray) -> Tensor:
        """The rows of these numbers, float16 (len(numbers), values)."""
        length = len(self.parts[0])
        return torch.stack([self.parts[number // length][number % length] for number in map(int, numbers)])


@dataclass(frozen=True, eq=False)
class Kept:
    """An index: a split's rows, the folder they lie in and what they were made from."""

    rows: Rows
    split: Split
    folder: Path
    origin: Mapping[str, Any]


# ---- values


def width(network: AlexNet, station: str) -> int:
    """Values a station has; UsageError where the net has no such station."""
    sizes = {getattr(step.layer, "name", ""): prod(step.gives) for step in network.planned} | {"prob": network.classes}
    if not station or station not in sizes:
        raise UsageError(f"--station {station}: this net has no such station; it has {', '.join(filter(None, sizes))}")
    return sizes[station]


@torch.inference_mode()
def features(seer: Seer, squares: np.ndarray, station: str, runtime: Runtime) -> Tensor:
    """A station's values (N, values), float32 on the CPU, for the centre views of squares (N, S, S, C)."""
    network, view = seer
    batch = view.tensor(view.centre(squares), runtime.device, runtime.dtype)
    return network.stations(batch)[station].float().flatten(1).cpu()


def rows_of(seer: Seer, group: Group, station: str, runtime: Runtime) -> Tensor:
    """Rows float32 (n, values) of the pictures of a group that could be read."""
    if not group.readable:
        return torch.empty(0, width(seer[0], station))
    return features(seer, np.stack(group.readable), station, runtime)


# ---- written out


def write_features(
    path: Path, seer: Seer, groups: Iterator[Group], total: int, station: str, runtime: Runtime, progress: Tick
) -> Written:
    """Write PATH, a .npy of float32 (rows, values) in the pictures' order, and beside it their names, one JSON string a line.

    A picture that cannot be read gets no row. AlexNetError where the files cannot be written.
    """
    names: list[str] = []
    unread: list[tuple[str, str]] = []
    values, done = width(seer[0], station), 0
    try:
        with whole(path) as aside, aside.open("wb") as file:
            _header(file, 0, values)
            for group in groups:
                unread += group.unread
                names += [name for name, square, _ in zip(*group, strict=True) if not isinstance(square, str)]
                file.write(rows_of(seer, group, station, runtime).numpy().astype("<f4").data)
                done += len(group.names)
                progress(done, total)
            file.seek(0)
            _header(file, len(names), values)
    except OSError as error:
        raise unwritten(path, error) from error
    write_bytes(names_beside(path), "".join(json.dumps(name) + "\n" for name in names).encode())
    return Written(tuple(names), values, tuple(unread))


def names_beside(path: Path) -> Path:
    """Where the names of a file of rows stand."""
    return path.with_suffix(".names")


def _header(file: Any, rows: int, values: int) -> None:
    """A .npy header; numpy leaves room in it for any number of rows, so that it can be set right once they are counted."""
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (rows, values)})


# ---- kept beside the model


def kept(model: Path, seer: Seer, store: Store, split: Split, station: str, runtime: Runtime, progress: Tick) -> Kept:
    """The rows of a split, read from the index beside the model file, or made and put there; `progress`: (done, all) records.

    AlexNetError where the split is empty, values are too large for float16, or the index cannot be written.
    """
    if not len(split):
        raise AlexNetError(f"{store.place}: the split {split.name} has no pictures; choose another with --split")
    origin = {
        "model": file_hash(model),
        "store": store.digest,
        "split": split.name,
        "station": station,
        "precision": runtime.precision,
    }
    folder = model.with_name(f"{model.name}.{station}.{split.name}.{store.digest[:12]}.index")
    length = max(1, min(ROWS, VALUES // width(seer[0], station)))
    spans = [range(at, min(at + length, len(split))) for at in range(0, len(split), length)]
    parts, found = [], prefetched((_reading(folder, span, origin) for span in spans), runtime.workers)
    for span, part in zip(spans, found, strict=True):
        parts.append(part or _make(folder, span, origin, seer, split, runtime))
        progress(span.stop, len(split))
    rows = Rows(tuple(part["rows"] for part in parts), torch.cat([part["squares"] for part in parts]))
    return Kept(rows, split, folder, origin)


def part_file(folder: Path, span: range) -> Path:
    """The file of the part that begins with record `span.start`."""
    return folder / f"{span.start:09d}.safetensors"


def still_good(path: Path, about: Mapping[str, Any]) -> dict[str, Tensor] | None:
    """A file of an index, unless it is missing, damaged or about something else: then it has to be made (again)."""
    try:
        tensors, found = read_tensors(path, FORMAT)
    except AlexNetError:
        return None
    return tensors if found == about else None


def _reading(folder: Path, span: range, origin: Mapping[str, Any]) -> Callable[[], dict[str, Tensor] | None]:
    return lambda: still_good(part_file(folder, span), {**origin, "records": [span.start, span.stop]})


def _make(folder: Path, span: range, origin: Mapping[str, Any], seer: Seer, split: Split, runtime: Runtime) -> dict[str, Tensor]:
    """Compute the rows of a part and put them into its file; returned as mapped from there."""
    station, about = origin["station"], {**origin, "records": [span.start, span.stop]}
    groups = from_split(split, span, runtime.workers)
    rows = torch.cat([rows_of(seer, group, station, runtime).half() for group in groups])
    if not rows.isfinite().all():
        record = span[int((~rows.isfinite()).any(1).nonzero()[0])]
        limit = f"{torch.finfo(rows.dtype).max:,.0f}, the largest float16, or no number"
        raise AlexNetError(f"record {record} of {split.name}: {station} is beyond {limit}; choose another --station")
    path = part_file(folder, span)
    write_tensors(path, FORMAT, {"rows": rows, "squares": squares(rows)}, about)
    return read_tensors(path, FORMAT)[0]


def squares(rows: Tensor) -> Tensor:
    """The squares of the rows' lengths, float64 (n,)."""
    return torch.stack([row.double().square().sum() for row in rows])
