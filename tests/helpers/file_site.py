"""A server of files on the loopback address, with the faults of real ones: for download tests."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from alexnet.core.download import PublishedFile


@dataclass
class Site:
    """The server's files, how it behaves, and the requests it received."""

    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    lengths: bool = True  # announced in Content-Length
    max_bytes: int = 0  # answers end after this many; 0 = never
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    address: str = ""

    def publish(self, name: str, data: bytes, kind: str = "sha256") -> PublishedFile:
        """Serve a file; return it as a table of published files has it."""
        self.files[name] = data
        digest = hashlib.new(kind, data).hexdigest()
        return PublishedFile(name, len(data), digest, (self.address + name,))


class Handler(BaseHTTPRequestHandler):
    """Answers with a file from its server's site, or with the rest of it."""

    site: Site

    def do_GET(self) -> None:
        """Answer a request as the site's settings say."""
        requested = self.headers["Range"]
        self.site.requests.append((self.path, requested))
        data = self.site.files.get(self.path[1:])
        if data is None:
            return self.send_error(404)
        is_range = bool(requested) and self.site.ranges
        start = int(requested.removeprefix("bytes=").removesuffix("-")) if is_range else 0
        if start and start >= len(data):
            return self.send_error(416)
        self.send_response(206 if is_range else 200)
        if is_range:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if self.site.lengths:
            self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        end = start + self.site.max_bytes if self.site.max_bytes else len(data)
        self.wfile.write(data[start:end])

    def log_message(self, format: str, *arguments: object) -> None:
        """Log nothing."""


@contextmanager
def serve_files() -> Iterator[Site]:
    """Serve a site, without files at first, until the end of the block."""
    site = Site()
    handler = type("SiteHandler", (Handler,), {"site": site})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        site.address = f"http://127.0.0.1:{server.server_port}/"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()
