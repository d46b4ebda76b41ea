"""What an experiment tracker is to us, and what is told it about a run: the same for every library.

A tracker gets values and images by step. Names are those of metrics.jsonl behind the kind of its
record: `step/loss`, `epoch/val_top1_error`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from PIL import Image

from alexnet.recipes.overrides import settings_by_name
from alexnet.training.run_config import RunConfig

TrackerName = Literal["tensorboard", "wandb", "mlflow"]  # libraries, and the extras with them
Hyperparameter = str | int | float | bool


class Tracker(Protocol):
    """A run's log in a tracker's library. Any method may raise what the library raises."""

    @property
    def run_id(self) -> str:
        """The id by which the library finds the run again."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log values by name; what a resumed run logs again does not appear twice."""

    def log_image(self, step: int, name: str, image: Image.Image) -> None:
        """Log an image by name."""

    def close(self, is_finished: bool) -> None:
        """Write what is left; `is_finished`: the run was neither stopped nor failed."""


@dataclass(frozen=True)
class TrackedRun:
    """A run as a tracker begins to log it."""

    folder: Path
    hyperparameters: Mapping[str, Hyperparameter]
    first_step: int  # of what will be logged; a resumed run may log some steps again
    run_id: str | None  # of the log that a resumed run continues; None for a new log


def hyperparameters(config: RunConfig) -> dict[str, Hyperparameter]:
    """Return what defines a run, flat: the recipe's settings by the names that --set takes."""
    description = config.description()
    names = ("seed", "dataset", "dataset_digest", "device", "precision", "init")
    values = settings_by_name(config.recipe) | {name: description[name] for name in names}
    values["recipe"] = values.pop("name")
    return {name: _flat(value) for name, value in values.items()}


def _flat(value: Any) -> Hyperparameter:
    return value if isinstance(value, str | int | float | bool) else json.dumps(value)


def logged_values(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the values of a record of metrics.jsonl, by the names they are logged under."""
    return {
        f"{record['kind']}/{name}": value
        for name, value in record.items()
        if name not in ("kind", "step") and value is not None
    }
