"""AlexNet, an ordinary module built from its specs: the forward pass is a loop over named children.

Children are called as the paper and Caffe call them: conv1, norm1, pool1, relu1, ..., fc6, relu6,
drop6, ..., fc8; parameters conv1.weight, conv1.bias, ..., fc8.bias, grouped layers in torch's
layout with the towers' halves in order. Nothing here knows of images, learning rates or files; what
makes it faster is a rewrite of this module, in `fusion`.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alexnet.core.errors import UsageError
from alexnet.models.init import init_layer, init_weights
from alexnet.models.layers import Dropout
from alexnet.models.shapes import (
    LayerShape,
    infer_shapes,
    module_names,
    require_num_classes,
    weight_shape,
)
from alexnet.recipes.layers import Linear, WeightedLayer
from alexnet.recipes.presets import RECIPES, get_recipe
from alexnet.recipes.recipe import Network


class AlexNet(nn.Module):
    """The network of a spec: images (N, C, H, W) to logits (N, num_classes).

    Its weights are not filled: `create_model` draws them, `load_model` reads them from a file.
    `shapes`: only these layers or shards of layers, where a network is partitioned among devices.
    """

    def __init__(
        self, spec: Network, num_classes: int, shapes: tuple[LayerShape, ...] | None = None
    ) -> None:
        super().__init__()
        require_num_classes(num_classes)
        self.spec = spec
        self.num_classes = int(num_classes)
        self.shapes = infer_shapes(spec, num_classes) if shapes is None else shapes
        self.names = module_names(self.shapes)
        with torch.device("meta"):  # no time is spent on weights that are to be overwritten
            for name, shape in zip(self.names, self.shapes, strict=True):
                if isinstance(shape.layer, Linear) and not hasattr(self, "flatten"):
                    self.add_module("flatten", nn.Flatten())
                self.add_module(name, shape.layer.module(shape, spec))
        self.to_empty(device=torch.get_default_device())
        # images arrive as rows of pixels
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    if TYPE_CHECKING:  # children are found by their names

        def __getattr__(self, name: str) -> Any: ...

    def forward(self, images: Tensor, keys: Tensor | None = None) -> Tensor:
        """Return logits (N, num_classes) of normalized images (N, C, H, W).

        `keys` (N,) int32 name the images' dropout draws in training; without them they are random.
        TypeError and ValueError where `images` is no batch.
        """
        _require_batch(images, self)
        x = images
        for layer in self.children():
            x = layer(x, keys) if isinstance(layer, Dropout) else layer(x)
        return x

    def forward_intermediates(self, images: Tensor) -> dict[str, Tensor]:
        """Return the named intermediates of images (N, C, H, W), in order; differentiable.

        conv1 ... conv5 before their relu, norms and pools as they come out; fc6 and fc7 after relu
        and dropout's test scaling (Caffe's fc6 and fc7), fc8 the logits, prob their softmax.
        TypeError and ValueError where `images` is no batch.
        """
        _require_batch(images, self)
        outputs: dict[str, Tensor] = {}
        hidden = ""  # the hidden fully connected layer whose relu and dropout are under way
        x = images
        for shape, layer in self._layers():
            x = layer.at_test(x) if isinstance(layer, Dropout) else layer(x)
            if shape is None:
                continue
            if shape.name:
                hidden = shape.name if isinstance(shape.layer, Linear) else ""
            if shape.name or hidden:
                outputs[shape.name or hidden] = x
        outputs["prob"] = x.float().softmax(1)
        return outputs

    def dense(self, images: Tensor) -> Tensor:
        """Return logits (N, num_classes, rows, columns) of images larger than the input.

        Every fully connected layer works as a convolution: the first one's weights are a kernel as
        large as the maps it was built for, the others' are 1 x 1.
        """
        x = images
        for shape, layer in self._layers():
            if shape is not None and isinstance(shape.layer, Linear):
                channels, height, width = shape.in_shape
                groups = shape.layer.groups
                weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
                kernel = weight.view(-1, channels // groups, height, width)
                x = F.conv2d(x, kernel, bias, groups=groups)
            elif isinstance(layer, Dropout):
                x = layer.at_test(x)
            elif not isinstance(layer, nn.Flatten | nn.AdaptiveAvgPool2d):
                x = layer(x)
        return x

    def reset_classifier(self, num_classes: int, seed: int = 0) -> None:
        """Put a new last layer for `num_classes` in the place of the old one, drawn from `seed`.

        UsageError unless `num_classes` is a whole number, 1 or more. The preprocessor that came
        with the model still names the old classes: `preprocess.with_classes` names the new ones.
        """
        shapes = infer_shapes(self.spec, num_classes)
        self.num_classes = int(num_classes)
        self.shapes = shapes
        name, shape = [
            (name, shape)
            for name, shape in zip(self.names, self.shapes, strict=True)
            if isinstance(shape.layer, WeightedLayer)
        ][-1]
        old = next(self.get_submodule(name).parameters())
        new = shape.layer.module(shape, self.spec).to(old.device, old.dtype)
        init_layer(new, shape, seed)
        self.add_module(name, new)

    def _layers(self) -> Iterator[tuple[LayerShape | None, nn.Module]]:
        """Yield every child with its shape; None for the flattening, no layer of the paper."""
        shapes = dict(zip(self.names, self.shapes, strict=True))
        for name, layer in self.named_children():
            yield shapes.get(name), layer


def _require_batch(images: Any, model: AlexNet) -> None:
    """Raise TypeError for values that are no tensor, ValueError for tensors that are no batch.

    Compilers and tracers see nothing of this: their graphs hold the layers only.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return
    first = next(model.children(), None)  # where it was replaced, it may take other channels
    channels = getattr(first, "in_channels", None)
    expected = f"expected a batch of images (N, {channels or 'C'}, H, W)"
    advice = 'use model(preprocess(["cat.jpg"])) or preprocess(image)[None]'
    if not hasattr(images, "dim"):  # what stands for a tensor, such as torch.fx's proxies, has it
        raise TypeError(f"{expected}, found {type(images).__name__}; {advice}")
    if not isinstance(images, Tensor):
        return
    if images.dim() != 4 or channels not in (None, images.shape[1]):
        shape = ", ".join(map(str, images.shape))
        raise ValueError(f"{expected}, found a tensor ({shape}); {advice}")


def create_model(recipe: str = "modern", num_classes: int | None = None, seed: int = 0) -> AlexNet:
    """Build a recipe's network with its weights drawn from `seed`.

    It maps normalized images (N, C, H, W) to logits (N, num_classes). `num_classes`: None takes the
    number of the data the recipe was made for, 1000 for ImageNet. An unknown recipe is a UsageError
    that lists the nearest.

    >>> create_model("original", num_classes=10).conv1
    Conv2dCeil(3, 96, kernel_size=(11, 11), stride=(4, 4), extra_padding=(3, 3))
    """
    network = get_recipe(recipe).network
    count = network.num_classes if num_classes is None else num_classes
    return init_weights(AlexNet(network, count), seed)


@torch.no_grad()
def load_matching(model: AlexNet, other: AlexNet, recipe: str = "custom") -> None:
    """Copy another model's layers of the same names; `recipe`: the name of the other's recipe.

    A new head, and layers that the other does not have, stay as they are. UsageError where a layer
    other than the head has another shape, or none is shared.
    """
    theirs = dict(other.named_parameters())
    head = [shape.name for shape in model.shapes if isinstance(shape.layer, WeightedLayer)][-1]
    shared = [name for name, _ in model.named_parameters() if name in theirs]
    if not shared:
        raise UsageError(
            f"--init-from: the model shares no layer with this recipe; it has {', '.join(theirs)}"
        )
    for name in shared:
        mine = model.get_parameter(name)
        other_tensor = theirs[name]
        if mine.shape == other_tensor.shape:
            mine.copy_(other_tensor)
        elif not name.startswith(f"{head}."):
            raise UsageError(
                f"--init-from: {name} is {tuple(other_tensor.shape)} in the model, "
                f"{tuple(mine.shape)} in this recipe; use {_fitting_setting(model, other, recipe)}"
            )


def _fitting_setting(model: AlexNet, other: AlexNet, recipe: str) -> str:
    """Return what would make a model's layers fit another's: its input, or else its recipe."""
    shapes = infer_shapes(replace(model.spec, input=other.spec.input), model.num_classes)
    if _hidden_shapes(shapes) == _hidden_shapes(other.shapes):
        return f"--set network.input={','.join(map(str, other.spec.input))}"
    return f"--recipe {recipe}" if recipe in RECIPES else "the model's own recipe"


def _hidden_shapes(shapes: tuple[LayerShape, ...]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the weights by layer, without the head's."""
    weighted = [shape for shape in shapes if isinstance(shape.layer, WeightedLayer)]
    return {shape.name: weight_shape(shape) for shape in weighted[:-1]}
