"""Where the work is done: device, precision, threads, versions. Nothing above asks the machine anything itself.

Precision `auto` takes bf16 where the processor or the GPU has units for it, float32 elsewhere: emulated bf16 is several times
slower than float32. ALEXNET_BF16=0 or 1 overrides what the machine says of itself, so that either path can be tested anywhere.
"""

import os
import platform
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, Literal

import torch

from alexnet import __version__
from alexnet.cores import cores
from alexnet.errors import UsageError
from alexnet.ranks import ALONE, Ranks

Way = Literal["none", "data", "towers", "hybrid", "layers"]
PRECISIONS = {"bf16": torch.bfloat16, "fp32": torch.float32, "fp64": torch.float64}  # fp64 is for comparisons
LIBRARIES = ("numpy", "pillow", "safetensors", "click", "rich", "matplotlib")
STOPPING = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Runtime:
    """The device and the type that weights and activations have on it; `workers` threads feed it.

    `parallel`: how the net is spread, over `ranks` (processes) or the `devices` of this one, of which `device` is the first.
    """

    device: torch.device
    dtype: torch.dtype
    workers: int
    deterministic: bool = False
    parallel: Way = "none"
    ranks: Ranks = ALONE
    others: tuple[torch.device, ...] = ()

    @property
    def precision(self) -> str:
        """The word `--precision` has for it."""
        return next(word for word, dtype in PRECISIONS.items() if dtype == self.dtype)

    @property
    def devices(self) -> tuple[torch.device, ...]:
        """All devices of this process."""
        return (self.device, *self.others)


def choose(device: str = "auto", precision: str = "auto", workers: int | None = None, deterministic: bool = False) -> Runtime:
    """The runtime of one process for these wishes; several devices stand with commas. A UsageError where one cannot be met.

    `workers`: None takes two beside a processor, which has the net to compute, and every core of one's own beside a GPU.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    first, *others = [_device(name) for name in device.split(",")]
    settle(deterministic)
    usual = torch.bfloat16 if has_bf16(first) else torch.float32
    return Runtime(first, PRECISIONS.get(precision, usual), workers or _readers(first), deterministic, others=tuple(others))


def settle(deterministic: bool = False) -> None:
    """Tell torch how this process is to compute."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it, cuBLAS has no deterministic form
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic  # a net has few shapes, and cuDNN's guesses for groups are poor
    torch.backends.cudnn.allow_tf32 = False  # in convolutions, as torch has it in products: fp32 means float32


def _readers(device: torch.device) -> int:
    """Threads that read, where nobody says how many; the cores are shared by the ranks of a machine."""
    own = cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(2, own) if device.type == "cuda" else 2


def spread(runtime: Runtime, parallel: Way, ranks: Ranks) -> Runtime:
    """The runtime of one of several ranks, or of one process with several devices; UsageError where these do not go together."""
    several = ranks.world > 1 or len(runtime.devices) > 1
    if several and parallel == "none":
        found = f"{ranks.world} processes" if ranks.world > 1 else f"{len(runtime.devices)} devices"
        raise UsageError(f"found {found} and no word on how to share the work; say --parallel data, towers, hybrid or layers")
    if not several and parallel == "data":
        parallel = "none"  # of one process, the same thing
    if not several and parallel != "none":
        raise UsageError(
            f"--parallel {parallel}: one process with one device; start it with torchrun --nproc-per-node 2 -m alexnet ..."
        )
    if len(runtime.devices) > 1 and (parallel != "towers" or ranks.world > 1):
        raise UsageError(f"--device with {len(runtime.devices)} devices is for --parallel towers in one process; use torchrun")
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if runtime.device.type == "cuda" and here > torch.cuda.device_count() and "CUDA_VISIBLE_DEVICES" not in os.environ:
        raise UsageError(f"found {here} ranks and {torch.cuda.device_count()} GPUs here; expected no more ranks than GPUs")
    on_gpu = ranks.world > 1 and runtime.device.type == "cuda"  # each rank has been given its own
    own = torch.device("cuda", torch.cuda.current_device()) if on_gpu else runtime.device
    return replace(runtime, device=own, parallel=parallel, ranks=ranks)


def _device(name: str) -> torch.device:
    try:
        chosen = torch.device(name)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device {name}: not available here; use cpu, or auto to let it be found") from error
    return chosen


def has_bf16(device: torch.device) -> bool:
    """Whether the device computes in bf16 with units made for it."""
    forced = os.environ.get("ALEXNET_BF16")
    if forced:
        return forced == "1"
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    able = torch.cpu.get_capabilities()
    return bool(able.get("amx_bf16") or able.get("avx512_bf16"))


def machine() -> dict[str, str]:
    """What figures are quoted with: processor, cores, bf16, versions."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return {
        "processor": _processor(),
        "cores": f"{os.cpu_count()} (torch uses {torch.get_num_threads()})",
        "gpu": torch.cuda.get_device_name() if device.type == "cuda" else "none",
        "bf16 units": "yes" if has_bf16(device) else "no",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "alexnet": __version__,
    }


def surroundings() -> dict[str, str]:
    """What else a report of trouble should tell: libraries, compiler, free disk."""
    free = shutil.disk_usage(".").free
    found = {name: version(name) for name in LIBRARIES}
    return found | {"C++ compiler": shutil.which("c++") or "none", "free disk here": f"{free / 2**30:.1f} GiB"}


@contextmanager
def stop_requests(ranks: Ranks = ALONE) -> Iterator[Callable[[], int]]:
    """While inside, Ctrl-C and SIGTERM only leave their number for the caller to ask for (0: none); a second one ends at once.

    Not so with several ranks: torchrun repeats a terminal's signal, and ends by itself what does not follow in half a minute.
    """
    requested = 0

    def note(number: int, frame: Any) -> None:
        nonlocal requested
        requested = number
        for each in STOPPING if ranks.world == 1 else ():
            signal.signal(each, former[each])

    former = {each: signal.signal(each, note) for each in STOPPING}
    try:
        yield lambda: requested
    finally:
        for each in STOPPING:
            signal.signal(each, former[each])


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):  # not Linux, or a processor that does not say
        return platform.processor() or "unknown"
