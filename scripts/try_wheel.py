"""Install a wheel into an empty environment, in a folder of its own, and use it as a newcomer does.

    python scripts/try_wheel.py dist/alexnet-*.whl

It downloads what the wheel depends on, takes some minutes, and prints the seconds of every step.
The first step that fails ends it with that step's status.
"""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from venv import EnvBuilder

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
EXTRAS = "onnx,serve"
DRAW = """
from pathlib import Path
from alexnet.data.synthetic import write_images
write_images(Path("images"), per_class=20)
"""
SMALL = ("--set", "network.input=3,67,67", "--batch-size", "16")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
START_SECONDS = 60  # that a server may take to start

Run = Callable[..., None]


def main() -> None:
    """Install the wheel named on the command line and try it."""
    (wheel,) = [Path(word).resolve() for word in sys.argv[1:]]
    with TemporaryDirectory() as name:
        folder = Path(name)
        run = runner(folder)
        install(run, wheel, folder)
        try_commands(run, folder)


def runner(folder: Path) -> Run:
    """Return a function that runs a program of the environment in `folder`, and prints its time."""

    def run(program: str, *words: object) -> None:
        command = [str(programs(folder) / program), *map(str, words)]
        with timed(program, *map(str, words)):
            subprocess.run(command, cwd=folder, env=ENVIRONMENT, check=True)

    return run


def programs(folder: Path) -> Path:
    """Return the folder of an environment's programs."""
    return folder / "environment" / ("Scripts" if os.name == "nt" else "bin")


@contextmanager
def timed(*words: str) -> Iterator[None]:
    """Print what is run, and the seconds it took."""
    print(f"\n== {' '.join(words)}", flush=True)
    start = time.monotonic()
    yield
    print(f"== {time.monotonic() - start:.1f} s", flush=True)


def install(run: Run, wheel: Path, folder: Path) -> None:
    """Install the wheel with the extras that its use below needs; torch first, as it is large."""
    EnvBuilder(with_pip=True).create(folder / "environment")
    pip = ("install", "--quiet", "--disable-pip-version-check", "--constraint", CONSTRAINTS)
    run("pip", *pip, "torch")
    run("pip", *pip, f"{wheel}[{EXTRAS}]")


def try_commands(run: Run, folder: Path) -> None:
    """Go from a folder of images to a model, its answers, its exports and its service."""
    image = folder / "images" / "fish" / "00000.jpg"
    run("alexnet", "--version")
    run("alexnet", "doctor")
    run("python", "-c", DRAW)
    run("alexnet", "prepare", "images", "dataset", "--size", 72)
    run("alexnet", "train", "dataset", "--out", "run", "--epochs", 20, *SMALL)
    run("alexnet", "predict", "run", image)
    run("alexnet", "report", "run")
    run("alexnet", "export", "run", "model.onnx")
    run("alexnet", "export", "run", "page", "--format", "page")
    serve_once(folder, image)
    run("alexnet", "demo", "--epochs", 1)


def serve_once(folder: Path, image: Path) -> None:
    """Serve the model, ask for one prediction, stop the service."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(programs(folder) / "alexnet"), "serve", "run", "--port", str(port)]
    with timed(*command):
        server = subprocess.Popen(command, cwd=folder, env=ENVIRONMENT)
        try:
            wait_for(f"http://127.0.0.1:{port}/readyz", server)
            url = f"http://127.0.0.1:{port}/v1/predict"
            with urllib.request.urlopen(url, image.read_bytes()) as answer:
                print(answer.read().decode())
        finally:
            server.terminate()
            server.wait()


def wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    """Wait until a server answers; exit where it has ended or takes too long."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            urllib.request.urlopen(url).close()
            return
        except OSError:
            time.sleep(0.1)
    sys.exit(f"no answer from {url}")


if __name__ == "__main__":
    main()
