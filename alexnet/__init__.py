"""AlexNet, the whole 2012 system: prepare images, train, evaluate, look inside, use.

Importing the package imports neither torch nor NumPy: each public name is imported when it is
first used. `prepare`, `train`, `evaluate` and `predict` do what the commands of the same names do.

>>> import alexnet
>>> model = alexnet.create_model("original", num_classes=10)
>>> model.conv1.weight.shape
torch.Size([96, 3, 11, 11])
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "RECIPES",
    "AlexNet",
    "Dataset",
    "ExportOptions",
    "Preprocessor",
    "__version__",
    "create_model",
    "evaluate",
    "export",
    "load_model",
    "predict",
    "prepare",
    "save_model",
    "train",
]

if TYPE_CHECKING:
    from alexnet.api import evaluate, export, predict, prepare, train
    from alexnet.data.dataset import Dataset
    from alexnet.data.transforms import Preprocessor
    from alexnet.inference.export.options import ExportOptions
    from alexnet.models.alexnet import AlexNet, create_model
    from alexnet.models.model_file import load_model, save_model
    from alexnet.recipes.presets import RECIPES

_HOMES = {
    "AlexNet": "alexnet.models.alexnet",
    "Dataset": "alexnet.data.dataset",
    "ExportOptions": "alexnet.inference.export.options",
    "Preprocessor": "alexnet.data.transforms",
    "RECIPES": "alexnet.recipes.presets",
    "create_model": "alexnet.models.alexnet",
    "evaluate": "alexnet.api",
    "export": "alexnet.api",
    "load_model": "alexnet.models.model_file",
    "predict": "alexnet.api",
    "prepare": "alexnet.api",
    "save_model": "alexnet.models.model_file",
    "train": "alexnet.api",
}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use; AttributeError for any other name."""
    from importlib import import_module

    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(
            f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}"
        )
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
