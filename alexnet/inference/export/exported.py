"""What an export reports: the files that were written, and how they agree with the network."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from alexnet.inference.export.options import ExportOptions, Format


@dataclass(frozen=True)
class Agreement:
    """How an exported model's probabilities agree with the native network's."""

    images: int
    max_difference: float  # of any probability
    same_top1: int  # images whose likeliest class is the same
    tolerance: float  # of max_difference


@dataclass(frozen=True)
class Exported:
    """What was written, and how it was compared with the native network.

    `path`: the file that was asked for, or the folder of a page. `files`: all that belong to it.
    `agreement`: None where every weight was read back and compared bit by bit instead. `notes`:
    what whoever uses it has to know, as sentences. `card`: the model card, where there is one.
    """

    path: Path
    format: Format
    files: tuple[Path, ...]
    options: ExportOptions
    agreement: Agreement | None = None
    notes: tuple[str, ...] = ()
    card: Path | None = None

    @property
    def bytes(self) -> int:
        """Return the size of the files."""
        return sum(file.stat().st_size for file in self.files)

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        runtime = self.options.runtime
        return {
            "path": str(self.path),
            "format": self.format,
            "bytes": self.bytes,
            "files": [str(file) for file in self.files],
            "options": asdict(self.options) | {"runtime": _text(runtime)},
            "agreement": None if self.agreement is None else asdict(self.agreement),
            "notes": list(self.notes),
            "card": _text(self.card),
        }


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
