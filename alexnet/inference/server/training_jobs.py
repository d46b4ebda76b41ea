"""The training process of the service: `alexnet train` as a child, one at a time.

A process of its own, so that a crash or the memory of a training cannot hurt the service, and so
that stopping is what it is at a terminal: SIGTERM, upon which the run saves its state. When the
service stops, its training is stopped the same way, and can be resumed. What the process prints is
kept in the run's directory, and the last line of it where the process fails.
"""

import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from alexnet.inference.server.api_error import ApiError
from alexnet.inference.server.run_monitor import ERROR_FILE, LOG_FILE

SAVE_SECONDS = 8.0  # that closing waits for the state to be saved; it is saved in any case
STOPPED = frozenset({0, 130, 143, -signal.SIGINT, -signal.SIGTERM})  # exit status of no failure
LOG_TAIL = 4096  # bytes in which the last line of a log is looked for


class TrainingJobs:
    """The runs that this service trains, below one folder; at most one at a time."""

    def __init__(self, folder: Path, device: str) -> None:
        self._folder = folder.resolve()
        self._device = device
        self._lock = threading.Lock()
        self._name: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: threading.Thread | None = None
        self._stopping = False

    @property
    def running(self) -> str | None:
        """The name of the run that is being trained now."""
        return self._name

    def start(self, name: str, dataset: Path, options: Sequence[str]) -> None:
        """Train a new run on a dataset, with more options; ApiError 409 while another one runs."""
        out = str(self._folder / name)
        self._launch(name, [str(dataset.resolve()), "--out", out, *options])

    def resume(self, name: str) -> None:
        """Go on with a stopped run; ApiError 409 while another one runs."""
        self._launch(name, ["--resume", str(self._folder / name)])

    def stop(self, name: str) -> None:
        """Ask a run to save its state and end; ApiError 409 where this service does not train it.

        It ends after its running step.
        """
        with self._lock:
            if self._process is None or self._name != name:
                raise ApiError(
                    409, f"{name}: not trained by this server; stop it where it was started"
                )
            self._stopping = True
            request_stop(self._process)

    def close(self) -> None:
        """Stop the run; wait a few seconds until its state is saved."""
        with self._lock:
            watcher = self._watcher
            if self._process is not None:
                self._stopping = True
                request_stop(self._process)
        if watcher is not None:
            watcher.join(SAVE_SECONDS)

    def _launch(self, name: str, arguments: Sequence[str]) -> None:
        with self._lock:
            if self._name is not None:
                raise ApiError(
                    409, f"{self._name} is being trained; wait until it ends, or stop it first"
                )
            run = self._folder / name
            run.mkdir(exist_ok=True)
            (run / ERROR_FILE).unlink(missing_ok=True)
            process = start_process(["train", *arguments, "--device", self._device], run / LOG_FILE)
            self._name = name
            self._process = process
            self._stopping = False
            self._watcher = threading.Thread(
                target=self._watch, args=(process, run), name=f"training {name}", daemon=True
            )
            self._watcher.start()

    def _watch(self, process: "subprocess.Popen[bytes]", run: Path) -> None:
        """Wait until a process ends; note its error if it failed."""
        status = process.wait()
        with self._lock:
            try:
                if status not in STOPPED and not self._stopping:
                    text = last_error(run / LOG_FILE, status)
                    (run / ERROR_FILE).write_text(text, encoding="utf-8")
            finally:
                self._name = None
                self._process = None


def start_process(arguments: Sequence[str], log: Path) -> "subprocess.Popen[bytes]":
    """Start `alexnet` with arguments; what it prints goes to the file `log`.

    Ctrl-C at the server's terminal does not reach it: the service stops it itself.
    """
    command = [sys.executable, "-m", "alexnet", *arguments]
    with log.open("wb") as output:
        if sys.platform == "win32":
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                creationflags=subprocess.CREATE_NEW_PROCESS_GROUP,
            )
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def request_stop(process: "subprocess.Popen[bytes]") -> None:
    """Ask a process to save its state and end."""
    if sys.platform == "win32":
        process.send_signal(signal.CTRL_BREAK_EVENT)  # terminate() would end it unsaved
    else:
        process.terminate()


def last_error(log: Path, status: int) -> str:
    """Return the last line of a failed process's log, without the program's name."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LOG_TAIL))
        lines = file.read().decode("utf-8", "replace").split("\n")
    text = next((line.strip() for line in reversed(lines) if line.strip()), "")
    if status < 0:
        return f"ended by signal {-status}; a lack of memory can be the reason"
    return text.removeprefix("alexnet: ") or f"ended with status {status}"
