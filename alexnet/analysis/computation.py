"""Long computations in steps: generators that yield (done, total) and return their result.

Whoever runs one decides what happens between two steps: a command shows progress and runs on, a
service answers other requests, and either can stop.
"""

from collections.abc import Generator
from typing import TypeAlias, TypeVar

from alexnet.core.console import ProgressFn
from alexnet.evaluation.evaluate import no_progress

T = TypeVar("T")
Computation: TypeAlias = Generator[tuple[int, int], None, T]


def finish(steps: Computation[T], progress: ProgressFn = no_progress) -> T:
    """Take all steps and return the result."""
    while True:
        try:
            progress(*next(steps))
        except StopIteration as end:
            result: T = end.value
            return result
