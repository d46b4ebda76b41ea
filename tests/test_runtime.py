"""What the machine is asked: the device, the precision and the threads that a run gets for its wishes."""

import os
import signal
from pathlib import Path

import pytest
import torch

from alexnet import cores, runtime
from alexnet.errors import UsageError
from alexnet.ranks import ALONE, Ranks


def test_wishes_are_met_and_the_rest_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert runtime.choose("cpu", "fp64", 5).dtype == torch.float64
    assert runtime.choose("cpu", "fp64", 5).workers == 5
    for said, word in (("0", "fp32"), ("1", "bf16")):
        monkeypatch.setenv("ALEXNET_BF16", said)
        assert runtime.choose("cpu").precision == word
        assert runtime.choose("cpu", "fp32").precision == "fp32"


@pytest.mark.parametrize("device", ["cuda:99", "cpu,cuda:99", "abacus", ""])
def test_a_device_that_is_not_there_is_named(device: str) -> None:
    with pytest.raises(UsageError, match="not available here; use cpu"):
        runtime.choose(device)


def test_cudnn_tries_its_ways_unless_bits_must_stay() -> None:
    runtime.choose("cpu", deterministic=True)
    assert not torch.backends.cudnn.benchmark and torch.are_deterministic_algorithms_enabled()
    runtime.choose("cpu")
    assert (
        torch.backends.cudnn.benchmark
        and not torch.backends.cudnn.allow_tf32
        and not torch.are_deterministic_algorithms_enabled()
    )


def test_readers_leave_a_processor_its_cores_and_keep_a_gpu_fed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "cores", lambda: 16)
    assert runtime._readers(torch.device("cpu")) == 2
    assert runtime._readers(torch.device("cuda")) == 16
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert runtime._readers(torch.device("cuda", 1)) == 4


def test_a_containers_quota_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(192)))
    monkeypatch.setattr(cores, "QUOTA", tmp_path / "cpu.max")
    found = [cores.cores()]  # no such file
    for text in ("max 100000", "1600000 100000", "50000 100000", "19900000 100000", ""):
        (tmp_path / "cpu.max").write_text(text)
        found.append(cores.cores())
    assert found == [192, 192, 16, 1, 192, 192]


def test_several_processes_or_devices_must_be_told_how_to_share() -> None:
    one, two = runtime.choose("cpu"), runtime.choose("cpu,cpu")
    assert runtime.spread(one, "data", ALONE).parallel == "none"
    assert runtime.spread(one, "data", Ranks(0, 2)).parallel == "data"
    for found, way, ranks, said in (
        (one, "none", Ranks(0, 2), "2 processes"),
        (two, "none", ALONE, "2 devices"),
        (one, "towers", ALONE, "torchrun"),
        (two, "data", ALONE, "--parallel towers in one process"),
    ):
        with pytest.raises(UsageError, match=said):
            runtime.spread(found, way, ranks)  # type: ignore[arg-type]


def test_the_first_signal_is_noted_and_the_second_ends() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with runtime.stop_requests() as asked:
        assert asked() == 0
        signal.raise_signal(signal.SIGTERM)
        assert asked() == signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) == before
    assert signal.getsignal(signal.SIGTERM) == before
