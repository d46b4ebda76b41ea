"""Work that takes longer than a request: computed in steps, between which others are answered.

A job is started by the first request that asks for its result and goes on without it. Each step is
one job of the thread that computes, so a prediction waits for one step at most. When the service
stops, a job ends after its step.
"""

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.responses import JSONResponse, Response

from alexnet.analysis.computation import Computation
from alexnet.inference.server.api_error import ApiError
from alexnet.inference.server.service import Service

MAX_KEPT = 16  # finished jobs, the least recently used go first
SECONDS_TO_RETRY = 0.2  # where the queue is full

T = TypeVar("T")


@dataclass(eq=False)
class Job:
    """Steps under way, how far they are, and what came of them."""

    steps: Computation[Any]
    done: int = 0
    total: int = 0
    finished: bool = False
    result: Any = None
    error: Exception | None = None

    def step(self) -> None:
        """Take one step; whatever it fails with is kept for those who ask for the result."""
        try:
            self.done, self.total = next(self.steps)
        except StopIteration as end:
            self.result = end.value
            self.finished = True
        except Exception as error:
            self.error = error
            self.finished = True


class BackgroundJobs:
    """The jobs of a service by key; one key is computed once."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._jobs: dict[Hashable, Job] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, key: Hashable, make: Callable[[], Computation[Any]]) -> Job:
        """Return the job of a key, started when it is first asked for.

        A failed one raises its error once; the next request starts it again.
        """
        job = self._jobs.pop(key, None)
        if job is not None and job.error is not None:
            raise job.error
        if job is None:
            job = Job(make())
            task = asyncio.get_running_loop().create_task(self._run(job))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._jobs[key] = job  # the last used one is at the end
        self._forget_finished()
        return job

    async def _run(self, job: Job) -> None:
        try:
            while not job.finished and not self._service.stopping.is_set():
                await compute_patiently(self._service, job.step)
        finally:
            job.steps.close()

    def _forget_finished(self) -> None:
        finished = [key for key, job in self._jobs.items() if job.finished]
        for key in finished[: max(0, len(finished) - MAX_KEPT)]:
            del self._jobs[key]


async def compute_patiently(service: Service, job: Callable[[], T]) -> T:
    """Run a job in the thread that computes; where the queue is full, wait instead of failing."""
    while True:
        try:
            return await service.compute(job)
        except ApiError as error:
            if error.status != 503:
                raise
        await asyncio.sleep(SECONDS_TO_RETRY)


def job_answer(job: Job) -> Response:
    """Answer that a job is under way, and how far it is: 202."""
    headers = {"Retry-After": "1"}
    return JSONResponse({"done": job.done, "total": job.total}, 202, headers)
