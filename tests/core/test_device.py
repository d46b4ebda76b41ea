"""The device, precision, threads and parallelism that a run gets for its settings."""

import os
from pathlib import Path

import pytest
import torch

from alexnet.core import cpu
from alexnet.core import device as device_module
from alexnet.core.device import ParallelMode, Runtime, make_runtime, with_parallelism
from alexnet.core.errors import UsageError
from alexnet.distributed.process_group import SINGLE_PROCESS, Ranks


def test_explicit_settings_are_used_and_the_others_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert make_runtime("cpu", "fp64", 5).dtype == torch.float64
    assert make_runtime("cpu", "fp64", 5).workers == 5
    for setting, precision in (("0", "fp32"), ("1", "bf16")):
        monkeypatch.setenv("ALEXNET_BF16", setting)
        assert make_runtime("cpu").precision == precision
        assert make_runtime("cpu", "fp32").precision == "fp32"


@pytest.mark.parametrize("device", ["cuda:99", "cpu,cuda:99", "abacus", ""])
def test_a_missing_device_is_named(device: str) -> None:
    with pytest.raises(UsageError, match="not available here; use cpu"):
        make_runtime(device)


def test_cudnn_benchmarks_unless_deterministic() -> None:
    make_runtime("cpu", deterministic=True)
    assert not torch.backends.cudnn.benchmark and torch.are_deterministic_algorithms_enabled()
    make_runtime("cpu")
    assert (
        torch.backends.cudnn.benchmark
        and not torch.backends.cudnn.allow_tf32
        and not torch.are_deterministic_algorithms_enabled()
    )


def test_default_workers_leave_cores_to_a_cpu_and_keep_a_gpu_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(device_module, "available_cores", lambda: 16)
    assert device_module._default_workers(torch.device("cpu")) == 2
    assert device_module._default_workers(torch.device("cuda")) == 16
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert device_module._default_workers(torch.device("cuda", 1)) == 4


def test_the_quota_of_a_container_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(192)), raising=False)
    monkeypatch.setattr(cpu, "CGROUP_QUOTA", tmp_path / "cpu.max")
    cores = [cpu.available_cores()]  # no such file
    for text in ("max 100000", "1600000 100000", "50000 100000", "19900000 100000", ""):
        (tmp_path / "cpu.max").write_text(text)
        cores.append(cpu.available_cores())
    assert cores == [192, 192, 16, 1, 192, 192]


def test_without_an_affinity_all_cores_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    monkeypatch.setattr(cpu, "CGROUP_QUOTA", tmp_path / "cpu.max")
    assert cpu.available_cores() == 12


def test_data_parallelism_of_one_process_is_none() -> None:
    runtime = make_runtime("cpu")
    assert with_parallelism(runtime, "data", SINGLE_PROCESS).parallel == "none"
    assert with_parallelism(runtime, "data", Ranks(0, 2)).parallel == "data"


ONE = Runtime(torch.device("cpu"), torch.float32, 1)
TWO = Runtime(torch.device("cpu"), torch.float32, 1, extra_devices=(torch.device("cpu"),))


@pytest.mark.parametrize(
    ("runtime", "parallel", "ranks", "message"),
    [
        (ONE, "none", Ranks(0, 2), '2 processes, but --parallel is "none": choose data'),
        (TWO, "none", SINGLE_PROCESS, "2 devices"),
        (ONE, "towers", SINGLE_PROCESS, "torchrun"),
        (ONE, "pipeline", SINGLE_PROCESS, "torchrun"),
        (TWO, "data", SINGLE_PROCESS, "--parallel towers in one process"),
    ],
)
def test_mode_ranks_and_devices_must_go_together(
    runtime: Runtime, parallel: ParallelMode, ranks: Ranks, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        with_parallelism(runtime, parallel, ranks)
