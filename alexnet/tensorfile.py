"""Tensors in a file with the hash of their own content: what model files and checkpoints are made of.

safetensors has no checksum of its own, and a flipped bit loads silently; so a digest over every tensor's name, type, shape and
bytes, and over the document stored with them, stands in the header and is compared before any tensor is used. The same content
gives the same file. It knows nothing of what the tensors mean.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from alexnet.durable import unwritten, whole
from alexnet.errors import AlexNetError

Tensors = Mapping[str, Tensor]
HEADER = "alexnet"  # the one key of the file's metadata: several would be written in any order
READABLE = 0o644  # safetensors makes files that only their owner can read


def write_tensors(path: Path, kind: str, tensors: Tensors, about: Mapping[str, Any]) -> None:
    """Write tensors and a JSON document `about` them, under a `kind` with a version such as alexnet-model/1; AlexNetError."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(about)
    header = {"format": kind, "sha256": _digest(kind, tensors, text), "about": text}
    try:
        with whole(path) as aside:
            save_file(tensors, aside, {HEADER: json.dumps(header)})
            aside.chmod(READABLE)
    except (OSError, SafetensorError) as error:
        raise unwritten(path, error) from error


def read_tensors(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the document `write_tensors` put there; anything else, or any damage, is an AlexNetError."""
    if not path.is_file():
        raise AlexNetError(f"{path}: {'a folder' if path.is_dir() else 'no such file'}; expected a file of format {kind}")
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {}).get(HEADER, "{}"))
            if header.get("format") != kind or not header.keys() >= {"about", "sha256"}:
                raise AlexNetError(f"{path}: its format is {header.get('format', 'unknown')}; expected {kind}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (the file is no dict)
    except (OSError, SafetensorError, ValueError) as error:
        raise AlexNetError(f"{path}: not a file of format {kind}, or a damaged one ({error})") from error
    if _digest(kind, tensors, header["about"]) != header["sha256"]:
        raise AlexNetError(f"{path}: damaged, its content does not match the hash it carries; restore it from a copy")
    return tensors, json.loads(header["about"])


def _digest(kind: str, tensors: Tensors, text: str) -> str:
    digest = hashlib.sha256(kind.encode() + b"\0" + text.encode() + b"\0")
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
