"""Predictions in a file, written as they come: CSV or JSON Lines, which can be resumed.

Lines go into FILE.partial, which gets the name FILE once the last image is done. After a kill the
partial file is read again: a last line without its end is cut off, and the images in the others are
not predicted again. Of the images, only their paths are kept in memory, and only when resuming.
FILE.partial.json says which settings the predictions depend on, so that others do not continue it.
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Literal

from alexnet.core.atomic_io import (
    fsync_path,
    replace_file,
    require_writable,
    write_bytes,
    write_error,
)
from alexnet.core.errors import AlexNetError, UsageError
from alexnet.inference.predict import Prediction

FileFormat = Literal["csv", "jsonl"]
ENCODING = ("utf-8", "surrogateescape")  # a path may hold bytes that are not UTF-8


@dataclass(frozen=True)
class PredictionSettings:
    """What predictions depend on besides the images; `model`: the digest of its file."""

    model: str
    crops: int
    top_k: int

    def __str__(self) -> str:
        return f"model {self.model[:12]}, {self.crops} crops, {self.top_k} classes an image"


@dataclass(eq=False)
class PredictionFile:
    """A file of predictions that is being written.

    `done`: the paths it held when it was opened, and whether each image could be read.
    """

    path: Path
    format: FileFormat
    settings: PredictionSettings
    stream: BinaryIO
    done: dict[str, bool] = field(default_factory=dict)

    def write(self, prediction: Prediction) -> None:
        """Write a prediction, unless the file held one of this path already; AlexNetError."""
        if str(prediction.path) in self.done:
            return
        try:
            self.stream.write(_line(self.format, prediction, self.settings.top_k))
            self.stream.flush()
        except OSError as error:
            raise AlexNetError(
                f"{partial_path(self.path)}: could not be written ({error.strerror}); "
                "free some space, then the same command with --resume continues"
            ) from error

    def close(self) -> None:
        """Keep the lines that are written so far as the partial file; without any, remove it."""
        if self.stream.closed:
            return
        header = _header(self.format, self.settings.top_k)
        is_empty = not self.done and self.stream.tell() <= len(header)
        with suppress(OSError):  # of a line that could not be written, which was told already
            self.stream.close()
        if is_empty:
            partial_path(self.path).unlink(missing_ok=True)
            settings_path(self.path).unlink(missing_ok=True)

    def finish(self) -> None:
        """Give the file its name; AlexNetError where that fails."""
        self.stream.close()
        try:
            fsync_path(partial_path(self.path))
            replace_file(partial_path(self.path), self.path)
            fsync_path(self.path.parent)
            settings_path(self.path).unlink(missing_ok=True)
        except OSError as error:
            raise write_error(self.path, error) from error


def partial_path(path: Path) -> Path:
    """Return the name under which a file is written."""
    return path.with_name(f"{path.name}.partial")


def settings_path(path: Path) -> Path:
    """Return where the settings of the predictions in a file's partial one are kept."""
    return path.with_name(f"{path.name}.partial.json")


def open_prediction_file(
    path: Path, file_format: FileFormat, settings: PredictionSettings, resume: bool
) -> PredictionFile:
    """Open a file of predictions, a new one or one to be continued.

    AlexNetError where it cannot be written, where an interrupted one would be lost, or where it was
    written with other settings; UsageError where there is nothing to resume.
    """
    partial = partial_path(path)
    if resume and path.exists() and not partial.exists():
        raise UsageError(
            f"{path}: complete, so there is nothing to resume; without --resume it is made again"
        )
    if partial.exists() and not resume:
        raise AlexNetError(
            f"{partial}: found what an interrupted run has written; continue it with --resume, "
            "or remove it"
        )
    require_writable(path)
    if partial.exists():
        _require_same_settings(path, settings)
    write_bytes(settings_path(path), json.dumps(asdict(settings)).encode())
    header = _header(file_format, settings.top_k)
    try:
        done, length = _read_done(partial, file_format, header)
        stream = partial.open("ab")
        stream.truncate(length)
        stream.seek(length)
        if length == 0:
            stream.write(header)
    except OSError as error:
        raise write_error(partial, error) from error
    return PredictionFile(path, file_format, settings, stream, done)


def _require_same_settings(path: Path, settings: PredictionSettings) -> None:
    """Raise AlexNetError unless a partial file's predictions were made with the same settings."""
    file = settings_path(path)
    try:
        earlier = PredictionSettings(**json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise AlexNetError(
            f"{file}: does not say what {partial_path(path)} was made with ({error}); remove both"
        ) from error
    if earlier != settings:
        raise AlexNetError(
            f"{partial_path(path)}: made with {earlier}, now {settings}; "
            "resume with the same model, --crops and --top-k, or remove it"
        )


def _read_done(
    partial: Path, file_format: FileFormat, header: bytes
) -> tuple[dict[str, bool], int]:
    """Return what an interrupted run has written, and the length in bytes of its whole lines."""
    done: dict[str, bool] = {}
    length = 0
    if not partial.exists():
        return done, length
    with partial.open("rb") as file:
        for number, line in enumerate(_complete_lines(file, file_format), 1):
            length += len(line)
            if number == 1 and header:
                _require_header(partial, line, header)
                continue
            try:
                path, is_readable = _parse(file_format, line)
            except (ValueError, LookupError, TypeError) as error:
                raise AlexNetError(
                    f"{partial}: line {number} is no prediction ({error}); expected a file of "
                    "`alexnet predict`: remove it"
                ) from error
            done[path] = is_readable
    return done, length


def _complete_lines(stream: BinaryIO, file_format: FileFormat) -> Iterator[bytes]:
    """Yield the lines that have their end; a line of CSV may hold ends of lines in quotes."""
    end = b"\r\n" if file_format == "csv" else b"\n"
    line = b""
    for part in stream:
        line += part
        if line.endswith(end) and (file_format == "jsonl" or line.count(b'"') % 2 == 0):
            yield line
            line = b""


def _require_header(partial: Path, line: bytes, header: bytes) -> None:
    if line != header:
        raise AlexNetError(
            f"{partial}: found the columns {line.decode(*ENCODING).strip()}, expected "
            f"{header.decode().strip()}: remove it"
        )


# ---- lines


def _header(file_format: FileFormat, top_k: int) -> bytes:
    if file_format == "jsonl":
        return b""
    columns = [(f"class_{rank}", f"probability_{rank}") for rank in range(1, top_k + 1)]
    return _csv_line(["path", *chain.from_iterable(columns), "error"])


def _line(file_format: FileFormat, prediction: Prediction, top_k: int) -> bytes:
    if file_format == "jsonl":
        return json.dumps(prediction.to_json()).encode() + b"\n"
    pairs = [(name, f"{probability:.6f}") for name, probability in prediction.top]
    pairs += [("", "")] * (top_k - len(pairs))
    cells = chain.from_iterable(pairs)
    return _csv_line([str(prediction.path), *cells, prediction.error or ""])


def _csv_line(cells: Sequence[str]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerow(cells)
    return text.getvalue().encode(*ENCODING)


def _parse(file_format: FileFormat, line: bytes) -> tuple[str, bool]:
    """Return the path in a line, and whether its image could be read; ValueError, LookupError."""
    if file_format == "jsonl":
        prediction = json.loads(line)
        return prediction["path"], "error" not in prediction
    (cells,) = csv.reader(io.StringIO(line.decode(*ENCODING), newline=""))
    return cells[0], not cells[-1]
