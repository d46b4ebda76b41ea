"""AlexNet, the whole 2012 system: prepare pictures, train, evaluate, look inside, use.

>>> network, view = alexnet.load("RUN/model.safetensors")
>>> network(view("cat.jpg")).softmax(1)
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["RECIPES", "__version__", "create", "load"]

if TYPE_CHECKING:
    from alexnet.model import load
    from alexnet.network.alexnet import AlexNet
    from alexnet.recipes.named import RECIPES


def create(recipe: str = "modern", classes: int = 1000, seed: int = 0) -> "AlexNet":
    """The network of a named recipe with its start drawn from `seed`: logits (N, classes) of views (N, C, H, W)."""
    from alexnet.network.alexnet import AlexNet, start
    from alexnet.recipes.named import named

    return start(AlexNet(named(recipe).network, classes), seed)


def __getattr__(name: str) -> Any:
    if name == "load":  # torch takes seconds to import: only for those who need it
        from alexnet.model import load

        return load
    if name == "RECIPES":
        from alexnet.recipes.named import RECIPES

        return RECIPES
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
