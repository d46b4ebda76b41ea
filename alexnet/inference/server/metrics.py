"""What the service counts and measures, for Prometheus: a registry of its own, no global state."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from alexnet.inference.server.batch_sizes import SIZES

NAMESPACE = "alexnet"
SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)  # upper bounds of the histogram


class Metrics:
    """The measured values: requests_total, request_seconds, batch_size and queue_depth."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "requests",
            "Answered requests.",
            ["route", "code"],
            namespace=NAMESPACE,
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "request_seconds",
            "From a request's headers to the end of its answer.",
            ["route"],
            namespace=NAMESPACE,
            registry=self.registry,
            buckets=SECONDS,
        )
        self.batch_size = Histogram(
            "batch_size",
            "Images computed together, without padding.",
            namespace=NAMESPACE,
            registry=self.registry,
            buckets=SIZES,
        )
        self.queue_depth = Gauge(
            "queue_depth",
            "Images and jobs that wait or are computed.",
            namespace=NAMESPACE,
            registry=self.registry,
        )

    def text(self) -> bytes:
        """Return all values in Prometheus' text format."""
        return generate_latest(self.registry)


class MeasuredApp:
    """Count and time the requests of an application, by the path of their route."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        status = 500  # where the application fails before it answers

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        finally:
            route = getattr(scope.get("route"), "path", "") or "page"
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.request_seconds.labels(route).observe(time.perf_counter() - start)
