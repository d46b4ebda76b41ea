"""Requests to stop: the first signal is noted, the second one ends the process."""

import signal

import pytest

from alexnet.core.signals import stop_requests, stop_signals


def test_the_first_signal_is_noted_and_the_second_ends() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_requests() as stop_requested:
        assert stop_requested() == 0
        signal.raise_signal(signal.SIGTERM)
        assert stop_requested() == signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) == before
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_a_closed_terminal_is_a_request_unless_nohup_ignores_it() -> None:
    hangup = getattr(signal, "SIGHUP")  # noqa: B009 (mypy knows that Windows has none)
    before = signal.signal(hangup, signal.SIG_DFL)  # the tests may run under nohup themselves
    try:
        assert hangup in stop_signals()
        signal.signal(hangup, signal.SIG_IGN)
        assert hangup not in stop_signals()
    finally:
        signal.signal(hangup, before)


def test_signals_that_a_system_lacks_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "SIGHUP", raising=False)
    assert stop_signals()[:2] == (signal.SIGINT, signal.SIGTERM)
    monkeypatch.setattr(signal, "SIGBREAK", signal.SIGABRT, raising=False)
    assert stop_signals() == (signal.SIGINT, signal.SIGTERM, signal.SIGABRT)
