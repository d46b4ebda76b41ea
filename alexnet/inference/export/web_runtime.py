"""ONNX Runtime Web: the files with which a page runs a network in the visitor's browser.

They come from the npm package, of one version, checked against the hash that the registry states
for it. They are not in git, a wheel has them (`make wheel`). The two files suffice for one thread
and for several: `import * as ort from "./ort.wasm.bundle.min.mjs"` loads the .wasm beside it.
"""

import base64
import hashlib
import tarfile
from pathlib import Path

from alexnet.core.atomic_io import write_bytes
from alexnet.core.errors import AlexNetError

PACKAGE = "onnxruntime-web@1.30.0"
# as `npm view onnxruntime-web@1.30.0 dist.integrity` says
INTEGRITY = (
    "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZ"
    "ClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
)
ARCHIVE_FOLDER = "package/dist"  # in the npm package
RUNTIME_FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
LICENSE = "LICENSE.txt"  # ours: the npm package has none
FOLDER = Path(__file__).with_name("onnxruntime_web")


def runtime_files() -> dict[str, Path]:
    """Return the paths of the runtime's files and of their license, by file name.

    AlexNetError where they are missing, as in a fresh checkout.
    """
    files = {name: FOLDER / name for name in (*RUNTIME_FILES, LICENSE)}
    missing = [name for name, path in files.items() if not path.is_file()]
    if missing:
        raise AlexNetError(
            f"{FOLDER}: no {' and no '.join(missing)}, which run the page's network; "
            f"get them with `make web-runtime`, or give what `npm pack {PACKAGE}` "
            "writes as --runtime FILE.tgz"
        )
    return files


def unpack_runtime(archive: Path, folder: Path) -> dict[str, Path]:
    """Unpack the runtime's files from the npm package into a folder; return their paths by name.

    AlexNetError unless the archive is the one whose hash is known.
    """
    _require_integrity(archive)
    files = {LICENSE: FOLDER / LICENSE}
    with tarfile.open(archive) as tar:
        for name in RUNTIME_FILES:
            member = tar.extractfile(f"{ARCHIVE_FOLDER}/{name}")
            assert member is not None, "the archive with this hash has the file"
            files[name] = folder / name
            write_bytes(files[name], member.read())
    return files


def _require_integrity(archive: Path) -> None:
    """Raise AlexNetError unless a file's hash, in npm's notation, is that of the package."""
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    integrity = f"sha512-{base64.b64encode(digest).decode()}"
    if integrity != INTEGRITY:
        raise AlexNetError(
            f"{archive}: not {PACKAGE} (its hash is {integrity[:20]}..., expected "
            f"{INTEGRITY[:20]}...); get it with `npm pack {PACKAGE}`"
        )
