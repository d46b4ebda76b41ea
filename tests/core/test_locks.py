"""Lock files: one holder at a time, released when the holder ends, however it ends."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from alexnet.core.errors import AlexNetError
from alexnet.core.locks import exclusive_lock, is_locked, waiting_lock

HOLD = """
import sys
from pathlib import Path
from alexnet.core.locks import exclusive_lock
with exclusive_lock(Path(sys.argv[1]), "busy"):
    print("locked", flush=True)
    sys.stdin.readline()
"""


def test_a_second_holder_in_the_same_process_gets_the_message(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "lock"
    with exclusive_lock(path, "busy"), pytest.raises(AlexNetError, match="^wait for it$"):
        with exclusive_lock(path, "wait for it"):
            pytest.fail("two holders")
    with exclusive_lock(path, "busy"):
        pass


def test_an_error_inside_releases_the_lock(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="inside"), exclusive_lock(tmp_path / "lock", "busy"):
        raise ValueError("inside")
    with exclusive_lock(tmp_path / "lock", "busy"):
        pass


def test_a_lock_ends_with_a_process_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"locked"
        with pytest.raises(AlexNetError, match="busy"), exclusive_lock(path, "busy"):
            pytest.fail("two holders")
        process.kill()
        process.wait()
        with exclusive_lock(path, "busy"):
            pass


def test_a_waiting_lock_is_held_by_one_after_the_other(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "lock"
    events: list[str] = []
    is_waiting = threading.Event()

    def wait_and_hold() -> None:
        with waiting_lock(path, is_waiting.set):
            events.append("second")

    thread = threading.Thread(target=wait_and_hold)
    with waiting_lock(path, lambda: pytest.fail("nobody else holds it")):
        thread.start()
        assert is_waiting.wait(60)
        events.append("first")
    thread.join()
    assert events == ["first", "second"]


def test_is_locked_tells_whether_the_lock_is_held(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_locked(path)
    with exclusive_lock(path, "busy"):
        assert is_locked(path)
    assert not is_locked(path)
    with exclusive_lock(path, "busy"):  # looking has not kept it
        pass
