"""The model file: what training writes and everything else reads.

One .safetensors file holds the weights (float32), the mean image and the color statistics; its
header holds the recipe, how images are decoded, the classes and the provenance, under a hash of it
all. So whoever has the file preprocesses images as training did.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from alexnet.core.console import ProgressFn, Stage, same_for_every_stage
from alexnet.core.device import Runtime
from alexnet.core.errors import AlexNetError, UsageError, require
from alexnet.core.safetensors_io import (
    read_digest,
    read_document,
    read_tensors,
    write_tensors,
)
from alexnet.data.images import DecodeConfig
from alexnet.data.prepared import ColorStats, PreparedDataset
from alexnet.data.transforms import Preprocessor
from alexnet.models.alexnet import AlexNet
from alexnet.recipes.overrides import from_json, to_json
from alexnet.recipes.recipe import Recipe

FORMAT = "alexnet-model/1"
MODEL_FILE = "model.safetensors"  # its name in a run's directory
MEAN = "preprocessor.mean"  # names of tensors in the file that are not parameters
COLOR = "preprocessor.color"
COLOR_PARTS = ("mean", "eigenvalues", "eigenvectors")
PYTORCH_SUFFIXES = (".pt", ".pth")
PYTORCH_STARTS = (b"PK\x03\x04", b"\x80\x02\x8a")  # torch.save's zip files, and its older pickles


@dataclass(frozen=True, eq=False)
class Classifier:
    """A model with all that its use needs: the content of a model file.

    `provenance`: where it comes from (run, epoch, versions), as JSON data.
    """

    model: AlexNet
    preprocessor: Preprocessor
    recipe: Recipe
    provenance: Mapping[str, Any]


@dataclass(frozen=True)
class ModelInfo:
    """What a model file says of its model, without the weights; see Classifier, Preprocessor."""

    recipe: Recipe
    decode_config: DecodeConfig
    classes: tuple[str, ...]
    provenance: Mapping[str, Any]


def load_model(
    path: str | Path, *, progress: ProgressFn | None = None
) -> tuple[AlexNet, Preprocessor]:
    """Load a model and its preprocessor from a model file or a run's directory, or by name.

    "torchvision", "caffe" and "caffenet", where there is no such file or directory, are public
    weights, fetched at their first use (`alexnet weights` lists them with their licenses);
    `progress` is then called with (done, all) bytes.
    The model is on the CPU in float32, in eval mode, its parameters trainable:
    `model(preprocessor(["cat.jpg"])).softmax(1)` are probabilities (1, classes). AlexNetError where
    the path is none of these, or the file is damaged.
    """
    report = None if progress is None else same_for_every_stage(progress)
    classifier = read_model_file(find_model_file(Path(path), report))
    classifier.model.requires_grad_(True)
    return classifier.model, classifier.preprocessor


def save_model(path: str | Path, model: AlexNet, preprocess: Preprocessor) -> None:
    """Write a model with its preprocessor as a model file, which `load_model` and commands read.

    Its recipe is called "custom" and has the model's network and the preprocessor's augmentation.
    UsageError where model and preprocessor do not fit together, or a layer was replaced by one of
    another shape; AlexNetError where the file cannot be written.

    >>> save_model("finetuned.safetensors", model, preprocess)  # doctest: +SKIP
    """
    write_classifier(Path(path), make_classifier(model, preprocess))


def write_classifier(path: Path, classifier: Classifier) -> None:
    """Write a classifier as a model file; UsageError where its layers are not those of its network.

    AlexNetError where it cannot be written.
    """
    model = classifier.model
    require_own_weights(model, path)
    write_model_file(
        path,
        model.state_dict(),
        classifier.preprocessor,
        classifier.recipe,
        classifier.provenance,
    )


def require_own_weights(model: AlexNet, path: str | Path) -> None:
    """UsageError, about writing `path`, unless a model's weights are those of its network."""
    weights = model.state_dict()
    with torch.device("meta"):
        expected = _shapes(AlexNet(model.spec, model.num_classes).state_dict())
    if _shapes(weights) != expected:
        names = sorted({name for name, _ in _shapes(weights).items() ^ expected.items()})
        raise UsageError(
            f"{path}: the weights do not fit the model's network in {', '.join(names)}; "
            "a file holds a recipe's layers: replace the last with model.reset_classifier"
        )


def make_classifier(model: AlexNet, preprocess: Preprocessor) -> Classifier:
    """Return a model and its preprocessor as a classifier; UsageError where they do not fit."""
    for value, kind in ((model, AlexNet), (preprocess, Preprocessor)):
        require(
            isinstance(value, kind),
            f"found {type(value).__name__}, expected {kind.__name__}; "
            "the pair is (model, preprocess), as load_model returns it",
        )
    last = list(model.children())[-1]
    outputs = last.out_features if isinstance(last, nn.Linear) else model.num_classes
    require(
        len(preprocess.classes) == outputs,
        f"the model has {outputs} outputs, the preprocessor {len(preprocess.classes)} classes; "
        "name the model's: preprocess = preprocess.with_classes([...])",
    )
    network = replace(model.spec, num_classes=model.num_classes)
    return Classifier(model, preprocess, Recipe("custom", network, preprocess.augmentation), {})


def load_classifier(path: Path, runtime: Runtime) -> Classifier:
    """Load a model file or a run's model for inference on a runtime's device, in its precision."""
    classifier = read_model_file(path)
    classifier.model.to(runtime.device, runtime.dtype)
    return classifier


def find_model_file(
    path: Path, stage: Stage | None = None, notify: Callable[[str], None] | None = None
) -> Path:
    """Return the model file that a path stands for: a model file, a run's directory, or a name.

    A name of public weights counts where there is no such file or directory; they are fetched and
    told of as `pretrained.provide_model` says. AlexNetError where it is none of these.
    """
    # the importers of public weights write model files with this module
    from alexnet.models.pretrained import PRETRAINED, provide_model

    names = ", ".join(PRETRAINED)
    expected = f"expected a model file, a run's directory, or public weights by name: {names}"
    if path.is_dir():
        if not (path / MODEL_FILE).is_file():
            raise AlexNetError(f"{path}: a directory without {MODEL_FILE}; {expected}")
        return path / MODEL_FILE
    if not path.exists() and str(path) in PRETRAINED:
        return provide_model(str(path), stage, notify)
    if not path.is_file():
        raise AlexNetError(f"{path}: no such file or directory; {expected}")
    if _is_pytorch_file(path):
        raise AlexNetError(
            f"{path}: PyTorch weights: load them with model.load_state_dict, "
            "then alexnet.save_model writes a model file"
        )
    return path


def model_digest(path: Path) -> str:
    """Return the hash of a model file's content, from its header; AlexNetError."""
    return read_digest(path, FORMAT)


def is_model_file(path: Path) -> bool:
    """Tell whether there is a model file at a path, by its header."""
    try:
        model_digest(path)
    except AlexNetError:
        return False
    return True


def _is_pytorch_file(path: Path) -> bool:
    """Tell whether a file was written by torch.save, by its name and its first bytes."""
    if path.suffix not in PYTORCH_SUFFIXES:
        return False
    with path.open("rb") as file:
        return file.read(4).startswith(PYTORCH_STARTS)


def make_preprocessor(dataset: PreparedDataset, recipe: Recipe) -> Preprocessor:
    """Return the preprocessor of a recipe's network for a dataset's images.

    AlexNetError where the images do not fit the network's input.
    """
    return Preprocessor(
        dataset.decode_config,
        recipe.network.input,
        recipe.augmentation,
        dataset.classes,
        dataset.mean,
        dataset.color,
    )


def write_model_file(
    path: Path,
    weights: Mapping[str, Tensor],
    preprocessor: Preprocessor,
    recipe: Recipe,
    provenance: Mapping[str, Any],
) -> None:
    """Write a model file atomically; AlexNetError where it cannot be written."""
    metadata = {
        "recipe": to_json(recipe),
        "decode_config": preprocessor.decode_config.to_json(),
        "classes": preprocessor.classes,
        "provenance": provenance,
    }
    arrays = {MEAN: preprocessor.mean}
    for part in COLOR_PARTS:
        arrays[f"{COLOR}.{part}"] = getattr(preprocessor.color, part)
    tensors = {name: tensor.float() for name, tensor in weights.items()}
    for name, array in arrays.items():
        tensors[name] = torch.from_numpy(np.ascontiguousarray(array))
    write_tensors(path, FORMAT, tensors, metadata)


def read_model_file(path: Path) -> Classifier:
    """Read and verify a model file or a run's: for inference, in eval mode, parameters frozen.

    AlexNetError where it is not one, is damaged, or its weights do not fit its recipe.
    """
    path = find_model_file(path)
    tensors, metadata = read_tensors(path, FORMAT)
    info = _make_info(path, metadata)
    recipe = info.recipe
    preprocessor = Preprocessor(
        info.decode_config,
        recipe.network.input,
        recipe.augmentation,
        info.classes,
        tensors.pop(MEAN).numpy(),
        ColorStats(*(tensors.pop(f"{COLOR}.{part}").numpy() for part in COLOR_PARTS)),
    )
    model = AlexNet(recipe.network, len(info.classes))
    expected = _shapes(model.state_dict())
    if _shapes(tensors) != expected:
        raise AlexNetError(
            f"{path}: its weights do not fit the network it describes; "
            f"expected {', '.join(expected)}"
        )
    model.load_state_dict(tensors)
    model.eval().requires_grad_(False)
    return Classifier(model, preprocessor, recipe, info.provenance)


def read_model_info(path: Path) -> ModelInfo:
    """Read what a model file says of its model, in milliseconds; AlexNetError as for the whole."""
    return _make_info(path, read_document(path, FORMAT))


def _make_info(path: Path, metadata: Mapping[str, Any]) -> ModelInfo:
    return ModelInfo(
        _read_recipe(path, metadata),
        DecodeConfig.from_json(metadata["decode_config"]),
        tuple(metadata["classes"]),
        metadata["provenance"],
    )


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in weights.items()}


def _read_recipe(path: Path, metadata: Mapping[str, Any]) -> Recipe:
    try:
        recipe: Recipe = from_json(metadata["recipe"])
    except UsageError as error:
        raise AlexNetError(f"{path}: {error}") from error
    return recipe
