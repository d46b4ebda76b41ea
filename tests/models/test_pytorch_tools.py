"""The model with PyTorch tools: hooks, summaries, tracing, compiling, pruning, training loops."""

import copy
import dataclasses
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

from alexnet import create_model
from alexnet.core.errors import UsageError
from alexnet.models.alexnet import AlexNet, init_weights
from alexnet.models.fusion import fuse
from alexnet.models.shapes import infer_shapes
from alexnet.recipes.layers import Pool
from alexnet.recipes.presets import RECIPES, get_recipe
from tests.conftest import small_model, tiny

NAMES = ["original", "paper", "modern", "caffe", "separate", "cifar-11pct"]


def images_for(model: AlexNet, count: int = 2) -> Tensor:
    """Return random images (count, C, H, W) of the model's input size."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, *model.spec.input, generator=generator)


@pytest.mark.parametrize("name", RECIPES)
def test_forward_hooks_fire_on_every_layer_in_order(name: str) -> None:
    model = small_model(name)
    called: list[str] = []
    for child, module in model.named_children():
        module.register_forward_hook(
            lambda module, inputs, output, child=child: called.append(child)
        )
    model(images_for(model))
    assert called == [child for child, _ in model.named_children()]
    layers = [layer.name for layer in model.spec.layers if hasattr(layer, "name")]
    assert [child for child in called if child in layers] == layers


def test_layers_can_be_called_individually() -> None:
    model = create_model("original", num_classes=10).eval()
    maps = model.conv1(torch.randn(1, 3, 224, 224))
    assert maps.shape == (1, 96, 55, 55)
    assert model.relu1(model.pool1(model.norm1(maps))).shape == (1, 96, 27, 27)
    assert isinstance(model.fc8, nn.Linear)
    assert model.fc8.out_features == 10


def test_printing_shows_the_layers_of_the_paper() -> None:
    lines = str(create_model("original", num_classes=1000)).splitlines()
    assert "(conv1): Conv2dCeil(3, 96, kernel_size=(11, 11), stride=(4, 4)" in lines[1]
    assert "(norm1): LocalResponseNorm(n=5, k=2, alpha=2e-05, beta=0.75, towers=2)" in lines[2]
    names = [line.split("(")[1].split(")")[0] for line in lines[1:-1]]
    expected = (
        "conv1 norm1 pool1 relu1 conv2 relu2 norm2 spatial2 pool2 conv3 relu3 conv4 relu4 "
        "conv5 pool3 relu5 flatten fc6 relu6 drop6 fc7 relu7 drop7 fc8"
    )
    assert names == expected.split()


def test_torchinfo_summary() -> None:
    import torchinfo

    model = create_model("paper", num_classes=1000)
    summary = torchinfo.summary(model, (1, 3, 227, 227), verbose=0)
    assert summary.total_params == 60_965_224
    assert summary.total_mult_adds > 700e6  # it counts normalization and others differently


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning", "ignore:.*requires_grad.*:UserWarning")
def test_captum_attributes() -> None:
    from captum.attr import IntegratedGradients, LayerGradCam

    model = small_model("modern")
    images = images_for(model)
    attributions, delta = IntegratedGradients(model).attribute(
        images, target=3, n_steps=64, return_convergence_delta=True
    )
    assert attributions.shape == images.shape
    total = attributions.flatten(1).sum(1)
    assert torch.all(delta.abs() <= 0.05 * total.abs() + 0.05)  # completeness, up to n_steps
    cam = LayerGradCam(model, model.conv5).attribute(images, target=3)
    assert cam.shape[:2] == (2, 1)
    assert cam.shape[2] == model.forward_intermediates(images)["conv5"].shape[2]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_fx_traces_the_model(name: str, training: bool) -> None:
    model = small_model(name).train(training)
    traced = torch.fx.symbolic_trace(model)
    images = images_for(model)
    outputs = []
    for network in (model, traced):
        torch.manual_seed(0)
        outputs.append(network(images))
    assert torch.equal(*outputs)


def test_fx_extracts_features() -> None:
    model = small_model("original")
    graph = torch.fx.symbolic_trace(model).graph
    node = next(node for node in graph.nodes if node.target == "relu7")
    output = next(node for node in graph.nodes if node.op == "output")
    output.args = (node,)
    graph.eliminate_dead_code()
    features = torch.fx.GraphModule(model, graph)
    images = images_for(model)
    scaled = features(images) * 0.5  # dropout at test
    assert torch.equal(scaled, model.forward_intermediates(images)["fc7"])


@pytest.mark.parametrize("name", NAMES)
def test_torch_export(name: str) -> None:
    model = small_model(name)
    images = images_for(model)
    exported = torch.export.export(model, (images,)).module()
    torch.testing.assert_close(exported(images), model(images))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("name", ["original", "modern"])
def test_torch_compile_makes_one_graph_of_the_model(
    each_form: str, name: str, layout: torch.memory_format
) -> None:
    torch.compiler.reset()
    model = small_model(name)
    images = images_for(model).contiguous(memory_format=layout)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)  # before any eager call
    logits = compiled(images)
    torch.testing.assert_close(logits, model(images))
    labels = torch.tensor([0, 1])
    loss = F.cross_entropy(compiled(images), labels)
    (gradient,) = torch.autograd.grad(loss, [model.conv1.weight])
    eager_loss = F.cross_entropy(model(images), labels)
    (expected,) = torch.autograd.grad(eager_loss, [model.conv1.weight])
    torch.testing.assert_close(gradient, expected)


def test_copies_and_pickles_are_the_same_model() -> None:
    model = small_model("original")
    images = images_for(model)
    data = io.BytesIO()
    torch.save(model, data)
    data.seek(0)
    loaded = torch.load(data, weights_only=False)
    for other in (copy.deepcopy(model), loaded):
        assert torch.equal(other(images), model(images))
        assert {id(p) for p in other.parameters()}.isdisjoint(id(p) for p in model.parameters())


def test_pruning_and_parametrizations_of_fc6() -> None:
    model = small_model("original")
    images = images_for(model)
    prune.l1_unstructured(model.fc6, "weight", amount=0.5)
    assert int((model.fc6.weight == 0).sum()) == model.fc6.weight.numel() // 2
    pruned = model(images)
    prune.remove(model.fc6, "weight")
    assert torch.equal(model(images), pruned)
    parametrizations.weight_norm(model.fc6)
    torch.testing.assert_close(model(images), pruned)


def test_intermediates_are_differentiable() -> None:
    model = small_model("original")
    images = images_for(model).requires_grad_()
    intermediates = model.forward_intermediates(images)
    assert list(intermediates)[-1] == "prob"
    assert intermediates["fc7"].shape == (2, 64)
    (gradient,) = torch.autograd.grad(intermediates["fc7"].sum(), [images])
    assert gradient.shape == images.shape
    assert gradient.abs().sum() > 0
    assert torch.equal(intermediates["fc8"], model(images))


def test_reset_classifier_replaces_the_head() -> None:
    model = small_model("original")
    before = model.fc7.weight.clone()
    model.reset_classifier(5)
    assert model(images_for(model)).shape == (2, 5)
    assert model.num_classes == 5
    assert torch.equal(model.fc7.weight, before)
    assert model.fc8.weight.requires_grad
    assert model.fc8.weight.std() > 0
    assert str(model).count("(fc8)") == 1


def separable_batch(model: AlexNet) -> tuple[Tensor, Tensor]:
    """Return 21 images and their labels: noise around a mean color that differs by class."""
    labels = torch.arange(21) % 7
    noise = torch.randn(21, *model.spec.input, generator=torch.Generator().manual_seed(2)) * 0.1
    means = torch.zeros(7, model.spec.input[0])
    for label in range(7):
        means[label, label % 3] = 1 + label // 3
    return noise + means[labels][..., None, None], labels


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "autocast"])
def test_a_plain_training_loop_learns(autocast: bool) -> None:
    torch.manual_seed(0)
    model = init_weights(AlexNet(tiny(get_recipe("modern")).network, 7), seed=1).train()
    images, labels = separable_batch(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    losses = []
    for _ in range(40):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = F.cross_entropy(model(images).float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_distributed_data_parallel(tmp_path: Path) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # DDP warns of gloo in one process
            model = small_model("original").train()
            wrapped = nn.parallel.DistributedDataParallel(model)
            F.cross_entropy(wrapped(images_for(model)), torch.tensor([0, 1])).backward()
    finally:
        torch.distributed.destroy_process_group()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_layer_can_be_replaced() -> None:
    model = small_model("original")
    images = images_for(model)
    fc7 = model.forward_intermediates(images)["fc7"]
    model.fc8 = nn.Identity()
    assert torch.equal(model(images), fc7)
    assert torch.equal(fuse(model)(images), fc7)


def test_create_model_uses_the_recipes_number_of_classes() -> None:
    assert create_model("fashion").num_classes == 10
    assert create_model("cifar-18pct").fc10.out_features == 10


@pytest.mark.parametrize("num_classes", [0, -1, 2.0, "5", True])
def test_a_number_of_classes_is_whole_and_positive(num_classes: Any) -> None:
    model = small_model("modern")
    message = f"num_classes={num_classes!r}: expected a whole number, 1 or more"
    for build in (
        model.reset_classifier,
        lambda count: AlexNet(model.spec, count),
        lambda count: create_model("fashion", num_classes=count),
    ):
        with pytest.raises(UsageError, match=message):
            build(num_classes)
    assert model.num_classes == 7
    assert model(images_for(model)).shape == (2, 7)


def test_the_search_for_the_smallest_input_ends() -> None:
    network = get_recipe("original").network
    wide = Pool("wide", kernel_size=5000, stride=1)
    with pytest.raises(UsageError, match="the smallest it can see is "):
        infer_shapes(dataclasses.replace(network, input=(3, 9, 9)), 7)
    with pytest.raises(UsageError, match="no side up to 4096 fits"):
        infer_shapes(dataclasses.replace(network, layers=(wide, *network.layers)), 7)


@pytest.mark.parametrize(
    "value", ["cat.jpg", Path("cat.jpg"), np.zeros((4, 4, 3), np.uint8), Image.new("RGB", (4, 4))]
)
def test_the_model_refuses_what_is_no_tensor(value: Any) -> None:
    model = small_model("modern")
    for call in (model, model.forward_intermediates):
        with pytest.raises(TypeError, match=f"batch .* 3, H, W.*found {type(value).__name__}"):
            call(value)


@pytest.mark.parametrize("shape", [(3, 99, 99), (1, 1, 99, 99)])
def test_the_model_refuses_what_is_no_batch(shape: tuple[int, ...]) -> None:
    model = small_model("modern")
    for call in (model, model.forward_intermediates):
        with pytest.raises(ValueError, match=r"found a tensor .*; use model\(preprocess"):
            call(torch.zeros(shape))


def test_a_first_layer_of_other_channels_is_accepted() -> None:
    model = small_model("modern")
    old = model.conv1
    model.conv1 = nn.Conv2d(1, old.out_channels, old.kernel_size, old.stride, old.padding)
    assert model(torch.zeros(2, 1, 99, 99)).shape == (2, 7)
    with pytest.raises(ValueError, match=r"\(N, 1, H, W\)"):
        model(torch.zeros(2, 3, 99, 99))
