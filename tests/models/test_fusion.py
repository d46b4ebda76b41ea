"""Fused operations against the layers one by one.

A response norm is fused with the relus and the max pool around it, a linear layer with the
adaptive pooling before it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alexnet.models.alexnet import AlexNet, init_weights
from alexnet.models.fusion import FusedLinear, FusedResponseNorm, fold_resize, fuse
from alexnet.models.kernels import norm as norm_kernels
from alexnet.models.response_norm import response_norm, spatial_response_norm
from alexnet.recipes.layers import AdaptiveAvgPool, LocalResponseNorm
from alexnet.recipes.presets import RECIPES, get_recipe
from tests.conftest import small_model


@dataclass(frozen=True)
class Neighbors:
    """The layers around a response norm that are fused with it."""

    relu_before: bool
    pool: tuple[int, int, bool] | None  # kernel_size, stride, ceil_mode
    relu_after: bool


NEIGHBORS = [
    Neighbors(True, None, False),
    Neighbors(False, None, True),
    Neighbors(False, (3, 2, True), True),  # layer 1 of `original`
    Neighbors(True, (3, 2, False), False),  # layers 1 and 2 of `paper`
    Neighbors(True, (2, 2, True), True),
    Neighbors(False, (4, 3, True), False),
]
SHAPES = [(2, 12, 9, 7), (1, 96, 8, 11), (3, 20, 5, 5)]


def run_fused_norm(x: Tensor, towers: int, neighbors: Neighbors) -> tuple[Tensor, Tensor]:
    """Return the output, and the gradient in x of a fixed weighted sum of it."""
    x = x.clone().requires_grad_()
    y = response_norm(
        x,
        5,
        2.0,
        0.3,
        0.75,
        towers,
        relu_before=neighbors.relu_before,
        pool=neighbors.pool,
        relu_after=neighbors.relu_after,
    )
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y.dtype)
    (y * weights).sum().backward()
    assert x.grad is not None
    return y.detach(), x.grad


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("towers", [1, 2])
@pytest.mark.parametrize("neighbors", NEIGHBORS, ids=str)
def test_fused_norm_equals_its_layers(
    each_form: str, shape: tuple[int, ...], towers: int, neighbors: Neighbors
) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 3
    actual = run_fused_norm(x, towers, neighbors)
    exact = run_fused_norm(x.double(), towers, neighbors)  # float64 takes the plain form
    for tensor, expected in zip(actual, exact, strict=True):
        assert (tensor - expected).norm() <= 1e-6 * expected.norm()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_values_give_nan(each_form: str, value: float) -> None:
    x = torch.ones(1, 8, 5, 5)
    x[0, 3, 2, 2] = value
    y = response_norm(x, 5, 2.0, 0.3, 0.75, relu_before=True, pool=(3, 2, False), relu_after=True)
    assert y[0, 3].isnan().all()


def test_minus_infinity_before_a_relu_gives_zero(each_form: str) -> None:
    x = torch.ones(1, 8, 1, 1)
    x[0, 3] = -float("inf")
    assert torch.equal(response_norm(x, 5, 2.0, 0.3, 0.75, relu_before=True) == 0, x < 0)


def test_results_do_not_depend_on_the_number_of_threads(each_form: str) -> None:
    """The C++ kernels sum in one order by construction: equal to the bit.

    The plain form's products are the library's, which on some processors sums in another order
    for other numbers of threads.
    """
    x = torch.randn(3, 24, 13, 13)
    neighbors = Neighbors(True, (3, 2, False), False)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            spatial = spatial_response_norm(x, 5, 1.0, 0.1, 0.75)
            results.append((*run_fused_norm(x, 2, neighbors), spatial))
    finally:
        torch.set_num_threads(threads)
    tolerance = 1e-5 if each_form == "plain" else 0.0
    for result in results[1:]:
        for one, other in zip(results[0], result, strict=True):
            torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def test_kernels_are_registered_torch_operations() -> None:
    x = torch.randn(2, 6, 5, 5, requires_grad=True)
    if not norm_kernels.is_supported(x, 5):
        pytest.skip("there is no C++ compiler here")
    torch.library.opcheck(norm_kernels.norm, (x, 5, 2.0, 0.1, 0.75, 2, True, 3, 2, False, False))
    torch.library.opcheck(norm_kernels.spatial_norm, (x, 5, 2.0, 0.1, 0.75))
    paper = get_recipe("paper").network
    first_layers = replace(paper, layers=paper.layers[:4], input=(3, 67, 67))
    model = init_weights(AlexNet(first_layers, 2), 0).eval()
    images = torch.randn(2, 3, 67, 67)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert torch.equal(compiled(images), model(images))
    exported = torch.export.export(model, (images,))
    assert any("alexnet.norm" in str(node.target) for node in exported.graph.nodes)


# torch.compile itself causes the warning
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize(
    "norm", [response_norm, spatial_response_norm], ids=lambda norm: norm.__name__
)
def test_norm_compiles_to_one_graph_in_every_form(
    each_form: str, norm: Callable[..., Tensor]
) -> None:
    x = torch.randn(2, 100, 7, 7, requires_grad=True)  # more channels than one product takes
    eager = partial(norm, n=5, k=2.0, alpha=0.1, beta=0.75)
    compiled = torch.compile(eager, backend="aot_eager", fullgraph=True)
    # eager first: a graph takes the form that was loaded last
    expected = output_and_gradient(eager, x)
    torch.testing.assert_close(output_and_gradient(compiled, x), expected)


def output_and_gradient(norm: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the output, and the gradient in x of its sum."""
    y = norm(x)
    return y, torch.autograd.grad(y.sum(), x)[0]


@pytest.mark.parametrize("name", RECIPES)
def test_fused_model_has_the_models_logits_to_the_bit(each_form: str, name: str) -> None:
    model = small_model(name)
    x = torch.randn(2, *model.spec.input, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model(x)
        assert torch.equal(fuse(model)(x), expected)
        # the last intermediate is prob
        assert torch.equal(list(model.forward_intermediates(x).values())[-2], expected)


@pytest.mark.parametrize("name", RECIPES)
def test_fused_model_has_the_models_gradients(name: str) -> None:
    model = small_model(name).train()
    x = torch.randn(3, *model.spec.input, generator=torch.Generator().manual_seed(1))
    keys = torch.arange(3, dtype=torch.int32)
    gradients = []
    for network in (model, fuse(model)):
        F.cross_entropy(network(x, keys), torch.tensor([0, 1, 6])).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
        model.zero_grad(set_to_none=True)
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (2, 5)], ids=str)
def test_folded_weights_equal_resized_maps(size: tuple[int, int]) -> None:
    maps = torch.randn(3, 5, *size, dtype=torch.float64)
    weight = torch.randn(7, 5 * 36, dtype=torch.float64)
    resized = F.adaptive_avg_pool2d(maps, (6, 6)).flatten(1)
    folded = fold_resize(weight, (6, 6), size)
    torch.testing.assert_close(F.linear(maps.flatten(1), folded), F.linear(resized, weight))


def test_linear_layer_is_fused_with_the_resizing_before_it() -> None:
    for name, recipe in RECIPES.items():
        resized = any(isinstance(layer, AdaptiveAvgPool) for layer in recipe.network.layers)
        steps = fuse(small_model(name)).steps
        folded = [step for step in steps if isinstance(step, FusedLinear) and step.map_size]
        assert len(folded) == resized
        assert not any(isinstance(step, nn.AdaptiveAvgPool2d) for step in steps)
    modern = small_model("modern")
    shapes = modern.shapes[: [shape.name for shape in modern.shapes].index("fc6")]
    partitioned = AlexNet(modern.spec, 7, shapes)  # as over two devices, with no linear layer
    assert isinstance(fuse(partitioned).steps[-1], nn.AdaptiveAvgPool2d)


def test_every_norm_is_fused_with_its_neighbors() -> None:
    neighbors = {}
    for name in ("original", "paper", "modern", "cifar-11pct"):
        steps = fuse(small_model(name)).steps
        norms = [step for step in steps if isinstance(step, FusedResponseNorm)]
        neighbors[name] = [
            (norm.relu_before, norm.pool is not None, norm.relu_after) for norm in norms
        ]
        layers = get_recipe(name).network.layers
        assert sum(isinstance(layer, LocalResponseNorm) for layer in layers) == len(norms)
    # in layer 2 of original, the spatial norm comes between
    assert neighbors["original"] == [(False, True, True), (True, False, False)]
    assert neighbors["paper"] == [(True, True, False)] * 2
    assert neighbors["modern"] == [(True, False, False)] * 2
    assert neighbors["cifar-11pct"] == [(False, False, False), (True, True, False)]


def test_fusing_does_not_change_the_model() -> None:
    model = small_model("original").train()
    before = str(model)
    fused = fuse(model)
    assert str(model) == before
    assert fused.training
    assert {id(p) for p in fused.parameters()} == {id(p) for p in model.parameters()}
    assert not fuse(model.eval()).training
