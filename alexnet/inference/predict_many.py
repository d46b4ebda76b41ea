"""Predict any number of images into files and folders: which images, what is done, what is left.

The images are listed twice, once to count and to check them and once to predict them, so that no
list of a million paths is kept.
"""

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from alexnet.core.errors import AlexNetError, require
from alexnet.data.image_batches import iterate_images
from alexnet.inference.predict import Prediction
from alexnet.inference.prediction_file import (
    FileFormat,
    PredictionFile,
    PredictionSettings,
    open_prediction_file,
    partial_path,
)
from alexnet.inference.sort_into import ClassFolders, require_outside

STDIN = "-"


class Interrupted(AlexNetError):
    """Predictions were stopped by a signal; `status` tells which."""

    def __init__(self, text: str, signal_number: int) -> None:
        super().__init__(text)
        self.status = 128 + signal_number


@dataclass(frozen=True)
class ImageInputs:
    """Files, folders and patterns, listed each time they are iterated; and the paths of "-"."""

    paths: tuple[str, ...]
    from_stdin: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Path]:
        for path in self.paths:
            if path == STDIN:
                yield from map(Path, self.from_stdin)
            else:
                yield from iterate_images([path])

    def folders(self) -> list[Path]:
        """Return the folders that images are read from, but not those of single files."""
        matches = [match for path in self.paths for match in glob.glob(path) or [path]]
        return [Path(match) for match in matches if match != STDIN and os.path.isdir(match)]


def read_paths(stream: BinaryIO, null: bool) -> tuple[str, ...]:
    """Return the paths in a stream, one a line, or with `null` one before each NUL byte.

    UsageError where there are NUL bytes in lines.
    """
    content = stream.read()
    require(
        null or b"\0" not in content,
        "-: found NUL bytes on standard input, expected one path a line; --null reads paths that "
        "end with NUL bytes",
    )
    separator = b"\0" if null else b"\n"
    lines = [line if null else line.removesuffix(b"\r") for line in content.split(separator)]
    return tuple(os.fsdecode(line) for line in lines if line)


def check_inputs(inputs: ImageInputs, outputs: Sequence[Path], root: Path | None) -> int:
    """Return how many images there are; `outputs`, `root`: files and a folder to be written.

    UsageError where an output is one of the images, or they lie in the folder or around it;
    AlexNetError where a path has no images.
    """
    if root is not None:
        require_outside(root, inputs.folders())
    existing = {_identity(output): output for output in outputs if output.exists()}
    inside = None if root is None else os.path.join(os.path.abspath(root), "")
    count = 0
    for image in inputs:
        count += 1
        if existing and image.exists():
            output = existing.get(_identity(image))
            require(output is None, f"{output}: is one of the images; choose another output file")
        require(
            inside is None or not os.path.abspath(image).startswith(inside),
            f"--sort-into {root}: found the image {image} in it; expected another folder",
        )
    require(count > 0, "-: found no paths on standard input, expected one a line")
    return count


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


@dataclass(frozen=True)
class Outputs:
    """Where predictions go: files, and folders of the classes."""

    files: tuple[PredictionFile, ...] = ()
    folders: ClassFolders | None = None

    def remaining(self, inputs: ImageInputs) -> Iterator[Path]:
        """Yield the images that are not in every file already."""
        done = self.done()
        for image in inputs:
            if str(image) not in done:
                yield image

    def done(self) -> dict[str, bool]:
        """Return the images that every file had when it was opened: whether they can be read."""
        if not self.files:
            return {}
        first, *others = self.files
        return {
            path: is_readable
            for path, is_readable in first.done.items()
            if all(path in other.done for other in others)
        }

    def write(self, prediction: Prediction) -> None:
        """Put an image into its folder, then its prediction into the files."""
        if self.folders is not None and prediction.error is None:
            self.folders.add(prediction)
        for file in self.files:
            file.write(prediction)


@contextmanager
def open_outputs(
    files: Mapping[FileFormat, Path],
    settings: PredictionSettings,
    resume: bool,
    folders: ClassFolders | None,
) -> Iterator[Outputs]:
    """Open the files that predictions go to, and give them their names at the end.

    Whatever ends it before, what is written so far is kept, to be resumed. Errors are those of
    `open_prediction_file`.
    """
    with ExitStack() as stack:
        opened = []
        for file_format, path in files.items():
            file = open_prediction_file(path, file_format, settings, resume)
            stack.callback(file.close)
            opened.append(file)
        yield Outputs(tuple(opened), folders)
        for file in opened:
            file.finish()


def write_predictions(
    predictions: Iterable[Prediction],
    outputs: Outputs,
    show: Callable[[Prediction], None],
    stop: Callable[[], int],
) -> tuple[int, int]:
    """Write and show predictions as they come; return how many images, and how many unreadable.

    Those that were done before count. `stop` returns the number of a signal that asks to stop, or
    0; then Interrupted is raised.
    """
    done = outputs.done()
    images = len(done)
    unreadable = sum(not is_readable for is_readable in done.values())
    for prediction in predictions:
        outputs.write(prediction)
        show(prediction)
        images += 1
        unreadable += prediction.error is not None
        signal_number = stop()
        if signal_number:
            raise Interrupted(_interrupted_text(outputs, images), signal_number)
    return images, unreadable


def _interrupted_text(outputs: Outputs, images: int) -> str:
    """Return what is kept after a signal, and how to go on."""
    text = f"interrupted after {images:,} images"
    if not outputs.files:
        return text
    files = " and ".join(str(partial_path(file.path)) for file in outputs.files)
    return f"{text}, kept in {files}; the same command with --resume continues"
