"""Contenders taking turns: in each round every contender has one, so that whatever else the machine does hits all alike.

glibc reads its allocator's settings before the first line of Python, so contenders under other settings live in other processes.
Each holds its contenders built and warmed up and waits on a pipe; only one works at a time. A repetition that is over at once is
repeated until it fills a quarter of a second. Nothing here knows what is measured.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import torch

from alexnet.errors import AlexNetError
from alexnet.runtime import settle

TUNABLES, THREADS = "GLIBC_TUNABLES", "OMP_NUM_THREADS"  # the latter also holds in threads that torch did not start
ENOUGH_SECONDS, ENOUGH_TIMES = 0.25, 20  # a turn ends with the repetition that reaches either
SPAWN = get_context("spawn")  # a fresh interpreter, which reads its environment anew

Tick = Callable[[int, int], None]  # (done, all)


@dataclass(frozen=True)
class Work:
    """A contender ready to go: `run` does one repetition and gives the seconds it took, for so many `pictures`."""

    run: Callable[[], float]
    pictures: int


class Missing(AlexNetError):
    """A contender cannot take part here; the text says why."""


@dataclass(frozen=True)
class Place:
    """A process, by the allocator settings that it starts with, none: as shipped; `ours`: torch is told what we tell it."""

    name: str
    tunables: str = ""
    ours: bool = False


@dataclass(frozen=True)
class Contender:
    """A name, the process it lives in, and how it is made there: a function that can be sent to another process."""

    name: str
    place: Place
    make: Callable[[], Work]


@dataclass(frozen=True)
class Timed:
    """The seconds of a contender's repetitions, for so many pictures each."""

    seconds: tuple[float, ...]
    pictures: int


def clocked(call: Callable[[], object], device: torch.device) -> Callable[[], float]:
    """`call` as a repetition: its seconds by the events of a GPU's own clock, by the host's clock elsewhere."""

    def by_events() -> float:
        with torch.cuda.device(device):
            began, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            began.record()
            call()
            ended.record()
            ended.synchronize()
        return began.elapsed_time(ended) / 1e3

    def by_host() -> float:
        began = time.perf_counter()
        call()
        return time.perf_counter() - began

    return by_events if device.type == "cuda" else by_host


def take_turns(contenders: Sequence[Contender], rounds: int, threads: int, tick: Tick) -> tuple[dict[str, Timed], dict[str, str]]:
    """What every contender took, by its name, and why those that are missing took no part."""
    turns, done = len(contenders) * (1 + rounds), count(1)  # the warm-up is a turn as well
    pipes: dict[Place, Connection] = {}
    pictures: dict[str, int] = {}
    missing: dict[str, str] = {}
    with ExitStack() as processes:
        for place in dict.fromkeys(contender.place for contender in contenders):
            own = {contender.name: contender.make for contender in contenders if contender.place == place}
            pipes[place] = processes.enter_context(_process(place, own, threads))
            for name in own:
                answer = _answer(pipes[place], name)
                if isinstance(answer, str):
                    missing[name] = answer
                else:
                    pictures[name] = answer
                tick(next(done), turns)
        ready = [contender for contender in contenders if contender.name in pictures]
        seconds: dict[str, list[float]] = {contender.name: [] for contender in ready}
        for contender in ready * rounds:
            pipes[contender.place].send(contender.name)
            seconds[contender.name] += _answer(pipes[contender.place], contender.name)
            tick(next(done), len(contenders) + len(ready) * rounds)
    return {name: Timed(tuple(each), pictures[name]) for name, each in seconds.items()}, missing


@contextmanager
def _process(place: Place, makes: Mapping[str, Callable[[], Work]], threads: int) -> Iterator[Connection]:
    """A process with these contenders, by its pipe: it first says of each how many pictures it takes, or why it is missing."""
    here, there = SPAWN.Pipe()
    process = SPAWN.Process(target=_serve, args=(there, makes, threads, place.ours), name=place.name, daemon=True)
    with _environment({TUNABLES: place.tunables, THREADS: str(threads)}):
        process.start()
    there.close()
    try:
        yield here
    finally:
        process.terminate()  # it has nothing to finish
        process.join()


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """The variables set for a while, unset where the value is empty."""
    before = {name: os.environ.pop(name) for name in settings if name in os.environ}
    os.environ.update({name: value for name, value in settings.items() if value})
    try:
        yield
    finally:
        for name in settings:
            os.environ.pop(name, None)
        os.environ.update(before)


def _serve(pipe: Connection, makes: Mapping[str, Callable[[], Work]], threads: int, ours: bool) -> None:
    """The other process: make and warm up every contender, then do a turn of whichever is named, until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    torch.set_num_threads(threads)
    if ours:
        settle()
    torch.backends.cudnn.benchmark = True  # cuDNN may try its ways for the rivals as well
    works: dict[str, Work] = {}
    for name, make in makes.items():
        try:
            works[name] = make()
            works[name].run()
            pipe.send(works[name].pictures)
        except Missing as reason:
            pipe.send(str(reason))
    with suppress(EOFError):
        while True:
            pipe.send(_turn(works[pipe.recv()].run))


def _turn(run: Callable[[], float]) -> list[float]:
    """The seconds of as many repetitions as fill a turn."""
    began, seconds = time.monotonic(), [run()]
    while time.monotonic() - began < ENOUGH_SECONDS and len(seconds) < ENOUGH_TIMES:
        seconds.append(run())
    return seconds


def _answer(pipe: Connection, name: str) -> Any:
    try:
        return pipe.recv()
    except (EOFError, ConnectionResetError) as end:
        raise AlexNetError(
            f"{name}: its process ended at work; if no complaint stands above, memory ran out: try a smaller --batch-size"
        ) from end
