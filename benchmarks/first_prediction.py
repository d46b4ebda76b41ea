"""How long a first prediction by public weights takes, without the real network.

A file as large as torchvision's, with random weights and torchvision's names, is served on the
loopback address; the table of public weights gets its hash for as long as this program runs. Then
`alexnet predict torchvision IMAGE` runs twice, with an empty cache and with a full one. The
downloading and the conversion are real; the answers are those of random weights.

    python benchmarks/first_prediction.py IMAGE
"""

import argparse
import hashlib
import io
import os
import threading
import time
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from alexnet.cli.predict import predict
from alexnet.core.download import PublishedFile
from alexnet.models import pretrained
from alexnet.models.alexnet import create_model
from alexnet.models.convert.torchvision import to_state_dict
from alexnet.recipes.presets import get_recipe


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves the files of a folder, without a log."""

    def log_message(self, format: str, *arguments: object) -> None:
        """Log nothing."""


def made_file() -> bytes:
    """Return random weights as torchvision publishes its own: 244 MB."""
    weights = create_model("owt", 1000).state_dict()
    content = io.BytesIO()
    torch.save(to_state_dict(weights, get_recipe("owt").augmentation.scale), content)
    return content.getvalue()


def publish(content: bytes, folder: Path) -> ThreadingHTTPServer:
    """Serve a made file of weights, and put it into the table in the place of torchvision's."""
    real = pretrained.TORCHVISION
    (folder / real.file.name).write_bytes(content)
    handler = partial(QuietHandler, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}/"
    digest = hashlib.sha256(content).hexdigest()
    file = PublishedFile(real.file.name, len(content), digest, (address + real.file.name,))
    archive = replace(real.archive, urls=(address + real.archive.name,))  # which is not there
    pretrained.PRETRAINED[real.name] = replace(real, file=file, archive=archive)
    return server


def main() -> None:
    """Time both predictions and print their seconds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", type=Path)
    image = parser.parse_args().image
    with TemporaryDirectory() as folder:
        os.environ["ALEXNET_CACHE"] = str(Path(folder) / "cache")
        site = Path(folder) / "site"
        site.mkdir()
        server = publish(made_file(), site)
        for state in ("empty", "full"):
            started = time.monotonic()
            predict([pretrained.TORCHVISION.name, str(image)], standalone_mode=False)
            print(f"cache {state}: {time.monotonic() - started:.1f} s")
        server.shutdown()


if __name__ == "__main__":
    main()
