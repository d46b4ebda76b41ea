"""Ordered, bounded prefetch in threads.

Threads suffice: Pillow and numpy decode and copy without holding the interpreter's lock. The
results do not depend on the number of threads.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def prefetch(jobs: Iterable[Callable[[], T]], workers: int) -> Generator[T]:
    """Yield the jobs' results in order, at most workers + 2 jobs ahead of the reader.

    Closing the generator early cancels the jobs that have not started.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="prefetch")
    pending: deque[Future[T]] = deque()
    try:
        for job in jobs:
            pending.append(pool.submit(job))
            if len(pending) >= workers + 2:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
