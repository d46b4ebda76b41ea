"""What torchvision calls AlexNet, the net of "One weird trick" (2014): a .pth state dict -> a model file of the recipe `owt`.

That net sees (x / 255 - mean) / deviation, channel by channel; our views know one scale for all. So the deviations, and what the
recipe's scale leaves over of 255, are divided into conv1's weights, once. That is exact: both subtract the mean first, and zeros
beyond the edge stay zeros under any scale. All other weights are taken bit by bit. A state dict is a pickle: torch reads it as
tensors alone, in versions that hold to that. Not known: other nets, other normalisations.
"""

from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor

from alexnet.errors import AlexNetError
from alexnet.recipes.named import named
from alexnet.weights.into_model import Imported, constant, existing, must_fit, write

SAFE_TORCH = "2.10"  # earlier ones could be made to run code by a file, weights_only or not (CVE-2025-32434, CVE-2026-24747)
OURS = {
    **{"features.0": "conv1", "features.3": "conv2", "features.6": "conv3", "features.8": "conv4", "features.10": "conv5"},
    **{"classifier.1": "fc6", "classifier.4": "fc7", "classifier.6": "fc8"},
}
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of R, G, B, white = 1


def import_torchvision(file: Path, model: Path, classes: tuple[str, ...] | None = None) -> Imported:
    """Write a model file with the weights of a state dict, its own or a checkpoint's with one inside. AlexNetError."""
    recipe, weights = named("owt"), _by_our_names(file, read_state_dict(file))
    must_fit(file, weights, recipe, weights["fc8.bias"].numel())
    divisor = 255 * recipe.views.scale * torch.tensor(DEVIATION, dtype=torch.float64)
    weights["conv1.weight"] = (weights["conv1.weight"].double() / divisor[:, None, None]).float()
    red, green, blue = (255 * level for level in MEAN)
    return write(file, model, weights, recipe, constant((red, green, blue)), classes)


def read_state_dict(file: Path) -> dict[str, Tensor]:
    """The tensors of a state dict by name, without the `module.` that parallel training puts into them. AlexNetError."""
    if torch.__version__ < SAFE_TORCH:
        raise AlexNetError(f"{file}: torch {torch.__version__} reads .pth files unsafely; install torch {SAFE_TORCH} or later")
    found = _load(existing(file, "a .pth state dict"))
    for wrapper in ("state_dict", "model"):
        found = found.get(wrapper, found) if isinstance(found, Mapping) else found
    if not isinstance(found, Mapping) or not all(isinstance(name, str) and _is_plain(value) for name, value in found.items()):
        raise AlexNetError(f"{file}: not a state dict; expected names with tensors of floating point, as torch.save leaves them")
    # copies, for a file may hold one tensor under two names
    return {name.replace("module.", ""): tensor.to(torch.float32, copy=True) for name, tensor in found.items()}


def _load(file: Path) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as reason:  # a dozen kinds, whose texts advise to read unsafely
        raise AlexNetError(
            f"{file}: torch cannot read it as tensors alone; expected a state dict written by torch.save"
        ) from reason


def _is_plain(value: Any) -> bool:
    strided = isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"
    return strided and value.is_floating_point()


def _by_our_names(file: Path, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under our names; AlexNetError where some are missing or strange."""
    names = {f"{theirs}.{part}": f"{ours}.{part}" for theirs, ours in OURS.items() for part in ("weight", "bias")}
    wrong = [name for name in names if name not in state] + [name for name in state if name not in names]
    if wrong:
        found = shorten(", ".join(wrong), 200)
        raise AlexNetError(f"{file}: not torchvision's AlexNet: missing or strange are {found!r}; expected {', '.join(OURS)}")
    return {ours: state[theirs] for theirs, ours in names.items()}
