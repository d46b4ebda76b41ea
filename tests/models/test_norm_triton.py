"""The Triton forms of the norms against torch's own operations.

In Triton's interpreter on a CPU, and on a GPU where there is one. The interpreter is chosen when
Triton is imported, so it runs in a process of its own, in which these forms replace those in C++.
It runs what a kernel says, not what the compiler makes of it; that it compiles is a test of its own
and needs no GPU.
"""

import functools
import multiprocessing
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from alexnet.core.errors import AlexNetError, UsageError
from alexnet.models.kernels import norm as norm_kernels
from alexnet.models.response_norm import response_norm, spatial_response_norm

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")

FORMS = ("norm", "norm_gradient", "spatial_norm", "spatial_norm_gradient")
POOLS = (None, (3, 2, True), (3, 2, False), (2, 2, False))
Run = Callable[..., Any]  # puts the name of a device before the arguments


@dataclass(frozen=True)
class Case:
    channels: int
    towers: int
    n: int
    beta: float
    relu_before: bool
    pool: tuple[int, int, bool] | None
    relu_after: bool

    def __call__(self, x: Tensor) -> Tensor:
        return response_norm(
            x,
            self.n,
            2.0,
            0.3,
            self.beta,
            self.towers,
            relu_before=self.relu_before,
            pool=self.pool,
            relu_after=self.relu_after,
        )


AROUND = tuple(product((False, True), POOLS, (False, True)))
SETTINGS = tuple(product((12, 20, 96), (1, 2), (5, 3), (0.75, 0.6)))
# All surroundings of one norm, and all norms with some of them.
CASES = [Case(16, 2, 5, 0.75, *around) for around in AROUND]
CASES += [Case(*norm, *AROUND[7 * index % 16]) for index, norm in enumerate(SETTINGS)]
NARROW = (  # channels that fill their groups of four, and that do not
    (4, 1, 5),
    (5, 1, 5),
    (6, 1, 5),
    (7, 1, 5),
    (8, 1, 5),
    (10, 2, 5),
    (27, 3, 5),
    (12, 1, 7),
)
CASES += [Case(*norm, 0.75, *AROUND[7 * index % 16]) for index, norm in enumerate(NARROW)]


@pytest.fixture(scope="module", params=["interpreter", "gpu"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Call a function with a device and arguments where tensors on it go to the Triton forms."""
    if request.param == "gpu":
        if not (torch.cuda.is_available() and norm_kernels.available(torch.device("cuda"))):
            pytest.skip("there is no GPU that Triton supports")
        yield lambda function, *arguments: function("cuda", *arguments)
        return
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), replace_cpu_forms) as pool:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TRITON_INTERPRET", "1")
            pool.submit(int).result()  # starts the process
        yield lambda function, *arguments: pool.submit(function, "cpu", *arguments).result()


def replace_cpu_forms() -> None:
    """In this process, let tensors on the CPU go where those on a GPU would."""
    norm_kernels.is_supported = lambda x, n: x.dtype in norm_kernels.GPU_DTYPES
    torch.cuda.get_device_capability = lambda device=None: norm_kernels.GPU_CAPABILITY
    for form in FORMS:
        getattr(norm_kernels, form).register_kernel(
            "cpu", functools.partial(norm_kernels._triton, form)
        )


def random(*shape: int) -> Tensor:
    return (
        torch.randn(
            *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape))
        )
        * 3
    )


def error(device: str, norm: Callable[[Tensor], Tensor], x: Tensor, dtype: torch.dtype) -> float:
    """Return the relative error against float64 of the norm of x in `dtype`, or of its gradient.

    Whichever is larger.
    """
    x = x.to(dtype).double()
    g = torch.randn(norm(x).shape, dtype=dtype, generator=torch.Generator().manual_seed(1)).double()
    actual, exact = (
        forward_backward(norm, x.to(device, kind), g.to(device, kind))
        for kind in (dtype, torch.float64)
    )
    errors = [(a - b).norm() / b.norm() for a, b in zip(actual, exact, strict=True)]
    return float(torch.stack(errors).max())  # torch's maximum, which is NaN if any is


def forward_backward(
    norm: Callable[[Tensor], Tensor], x: Tensor, g: Tensor
) -> tuple[Tensor, Tensor]:
    assert norm_kernels.is_supported(x, 5) == (x.dtype != torch.float64)
    x = x.clone().requires_grad_()
    y = norm(x)
    y.backward(g)
    assert x.grad is not None and y.dtype == x.grad.dtype == g.dtype
    return y.detach(), x.grad


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_norm_with_its_relus_and_pool_equals_the_plain_form(run: Run, case: Case) -> None:
    assert (
        run(error, case, random(2 if case.channels < 20 else 1, case.channels, 5, 6), torch.float32)
        < 1e-5
    )


def test_a_gradient_with_k_0_takes_nothing_from_past_the_channels(run: Run) -> None:
    x = random(1, 6, 3, 3)
    x[:, 5] = 0  # of eight columns, the window of the last then has zeros alone
    norm = functools.partial(response_norm, n=5, k=0.0, alpha=0.3, beta=0.75)
    assert run(error, norm, x, torch.float32) < 1e-5


@pytest.mark.parametrize(("channels", "n", "beta"), [(12, 5, 0.75), (20, 3, 0.6), (96, 5, 0.75)])
def test_a_spatial_norm_equals_the_plain_form(run: Run, channels: int, n: int, beta: float) -> None:
    norm = functools.partial(spatial_response_norm, n=n, k=1.0, alpha=0.04, beta=beta)
    assert run(error, norm, random(2, channels, 5, 6), torch.float32) < 1e-5


def test_of_equals_the_first_wins_and_a_relu_at_0_has_gradient_0(run: Run) -> None:
    x = torch.randint(-1, 2, (1, 4, 7, 7), generator=torch.Generator().manual_seed(0)).double()
    for relu_after in (False, True):
        case = Case(4, 1, 1, 0.75, not relu_after, (3, 2, True), relu_after)
        assert run(error, case, x, torch.float32) < 1e-5


def test_nan_is_passed_on(run: Run) -> None:
    x = random(1, 12, 6, 6).float()
    x[0, 3, 2, 2] = torch.nan
    expected = F.relu(
        F.max_pool2d(F.local_response_norm(F.relu(x), 5, 5 * 0.3, 0.75, 2.0), 3, 2, ceil_mode=True)
    )
    # The channels whose windows hold it, in the four pooling windows that cover it.
    assert expected.isnan().sum() == 5 * 4
    torch.testing.assert_close(
        run(compute, Case(12, 1, 5, 0.75, True, (3, 2, True), True), x), expected, equal_nan=True
    )


def compute(device: str, norm: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return norm(x.to(device)).cpu()


NORMS = [
    functools.partial(response_norm, n=5, k=2.0, alpha=1e-4, beta=0.75, towers=2),
    functools.partial(spatial_response_norm, n=5, k=1.0, alpha=1e-3 / 25, beta=0.75),
]


@pytest.mark.parametrize("norm", NORMS, ids=("across towers", "spatial"))
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_stays_within_two_steps_of_float64(
    run: Run, norm: Callable[[Tensor], Tensor], dtype: torch.dtype
) -> None:
    x = (random(1, 96, 4, 6) * 20).to(dtype)
    exact = norm(x.double())
    actual = run(compute, norm, x)
    step = torch.finfo(dtype).eps * 2.0 ** torch.floor(torch.log2(exact.abs()))
    assert actual.dtype == dtype and ((actual.double() - exact).abs() <= 2 * step).all()
    # The gradient as a whole: its terms may cancel.
    assert run(error, norm, x, dtype) < torch.finfo(dtype).eps / 2


def test_a_trial_succeeds(run: Run) -> None:
    assert run(failure) == ""


def failure(device: str) -> str:
    return norm_kernels._triton_failure.__wrapped__(torch.device(device))


FAILURES = [
    (RuntimeError("Failed to find C compiler.\nSet CC."), "(Failed to find C compiler.)"),
    (
        subprocess.CalledProcessError(1, ["gcc", "main.c"]),
        "(Command '['gcc', 'main.c']' returned non-zero exit status 1.)",
    ),
    (AssertionError(), "(AssertionError)"),
]


@pytest.mark.parametrize(("raised", "reason"), FAILURES, ids=lambda value: type(value).__name__)
def test_a_failed_trial_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, raised: Exception, reason: str
) -> None:
    def fails(*arguments: object) -> None:
        raise raised

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(norm_kernels, "_triton", fails)
    assert failure("cpu") == f"Triton does not work {reason}"


def test_a_trial_on_what_triton_does_not_take_fails_and_does_not_raise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    assert failure("cpu").startswith("Triton does not work (")


def test_the_capability_is_that_of_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        torch.cuda, "get_device_capability", lambda device: {0: (9, 0), 1: (7, 5)}[device.index]
    )
    assert "compute capability is 7.5, the kernels need 8.0" in failure("cuda:1")


def test_where_triton_does_not_work_the_plain_form_is_used_and_the_reason_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(norm_kernels, "_available", {})
    monkeypatch.setattr(
        norm_kernels, "_triton_failure", lambda device: "Triton does not work (no ldconfig)"
    )
    monkeypatch.delenv("ALEXNET_KERNELS", raising=False)
    assert not norm_kernels.available(gpu)
    assert norm_kernels.describe_form(gpu) == "plain torch: Triton does not work (no ldconfig)"
    monkeypatch.setenv("ALEXNET_KERNELS", "native")
    with pytest.raises(
        AlexNetError, match="ALEXNET_KERNELS=native: Triton does not work \\(no ldconfig\\); fix"
    ):
        norm_kernels.available(gpu)


def test_the_form_on_a_gpu_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(norm_kernels, "_available", {})
    monkeypatch.setattr(norm_kernels, "_triton_failure", lambda device: "")
    for setting in ("", "native"):
        monkeypatch.setenv("ALEXNET_KERNELS", setting)
        assert norm_kernels.available(gpu) and norm_kernels.describe_form(gpu) == "Triton"
    monkeypatch.setenv("ALEXNET_KERNELS", "plain")
    assert not norm_kernels.available(
        gpu
    ) and "as ALEXNET_KERNELS asks" in norm_kernels.describe_form(gpu)
    monkeypatch.setenv("ALEXNET_KERNELS", "fast")
    with pytest.raises(UsageError, match="ALEXNET_KERNELS=fast: expected native, plain"):
        norm_kernels.available(gpu)


def test_the_kernels_compile_for_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """For compute capability 8.0, whether there is such a GPU here or not.

    Threads exchange only the channels at the border of four.
    """
    from alexnet.models.kernels import norm_triton

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    compiled: list[str] = []
    for name in [name for name in vars(norm_triton) if name.endswith("_kernel")]:
        monkeypatch.setattr(norm_triton, name, CompileOnly(getattr(norm_triton, name), compiled))
    x = torch.zeros(1, 96, 9, 9, dtype=torch.bfloat16)
    for size, stride in ((0, 0), (3, 2)):
        y, argmax = norm_triton.norm(x, 5, 2.0, 0.3, 0.75, 2, True, size, stride, True, True)
        norm_triton.norm_gradient(x, y, argmax, 5, 2.0, 0.3, 0.75, 2, True, size, stride, True)
    norm_triton.spatial_norm_gradient(
        x, norm_triton.spatial_norm(x, 5, 1.0, 0.3, 0.6), 5, 1.0, 0.3, 0.6
    )
    assert len(compiled) == 7 and all(".target sm_80" in assembly for assembly in compiled)
    values = norm_triton.BLOCK_VALUES // 128  # of a thread; gathers would take 16 shuffles for each
    assert max(assembly.count("shfl.sync") for assembly in compiled[:4]) <= 2 * values


@dataclass(frozen=True)
class CompileOnly:
    """Replaces a kernel: compiles it for the arguments of every launch, and launches nothing."""

    kernel: Any
    compiled: list[str]

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        return self.compile

    def compile(self, *arguments: object, enable_fp_fusion: bool) -> None:
        import triton
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource

        named = dict(zip(self.kernel.arg_names, arguments, strict=True))
        constants = {
            name: value for name, value in named.items() if name.isupper() or value is None
        }
        types = {
            name: "constexpr" if name in constants else kind(value) for name, value in named.items()
        }
        aligned = {
            (index,): [["tt.divisibility", 16]]
            for index, value in enumerate(arguments)
            if isinstance(value, Tensor)
        }
        # Aligned as torch's memory is, which a launch would find.
        source = ASTSource(self.kernel, types, constants, aligned)
        options = {"enable_fp_fusion": enable_fp_fusion}
        self.compiled.append(
            triton.compile(source, target=GPUTarget("cuda", 80, 32), options=options).asm["ptx"]
        )


def kind(value: object) -> str:
    """Return Triton's name for the type of an argument."""
    if isinstance(value, Tensor):
        return {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.uint8: "*u8"}[value.dtype]
    return "i32" if isinstance(value, int) else "fp32"
