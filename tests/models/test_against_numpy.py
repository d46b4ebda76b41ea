"""Full-size networks against the NumPy implementation: every layer's output, loss and gradients.

The weights are wider than the recipes initialize them, so that the last layer still tells the two
images apart, and no two biases are alike, so that none can be mistaken for another. Differences
are norms of tensors, relative to the reference.

In float32 a value that the formulas put next to zero, or next to its neighbor in a pool, can fall
on the other side, and one such unit in a million changes a gradient by a thousandth. So for the
float32 gradients the reference takes the model's own intermediates, with which both make the same
decisions; the intermediates themselves are compared without that.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from alexnet.models.alexnet import AlexNet
from alexnet.recipes.presets import CAFFE, FASHION, ORIGINAL, PAPER, POOL_NORM
from alexnet.recipes.recipe import Recipe
from tests.helpers.numpy_net import Tensors, forward_backward

NUM_CLASSES = 10
BATCH_SIZE = 2


@dataclass(frozen=True)
class Case:
    """A float32 model, two images with their labels, and the weights for the reference."""

    model: AlexNet
    images: Tensor  # (2, C, H, W)
    labels: Tensor  # (2,)
    weights: Tensors

    def reference(self, replacements: Tensors | None = None) -> tuple[Tensors, float, Tensors]:
        """Return the reference's intermediates, loss and gradients."""
        images = to_float64(self.images)
        labels = self.labels.numpy()
        return forward_backward(self.model.spec, self.weights, images, labels, replacements)


@pytest.fixture(
    scope="module",
    params=[ORIGINAL, PAPER, CAFFE, POOL_NORM, FASHION],
    ids=lambda recipe: recipe.name,
)
def case(request: pytest.FixtureRequest) -> Case:
    recipe: Recipe = request.param
    generator = torch.Generator().manual_seed(0)
    model = AlexNet(recipe.network, NUM_CLASSES).eval()
    randomize(model, generator)
    # about the standard deviation of gray levels, where the recipe does not scale them
    std = 60.0 if recipe.augmentation.scale == 1 else 1.0
    images = torch.randn(BATCH_SIZE, *recipe.network.input, generator=generator) * std
    labels = torch.randint(NUM_CLASSES, (BATCH_SIZE,), generator=generator)
    weights = {name: to_float64(parameter) for name, parameter in model.named_parameters()}
    return Case(model, images, labels, weights)


@torch.no_grad()
def randomize(model: AlexNet, generator: torch.Generator) -> None:
    """Draw weights of deviation sqrt(2 / fan_in), and biases of deviation 1/2.

    fc8's weights have 0.03 of that, so that no probability is near 1.
    """
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            std = 0.5
        else:
            std = sqrt(2 / parameter[0].numel()) * (0.03 if name.startswith("fc8") else 1)
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)


def to_float64(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().double().numpy())


def run_model(model: AlexNet, images: Tensor, labels: Tensor) -> tuple[Tensors, float, Tensors]:
    """Return the model's intermediates, mean loss, and gradients of `input` and all parameters."""
    images = images.clone().requires_grad_()
    model.zero_grad()
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    gradients["input"] = images.grad
    intermediates = model.forward_intermediates(images.detach())
    return (
        {name: to_float64(output) for name, output in intermediates.items()},
        loss.item(),
        {name: to_float64(value) for name, value in gradients.items() if value is not None},
    )


def assert_close(actual: Tensors, reference: Tensors, tolerance: float) -> None:
    assert actual.keys() == reference.keys()
    for name, expected in reference.items():
        assert actual[name].shape == expected.shape, name
        difference = np.linalg.norm(actual[name] - expected) / np.linalg.norm(expected)
        assert difference <= tolerance, f"{name}: {difference:.1e} from the reference"


def test_float64_equals_the_formulas_up_to_rounding(case: Case) -> None:
    model = case.model.double()
    intermediates, loss, gradients = run_model(model, case.images.double(), case.labels)
    expected_intermediates, expected_loss, expected_gradients = case.reference()
    # the model computes probabilities in float32
    probabilities = intermediates.pop("prob")
    assert_close({"prob": probabilities}, {"prob": expected_intermediates.pop("prob")}, 1e-6)
    assert_close(intermediates, expected_intermediates, 1e-12)
    assert_close(gradients, expected_gradients, 1e-12)
    assert loss == pytest.approx(expected_loss, rel=1e-12)


def test_float32_is_close_to_the_formulas(case: Case) -> None:
    model = case.model.float()
    intermediates, loss, gradients = run_model(model, case.images, case.labels)
    expected_intermediates, expected_loss, _ = case.reference()
    assert_close(intermediates, expected_intermediates, 5e-6)
    assert loss == pytest.approx(expected_loss, rel=5e-6)
    *_, expected_gradients = case.reference(replacements=intermediates)
    assert_close(gradients, expected_gradients, 1e-4)
