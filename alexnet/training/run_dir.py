"""A run's directory: the names of its files, their writer and their reader.

    recipe.json         what the run is: recipe, dataset, seed, device, machine
    metrics.jsonl       how it went: one JSON record a line, each of a `kind`
    model.safetensors   its best model
    checkpoints/        what it needs to resume
    report.html         its report
    trackers.json       the ids that experiment trackers know it by, where it has any

Training writes them, analysis reads them, and both know them only from here.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alexnet.core import atomic_io
from alexnet.core.errors import AlexNetError, UsageError
from alexnet.data.prepared import PreparedDataset, open_dataset
from alexnet.data.remote import is_address
from alexnet.evaluation.evaluate import require_same_classes
from alexnet.models.model_file import MODEL_FILE, Classifier, read_model_file
from alexnet.recipes.overrides import from_json
from alexnet.recipes.recipe import Recipe

RECIPE_FILE = "recipe.json"
METRICS_FILE = "metrics.jsonl"
CHECKPOINTS_DIR = "checkpoints"
REPORT_FILE = "report.html"
TRACKERS_FILE = "trackers.json"

Record = Mapping[str, Any]


# ---- writing


def write_recipe(folder: Path, description: Record) -> None:
    """Write recipe.json; AlexNetError where it cannot be written."""
    atomic_io.write_bytes(folder / RECIPE_FILE, json.dumps(description, indent=1).encode())


def append_metrics(folder: Path, record: Record) -> None:
    """Append a record to metrics.jsonl."""
    with (folder / METRICS_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def fsync_metrics(folder: Path) -> int:
    """Wait until the disk has metrics.jsonl; return its length in bytes."""
    path = folder / METRICS_FILE
    atomic_io.fsync_path(path)
    return path.stat().st_size


def truncate_metrics(folder: Path, length: int) -> None:
    """Cut metrics.jsonl to its length at a checkpoint, so that no record appears twice."""
    with (folder / METRICS_FILE).open("ab") as file:
        file.truncate(min(length, file.tell()))


def remove_partial_files(folder: Path) -> None:
    """Delete files that a killed process had not finished writing."""
    for partial in folder.rglob("*.writing"):
        partial.unlink()


# ---- reading


@dataclass(frozen=True, eq=False)
class RunHistory:
    """How a run went: its directory, the content of recipe.json, the records of metrics.jsonl."""

    folder: Path
    description: Record
    records: tuple[Record, ...]

    def of(self, kind: str) -> list[Record]:
        """Return the records of one kind, in order."""
        return [record for record in self.records if record["kind"] == kind]

    @property
    def validated(self) -> list[Record]:
        """The records of the epochs that ended with a validation."""
        return [epoch for epoch in self.of("epoch") if epoch.get("val_top1_error") is not None]

    @property
    def best(self) -> Record | None:
        """The record of the first epoch with the lowest validation error."""
        return min(self.validated, key=lambda epoch: epoch["val_top1_error"], default=None)

    @property
    def recipe(self) -> Recipe:
        """The run's recipe; AlexNetError where another version wrote it."""
        try:
            recipe: Recipe = from_json(self.description["recipe"])
        except (UsageError, KeyError, TypeError) as error:
            raise AlexNetError(f"{self.folder}: its recipe cannot be read ({error})") from error
        return recipe


@dataclass(frozen=True, eq=False)
class Run(RunHistory):
    """A run's history with its best model and the dataset it was trained on."""

    model: Classifier
    dataset: PreparedDataset


def read_recipe(folder: Path) -> dict[str, Any]:
    """Return the content of recipe.json; OSError or ValueError where it cannot be read."""
    description: dict[str, Any] = json.loads((folder / RECIPE_FILE).read_text(encoding="utf-8"))
    return description


def read_metrics(folder: Path) -> tuple[dict[str, Any], ...]:
    """Return the records of metrics.jsonl; OSError or ValueError where it cannot be read.

    A last line without its end is still being written, or was cut off: it is left out.
    """
    lines = (folder / METRICS_FILE).read_text(encoding="utf-8").split("\n")[:-1]
    return tuple(json.loads(line) for line in lines)


def read_history(folder: Path) -> RunHistory:
    """Read a run's description and records; AlexNetError where the directory is not a run's."""
    try:
        return RunHistory(folder, read_recipe(folder), read_metrics(folder))
    except (OSError, ValueError) as error:
        raise AlexNetError(
            f"{folder}: not a run's directory ({error}); expected one written by `alexnet train`"
        ) from error


def read_run(folder: Path, dataset: str | Path | None = None) -> Run:
    """Read all that a run's directory holds, and open its dataset, which may have moved.

    AlexNetError where a part is missing or does not fit the others.
    """
    history = read_history(folder)
    try:
        location = str(dataset or history.description["dataset"])
    except (KeyError, TypeError) as error:
        raise AlexNetError(
            f"{folder}: not a run's directory (no dataset in its {RECIPE_FILE}); "
            "expected one written by `alexnet train`"
        ) from error
    if not is_address(location) and not Path(location).is_dir():
        raise AlexNetError(
            f"{folder}: its dataset {location} is not there, and its images are needed; "
            "say where it is now with --dataset"
        )
    model = read_model_file(folder / MODEL_FILE)
    opened = open_dataset(location)
    require_same_classes(model.preprocessor, opened)
    return Run(folder, history.description, history.records, model, opened)


def display_names(runs: Sequence[RunHistory]) -> list[str]:
    """Return the runs' directory names, with as many parents as needed to tell them apart."""
    parts = [run.folder.resolve().parts for run in runs]
    for depth in range(1, max(map(len, parts))):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [part[-1] for part in parts]
