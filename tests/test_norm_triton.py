"""The norms' forms for a GPU against torch's own operations: in Triton's interpreter on a CPU, and on a GPU where there is one.

The interpreter is chosen when Triton is imported, so it runs in a process of its own, in which these forms stand in for those in
C++. It runs what a kernel says, not what the compiler makes of it; that it compiles is a test of its own and needs no GPU.
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

from alexnet.errors import AlexNetError, UsageError
from alexnet.network import norm_kernels
from alexnet.network.response_norm import norm_across_maps, norm_over_space

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")

FORMS = ("norm", "norm_gradient", "space", "space_gradient")
POOLS = (None, (3, 2, True), (3, 2, False), (2, 2, False))
Run = Callable[..., Any]  # the device's name is put before the arguments


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
        rule = self.n, 2.0, 0.3, self.beta, self.towers
        return norm_across_maps(x, *rule, relu_before=self.relu_before, pool=self.pool, relu_after=self.relu_after)


AROUND = tuple(product((False, True), POOLS, (False, True)))
RULES = tuple(product((12, 20, 96), (1, 2), (5, 3), (0.75, 0.6)))
CASES = [Case(16, 2, 5, 0.75, *around) for around in AROUND]  # all neighbours of one norm, and all norms with some of them
CASES += [Case(*rule, *AROUND[7 * place % 16]) for place, rule in enumerate(RULES)]
NARROW = ((4, 1, 5), (5, 1, 5), (6, 1, 5), (7, 1, 5), (8, 1, 5), (10, 2, 5), (27, 3, 5), (12, 1, 7))  # fours, whole and begun
CASES += [Case(*rule, 0.75, *AROUND[7 * place % 16]) for place, rule in enumerate(NARROW)]


@pytest.fixture(scope="module", params=["interpreter", "gpu"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Calls a function with a device's name and arguments where tensors on that device go to the Triton forms."""
    if request.param == "gpu":
        if not (torch.cuda.is_available() and norm_kernels.available(torch.device("cuda"))):
            pytest.skip("there is no GPU that Triton supports")
        yield lambda function, *arguments: function("cuda", *arguments)
        return
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), stand_in) as pool:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TRITON_INTERPRET", "1")
            pool.submit(int).result()  # starts the process
        yield lambda function, *arguments: pool.submit(function, "cpu", *arguments).result()


def stand_in() -> None:
    """In this process, let a CPU's tensors go where a GPU's would."""
    norm_kernels.takes = lambda x, n: x.dtype in norm_kernels.GPU_TYPES
    torch.cuda.get_device_capability = lambda device=None: norm_kernels.GPU_CAPABILITY
    for form in FORMS:
        getattr(norm_kernels, form).register_kernel("cpu", functools.partial(norm_kernels._on_gpu, form))


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape))) * 3


def error(device: str, norm: Callable[[Tensor], Tensor], x: Tensor, dtype: torch.dtype) -> float:
    """How far the norm of x in `dtype` or its gradient, whichever is further, is from that in float64, as a share of it."""
    x = x.to(dtype).double()
    g = torch.randn(norm(x).shape, dtype=dtype, generator=torch.Generator().manual_seed(1)).double()
    found, exact = (forward_backward(norm, x.to(device, kind), g.to(device, kind)) for kind in (dtype, torch.float64))
    shares = [(a - b).norm() / b.norm() for a, b in zip(found, exact, strict=True)]
    return float(torch.stack(shares).max())  # of torch, for which what is no number is the largest


def forward_backward(norm: Callable[[Tensor], Tensor], x: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    assert norm_kernels.takes(x, 5) == (x.dtype != torch.float64)
    x = x.clone().requires_grad_()
    y = norm(x)
    y.backward(g)
    assert x.grad is not None and y.dtype == x.grad.dtype == g.dtype
    return y.detach(), x.grad


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_norm_with_its_neighbours_is_the_plain_one(run: Run, case: Case) -> None:
    assert run(error, case, random(2 if case.channels < 20 else 1, case.channels, 5, 6), torch.float32) < 1e-5


def test_a_gradient_without_k_takes_nothing_from_past_the_channels(run: Run) -> None:
    x = random(1, 6, 3, 3)
    x[:, 5] = 0  # of eight columns, the last then sees zeros alone
    norm = functools.partial(norm_across_maps, n=5, k=0.0, alpha=0.3, beta=0.75)
    assert run(error, norm, x, torch.float32) < 1e-5


@pytest.mark.parametrize(("channels", "n", "beta"), [(12, 5, 0.75), (20, 3, 0.6), (96, 5, 0.75)])
def test_a_norm_over_space_is_the_plain_one(run: Run, channels: int, n: int, beta: float) -> None:
    norm = functools.partial(norm_over_space, n=n, k=1.0, alpha=0.04, beta=beta)
    assert run(error, norm, random(2, channels, 5, 6), torch.float32) < 1e-5


def test_of_equals_the_first_wins_and_a_relu_at_0_sends_nothing_back(run: Run) -> None:
    x = torch.randint(-1, 2, (1, 4, 7, 7), generator=torch.Generator().manual_seed(0)).double()
    for relu_after in (False, True):
        case = Case(4, 1, 1, 0.75, not relu_after, (3, 2, True), relu_after)
        assert run(error, case, x, torch.float32) < 1e-5


def test_what_is_no_number_goes_through(run: Run) -> None:
    x = random(1, 12, 6, 6).float()
    x[0, 3, 2, 2] = torch.nan
    expected = F.relu(F.max_pool2d(F.local_response_norm(F.relu(x), 5, 5 * 0.3, 0.75, 2.0), 3, 2, ceil_mode=True))
    assert expected.isnan().sum() == 5 * 4  # the maps that see it, in the four windows that cover it
    torch.testing.assert_close(run(computed, Case(12, 1, 5, 0.75, True, (3, 2, True), True), x), expected, equal_nan=True)


def computed(device: str, norm: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return norm(x.to(device)).cpu()


NORMS = [
    functools.partial(norm_across_maps, n=5, k=2.0, alpha=1e-4, beta=0.75, towers=2),
    functools.partial(norm_over_space, n=5, k=1.0, alpha=1e-3 / 25, beta=0.75),
]


@pytest.mark.parametrize("norm", NORMS, ids=("across towers", "over space"))
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_stays_within_two_steps_of_float64(run: Run, norm: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
    x = (random(1, 96, 4, 6) * 20).to(dtype)
    exact, found = norm(x.double()), run(computed, norm, x)
    step = torch.finfo(dtype).eps * 2.0 ** torch.floor(torch.log2(exact.abs()))
    assert found.dtype == dtype and ((found.double() - exact).abs() <= 2 * step).all()
    assert run(error, norm, x, dtype) < torch.finfo(dtype).eps / 2  # the gradient as a whole: its terms may cancel


def test_a_trial_finds_nothing_to_complain_of(run: Run) -> None:
    assert run(complaint) == ""


def complaint(device: str) -> str:
    return norm_kernels._complaint.__wrapped__(torch.device(device))


FAILURES = [
    (RuntimeError("Failed to find C compiler.\nSet CC."), "(Failed to find C compiler.)"),
    (subprocess.CalledProcessError(1, ["gcc", "main.c"]), "(Command '['gcc', 'main.c']' returned non-zero exit status 1.)"),
    (AssertionError(), "(AssertionError)"),
]


@pytest.mark.parametrize(("failure", "told"), FAILURES, ids=lambda value: type(value).__name__)
def test_a_trial_that_fails_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch, failure: Exception, told: str) -> None:
    def fails(*arguments: object) -> None:
        raise failure

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(norm_kernels, "_on_gpu", fails)
    assert complaint("cpu") == f"Triton does not work {told}"


def test_a_trial_on_what_triton_does_not_take_fails_and_does_not_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    assert complaint("cpu").startswith("Triton does not work (")


def test_each_gpu_is_asked_for_its_own_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: {0: (9, 0), 1: (7, 5)}[device.index])
    assert "compute capability is 7.5, the kernels need 8.0" in complaint("cuda:1")


def test_where_triton_does_not_work_the_plain_form_is_taken_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(norm_kernels, "_found", {})
    monkeypatch.setattr(norm_kernels, "_complaint", lambda device: "Triton does not work (no ldconfig)")
    monkeypatch.delenv("ALEXNET_KERNELS", raising=False)
    assert not norm_kernels.available(gpu)
    assert norm_kernels.form(gpu) == "plain torch: Triton does not work (no ldconfig)"
    monkeypatch.setenv("ALEXNET_KERNELS", "native")
    with pytest.raises(AlexNetError, match="ALEXNET_KERNELS=native: Triton does not work \\(no ldconfig\\); mend"):
        norm_kernels.available(gpu)


def test_the_form_on_a_gpu_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(norm_kernels, "_found", {})
    monkeypatch.setattr(norm_kernels, "_complaint", lambda device: "")
    for setting in ("", "native"):
        monkeypatch.setenv("ALEXNET_KERNELS", setting)
        assert norm_kernels.available(gpu) and norm_kernels.form(gpu) == "Triton"
    monkeypatch.setenv("ALEXNET_KERNELS", "plain")
    assert not norm_kernels.available(gpu) and "as ALEXNET_KERNELS asks" in norm_kernels.form(gpu)
    monkeypatch.setenv("ALEXNET_KERNELS", "fast")
    with pytest.raises(UsageError, match="ALEXNET_KERNELS=fast: expected native, plain"):
        norm_kernels.available(gpu)


def test_the_kernels_compile_for_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """For one of compute capability 8.0, whether it is here or not; threads pass on only channels at the border of four."""
    from alexnet.network import norm_triton

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    compiled: list[str] = []
    for name in [name for name in vars(norm_triton) if name.endswith("_kernel")]:
        monkeypatch.setattr(norm_triton, name, Compiles(getattr(norm_triton, name), compiled))
    x = torch.zeros(1, 96, 9, 9, dtype=torch.bfloat16)
    for size, stride in ((0, 0), (3, 2)):
        y, winners = norm_triton.norm(x, 5, 2.0, 0.3, 0.75, 2, True, size, stride, True, True)
        norm_triton.norm_gradient(x, y, winners, 5, 2.0, 0.3, 0.75, 2, True, size, stride, True)
    norm_triton.space_gradient(x, norm_triton.space(x, 5, 1.0, 0.3, 0.6), 5, 1.0, 0.3, 0.6)
    assert len(compiled) == 7 and all(".target sm_80" in assembly for assembly in compiled)
    values = norm_triton.VALUES // 128  # of a thread; gathers would take 16 shuffles for each
    assert max(assembly.count("shfl.sync") for assembly in compiled[:4]) <= 2 * values


@dataclass(frozen=True)
class Compiles:
    """In a kernel's place: compiles it for the arguments of every launch, and launches nothing."""

    kernel: Any
    compiled: list[str]

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        return self.compile

    def compile(self, *arguments: object, enable_fp_fusion: bool) -> None:
        import triton
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource

        named = dict(zip(self.kernel.arg_names, arguments, strict=True))
        constants = {name: value for name, value in named.items() if name.isupper() or value is None}
        types = {name: "constexpr" if name in constants else kind(value) for name, value in named.items()}
        aligned = {(place,): [["tt.divisibility", 16]] for place, value in enumerate(arguments) if isinstance(value, Tensor)}
        source = ASTSource(self.kernel, types, constants, aligned)  # as torch's memory is, which a launch would find
        options = {"enable_fp_fusion": enable_fp_fusion}
        self.compiled.append(triton.compile(source, target=GPUTarget("cuda", 80, 32), options=options).asm["ptx"])


def kind(value: object) -> str:
    """Triton's name for the type of an argument."""
    if isinstance(value, Tensor):
        return {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.uint8: "*u8"}[value.dtype]
    return "i32" if isinstance(value, int) else "fp32"
