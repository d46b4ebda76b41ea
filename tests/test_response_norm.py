"""Response normalisation: the formula, torch's and ONNX Runtime's own in their convention, exact gradients, bf16.

Only the two functions are called, whatever computes behind them.
"""

from collections.abc import Callable
from functools import partial

import onnx
import onnxruntime  # type: ignore[import-untyped]
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from alexnet.network.response_norm import norm_across_maps, norm_over_space

SHAPES = [(1, 1, 1, 1), (2, 3, 5, 4), (3, 12, 7, 7), (9, 96, 4, 4)]
NORMS = [  # as the recipes have them
    partial(norm_across_maps, n=5, k=2.0, alpha=1e-4, beta=0.75),
    partial(norm_across_maps, n=5, k=2.0, alpha=1e-4, beta=0.75, towers=2),
    partial(norm_over_space, n=5, k=1.0, alpha=1e-3 / 25, beta=0.75),
]
BATCH = (44, 96, 16, 16)  # 1,081,344 values
in_each_form = pytest.mark.usefixtures("each_form")  # float64, elsewhere, is always plain
each_norm = pytest.mark.parametrize("norm", NORMS, ids=("across the layer", "across towers", "over space"))


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape))) * 3


@pytest.mark.parametrize("shape", SHAPES)
def test_across_maps_is_torchs_with_alpha_times_n(shape: tuple[int, ...]) -> None:
    x = random(*shape)
    torch.testing.assert_close(norm_across_maps(x, 5, 2.0, 0.3, 0.75), F.local_response_norm(x, 5, 5 * 0.3, 0.75, 2.0))


@in_each_form
@pytest.mark.parametrize("shape", SHAPES)
def test_across_maps_is_onnx_runtimes_with_alpha_times_n(shape: tuple[int, ...]) -> None:
    x = random(*shape).float()
    found = onnx_norm(x, size=5, alpha=5 * 0.3, beta=0.75, bias=2.0)
    torch.testing.assert_close(norm_across_maps(x, 5, 2.0, 0.3, 0.75), found)


def onnx_norm(x: Tensor, size: int, alpha: float, beta: float, bias: float) -> Tensor:
    """x (N, C, H, W) float32 through ONNX's operator LRN: x / (bias + alpha / size * sum of squares) ** beta."""
    node = onnx.helper.make_node("LRN", ["x"], ["y"], size=size, alpha=alpha, beta=beta, bias=bias)
    given, made = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, x.shape) for name in "xy")
    graph = onnx.helper.make_graph([node], "norm", [given], [made])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)  # of opset 13's days
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"x": x.numpy()})[0])


def test_across_maps_is_the_papers_formula() -> None:
    x, (n, k, alpha, beta) = random(2, 9, 3, 3), (5, 2.0, 0.2, 0.6)
    expected = torch.empty_like(x)
    for i in range(9):
        near = x[:, max(0, i - n // 2) : min(8, i + n // 2) + 1]
        expected[:, i] = x[:, i] / (k + alpha * (near**2).sum(1)) ** beta
    torch.testing.assert_close(norm_across_maps(x, n, k, alpha, beta), expected)


def test_towers_do_not_see_each_other() -> None:
    x = random(2, 12, 3, 3)
    apart = torch.cat([norm_across_maps(half, 5, 2.0, 0.3, 0.75) for half in x.chunk(2, 1)], 1)
    torch.testing.assert_close(norm_across_maps(x, 5, 2.0, 0.3, 0.75, towers=2), apart)


@pytest.mark.parametrize("shape", SHAPES)
def test_over_space_sums_the_pixels_around(shape: tuple[int, ...]) -> None:
    x = random(*shape)
    sums = F.avg_pool2d(x**2, 5, 1, 2) * 25
    torch.testing.assert_close(norm_over_space(x, 5, 1.0, 0.04, 0.75), x * (1 + 0.04 * sums) ** -0.75)


def test_gradients_are_exact() -> None:
    x = random(3, 6, 4, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: norm_across_maps(x, 5, 2.0, 0.3, 0.75, 2), x)
    assert torch.autograd.gradcheck(lambda x: norm_over_space(x, 3, 1.0, 0.3, 0.5), x)


def forward_backward(norm: Callable[[Tensor], Tensor], x: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    """The norm of x, and the gradient in x where that of the norm is g."""
    x = x.clone().requires_grad_()
    y = norm(x)
    y.backward(g)
    assert x.grad is not None
    return y.detach(), x.grad


@each_norm
def test_a_batch_is_normalised_as_its_pictures_are(norm: Callable[[Tensor], Tensor]) -> None:
    x, g = random(*BATCH), random(*BATCH).flip(0)
    parts = [forward_backward(norm, *one) for one in zip(x.split(1), g.split(1), strict=True)]
    whole = tuple(torch.cat(tensors) for tensors in zip(*parts, strict=True))
    torch.testing.assert_close(forward_backward(norm, x, g), whole, rtol=1e-12, atol=1e-12)


@in_each_form
@each_norm
def test_bf16_is_float64_rounded_once(norm: Callable[[Tensor], Tensor]) -> None:
    x = (random(*BATCH) * 20).bfloat16()
    exact, found = norm(x.double()), norm(x)
    step = 2.0 ** (torch.floor(torch.log2(exact.abs().clamp_min(1e-30))) - 7)
    assert found.dtype == torch.bfloat16 and ((found.double() - exact).abs() <= 0.51 * step).all()


@in_each_form
@each_norm
def test_a_gradient_in_bf16_is_off_by_a_rounding_as_a_whole(norm: Callable[[Tensor], Tensor]) -> None:
    """Not value by value: each is a difference of two terms, whose roundings can exceed what is left."""
    x, g = (random(*BATCH) * 20).bfloat16(), random(*BATCH).flip(0).bfloat16()
    (_, exact), (_, found) = forward_backward(norm, x.double(), g.double()), forward_backward(norm, x, g)
    assert found.dtype == torch.bfloat16 and (found.double() - exact).norm() <= 2.0**-8 * exact.norm()


@in_each_form
def test_the_layout_of_memory_is_kept() -> None:
    x = torch.randn(2, 8, 5, 5).to(memory_format=torch.channels_last)
    assert norm_across_maps(x, 5, 2.0, 1e-4, 0.75).is_contiguous(memory_format=torch.channels_last)
