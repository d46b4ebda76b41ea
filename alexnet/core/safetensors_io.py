"""Tensors in a file with a hash of their content: what model files and checkpoints are made of.

safetensors has no checksum of its own, and a flipped bit loads silently. So a digest over every
tensor's name, type, shape and bytes, and over the document stored with them, is in the header and
is compared before any tensor is used. The same content gives the same file. Nothing here knows what
the tensors mean.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from alexnet.core.atomic_io import WINDOWS, atomic_write, write_error
from alexnet.core.errors import AlexNetError

Tensors = Mapping[str, Tensor]
HEADER_KEY = "alexnet"  # the one key of the file's metadata: several would come in any order
READABLE = 0o644  # safetensors creates files that only their owner can read


def write_tensors(path: Path, kind: str, tensors: Tensors, about: Mapping[str, Any]) -> None:
    """Write tensors and the JSON document `about` to `path`; AlexNetError if it cannot be written.

    `kind`: the format with its version, such as alexnet-model/1.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(about)
    header = {"format": kind, "sha256": _digest(kind, tensors, text), "about": text}
    try:
        with atomic_write(path) as temporary:
            save_file(tensors, temporary, {HEADER_KEY: json.dumps(header)})
            temporary.chmod(READABLE)
    except (OSError, SafetensorError) as error:
        raise write_error(path, error) from error


def read_tensors(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the document of a file by `write_tensors`.

    AlexNetError if there is no such file, if it has another format, or if it is damaged.
    """
    with _open_file(path, kind) as file:
        header = _read_header(path, kind, file)
        tensors = {name: _get(file, name) for name in file.keys()}  # noqa: SIM118 (no dict)
    if _digest(kind, tensors, header["about"]) != header["sha256"]:
        raise AlexNetError(
            f"{path}: damaged, its content does not match its hash; restore it from a copy"
        )
    return tensors, json.loads(header["about"])


def read_document(path: Path, kind: str) -> dict[str, Any]:
    """Return the document of a file by `write_tensors` without reading, or verifying, the tensors.

    AlexNetError as `read_tensors` raises it.
    """
    with _open_file(path, kind) as file:
        document: dict[str, Any] = json.loads(_read_header(path, kind, file)["about"])
    return document


def read_digest(path: Path, kind: str) -> str:
    """Return the hash that a file by `write_tensors` states of its content, in hexadecimal.

    AlexNetError as `read_tensors` raises it, which compares it with the content.
    """
    with _open_file(path, kind) as file:
        digest: str = _read_header(path, kind, file)["sha256"]
    return digest


@contextmanager
def _open_file(path: Path, kind: str) -> Iterator[Any]:
    """Open a safetensors file; AlexNetError where it, or what is read of it, is damaged."""
    if not path.is_file():
        problem = "a folder" if path.is_dir() else "no such file"
        raise AlexNetError(f"{path}: {problem}; expected a file of format {kind}")
    try:
        with safe_open(path, "pt") as file:
            yield file
    except (OSError, SafetensorError, ValueError) as error:
        raise AlexNetError(
            f"{path}: not a file of format {kind}, or a damaged one ({error})"
        ) from error


def _read_header(path: Path, kind: str, file: Any) -> dict[str, Any]:
    header: dict[str, Any] = json.loads((file.metadata() or {}).get(HEADER_KEY, "{}"))
    if header.get("format") != kind or not header.keys() >= {"about", "sha256"}:
        actual = header.get("format", "unknown")
        raise AlexNetError(f"{path}: its format is {actual}; expected {kind}")
    return header


def _get(file: Any, name: str) -> Tensor:
    """Return a tensor, which may be a map of the file: Windows cannot replace a mapped file."""
    tensor: Tensor = file.get_tensor(name)
    return tensor.clone() if WINDOWS else tensor


def _digest(kind: str, tensors: Tensors, text: str) -> str:
    digest = hashlib.sha256(kind.encode() + b"\0" + text.encode() + b"\0")
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
