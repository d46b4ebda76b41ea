"""Work done ahead in threads, a bounded number of jobs deep, its results in order.

Threads suffice: Pillow and numpy decode and copy without holding the interpreter's lock. What is made does not depend on how many
threads make it.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def prefetched(jobs: Iterable[Callable[[], T]], workers: int) -> Generator[T]:
    """The jobs' results in order, at most workers + 2 jobs ahead of the reader; stopping early drops what waits."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="ahead")
    waiting: deque[Future[T]] = deque()
    try:
        for job in jobs:
            waiting.append(pool.submit(job))
            if len(waiting) >= workers + 2:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
