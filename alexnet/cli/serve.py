"""The command serve: models, runs and the page over HTTP."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from alexnet.cli.options import MODEL, runtime_options

if TYPE_CHECKING:
    from alexnet.inference.server.security import Access
    from alexnet.inference.server.service import Service

DEFAULT_FOLDER = Path("runs")  # where `alexnet train` puts runs
MEBIBYTE = 1 << 20


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[MODEL|FOLDER]...")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="0 takes one that is free.",
)
@click.option("--dataset", default=None, help="Of models that know none of their own.")
@click.option(
    "--allow-training", is_flag=True, help="Let the page make datasets and runs in FOLDER."
)
@click.option(
    "--token",
    envvar="ALEXNET_TOKEN",
    default=None,
    help="What requests must bring; needed unless HOST is this machine only.",
)
@click.option(
    "--allow-host",
    multiple=True,
    metavar="NAME",
    help="Another name of this machine that requests may use.",
)
@click.option(
    "--max-body",
    type=click.IntRange(1, 1024),
    default=32,
    show_default=True,
    help="Largest request, MiB.",
)
@click.option(
    "--max-images",
    type=click.IntRange(1, 1024),
    default=64,
    show_default=True,
    help="Most images in a request.",
)
@click.option(
    "--queue",
    type=click.IntRange(1),
    default=256,
    show_default=True,
    help="Images that may wait; beyond, requests get status 503.",
)
@runtime_options
def serve(
    paths: tuple[Path, ...],
    host: str,
    port: int,
    dataset: str | None,
    allow_training: bool,
    token: str | None,
    allow_host: tuple[str, ...],
    max_body: int,
    max_images: int,
    queue: int,
    device: str,
    precision: str,
    workers: int | None,
) -> None:
    """Serve models over HTTP, and a page to look inside.

    MODELs are model files or runs' directories; a FOLDER of runs is listed, and its models are
    served too. Default: the folder "runs".

    \b
    Example:  alexnet serve run --port 8000
              curl --data-binary @cat.jpg http://127.0.0.1:8000/v1/predict
              curl -F a=@cat.jpg -F b=@dog.jpg "http://127.0.0.1:8000/v1/predict?top_k=3"
              curl --data-binary @cat.jpg "http://127.0.0.1:8000/v1/features?layer=fc7"
              curl http://127.0.0.1:8000/v1/models
    The whole interface is described at /docs.
    """
    require_extra()
    from alexnet.core.device import make_runtime
    from alexnet.core.errors import require
    from alexnet.inference.server.model_store import ModelStore
    from alexnet.inference.server.security import is_loopback, make_access
    from alexnet.inference.server.service import Limits, Service, known_dataset

    require(
        bool(token) or is_loopback(host),
        f"--host {host}: others can reach it; expected a --token (or ALEXNET_TOKEN) as well",
    )
    require(
        dataset is None or known_dataset(dataset) is not None,
        f"--dataset {dataset}: not there; expected a prepared dataset's folder or address",
    )
    access = make_access(host, allow_host, token)
    models, folder = split_paths(paths, allow_training)
    body = max_body * MEBIBYTE
    bodies = max(Limits.bodies, 2 * body)
    limits = Limits(body, bodies, max_images, queue=max(queue, max_images))
    runtime = make_runtime(device, precision, workers)
    store = ModelStore(models, folder, runtime)
    service = Service(store, runtime, folder, dataset, allow_training, limits)
    listen(service, access, host, port)


def require_extra() -> None:
    """Raise UsageError at the start where a package of the extra `serve` is missing."""
    from importlib.util import find_spec

    from alexnet.core.errors import require

    packages = ("starlette", "uvicorn", "h11", "python_multipart", "prometheus_client")
    missing = [name for name in packages if find_spec(name) is None]
    require(
        not missing,
        f'serve: {", ".join(missing)} not installed; pip install "alexnet[serve]"',
    )


def split_paths(
    paths: tuple[Path, ...], allow_training: bool
) -> tuple[dict[str, Path], Path | None]:
    """Return the model files by their names, and the folder of runs; UsageError for two folders.

    With `allow_training` a folder that is not there is made.
    """
    from alexnet.core.errors import require

    models: dict[str, Path] = {}
    folders: list[Path] = []
    for path in paths or (DEFAULT_FOLDER,):
        if allow_training and not path.exists() and not path.suffix:
            path.mkdir(parents=True)
        if is_folder_of_runs(path):
            folders.append(path)
        else:
            file = MODEL.convert(path, None, None)
            models[free_name(model_name(file), models)] = file
    require(len(folders) <= 1, f"{', '.join(map(str, folders))}: expected one folder of runs")
    require(
        bool(folders) or not allow_training,
        "--allow-training: found models only, expected a folder for datasets and runs as well",
    )
    return models, folders[0] if folders else None


def is_folder_of_runs(path: Path) -> bool:
    """Return whether a path is a folder that is not itself a run's."""
    from alexnet.models.model_file import MODEL_FILE
    from alexnet.training.run_dir import RECIPE_FILE

    return path.is_dir() and not any((path / name).is_file() for name in (MODEL_FILE, RECIPE_FILE))


def model_name(file: Path) -> str:
    """Return what a model file is called: its run's directory, or its own name."""
    from alexnet.models.model_file import MODEL_FILE

    file = file.resolve()
    return file.parent.name if file.name == MODEL_FILE else file.stem


def free_name(name: str, models: dict[str, Path]) -> str:
    """Return a name that no other model has: with a number where it is not free."""
    number = 2
    free = name
    while free in models:
        free = f"{name}-{number}"
        number += 1
    return free


def listen(service: "Service", access: "Access", host: str, port: int) -> None:
    """Serve until a signal; end with its status, 130 or 143."""
    from alexnet.core import console
    from alexnet.core.signals import stop_requests
    from alexnet.inference.server.server import bind, run
    from alexnet.inference.server.warm_up import warm_up

    listener = bind(host, port)
    for name in warm_up(service):
        console.print_status(f"model {name}")
    address = page_address(host, listener.getsockname()[1], access.token)

    def ready() -> None:
        console.print_line(f"serving at {address} (Ctrl-C stops)")

    with stop_requests() as stop:
        run(service, access, listener, stop, ready)
        sys.exit(128 + stop())


def page_address(host: str, port: int, token: str | None) -> str:
    """Return the address of the page, with the token where there is one.

    For a server on all addresses it is this machine's own.
    """
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1"
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}/" + (f"#token={token}" if token else "")
