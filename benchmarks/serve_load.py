"""Does `alexnet serve` keep its promises under load? It is started on this machine and asked.

    python benchmarks/serve_load.py run --requests 10000 --json

In turn: the rate of good requests against `predict`'s on the same bytes; good and bad ones mixed,
with errors counted and memory compared; 50 slow clients while a normal one is answered; the time
in which image bombs are refused; the latency of an idle service against `predict`'s own. The load
comes from this process, which shares the processor with the server; it sends requests that were
made before and looks at the status lines only.
"""

import argparse
import asyncio
import io
import itertools
import json
import os
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from alexnet.api import as_classifier
from alexnet.core.allocator import restart_with_allocator_settings
from alexnet.core.device import make_runtime
from alexnet.inference.predict import predict_files

IMAGES = 256  # different ones
BAD_SHARE = 10  # one request of so many is bad
SLOW_CLIENTS = 50
SLOW_SECONDS = 20.0  # after which a slow client counts as never closed
REPEATS = 30  # of the measurements of one request
START_SECONDS = 120.0


@dataclass(frozen=True)
class RunningServer:
    """A server's process, where it answers, and the bytes of memory it had at first."""

    process: "subprocess.Popen[str]"
    host: str
    port: int

    def resident_bytes(self) -> int | None:
        """Return the memory of the process; None where the system does not tell."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            return None
        (line,) = [line for line in status.splitlines() if line.startswith("VmRSS")]
        return 1024 * int(line.split()[1])


@contextmanager
def running_server(model: Path, options: Sequence[str]) -> Iterator[RunningServer]:
    """Start `alexnet serve` with a model on a free port; stop it at the end."""
    words = [sys.executable, "-m", "alexnet", "serve", str(model), "--port", "0", *options]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith("serving at http://"):
                raise SystemExit("the server did not start")
            host, port = line.split()[2].removeprefix("http://").rstrip("/").split(":")
            yield RunningServer(process, host, int(port))
        finally:
            process.send_signal(signal.SIGTERM)


# ---- images and requests


def write_photos(folder: Path, count: int) -> list[Path]:
    """Write JPEG files of 500 x 375 pixels, as large as ImageNet's, from smooth random values."""
    random = np.random.default_rng(0)
    files = []
    for number in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (24, 32, 3), np.uint8))
        smooth = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC), np.int16)
        noisy = smooth + random.integers(-16, 17, smooth.shape, np.int16)
        files.append(folder / f"{number:04d}.jpg")
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(files[-1], quality=90)
    return files


def make_request(body: bytes, path: str = "/v1/predict", kind: str = "image/jpeg") -> bytes:
    """Return a request as it goes over the wire."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def bad_requests(photo: bytes) -> list[bytes]:
    """Return requests that are to be refused, each for another reason."""
    return [
        make_request(photo[: len(photo) // 2]),
        make_request(b"no image at all"),
        make_request(b""),
        make_request(photo, "/v1/predict?model=none"),
        make_request(photo, "/v1/predict?top_k=-1"),
        make_request(photo, "/v1/predict?crops=7"),
        make_request(b'{"images": ["%%%"]}', kind="application/json"),
        make_request(b"[" * 50_000, kind="application/json"),
        make_request(photo, kind="multipart/form-data; boundary=none"),
        make_request(photo, "/v1/nothing"),
        make_request(photo, "/v2/models/none/infer"),
        make_request(make_png(50_000, 50_000)),
    ]


def make_png(width: int, height: int, pixels: bytes = b"") -> bytes:
    """Return a PNG file of a gray image with these pixels, which may be too few."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(pixels, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def bombs() -> dict[str, bytes]:
    """Return small files of images that would take much memory or time."""
    rows = bytes(10_001 * 10_000)
    gif = io.BytesIO()
    Image.new("P", (16_000, 16_000)).save(gif, "GIF")
    return {
        "PNG of 100 million pixels": make_png(10_000, 10_000, rows),
        "PNG that tells of 2.5 billion": make_png(50_000, 50_000),
        "GIF of 256 million pixels": gif.getvalue(),
        "PPM that tells of 10 billion": b"P6\n100000 100000\n255\n",
    }


# ---- asking


async def ask(host: str, port: int, requests: Iterator[bytes], codes: Counter[int]) -> None:
    """Send requests one after the other on a connection, and count the answers' codes."""
    reader, writer = await asyncio.open_connection(host, port)
    for request in requests:
        writer.write(request)
        code = await read_answer(reader)
        codes[code] += 1
        if code == 0:
            writer.close()
            reader, writer = await asyncio.open_connection(host, port)
    writer.close()


async def read_answer(reader: asyncio.StreamReader) -> int:
    """Read an answer and return its status; 0 where the connection ended instead."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.partition(b":")[2])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        )
        await reader.readexactly(length)
    except (OSError, asyncio.IncompleteReadError):
        return 0
    return int(head.split(b" ", 2)[1])


async def ask_many(
    server: RunningServer, requests: Sequence[bytes], concurrency: int
) -> tuple[Counter[int], float]:
    """Send requests, `concurrency` at a time; return the codes' counts and the seconds."""
    codes: Counter[int] = Counter()
    remaining = iter(requests)
    start = time.perf_counter()
    clients = [ask(server.host, server.port, remaining, codes) for _ in range(concurrency)]
    await asyncio.gather(*clients)
    return codes, time.perf_counter() - start


def median_ms(action: Callable[[], object], repeats: int = REPEATS) -> float:
    """Return the median time of an action in milliseconds, after three to warm up."""
    times = []
    for _ in range(repeats + 3):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[3:])


# ---- measurements


def measure_rate(
    server: RunningServer, predict: Callable[[Sequence[Path]], object], files: Sequence[Path]
) -> dict[str, Any]:
    """Compare the images a second of the service and of `predict`, in turns."""
    requests = [make_request(file.read_bytes()) for file in files]
    speeds: dict[str, list[float]] = {"serve": [], "predict": []}
    for _ in range(3):
        _, seconds = asyncio.run(ask_many(server, requests, 64))
        speeds["serve"].append(len(files) / seconds)
        start = time.perf_counter()
        predict(files)
        speeds["predict"].append(len(files) / (time.perf_counter() - start))
    medians = {f"{name}_rate": statistics.median(values) for name, values in speeds.items()}
    return medians | {"share": medians["serve_rate"] / medians["predict_rate"]}


def measure_mixed(
    server: RunningServer, files: Sequence[Path], count: int, concurrency: int
) -> dict[str, Any]:
    """Send good and bad requests mixed; compare memory after a tenth of them and at the end."""
    good = [make_request(file.read_bytes()) for file in files]
    bad = itertools.cycle(bad_requests(files[0].read_bytes()))
    mixed = [
        next(bad) if index % BAD_SHARE == 0 else good[index % len(good)] for index in range(count)
    ]
    first, _ = asyncio.run(ask_many(server, mixed[: count // 10], concurrency))
    before = server.resident_bytes()
    codes, seconds = asyncio.run(ask_many(server, mixed[count // 10 :], concurrency))
    after = server.resident_bytes()
    codes += first
    ours = sum(number for code, number in codes.items() if code >= 500 and code != 503)
    return {
        "requests": count,
        "codes": dict(sorted(codes.items())),
        "errors": ours,
        "cut_off": codes[0],
        "requests_per_second": (count - count // 10) / seconds,
        "memory_before_mb": None if before is None else before / 1e6,
        "memory_after_mb": None if after is None else after / 1e6,
    }


def measure_slow_clients(server: RunningServer, request: bytes) -> dict[str, Any]:
    """Open slow clients of five kinds; ask as a normal one meanwhile, until all are closed."""
    return asyncio.run(_slow_clients(server, request))


async def _slow_clients(server: RunningServer, request: bytes) -> dict[str, Any]:
    kinds = itertools.cycle(["nothing", "headers", "body", "trickle", "idle"])
    clients = [slow_client(server, next(kinds), request) for _ in range(SLOW_CLIENTS)]
    tasks = [asyncio.create_task(client) for client in clients]
    normal: list[float] = []
    while not all(task.done() for task in tasks):
        start = time.perf_counter()
        codes: Counter[int] = Counter()
        await ask(server.host, server.port, iter([request]), codes)
        assert codes == {200: 1}
        normal.append(time.perf_counter() - start)
        await asyncio.sleep(0.2)
    seconds = [task.result() for task in tasks]
    return {
        "clients": len(tasks),
        "closed_within_seconds": max(seconds),
        "normal_answered": len(normal),
        "normal_median_ms": 1000 * statistics.median(normal),
        "normal_slowest_ms": 1000 * max(normal),
    }


async def slow_client(server: RunningServer, kind: str, request: bytes) -> float:
    """Be slow in one way; return the seconds after which the server closed the connection."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    start = time.perf_counter()
    head = request.index(b"\r\n\r\n") + 4
    beginnings = {"headers": head - 5, "body": head + 10, "trickle": head}
    writer.write(request[: beginnings.get(kind, 0)])
    if kind == "idle":
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"}")
    for position in range(head, len(request)):
        if kind == "trickle":
            writer.write(request[position : position + 1])
        try:
            if not await asyncio.wait_for(reader.read(1), 0.1):
                break
        except TimeoutError:
            if time.perf_counter() - start > SLOW_SECONDS:
                break
        except OSError:
            break
    writer.close()
    return time.perf_counter() - start


def measure_bombs(server: RunningServer) -> dict[str, float]:
    """Return the milliseconds in which each bomb is refused."""
    milliseconds = {}
    for name, data in bombs().items():
        request = make_request(data)
        codes, _ = asyncio.run(ask_many(server, [request], 1))
        assert set(codes) == {413}, (name, codes)
        milliseconds[name] = asyncio.run(latency_ms(server, [request]))
    return milliseconds


async def latency_ms(server: RunningServer, requests: Sequence[bytes]) -> float:
    """Return the median time of single requests on one connection, in milliseconds."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    times = []
    for request in itertools.islice(itertools.cycle(requests), REPEATS + 3):
        start = time.perf_counter()
        writer.write(request)
        await read_answer(reader)
        times.append(time.perf_counter() - start)
    writer.close()
    return 1000 * statistics.median(times[3:])


def measure_latency(
    server: RunningServer, predict: Callable[[Sequence[Path]], object], file: Path
) -> dict[str, float]:
    """Compare one request to an idle service with `predict` of the same file, in turns."""
    request = make_request(file.read_bytes())
    pairs = [
        (asyncio.run(latency_ms(server, [request])), median_ms(lambda: predict([file])))
        for _ in range(3)
    ]
    serve_ms, predict_ms = (statistics.median(values) for values in zip(*pairs, strict=True))
    return {"serve_ms": serve_ms, "predict_ms": predict_ms, "more_ms": serve_ms - predict_ms}


# ---- the whole


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run all measurements and return their results."""
    runtime = make_runtime(options.device, options.precision)
    classifier = as_classifier(options.model, runtime)
    crops = classifier.preprocessor.augmentation.test_crops

    def predict(files: Sequence[Path]) -> None:
        list(predict_files(classifier, files, crops, runtime))

    with tempfile.TemporaryDirectory() as folder:
        files = write_photos(Path(folder), options.images)
        predict(files[:4])
        flags = ["--device", options.device, "--precision", options.precision]
        with running_server(options.model, flags) as server:
            photo = make_request(files[0].read_bytes())
            return {
                "model": str(options.model),
                "crops": crops,
                "precision": runtime.precision,
                "processors": os.cpu_count(),
                "latency": measure_latency(server, predict, files[0]),
                "rate": measure_rate(server, predict, files),
                "bombs_ms": measure_bombs(server),
                "slow_clients": measure_slow_clients(server, photo),
                "mixed": measure_mixed(server, files, options.requests, options.concurrency),
            }


def main() -> None:
    """Parse the arguments, measure and print."""
    restart_with_allocator_settings()  # as the command has them: `predict` is compared with it
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", type=Path)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = measure(options)
    if options.json:
        print(json.dumps(result, indent=1))
        return
    for name, value in result.items():
        parts = value.items() if isinstance(value, dict) else [("", value)]
        for part, number in parts:
            text = f"{number:.1f}" if isinstance(number, float) else str(number)
            print(f"{name:14} {part:32} {text}")


if __name__ == "__main__":
    main()
