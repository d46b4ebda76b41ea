"""What a run is: dataset, recipe, random seed, runtime and initial weights, as one value.

It can be written down (recipe.json), checked before any work, and read again to resume; its digest
in every checkpoint tells whether the two belong together. How a run goes is in `trainer`.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alexnet import __version__
from alexnet.core.device import Runtime, make_runtime
from alexnet.core.errors import AlexNetError, UsageError
from alexnet.core.system_info import machine_info
from alexnet.data.dataset_format import file_hash
from alexnet.data.loader import resolution_at
from alexnet.data.prepared import PreparedDataset, Split, open_dataset
from alexnet.data.remote import is_address
from alexnet.models.model_file import find_model_file, make_preprocessor, read_model_file
from alexnet.models.shapes import infer_shapes
from alexnet.recipes.describe import describe_lr, describe_resolution
from alexnet.recipes.layers import Shape
from alexnet.recipes.overrides import from_json, to_json
from alexnet.recipes.recipe import Recipe
from alexnet.recipes.schedules import ReduceOnPlateau
from alexnet.training.run_dir import RECIPE_FILE, read_recipe

RECORD_SIDES = 32  # suggested sizes of prepared images are multiples of it


@dataclass(frozen=True)
class Init:
    """The model file whose weights a run starts from, and its hash."""

    path: str
    sha256: str

    @classmethod
    def from_file(cls, path: Path) -> "Init":
        """Return that of a model file, a run's directory or a name; AlexNetError for none."""
        file = find_model_file(path)
        return cls(str(file.resolve()), file_hash(file))


@dataclass(frozen=True)
class RunConfig:
    """A run before it starts; `init`: what its weights start from, None for random ones."""

    dataset: PreparedDataset
    recipe: Recipe
    seed: int
    runtime: Runtime
    init: Init | None = None

    def digest(self) -> str:
        """Return a hash that changes with all that changes the trained weights."""
        parts = (
            to_json(self.recipe),
            self.seed,
            self.dataset.digest,
            str(self.runtime.dtype),
            None if self.init is None else self.init.sha256,
        )
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def shared_settings(self) -> dict[str, str]:
        """Return the settings and versions that must be equal on all ranks of a run."""
        recipe = json.dumps(to_json(self.recipe)).encode()
        return {
            "dataset": self.dataset.digest[:12],
            "recipe": hashlib.sha256(recipe).hexdigest()[:12],
            "seed": str(self.seed),
            "precision": self.runtime.precision,
            "parallel": self.runtime.parallel,
            "init": "none" if self.init is None else self.init.sha256[:12],
            "alexnet": __version__,
            "torch": torch.__version__,
        }

    @property
    def train(self) -> Split:
        """The split to train on."""
        return self.dataset.splits["train"]

    @property
    def val(self) -> Split | None:
        """The split that choices are made on; None where the dataset has none."""
        val = self.dataset.splits.get("val")
        return val if val is not None and len(val) else None

    @property
    def steps(self) -> int:
        """Batches in the whole run."""
        return self.recipe.training.epochs * self.recipe.training.steps_per_epoch(len(self.train))

    def resolution(self, epoch: float) -> int:
        """Return the side of the training crops at an epoch, in pixels."""
        return resolution_at(self.recipe, epoch)

    def prior_loss(self) -> float:
        """Return the cross-entropy of the class prior: ln(classes) where all are as frequent."""
        counts = np.bincount(self.train.labels, minlength=len(self.dataset.classes))
        epsilon = self.recipe.training.label_smoothing
        target = (1 - epsilon) * counts / counts.sum() + epsilon / len(counts)
        return float(-(target * np.log(np.maximum(target, 1e-30))).sum())

    def description(self) -> dict[str, Any]:
        """Return the content of recipe.json: enough to resume, and to run it again elsewhere."""
        several = self.runtime.ranks.world_size > 1
        device = self.runtime.device
        return {
            "recipe": to_json(self.recipe),
            "seed": self.seed,
            "dataset": self.dataset.location.address,
            "dataset_digest": self.dataset.digest,
            "device": device.type if several else str(device),
            "precision": self.runtime.precision,
            "deterministic": self.runtime.deterministic,
            "init": None if self.init is None else asdict(self.init),
            "machine": machine_info(),
        }


def new_run(
    dataset: str | Path, recipe: Recipe, seed: int, runtime: Runtime, init: Path | None = None
) -> RunConfig:
    """Return the configuration of a new run; `init`: a model file or a run to start from."""
    start = None if init is None else Init.from_file(init)
    return RunConfig(open_dataset(dataset), recipe, seed, runtime, start)


def require_new(folder: Path) -> None:
    """Raise AlexNetError where the directory holds a run."""
    if (folder / RECIPE_FILE).exists():
        raise AlexNetError(
            f"{folder}: holds a run already; continue it with --resume {folder}, "
            "or choose another --out"
        )


def check_run(config: RunConfig) -> None:
    """Raise AlexNetError where a run could not work: before any time is spent on it."""
    if not len(config.train):
        raise AlexNetError(
            f"{config.dataset.location}: its train split has no images; prepare it with more"
        )
    if isinstance(config.recipe.training.lr, ReduceOnPlateau) and not config.val:
        raise UsageError(
            f"recipe {config.recipe.name} reduces its lr by the validation error, and the dataset "
            "has no val split; prepare it with --val-fraction"
        )
    _require_fitting_images(config)
    make_preprocessor(config.dataset, config.recipe)
    infer_shapes(config.recipe.network, len(config.dataset.classes))


def _require_fitting_images(config: RunConfig) -> None:
    """Raise UsageError unless the dataset's images have the network's channels and are as large."""
    channels, side, _ = config.recipe.network.input
    decode_config = config.dataset.decode_config
    if channels == decode_config.channels and side <= decode_config.size:
        return
    expected = _describe_images(channels, side)
    actual = _describe_images(decode_config.channels, decode_config.size)
    smaller = _smaller_input(config)
    setting = ""
    if smaller is not None:
        setting = f"or --set network.input={','.join(map(str, smaller))}, "
    raise UsageError(
        f"recipe {config.recipe.name} expects {expected} images, or larger; "
        f"{config.dataset.location} has {actual}; prepare with {_prepare_flags(channels, side)}, "
        f"{setting}or choose another --recipe"
    )


def _smaller_input(config: RunConfig) -> Shape | None:
    """Return an input that the dataset's images fill and the network can see; None without one.

    It is that of the model whose weights the run starts from, else the largest.
    """
    channels, _, _ = config.recipe.network.input
    size = config.dataset.decode_config.size
    if channels != config.dataset.decode_config.channels:
        return None
    shape = (channels, size, size)
    if config.init is not None:
        shape = read_model_file(Path(config.init.path)).recipe.network.input
        if shape[0] != channels or max(shape) > size:
            return None
    try:
        infer_shapes(replace(config.recipe.network, input=shape), len(config.dataset.classes))
    except UsageError:
        return None
    return shape


def _describe_images(channels: int, side: int) -> str:
    names = {1: "grayscale", 3: "RGB"}
    return f"{names.get(channels, f'{channels}-channel')} {side} x {side}"


def _prepare_flags(channels: int, side: int) -> str:
    """Return flags of `alexnet prepare` that make images for an input; color ones with a margin.

    Random crops need the margin; the grayscale network sees whole images.
    """
    if channels == 1:
        return f"--size {side} --grayscale"
    return f"--size {(side // RECORD_SIDES + 1) * RECORD_SIDES}"


def resume_run(
    folder: Path,
    workers: int | None = None,
    dataset: str | Path | None = None,
    device: str | None = None,
) -> RunConfig:
    """Return the configuration of the run in a directory, as its recipe.json has it.

    `workers`: as in `make_runtime`. `dataset`: where its dataset is now, if it has moved.
    `device`: where it continues, if not where it started. AlexNetError where it cannot continue.
    """
    try:
        description = read_recipe(folder)
        recipe = from_json(description["recipe"])
        init = description["init"]
        start = None if init is None else Init(**init)
        device = device or description["device"]
        precision = description["precision"]
        deterministic = description["deterministic"]
        location = str(dataset or description["dataset"])
        digest = description["dataset_digest"]
        seed = description["seed"]
    except OSError as error:
        raise AlexNetError(
            f"{folder}: no {RECIPE_FILE} in it, so no run to resume; "
            "start one with: alexnet train DATASET"
        ) from error
    except (ValueError, KeyError, TypeError, UsageError) as error:
        raise AlexNetError(
            f"{folder / RECIPE_FILE}: cannot be used here ({error}); "
            "start a new run in another directory"
        ) from error
    opened = _open_same_dataset(folder, location, digest)
    runtime = make_runtime(device, precision, workers, deterministic)
    return RunConfig(opened, recipe, seed, runtime, start)


def _open_same_dataset(folder: Path, location: str, digest: str) -> PreparedDataset:
    """Open the dataset of a run to resume; AlexNetError where it is gone, or another one."""
    if not is_address(location) and not Path(location).exists():
        raise AlexNetError(
            f"{location}: the run's dataset is not there; "
            f"if it has moved: alexnet train DATASET --resume {folder}"
        )
    dataset = open_dataset(location)
    if dataset.digest != digest:
        raise AlexNetError(
            f"{dataset.location}: not the dataset this run started with; "
            "prepare that one again, or start a new run"
        )
    return dataset


def describe_run(config: RunConfig) -> list[str]:
    """Describe what is about to happen, one line each: sizes, device, learning rates."""
    training = config.recipe.training
    resolution = config.recipe.augmentation.resolution_schedule
    splits = ", ".join(f"{name} {len(split):,}" for name, split in config.dataset.splits.items())
    lines = [
        f"recipe {config.recipe.name}, {len(config.dataset.classes)} classes, images: {splits}",
        f"{training.epochs} epochs of {training.steps_per_epoch(len(config.train)):,} steps, "
        f"batch size {training.batch_size}; {config.runtime.device}, {config.runtime.precision}",
        *describe_lr(training),
    ]
    if resolution is not None:
        side = config.recipe.network.input[1]
        lines.append(f"training resolution {describe_resolution(resolution, side)}")
    return lines
