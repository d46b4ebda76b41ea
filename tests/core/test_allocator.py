"""The allocator's settings: the process is replaced once on Linux with glibc, never elsewhere."""

import os
import sys

import pytest

from alexnet.core import allocator


@pytest.fixture
def replaced(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Record the commands that this process would be replaced by; no settings are there yet."""
    commands: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda path, command: commands.append(command), raising=False)
    # Set before it is deleted, so that it is removed again after the test wherever it comes from.
    monkeypatch.setenv("GLIBC_TUNABLES", "")
    monkeypatch.delenv("GLIBC_TUNABLES")
    return commands


def test_on_glibc_the_same_command_starts_again_with_the_settings(
    replaced: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allocator, "uses_glibc", lambda: True)
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "alexnet", "train"])
    allocator.restart_with_allocator_settings()
    allocator.restart_with_allocator_settings()  # as the replaced process does
    assert replaced == [[sys.executable, "-m", "alexnet", "train"]]
    assert os.environ["GLIBC_TUNABLES"] == allocator.GLIBC_TUNABLES
    assert allocator.describe_allocator() == "keeps large tensors"


def test_the_users_own_settings_stay(
    replaced: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allocator, "uses_glibc", lambda: True)
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=0")
    allocator.restart_with_allocator_settings()
    assert replaced == []
    assert allocator.describe_allocator() == "as set: glibc.malloc.check=0"


def test_without_glibc_nothing_is_done(
    replaced: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    allocator.restart_with_allocator_settings()
    assert replaced == [] and "GLIBC_TUNABLES" not in os.environ
    assert "not Linux with glibc" in allocator.describe_allocator()


def test_a_process_that_cannot_be_replaced_goes_on(
    replaced: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str, command: list[str]) -> None:
        raise OSError("no such file")

    monkeypatch.setattr(allocator, "uses_glibc", lambda: True)
    monkeypatch.setattr(os, "execv", fail, raising=False)
    allocator.restart_with_allocator_settings()
    assert "GLIBC_TUNABLES" not in os.environ
