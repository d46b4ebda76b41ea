"""Response normalization: the formula, torch's and ONNX Runtime's own, exact gradients, bf16.

Only the two functions are called, whatever form computes them.
"""

import subprocess
import sys
from collections.abc import Callable
from functools import partial

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from alexnet.core.kernels.library import load_library
from alexnet.models.response_norm import response_norm, spatial_response_norm

SHAPES = [(1, 1, 1, 1), (2, 3, 5, 4), (3, 12, 7, 7), (9, 96, 4, 4)]
NORMS = [  # as the recipes have them
    partial(response_norm, n=5, k=2.0, alpha=1e-4, beta=0.75),
    partial(response_norm, n=5, k=2.0, alpha=1e-4, beta=0.75, towers=2),
    partial(spatial_response_norm, n=5, k=1.0, alpha=1e-3 / 25, beta=0.75),
]
BATCH = (44, 96, 16, 16)  # 1,081,344 values
in_each_form = pytest.mark.usefixtures("each_form")  # float64 always has the plain form
each_norm = pytest.mark.parametrize("norm", NORMS, ids=("all channels", "in towers", "spatial"))


def random(*shape: int) -> torch.Tensor:
    return (
        torch.randn(
            *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape))
        )
        * 3
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_local_norm_equals_torchs_with_alpha_times_n(shape: tuple[int, ...]) -> None:
    x = random(*shape)
    torch.testing.assert_close(
        response_norm(x, 5, 2.0, 0.3, 0.75), F.local_response_norm(x, 5, 5 * 0.3, 0.75, 2.0)
    )


@in_each_form
@pytest.mark.parametrize("shape", SHAPES)
def test_local_norm_equals_onnx_runtimes_with_alpha_times_n(shape: tuple[int, ...]) -> None:
    x = random(*shape).float()
    expected = onnx_norm(x, size=5, alpha=5 * 0.3, beta=0.75, bias=2.0)
    torch.testing.assert_close(response_norm(x, 5, 2.0, 0.3, 0.75), expected)


def onnx_norm(x: Tensor, size: int, alpha: float, beta: float, bias: float) -> Tensor:
    """Apply ONNX's LRN to float32: x / (bias + alpha / size * sum of squares) ** beta."""
    node = onnx.helper.make_node("LRN", ["x"], ["y"], size=size, alpha=alpha, beta=beta, bias=bias)
    inputs, outputs = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, x.shape) for name in "xy"
    )
    graph = onnx.helper.make_graph([node], "norm", [inputs], [outputs])
    opset = onnx.helper.make_opsetid("", 13)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return torch.from_numpy(session.run(None, {"x": x.numpy()})[0])


def test_local_norm_is_the_papers_formula() -> None:
    x = random(2, 9, 3, 3)
    n, k, alpha, beta = 5, 2.0, 0.2, 0.6
    expected = torch.empty_like(x)
    for i in range(9):
        near = x[:, max(0, i - n // 2) : min(8, i + n // 2) + 1]
        expected[:, i] = x[:, i] / (k + alpha * (near**2).sum(1)) ** beta
    torch.testing.assert_close(response_norm(x, n, k, alpha, beta), expected)


def test_towers_do_not_see_each_other() -> None:
    x = random(2, 12, 3, 3)
    group = torch.cat([response_norm(half, 5, 2.0, 0.3, 0.75) for half in x.chunk(2, 1)], 1)
    torch.testing.assert_close(response_norm(x, 5, 2.0, 0.3, 0.75, towers=2), group)


@pytest.mark.parametrize("shape", SHAPES)
def test_spatial_norm_sums_the_pixels_around(shape: tuple[int, ...]) -> None:
    x = random(*shape)
    sums = F.avg_pool2d(x**2, 5, 1, 2) * 25
    torch.testing.assert_close(
        spatial_response_norm(x, 5, 1.0, 0.04, 0.75), x * (1 + 0.04 * sums) ** -0.75
    )


def test_gradients_are_exact() -> None:
    x = random(3, 6, 4, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: response_norm(x, 5, 2.0, 0.3, 0.75, 2), x)
    assert torch.autograd.gradcheck(lambda x: spatial_response_norm(x, 3, 1.0, 0.3, 0.5), x)


def forward_backward(
    norm: Callable[[Tensor], Tensor], x: Tensor, g: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the norm of x, and the gradient with respect to x if that of the norm is g."""
    x = x.clone().requires_grad_()
    y = norm(x)
    y.backward(g)
    assert x.grad is not None
    return y.detach(), x.grad


@each_norm
def test_a_batch_is_normalized_as_its_images_are(norm: Callable[[Tensor], Tensor]) -> None:
    x, g = random(*BATCH), random(*BATCH).flip(0)
    alone = [forward_backward(norm, *one) for one in zip(x.split(1), g.split(1), strict=True)]
    expected = tuple(torch.cat(tensors) for tensors in zip(*alone, strict=True))
    torch.testing.assert_close(forward_backward(norm, x, g), expected, rtol=1e-12, atol=1e-12)


@in_each_form
@each_norm
def test_bf16_is_float64_rounded_once(norm: Callable[[Tensor], Tensor]) -> None:
    x = (random(*BATCH) * 20).bfloat16()
    exact = norm(x.double())
    actual = norm(x)
    step = 2.0 ** (torch.floor(torch.log2(exact.abs().clamp_min(1e-30))) - 7)
    assert actual.dtype == torch.bfloat16
    assert ((actual.double() - exact).abs() <= 0.51 * step).all()


@in_each_form
@each_norm
def test_a_bf16_gradient_as_a_whole_is_off_by_a_rounding(
    norm: Callable[[Tensor], Tensor],
) -> None:
    """Not each value: it is a difference of two terms, whose roundings can exceed it."""
    x, g = (random(*BATCH) * 20).bfloat16(), random(*BATCH).flip(0).bfloat16()
    _, exact = forward_backward(norm, x.double(), g.double())
    _, actual = forward_backward(norm, x, g)
    assert actual.dtype == torch.bfloat16
    assert (actual.double() - exact).norm() <= 2.0**-8 * exact.norm()


@in_each_form
def test_the_memory_format_is_kept() -> None:
    x = torch.randn(2, 8, 5, 5).to(memory_format=torch.channels_last)
    assert response_norm(x, 5, 2.0, 1e-4, 0.75).is_contiguous(memory_format=torch.channels_last)


FIRST_CALL_COMPILED = """
import torch
from functools import partial
from alexnet.models.response_norm import response_norm, spatial_response_norm

operations = set()

def backend(module, inputs):
    operations.update(str(node.target) for node in module.graph.nodes)
    return module

x = torch.randn(2, 12, 7, 7)
for norm in (response_norm, spatial_response_norm):
    norm = partial(norm, n=5, k=2.0, alpha=0.1, beta=0.75)
    compiled = torch.compile(norm, backend=backend, fullgraph=True)(x)
    torch.testing.assert_close(compiled, norm(x))
print(*(name for name in sorted(operations) if name.startswith("alexnet.")))
"""


@pytest.mark.parametrize("form", ["", "plain"])
def test_the_first_call_may_be_compiled_and_has_the_right_form(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALEXNET_KERNELS", form)
    native = load_library() is not None
    done = subprocess.run(
        [sys.executable, "-c", FIRST_CALL_COMPILED], capture_output=True, text=True, check=True
    )
    expected = ["alexnet.norm.default", "alexnet.spatial_norm.default"] if native else []
    assert done.stdout.split() == expected


@pytest.mark.filterwarnings(  # torch.compile itself does so
    "ignore:.*should not be instantiated:DeprecationWarning"
)
def test_a_compiled_norm_follows_a_changed_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    operations: list[str] = []

    def backend(module: torch.fx.GraphModule, inputs: list[Tensor]) -> torch.fx.GraphModule:
        operations.append(" ".join(str(node.target) for node in module.graph.nodes))
        return module

    monkeypatch.setenv("ALEXNET_KERNELS", "")
    if load_library() is None:
        pytest.skip("there is no C++ compiler here")
    x = torch.randn(1, 12, 3, 3)
    norm = partial(response_norm, n=5, k=2.0, alpha=0.1, beta=0.75)
    torch.compiler.reset()
    compiled = torch.compile(norm, backend=backend, fullgraph=True)
    compiled(x)
    monkeypatch.setenv("ALEXNET_KERNELS", "plain")
    expected = norm(x)  # any call outside a compiled graph reads the setting
    torch.testing.assert_close(compiled(x), expected)
    assert ["alexnet.norm" in names for names in operations] == [True, False]
