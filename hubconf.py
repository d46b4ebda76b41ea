"""Entry points of torch.hub: AlexNet's networks, and public weights with their preprocessing.

>>> model = torch.hub.load(REPOSITORY, "alexnet", pretrained="caffe")  # doctest: +SKIP
>>> preprocess = torch.hub.load(REPOSITORY, "preprocess", pretrained="caffe")  # doctest: +SKIP
>>> model(preprocess(["cat.jpg"])).softmax(1)  # doctest: +SKIP
"""

from typing import TYPE_CHECKING

dependencies = [  # the modules that the entry points import; torch.hub checks that they are there
    "torch",
    "numpy",
    "PIL",
    "safetensors",
    "filelock",
    "platformdirs",
]

if TYPE_CHECKING:
    from alexnet.data.transforms import Preprocessor
    from alexnet.models.alexnet import AlexNet


def alexnet(
    recipe: str = "modern",
    pretrained: str | None = None,
    num_classes: int | None = None,
    seed: int = 0,
) -> "AlexNet":
    """Return a network: images (N, C, H, W), preprocessed, to logits (N, classes).

    `pretrained`: "torchvision", "caffe", "caffenet", a model file or a run's directory; its own
    recipe takes the place of `recipe`, and the network is in eval mode. With None the weights are
    drawn from `seed`. `num_classes`: None keeps those of the weights, or the recipe's; another
    number gives pretrained layers a new last one. AlexNetError where the weights cannot be had.
    """
    from alexnet.models.alexnet import create_model
    from alexnet.models.model_file import load_model

    if pretrained is None:
        return create_model(recipe, num_classes, seed)
    model, _ = load_model(pretrained)
    if num_classes not in (None, model.num_classes):
        model.reset_classifier(num_classes, seed)
    return model


def preprocess(pretrained: str) -> "Preprocessor":
    """Return what turns images into the batches that pretrained weights expect, as in `alexnet`.

    It takes paths, bytes, PIL images or arrays; `preprocess.classes` names the outputs.
    """
    from alexnet.models.model_file import load_model

    _, preprocessor = load_model(pretrained)
    return preprocessor
