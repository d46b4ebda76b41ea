"""Receptive fields: the known sizes of the 2012 net, and what gradients reach."""

from dataclasses import replace

import pytest
import torch

from alexnet.analysis.receptive_field import receptive_field
from alexnet.core.errors import UsageError
from alexnet.models.alexnet import AlexNet
from alexnet.models.shapes import infer_shapes
from alexnet.recipes.layers import Pool
from alexnet.recipes.presets import get_recipe
from tests.conftest import small_model

# size + (window - 1) * stride of one position, layer by layer: 11; + 2 * 4; + 4 * 8; + 2 * 8; ...
SIZES = {
    "conv1": 11,
    "pool1": 19,
    "conv2": 51,
    "pool2": 67,
    "conv3": 99,
    "conv4": 131,
    "conv5": 163,
    "pool3": 195,
}


@pytest.mark.parametrize("name", ["paper", "single", "modern"])
def test_sizes_are_those_of_the_2012_layers(name: str) -> None:
    shapes = infer_shapes(get_recipe(name).network, 10)
    for layer, size in SIZES.items():
        assert receptive_field(shapes, layer).box.size == (size, size), layer


def test_the_spatial_norm_of_the_program_widens_what_follows() -> None:
    shapes = infer_shapes(get_recipe("original").network, 10)
    assert receptive_field(shapes, "norm2").box.size == (51, 51)
    assert receptive_field(shapes, "spatial2").box.size == (83, 83)  # + 4 * 8


def test_boxes_lie_where_strides_and_padding_put_them() -> None:
    shapes = infer_shapes(get_recipe("paper").network, 10)
    field = receptive_field(shapes, "conv2", 1, 26)
    # one position is 8 pixels; the padding of 2 reaches 16 pixels past the edge
    assert field.box == (8 - 16, 208 - 16, 8 + 35, 208 + 35)
    assert field.clipped == (0, 192, 43, 227)
    assert receptive_field(shapes, "fc6").clipped == (0, 0, 227, 227)


def test_unknown_layers_and_positions_are_refused() -> None:
    shapes = infer_shapes(get_recipe("paper").network, 10)
    with pytest.raises(UsageError, match="conv9"):
        receptive_field(shapes, "conv9")
    with pytest.raises(UsageError, match="13 x 13"):
        receptive_field(shapes, "conv5", 13, 0)


def positive(model: AlexNet) -> AlexNet:
    """Return the network in float64 with positive weights and average pooling: nothing is lost."""
    layers = tuple(
        replace(layer, mode="avg") if isinstance(layer, Pool) else layer
        for layer in model.spec.layers
    )
    averaging = AlexNet(replace(model.spec, layers=layers), model.num_classes).double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in averaging.parameters():
            parameter.uniform_(0.01, 0.02, generator=generator)
    return averaging


@pytest.mark.parametrize("name", ["original", "paper", "modern", "fashion", "cifar-11pct"])
def test_gradients_reach_exactly_the_clipped_box(name: str) -> None:
    model = positive(small_model(name))
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(1, *model.spec.input, dtype=torch.float64, generator=generator)
    image.requires_grad_()
    outputs = model.forward_intermediates(image)
    for shape in model.shapes:
        if not shape.name:
            continue
        maps = outputs[shape.name]
        _, height, width = shape.out_shape
        for row, column in ((0, 0), (height // 2, width // 3), (height - 1, width - 1)):
            unit = (maps[0, :, row, column] if maps.dim() == 4 else maps[0]).sum()
            (gradient,) = torch.autograd.grad(unit, image, retain_graph=True)
            rows, columns = gradient[0].abs().sum(0).nonzero().T
            reached = (
                int(rows.min()),
                int(columns.min()),
                int(rows.max()) + 1,
                int(columns.max()) + 1,
            )
            field = receptive_field(model.shapes, shape.name, row, column)
            assert field.clipped == reached, (shape.name, row, column)
