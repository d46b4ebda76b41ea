"""Export the weights alone, as PyTorch code loads them: a state dict in .pth or .safetensors.

By `plain` names (conv1.weight ... fc8.bias) they fit a model of this package; by torchvision's
(features.0.weight ... classifier.6.bias) they load strictly into torchvision's AlexNet, which is
the network `owt` and no other. Every weight is read back before the file gets its name.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from alexnet.core.atomic_io import atomic_write, write_error
from alexnet.core.errors import AlexNetError, require
from alexnet.core.safetensors_io import READABLE
from alexnet.data.transforms import Preprocessor
from alexnet.inference.export.exported import Exported
from alexnet.inference.export.options import ExportOptions
from alexnet.models.convert.imported import expected_shapes
from alexnet.models.convert.torchvision import MEAN, STD, to_state_dict
from alexnet.models.model_file import Classifier
from alexnet.recipes.layers import Dropout, Layer, WeightedLayer
from alexnet.recipes.presets import get_recipe
from alexnet.recipes.recipe import Network

MEAN_TOLERANCE = 0.01  # levels of 255

StateDict = dict[str, Tensor]


def export_state_dict(classifier: Classifier, path: Path, options: ExportOptions) -> Exported:
    """Write a model's weights, float32, as a state dict; AlexNetError.

    UsageError where torchvision's names are wanted for a network that its class cannot hold.
    """
    weights = {name: tensor.float() for name, tensor in classifier.model.state_dict().items()}
    notes: tuple[str, ...] = ()
    if options.names == "torchvision":
        require_torchvision_network(classifier)
        weights = to_state_dict(weights, classifier.preprocessor.augmentation.scale)
        notes = (_normalization(classifier.preprocessor),)
    weights = {name: tensor.cpu().contiguous() for name, tensor in weights.items()}
    try:
        with atomic_write(path) as temporary:
            _write(temporary, weights, is_pickle=path.suffix.lower() != ".safetensors")
            _require_equal(path, _read(temporary, path.suffix.lower()), weights)
    except (OSError, safetensors.SafetensorError) as error:
        raise write_error(path, error) from error
    return Exported(path, "state-dict", (path,), options, notes=notes)


def _write(path: Path, weights: StateDict, is_pickle: bool) -> None:
    if is_pickle:
        torch.save(weights, path)
    else:
        safetensors.torch.save_file(weights, path, {"format": "pt"})
        path.chmod(READABLE)


def _read(path: Path, suffix: str) -> StateDict:
    if suffix == ".safetensors":
        return safetensors.torch.load_file(path)
    state: StateDict = torch.load(path, weights_only=True)
    return state


def _require_equal(path: Path, actual: Mapping[str, Tensor], expected: StateDict) -> None:
    """Raise AlexNetError unless the same tensors were read back."""
    wrong = [name for name in expected if not torch.equal(actual[name], expected[name])]
    if wrong or actual.keys() != expected.keys():
        raise AlexNetError(f"{path}: not written: {', '.join(wrong)} differ when read back")


# ---- what torchvision's class can hold


def require_torchvision_network(classifier: Classifier) -> None:
    """UsageError unless torchvision's AlexNet, with a transform of its own, is the same model."""
    owt = get_recipe("owt")
    require(
        _architecture(classifier.model.spec) == _architecture(owt.network)
        and _shapes(classifier) == expected_shapes(owt, classifier.model.num_classes),
        f"torchvision's names: found the network {classifier.recipe.name}, but torchvision's "
        "class holds only that of the recipe owt; export it by plain names",
    )
    channels = classifier.preprocessor.decode_config.channels
    mean = classifier.preprocessor.augmentation.mean
    require(
        mean == "color" and channels == 3,
        f"torchvision's names: found a model that subtracts a mean {mean} of {channels} channels, "
        "but torchvision's transform subtracts a color of 3; export it by plain names",
    )


def _architecture(network: Network) -> tuple[object, ...]:
    """Return what a network computes at test, however its weights began."""
    layers = tuple(_at_test(layer) for layer in network.layers)
    return network.conv_ceil_mode, network.pool_ceil_mode, *layers


def _at_test(layer: Layer) -> Layer:
    if isinstance(layer, WeightedLayer):
        return replace(layer, init_std=0.0, init_bias=0.0)
    if isinstance(layer, Dropout) and layer.rescale == "train":
        return replace(layer, p=0.0)
    return layer


def _shapes(classifier: Classifier) -> dict[str, tuple[int, ...]]:
    return {name: tuple(w.shape) for name, w in classifier.model.state_dict().items()}


def _normalization(preprocessor: Preprocessor) -> str:
    """Return how pixels become the input of the network by torchvision's names, as a sentence."""
    color = preprocessor.center_mean.astype(np.float64)
    if np.abs(color - 255 * np.array(MEAN)).max() < MEAN_TOLERANCE:
        return "Its input is that of torchvision's own transforms for these weights."
    mean = ", ".join(f"{value / 255:.4f}" for value in color)
    std = ", ".join(map(str, STD))
    return (
        f"Its input is normalized with the mean ({mean}) of its own training images, not with "
        f"torchvision's, and the std ({std}): torchvision.transforms.Normalize takes both."
    )
