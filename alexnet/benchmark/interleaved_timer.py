"""Interleaved timing: in each round every case runs once, so that noise affects all cases alike.

glibc reads its allocator's settings before the first line of Python, so cases under other settings
run in other processes. Each process builds and warms up its cases and waits on a pipe; only one
runs at a time. Short repetitions are repeated until they fill a quarter of a second. Nothing here
knows what is timed.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any, Protocol

import torch

from alexnet.core.console import ProgressFn
from alexnet.core.device import configure_torch
from alexnet.core.errors import AlexNetError

MALLOC_VARIABLE = "GLIBC_TUNABLES"
THREADS_VARIABLE = "OMP_NUM_THREADS"  # also holds in threads that torch did not start
MIN_TURN_SECONDS = 0.25  # a turn ends when it has lasted this long
MAX_TURN_REPEATS = 20  # or when it has run this often
SPAWN = get_context("spawn")  # a fresh interpreter reads its environment


class Pipe(Protocol):
    """One end of a pipe between two processes; its class differs between systems."""

    def send(self, obj: Any, /) -> None: ...
    def recv(self) -> Any: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Workload:
    """Something ready to be timed: `run` does it once and returns its seconds."""

    run: Callable[[], float]
    images: int  # processed by one run


class Unavailable(AlexNetError):
    """A case cannot run on this machine; the message says why."""


@dataclass(frozen=True)
class ProcessSpec:
    """A process that runs cases."""

    name: str
    malloc_tunables: str = ""  # GLIBC_TUNABLES; "" leaves glibc's defaults
    configure: bool = False  # whether torch is configured as our commands do


@dataclass(frozen=True)
class Case:
    """A name, the process a workload runs in, and a function, sent to that process, to build it."""

    name: str
    process: ProcessSpec
    build: Callable[[], Workload]


@dataclass(frozen=True)
class Timing:
    """The seconds of a case's repetitions."""

    seconds: tuple[float, ...]
    images: int  # processed by one repetition


def timed_call(function: Callable[[], object], device: torch.device) -> Callable[[], float]:
    """Wrap a function to return its seconds, by CUDA events on a GPU, else by the host's clock."""

    def by_events() -> float:
        with torch.cuda.device(device):
            start = torch.cuda.Event(enable_timing=True)
            end = torch.cuda.Event(enable_timing=True)
            start.record()
            function()
            end.record()
            end.synchronize()
        return start.elapsed_time(end) / 1e3

    def by_host() -> float:
        start = time.perf_counter()
        function()
        return time.perf_counter() - start

    return by_events if device.type == "cuda" else by_host


@dataclass
class _Session:
    """The processes of a run, and what they reported so far."""

    pipes: dict[ProcessSpec, Pipe] = field(default_factory=dict)
    images: dict[str, int] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)


def time_interleaved(
    cases: Sequence[Case], repeats: int, threads: int, progress: ProgressFn
) -> tuple[dict[str, Timing], dict[str, str]]:
    """Time all cases in turns; return the timings, and why a case was unavailable, by name.

    `progress` receives (done, total) turns, of which the first of each case is its warm-up.
    """
    with ExitStack() as processes:
        session = _start_all(processes, cases, repeats, threads, progress)
        ready = [case for case in cases if case.name in session.images]
        seconds: dict[str, list[float]] = {case.name: [] for case in ready}
        turns = ready * repeats
        for done, case in enumerate(turns, len(cases) + 1):
            pipe = session.pipes[case.process]
            pipe.send(case.name)
            seconds[case.name] += _receive(pipe, case.name)
            progress(done, len(cases) + len(turns))
    timings = {name: Timing(tuple(each), session.images[name]) for name, each in seconds.items()}
    return timings, session.unavailable


def _start_all(
    processes: ExitStack,
    cases: Sequence[Case],
    repeats: int,
    threads: int,
    progress: ProgressFn,
) -> _Session:
    """Start a process for each spec and wait until all cases are built and warmed up."""
    session = _Session()
    done = 0
    for spec in dict.fromkeys(case.process for case in cases):
        builders = {case.name: case.build for case in cases if case.process == spec}
        pipe = processes.enter_context(_start_process(spec, builders, threads))
        session.pipes[spec] = pipe
        for name in builders:
            answer = _receive(pipe, name)
            if isinstance(answer, str):
                session.unavailable[name] = answer
            else:
                session.images[name] = answer
            done += 1
            progress(done, len(cases) * (1 + repeats))
    return session


@contextmanager
def _start_process(
    spec: ProcessSpec, builders: Mapping[str, Callable[[], Workload]], threads: int
) -> Iterator[Pipe]:
    """Start a process with some cases and yield its pipe.

    It first sends, for each case in order, its images per run, or the reason why it cannot run.
    """
    parent, child = SPAWN.Pipe()
    process = SPAWN.Process(
        target=_serve,
        args=(child, builders, threads, spec.configure),
        name=spec.name,
        daemon=True,
    )
    variables = {MALLOC_VARIABLE: spec.malloc_tunables, THREADS_VARIABLE: str(threads)}
    with _environment(variables):
        process.start()
    child.close()
    try:
        yield parent
    finally:
        process.terminate()  # it has nothing to finish
        process.join()


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables inside the block; those with an empty value are unset."""
    before = {name: os.environ.pop(name) for name in variables if name in os.environ}
    os.environ.update({name: value for name, value in variables.items() if value})
    try:
        yield
    finally:
        for name in variables:
            os.environ.pop(name, None)
        os.environ.update(before)


def _serve(
    pipe: Pipe,
    builders: Mapping[str, Callable[[], Workload]],
    threads: int,
    configure: bool,
) -> None:
    """Build and warm up every case, then run the requested ones until the pipe is closed.

    Runs in the other process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent process
    torch.set_num_threads(threads)
    if configure:
        configure_torch()
    torch.backends.cudnn.benchmark = True  # for the baselines as well
    workloads: dict[str, Workload] = {}
    for name, build in builders.items():
        try:
            workloads[name] = build()
            workloads[name].run()
            pipe.send(workloads[name].images)
        except Unavailable as reason:
            pipe.send(str(reason))
    with suppress(EOFError):
        while True:
            pipe.send(_run_turn(workloads[pipe.recv()]))


def _run_turn(workload: Workload) -> list[float]:
    """Run a workload once, or as often as fills a turn; return the seconds of each repetition."""
    start = time.monotonic()
    seconds = [workload.run()]
    while time.monotonic() - start < MIN_TURN_SECONDS and len(seconds) < MAX_TURN_REPEATS:
        seconds.append(workload.run())
    return seconds


def _receive(pipe: Pipe, name: str) -> Any:
    try:
        return pipe.recv()
    except (EOFError, ConnectionResetError) as error:
        raise AlexNetError(
            f"{name}: its process ended unexpectedly; without an error message above, it probably "
            "ran out of memory: try a smaller --batch-size"
        ) from error
