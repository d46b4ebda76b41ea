"""torchvision's AlexNet: import a .pth file as a model file of recipe `owt`, and the way back.

It is the network of "One weird trick" (2014), and sees (x / 255 - mean) / std, channel by channel;
our preprocessing has one scale for all channels. So the deviations, and what the recipe's scale
leaves of 255, are divided into conv1's weights, once. That is exact: both subtract the mean first,
and zero padding stays zero under any scale. All other weights are copied bit by bit. A .pth file
is a pickle: torch reads it as tensors alone, in versions where that is safe.
"""

from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor

from alexnet.core.errors import AlexNetError
from alexnet.models.convert.imported import (
    Imported,
    constant_mean,
    require_file,
    require_fitting_weights,
    write_imported,
)
from alexnet.recipes.presets import get_recipe

# Earlier versions could be made to run code by a file, weights_only or not (CVE-2025-32434,
# CVE-2026-24747).
MIN_SAFE_TORCH = "2.10"
LAYER_NAMES = {  # theirs -> ours
    "features.0": "conv1",
    "features.3": "conv2",
    "features.6": "conv3",
    "features.8": "conv4",
    "features.10": "conv5",
    "classifier.1": "fc6",
    "classifier.4": "fc7",
    "classifier.6": "fc8",
}
MEAN = (0.485, 0.456, 0.406)  # of R, G, B; white is 1
STD = (0.229, 0.224, 0.225)


def import_torchvision(
    file: Path,
    model: Path,
    classes: tuple[str, ...] | None = None,
    origin: Mapping[str, str] | None = None,
) -> Imported:
    """Write a model file with the weights of a state dict, or of a checkpoint that holds one.

    `origin`: what else the model's provenance says.
    AlexNetError where the file cannot be read safely, or is of another network.
    """
    recipe = get_recipe("owt")
    weights = _rename(file, read_state_dict(file))
    require_fitting_weights(file, weights, recipe, weights["fc8.bias"].numel())
    weights["conv1.weight"] = _divided(weights["conv1.weight"], recipe.augmentation.scale)
    red, green, blue = (255 * value for value in MEAN)
    mean = constant_mean(red, green, blue)
    return write_imported(file, model, weights, recipe, mean, classes, origin)


def to_state_dict(weights: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """Return weights of the network `owt`, by our names, as torchvision's state dict.

    `scale`: of the preprocessing they were trained with. The importer returns the same weights,
    bit by bit, where it can: of conv1 it returns some values a last place off, unless they came
    from torchvision in the first place.
    """
    state = {theirs: weights[ours] for theirs, ours in _their_names().items()}
    state["features.0.weight"] = _multiplied(weights["conv1.weight"], scale)
    return state


def _divided(conv1: Tensor, scale: float) -> Tensor:
    """Return conv1's weight for our input, (pixels - mean) * scale, from theirs."""
    return (conv1.double() / _divisor(scale)).float()


def _multiplied(conv1: Tensor, scale: float) -> Tensor:
    """Return conv1's weight for their input from ours: of the nearest, those that divide back."""
    nearest = (conv1.double() * _divisor(scale)).float()
    infinity = torch.tensor(torch.inf)
    best = nearest.clone()
    for neighbor in (nearest.nextafter(-infinity), nearest.nextafter(infinity)):
        better = (_divided(best, scale) != conv1) & (_divided(neighbor, scale) == conv1)
        best = torch.where(better, neighbor, best)
    return best


def _divisor(scale: float) -> Tensor:
    """Return, for each color, what one of their input's units is in ours: float64 (3, 1, 1)."""
    return (255 * scale * torch.tensor(STD, dtype=torch.float64))[:, None, None]


def read_state_dict(file: Path) -> dict[str, Tensor]:
    """Read the tensors of a state dict by name, in float32; AlexNetError.

    The `module.` that parallel training puts into names is removed.
    """
    if torch.__version__ < MIN_SAFE_TORCH:
        raise AlexNetError(
            f"{file}: torch {torch.__version__} reads .pth files unsafely; "
            f"install torch {MIN_SAFE_TORCH} or later"
        )
    content = _load(require_file(file, "a .pth state dict"))
    for wrapper in ("state_dict", "model"):
        content = content.get(wrapper, content) if isinstance(content, Mapping) else content
    if not _is_state_dict(content):
        raise AlexNetError(
            f"{file}: not a state dict; expected names with floating-point tensors, "
            "as torch.save writes them"
        )
    # copies, for a file may hold one tensor under two names
    return {
        name.replace("module.", ""): tensor.to(torch.float32, copy=True)
        for name, tensor in content.items()
    }


def _load(file: Path) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as reason:  # a dozen kinds, whose texts advise reading unsafely
        raise AlexNetError(
            f"{file}: torch cannot read it as tensors alone; "
            "expected a state dict written by torch.save"
        ) from reason


def _is_state_dict(content: Any) -> bool:
    return isinstance(content, Mapping) and all(
        isinstance(name, str) and _is_plain_tensor(value) for name, value in content.items()
    )


def _is_plain_tensor(value: Any) -> bool:
    if not isinstance(value, Tensor):
        return False
    on_cpu = value.layout == torch.strided and value.device.type == "cpu"
    return on_cpu and value.is_floating_point()


def _rename(file: Path, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under our names; AlexNetError where some are missing or unknown."""
    names = _their_names()
    missing = [name for name in names if name not in state]
    unknown = [name for name in state if name not in names]
    if missing or unknown:
        listed = shorten(", ".join(missing + unknown), 200)
        raise AlexNetError(
            f"{file}: not torchvision's AlexNet: missing or unknown are {listed!r}; "
            f"expected {', '.join(LAYER_NAMES)}"
        )
    return {ours: state[theirs] for theirs, ours in names.items()}


def _their_names() -> dict[str, str]:
    """Return the names of all parameters, theirs -> ours."""
    return {
        f"{theirs}.{part}": f"{ours}.{part}"
        for theirs, ours in LAYER_NAMES.items()
        for part in ("weight", "bias")
    }
