"""Runs over HTTP: list them, follow one as it grows, stop, resume and start them.

GET  /v1/recipes                  the named recipes
GET  /v1/datasets                 the prepared datasets below the folder
GET  /v1/runs                     where every run stands
POST /v1/runs                     {"dataset", "recipe", "epochs" or "minutes", "name"}: a new run
GET  /v1/runs/NAME                one run with its history, and the offset that it reaches to
GET  /v1/runs/NAME/events         its records as they come; ?after=OFFSET, or Last-Event-ID
POST /v1/runs/NAME/stop, /resume
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from alexnet.core.errors import AlexNetError
from alexnet.data.dataset_format import DESCRIPTION
from alexnet.data.prepared import open_dataset
from alexnet.inference.server import run_monitor
from alexnet.inference.server.api_error import ApiError
from alexnet.inference.server.run_events import MetricsTail, offset_of, run_events
from alexnet.inference.server.run_settings import RunSettings, choose_settings
from alexnet.inference.server.service import Service
from alexnet.inference.server.training_access import (
    child_folder,
    is_inside,
    read_object,
    require_folder,
    require_name,
    require_training,
)
from alexnet.inference.server.training_jobs import TrainingJobs
from alexnet.recipes.presets import RECIPES
from alexnet.training.checkpoint import is_running
from alexnet.training.run_dir import METRICS_FILE, RECIPE_FILE, RunHistory

MAX_STREAMS = 32
MAX_EPOCHS = 1000
MAX_MINUTES = 24 * 60


def routes(service: Service) -> list[BaseRoute]:
    """Return the routes of a service's runs; the training process ends with the service."""
    handlers = RunHandlers(service)
    return [
        Route("/v1/recipes", handlers.list_recipes),
        Route("/v1/datasets", handlers.list_datasets),
        Route("/v1/runs", handlers.list_runs, methods=["GET"]),
        Route("/v1/runs", handlers.start, methods=["POST"]),
        Route("/v1/runs/{name}", handlers.show),
        Route("/v1/runs/{name}/events", handlers.events),
        Route("/v1/runs/{name}/stop", handlers.stop, methods=["POST"]),
        Route("/v1/runs/{name}/resume", handlers.resume, methods=["POST"]),
    ]


class RunHandlers:
    """The handlers of the routes, with the training process and the number of open streams."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._jobs: TrainingJobs | None = None
        if service.folder is not None:
            self._jobs = TrainingJobs(service.folder, str(service.runtime.device))
            service.on_close.append(self._jobs.close)
        self._histories = run_monitor.Histories()
        self._streams = 0
        self._is_starting = False

    async def list_recipes(self, request: Request) -> Response:
        """Answer the named recipes, the default first."""
        names = sorted(RECIPES, key=lambda name: name != "modern")
        return JSONResponse({"recipes": [recipe_json(name) for name in names]})

    async def list_datasets(self, request: Request) -> Response:
        """Answer the datasets below the folder."""
        folder = require_folder(self._service)
        return JSONResponse({"datasets": await asyncio.to_thread(datasets_below, folder)})

    async def list_runs(self, request: Request) -> Response:
        """Answer where every run stands, the latest first."""
        folder = require_folder(self._service)
        return JSONResponse({"runs": await asyncio.to_thread(self._statuses, folder)})

    def _statuses(self, folder: Path) -> list[dict[str, Any]]:
        runs = run_monitor.list_runs(folder)
        runs.sort(key=started_at, reverse=True)
        return [self._status(run, self._histories.of(run)) for run in runs]

    def _status(self, run: Path, history: RunHistory | None) -> dict[str, Any]:
        own = self._jobs.running if self._jobs else None
        may_train = self._service.allow_training
        return run_monitor.run_status(run, history, own, may_train).to_json()

    async def show(self, request: Request) -> Response:
        """Answer one run with its history and the offset up to which it reaches at least."""
        run = self._run(request)
        return JSONResponse(await asyncio.to_thread(self._shown, run))

    def _shown(self, run: Path) -> dict[str, Any]:
        try:
            offset = (run / METRICS_FILE).stat().st_size
        except OSError:
            offset = 0
        history = self._histories.of(run)
        shown = {"history": run_monitor.history_json(history), "offset": offset}
        return self._status(run, history) | shown

    async def events(self, request: Request) -> Response:
        """Answer the records of a run as server-sent events."""
        run = self._run(request)
        if self._streams >= MAX_STREAMS:
            raise ApiError(503, "too many event streams are open; try again", retry_after=5)
        sent = request.headers.get("last-event-id") or request.query_params.get("after")
        tail = MetricsTail.after(run / METRICS_FILE, offset_of(sent))
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(
            self._counted_events(run, tail), media_type="text/event-stream", headers=headers
        )

    async def _counted_events(self, run: Path, tail: MetricsTail) -> AsyncIterator[str]:
        self._streams += 1
        try:
            async for text in run_events(tail, lambda: self._runs(run), self._service.stopping):
                yield text
        finally:
            self._streams -= 1

    def _runs(self, run: Path) -> bool:
        is_own = self._jobs is not None and self._jobs.running == run.name
        return is_own or is_running(run)

    async def stop(self, request: Request) -> Response:
        """Stop a run, which saves its state."""
        require_training(self._service, request)
        run = self._run(request)
        self._training.stop(run.name)
        return JSONResponse({"name": run.name}, 202)

    async def resume(self, request: Request) -> Response:
        """Go on with a stopped run."""
        require_training(self._service, request)
        run = self._run(request)
        history = await asyncio.to_thread(self._histories.of, run)
        status = await asyncio.to_thread(self._status, run, history)
        if not status["can_resume"]:
            raise ApiError(409, f"{run.name}: is {status['state']}; expected a stopped run")
        self._training.resume(run.name)
        return JSONResponse({"name": run.name}, 202)

    async def start(self, request: Request) -> Response:
        """Start a new run on a dataset below the folder."""
        folder = require_training(self._service, request)
        values = await read_object(request)
        name = require_name(values.get("name"), "run")
        run = child_folder(folder, name)
        dataset = self._dataset(folder, values)
        require_new_run(run)
        self._require_idle()
        self._is_starting = True
        try:
            settings = await self._settings(dataset, values)
            self._training.start(name, dataset, settings.options())
        finally:
            self._is_starting = False
        return JSONResponse({"name": name} | asdict(settings), 202)

    def _require_idle(self) -> None:
        busy = self._training.running or ("another run" if self._is_starting else None)
        if busy:
            raise ApiError(409, f"{busy} is being trained; wait until it ends, or stop it first")

    async def _settings(self, dataset: Path, values: dict[str, Any]) -> RunSettings:
        recipe = values.get("recipe", "modern")
        if recipe not in RECIPES:
            raise ApiError(400, f"recipe {recipe!r}: expected one of {', '.join(RECIPES)}")
        epochs = read_number(values, "epochs", 1, MAX_EPOCHS)
        minutes = read_number(values, "minutes", 0.1, MAX_MINUTES)
        count = None if epochs is None else int(epochs)
        runtime = self._service.runtime
        try:
            return await self._service.compute(
                lambda: choose_settings(dataset, recipe, count, minutes, runtime)
            )
        except AlexNetError as error:
            raise ApiError(400, str(error)) from error

    def _dataset(self, folder: Path, values: dict[str, Any]) -> Path:
        name = require_name(values.get("dataset"), "dataset")
        dataset = child_folder(folder, name)
        if not (dataset / DESCRIPTION).is_file():
            raise ApiError(404, f"dataset {name}: not found")
        return dataset

    def _run(self, request: Request) -> Path:
        """Return the directory of the run that a request names; ApiError 404."""
        folder = require_folder(self._service)
        name = request.path_params["name"]
        runs = {run.name: run for run in run_monitor.list_runs(folder)}
        if name not in runs:
            raise ApiError(404, f"run {name!r}: not found")
        return runs[name]

    @property
    def _training(self) -> TrainingJobs:
        assert self._jobs is not None, "require_training has refused a service without a folder"
        return self._jobs


def recipe_json(name: str) -> dict[str, Any]:
    """Return what a chooser shows of a recipe."""
    recipe = RECIPES[name]
    return {
        "name": name,
        "input": recipe.network.input,
        "epochs": recipe.training.epochs,
        "batch_size": recipe.training.batch_size,
    }


def datasets_below(folder: Path) -> list[dict[str, Any]]:
    """Return the prepared datasets below a folder; those that cannot be read are left out."""
    datasets = []
    for file in sorted(folder.glob(f"*/{DESCRIPTION}")):
        if not is_inside(folder, file.parent):
            continue
        try:
            dataset = open_dataset(file.parent)
        except AlexNetError:
            continue
        splits = {name: len(split) for name, split in dataset.splits.items()}
        size = dataset.decode_config.size
        datasets.append(
            {"name": file.parent.name, "classes": dataset.classes, "splits": splits, "size": size}
        )
    return datasets


def started_at(run: Path) -> float:
    """Return the time at which a run was started, as its files say."""
    for name in (RECIPE_FILE, run_monitor.LOG_FILE):
        try:
            return (run / name).stat().st_mtime
        except OSError:
            continue
    return 0.0


def require_new_run(run: Path) -> None:
    """Raise ApiError 409 where a name is used: by a run that has begun, or by something else."""
    if run.exists() and ((run / RECIPE_FILE).exists() or not (run / run_monitor.LOG_FILE).exists()):
        raise ApiError(409, f"{run.name}: exists already; choose another name")


def read_number(values: dict[str, Any], name: str, smallest: float, largest: float) -> float | None:
    """Return a number of a request, None where it is not given; ApiError 400."""
    value = values.get(name)
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not smallest <= value <= largest:
        raise ApiError(400, f"{name}={value!r}: expected a number from {smallest:g} to {largest:,}")
    return float(value)
