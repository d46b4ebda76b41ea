"""Response normalisation: the formula, torch's own in its convention, and exact gradients."""

import pytest
import torch
from torch.nn import functional as F

from alexnet.network import response_norm
from alexnet.network.response_norm import norm_across_maps, norm_over_space

SHAPES = [(1, 1, 1, 1), (2, 3, 5, 4), (3, 12, 7, 7), (9, 96, 4, 4)]


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape))) * 3


@pytest.mark.parametrize("shape", SHAPES)
def test_across_maps_is_torchs_with_alpha_times_n(shape: tuple[int, ...]) -> None:
    x = random(*shape)
    torch.testing.assert_close(norm_across_maps(x, 5, 2.0, 0.3, 0.75), F.local_response_norm(x, 5, 5 * 0.3, 0.75, 2.0))


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


@pytest.mark.parametrize("chunk", [1, 2**20])
def test_gradients_are_exact(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response_norm, "CHUNK", chunk)
    x = random(3, 6, 4, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: norm_across_maps(x, 5, 2.0, 0.3, 0.75, 2), x)
    assert torch.autograd.gradcheck(lambda x: norm_over_space(x, 3, 1.0, 0.3, 0.5), x)


def test_bf16_stays_within_two_steps_of_float64() -> None:
    x = (random(40, 96, 16, 16) * 20).bfloat16()
    exact = norm_across_maps(x.double(), 5, 2.0, 1e-4, 0.75)
    found = norm_across_maps(x, 5, 2.0, 1e-4, 0.75)
    step = 2.0 ** (torch.floor(torch.log2(exact.abs().clamp_min(1e-30))) - 7)
    assert found.dtype == torch.bfloat16 and ((found.double() - exact).abs() <= 2 * step).all()


def test_the_layout_of_memory_is_kept() -> None:
    x = torch.randn(2, 8, 5, 5).to(memory_format=torch.channels_last)
    assert norm_across_maps(x, 5, 2.0, 1e-4, 0.75).is_contiguous(memory_format=torch.channels_last)
