"""Put images into a folder for each class that a model predicts, as copies or as links.

Nothing is ever overwritten and no source is touched: an image whose name is taken gets a number,
cat.jpg becomes cat_2.jpg. Names of classes become names that every system allows for a folder.
"""

import filecmp
import os
import shutil
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from alexnet.core.atomic_io import write_error
from alexnet.core.errors import AlexNetError, require
from alexnet.inference.predict import Prediction

Transfer = Literal["copy", "hard", "symbolic"]
FORBIDDEN = set('<>:"/\\|?*')
RESERVED = {"con", "prn", "aux", "nul"}  # by Windows, with any extension; and com1, lpt1, ...
MAX_NAME_BYTES = 200


@dataclass(frozen=True)
class ClassFolders:
    """A folder for each class below `root`, and how images get there.

    `resume`: an image that is in its folder already, byte for byte, is left there and not repeated.
    """

    root: Path
    folders: dict[str, str]  # class -> name of its folder
    transfer: Transfer = "copy"
    resume: bool = False

    def add(self, prediction: Prediction) -> Path:
        """Put an image into the folder of its likeliest class; return its new path.

        AlexNetError where that cannot be done.
        """
        name, _ = prediction.top[0]
        folder = self.root / self.folders[name]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for target in _free_names(folder / prediction.path.name):
                if self._put(prediction.path, target):
                    return target
        except OSError as error:
            advice = "; --link symbolic works between disks" if self.transfer == "hard" else ""
            raise AlexNetError(f"{write_error(folder, error)}{advice}") from error
        raise AssertionError("there is always another name")

    def _put(self, source: Path, target: Path) -> bool:
        """Put an image at `target`; return False where another file is there."""
        if os.path.lexists(target):
            return self.resume and _is_same(source, target)
        match self.transfer:
            case "hard":
                os.link(source.resolve(), target)
            case "symbolic":
                target.symlink_to(source.resolve())
            case "copy":
                temporary = target.with_name(f".{os.getpid()}.writing")
                shutil.copy2(source, temporary)
                os.replace(temporary, target)
        return True


def class_folders(
    root: Path, classes: Sequence[str], transfer: Transfer = "copy", resume: bool = False
) -> ClassFolders:
    """Return the folders of classes below `root`: different ones, also where case is ignored."""
    folders: dict[str, str] = {}
    used: set[str] = set()
    for name in classes:
        safe = folder_name(name)
        number = 1
        folders[name] = safe
        while folders[name].casefold() in used:
            number += 1
            folders[name] = f"{safe}_{number}"
        used.add(folders[name].casefold())
    return ClassFolders(root, folders, transfer, resume)


def folder_name(name: str) -> str:
    """Return a class's name as a folder's that Linux, macOS and Windows all allow."""
    normal = unicodedata.normalize("NFC", name)
    safe = "".join("_" if _is_forbidden(letter) else letter for letter in normal)
    safe = safe.encode("utf-8", "replace")[:MAX_NAME_BYTES].decode("utf-8", "ignore").strip(" .")
    stem = safe.partition(".")[0].casefold()
    is_device = stem[:3] in ("com", "lpt") and len(stem) == 4 and stem[3].isdigit()
    return f"_{safe}" if not safe or stem in RESERVED or is_device else safe


def require_outside(root: Path, sources: Sequence[Path]) -> None:
    """UsageError where the class folders would lie among the images that are read, or around them.

    `sources`: the folders that images are read from.
    """
    folder = root.resolve()
    for source in sources:
        other = source.resolve()
        require(
            not folder.is_relative_to(other) and not other.is_relative_to(folder),
            f"--sort-into {root}: found images read from {source}; expected a folder that is "
            "neither in it nor around it",
        )


def _is_forbidden(letter: str) -> bool:
    return letter in FORBIDDEN or unicodedata.category(letter).startswith("C")


def _free_names(path: Path) -> Iterator[Path]:
    """Yield a path, then the same with 2, 3, ... after its stem."""
    yield path
    number = 2
    while True:
        yield path.with_stem(f"{path.stem}_{number}")
        number += 1


def _is_same(source: Path, target: Path) -> bool:
    if target.is_symlink():
        return target.resolve() == source.resolve()
    return target.is_file() and filecmp.cmp(source, target, shallow=False)
