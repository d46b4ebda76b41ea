"""Background jobs: each is computed once, and ends however its steps end."""

import asyncio
from collections.abc import Iterator

import pytest

from alexnet.analysis.computation import Computation
from alexnet.core.errors import AlexNetError
from alexnet.inference.server.background_jobs import BackgroundJobs
from alexnet.inference.server.service import Service
from tests.helpers.http_service import make_service


@pytest.fixture
def service() -> Iterator[Service]:
    service = make_service({})
    yield service
    service.close()


def test_a_job_is_computed_once(service: Service) -> None:
    started = []

    def count() -> Computation[str]:
        started.append("count")
        yield 1, 2
        return "counted"

    async def ask() -> object:
        jobs = BackgroundJobs(service)
        while not (job := jobs.start("key", count)).finished:
            await asyncio.sleep(0.01)
        assert (job.done, job.total) == (1, 2)
        return jobs.start("key", count).result

    assert asyncio.run(asyncio.wait_for(ask(), 60)) == "counted"
    assert started == ["count"]


@pytest.mark.parametrize("error", [AlexNetError("damaged"), OSError("vanished"), ValueError("NaN")])
def test_whatever_fails_is_told_once_and_begun_again(service: Service, error: Exception) -> None:
    def fail() -> Computation[None]:
        yield 1, 2
        raise error

    async def ask() -> None:
        jobs = BackgroundJobs(service)
        first = jobs.start("key", fail)
        while not first.finished:
            await asyncio.sleep(0.01)
        with pytest.raises(type(error), match=str(error)):
            jobs.start("key", fail)
        assert jobs.start("key", fail) is not first

    asyncio.run(asyncio.wait_for(ask(), 60))
