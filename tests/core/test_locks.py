"""Lock files: one holder at a time, released when the holder ends, however it ends."""

import subprocess
import sys
from pathlib import Path

import pytest

from alexnet.core.errors import AlexNetError
from alexnet.core.locks import exclusive_lock

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
