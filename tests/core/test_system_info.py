"""The facts about a machine are short texts, and there on every system."""

import platform
from pathlib import Path

import pytest

from alexnet.core import system_info


def test_every_fact_is_a_text() -> None:
    facts = system_info.machine_info() | system_info.environment_info()
    assert {"processor", "cores", "torch", "numpy", "C++ compiler", "cache folder"} <= facts.keys()
    assert all(isinstance(text, str) and text for text in facts.values())


def test_without_cpuinfo_the_system_names_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path, **options: str) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", fail)
    monkeypatch.setattr(platform, "processor", lambda: "arm")
    assert system_info._processor_name() == "arm"
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert system_info._processor_name() == "unknown"
