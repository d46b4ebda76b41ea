"""Grad-CAM equals captum's on the same layer."""

import pytest
import torch
from captum.attr import LayerGradCam

from alexnet.analysis.gradcam import gradcam, last_convolution
from alexnet.core.errors import UsageError
from tests.conftest import small_model


@pytest.mark.parametrize("name", ["original", "modern"])
@pytest.mark.parametrize("layer", ["conv5", "pool1"])
def test_gradcam_equals_captums(name: str, layer: str) -> None:
    model = small_model(name).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    batch = 60 * torch.randn(2, *model.spec.input, generator=generator)
    explain = LayerGradCam(model, model.get_submodule(layer))
    strongest = 0.0
    for label in range(model.num_classes):
        inputs = batch.clone().requires_grad_()
        expected = explain.attribute(inputs, target=label, relu_attributions=True)[:, 0].detach()
        torch.testing.assert_close(gradcam(model, batch, label, layer), expected)
        strongest = max(strongest, float(expected.max()))
    assert strongest > 0  # so that not all were maps of zeros


def test_layers_without_maps_are_refused() -> None:
    model = small_model("paper")
    assert last_convolution(model) == "conv5"
    with pytest.raises(UsageError, match="expected one of conv1"):
        gradcam(model, torch.zeros(1, *model.spec.input), 0, "fc6")
