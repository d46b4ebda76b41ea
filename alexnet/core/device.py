"""The device, precision and threads of a run. No other module asks the machine what it can compute.

Precision `auto` is bf16 where the processor or the GPU has instructions for it, and float32
elsewhere: emulated bf16 is several times slower than float32. ALEXNET_BF16=0 or 1 overrides what
the machine reports, so that both paths can be tested anywhere.
"""

import os
from dataclasses import dataclass, replace
from typing import Literal

import torch

from alexnet.core.cpu import available_cores
from alexnet.core.errors import UsageError
from alexnet.distributed.process_group import SINGLE_PROCESS, Ranks

ParallelMode = Literal["none", "data", "towers", "hybrid", "pipeline"]
PRECISIONS = {
    "bf16": torch.bfloat16,
    "fp32": torch.float32,
    "fp64": torch.float64,  # for comparisons
}
CPU_LOADER_THREADS = 2  # the network computes on the same cores


@dataclass(frozen=True)
class Runtime:
    """The device of this process, the dtype of weights and activations on it, and how it is fed.

    `workers`: threads that load and decode images. `parallel`: how the network is divided, among
    `ranks` (processes) or among the `devices` of this one, of which `device` is the first.
    """

    device: torch.device
    dtype: torch.dtype
    workers: int
    deterministic: bool = False
    parallel: ParallelMode = "none"
    ranks: Ranks = SINGLE_PROCESS
    extra_devices: tuple[torch.device, ...] = ()

    @property
    def precision(self) -> str:
        """Return the value of `--precision` for the dtype."""
        return next(name for name, dtype in PRECISIONS.items() if dtype == self.dtype)

    @property
    def devices(self) -> tuple[torch.device, ...]:
        """Return all devices of this process."""
        return (self.device, *self.extra_devices)


def make_runtime(
    device: str = "auto",
    precision: str = "auto",
    workers: int | None = None,
    deterministic: bool = False,
) -> Runtime:
    """Return the runtime of one process; UsageError where a device is not available.

    `device`: a torch device, several separated by commas, or auto. `workers`: None chooses two for
    a CPU, which computes the network on the same cores, and one a core for a GPU.
    """
    first, *others = _parse_devices(device)
    configure_torch(deterministic)
    default_dtype = torch.bfloat16 if has_bf16(first) else torch.float32
    return Runtime(
        first,
        PRECISIONS.get(precision, default_dtype),
        workers or _default_workers(first),
        deterministic,
        extra_devices=tuple(others),
    )


def configure_torch(deterministic: bool = False) -> None:
    """Set the process-wide switches of torch on which results and speed depend."""
    # Without it cuBLAS has no deterministic form.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)
    # A network has few shapes, and cuDNN's heuristics for grouped convolutions are poor.
    torch.backends.cudnn.benchmark = not deterministic
    # In convolutions, as torch has it in matrix products: fp32 means float32.
    torch.backends.cudnn.allow_tf32 = False


def has_bf16(device: torch.device) -> bool:
    """Return whether the device has instructions for bf16."""
    forced = os.environ.get("ALEXNET_BF16")
    if forced:
        return forced == "1"
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def with_parallelism(runtime: Runtime, parallel: ParallelMode, ranks: Ranks) -> Runtime:
    """Return the runtime of one of several ranks, or of one process with several devices.

    UsageError where the mode, the number of ranks and the number of devices do not go together.
    """
    distributed = ranks.world_size > 1 or len(runtime.devices) > 1
    if not distributed and parallel == "data":
        parallel = "none"  # of one process, the same thing
    _check_parallelism(runtime, parallel, ranks)
    device = runtime.device
    if ranks.world_size > 1 and device.type == "cuda":  # init_distributed gave each rank its own
        device = torch.device("cuda", torch.cuda.current_device())
    return replace(runtime, device=device, parallel=parallel, ranks=ranks)


def _check_parallelism(runtime: Runtime, parallel: ParallelMode, ranks: Ranks) -> None:
    processes = ranks.world_size
    devices = len(runtime.devices)
    if (processes > 1 or devices > 1) and parallel == "none":
        started = f"{processes} processes" if processes > 1 else f"{devices} devices"
        raise UsageError(
            f'{started}, but --parallel is "none": choose data, towers, hybrid or pipeline'
        )
    if processes == 1 and devices == 1 and parallel != "none":
        raise UsageError(
            f"--parallel {parallel}: found one process with one device; "
            "start it with torchrun --nproc-per-node 2 -m alexnet ..."
        )
    if devices > 1 and (parallel != "towers" or processes > 1):
        raise UsageError(
            f"--device with {devices} devices is for --parallel towers in one process; use torchrun"
        )
    _check_gpus(runtime.device)


def _check_gpus(device: torch.device) -> None:
    """UsageError if torchrun started more ranks on this machine than it has GPUs."""
    local_ranks = _local_world_size()
    gpus = torch.cuda.device_count()
    visible_chosen = "CUDA_VISIBLE_DEVICES" in os.environ
    if device.type == "cuda" and local_ranks > gpus and not visible_chosen:
        raise UsageError(
            f"found {local_ranks} ranks and {gpus} GPUs on this machine; "
            "expected no more ranks than GPUs"
        )


def _parse_devices(names: str) -> list[torch.device]:
    if names == "auto":
        names = "cuda" if torch.cuda.is_available() else "cpu"
    return [_parse_device(name) for name in names.split(",")]


def _parse_device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"--device {name}: not available here; use cpu, or auto to let it be found"
        ) from error
    return device


def _default_workers(device: torch.device) -> int:
    """Return how many threads load images; the ranks of a machine share its cores."""
    if device.type != "cuda":
        return CPU_LOADER_THREADS
    return max(CPU_LOADER_THREADS, available_cores() // _local_world_size())


def _local_world_size() -> int:
    """Return how many ranks torchrun started on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
