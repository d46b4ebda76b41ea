"""Images that a browser sends, one file after the other, until a dataset is made of them.

They lie below the served folder, in .uploads/ID/CLASS/FILE, and are deleted once the dataset is
made. Names come from outside: a name that is not safe on every file system is refused.
"""

import secrets
import shutil
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from alexnet.core.cpu import available_cores
from alexnet.core.errors import AlexNetError
from alexnet.data.build import choose_encoding, prepare
from alexnet.data.build_plan import PrepareSummary
from alexnet.data.images import DecodeConfig
from alexnet.data.readers import SplitFractions, open_source
from alexnet.data.readers.names import hidden_reason, is_image_name
from alexnet.inference.server.api_error import ApiError
from alexnet.inference.server.training_access import is_device

UPLOADS_DIR = ".uploads"
MAX_FILES = 100_000  # of an upload
MAX_UPLOADS = 8  # at a time
IDLE_SECONDS = 600.0  # after which an upload that nobody goes on with is deleted
MIN_FREE_BYTES = 2 << 30  # that stay free on the disk
ABANDONED_SECONDS = 24 * 3600  # after which what a killed server has left is deleted
MAX_NAME_BYTES = 200
UNSAFE = frozenset('/\\<>:"|?*')  # in a name, on one of the systems; control characters, too

State = Literal["receiving", "preparing", "prepared", "failed"]


class Cancelled(AlexNetError):
    """The preparation was cancelled: the upload was deleted, or the service stops."""


@dataclass(eq=False)
class Upload:
    """Images on their way to a dataset; `done` and `total` count those that are prepared."""

    folder: Path
    state: State = "receiving"
    files: int = 0
    bytes: int = 0
    done: int = 0
    total: int = 0
    summary: PrepareSummary | None = None
    error: str | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)
    used: float = field(default_factory=time.monotonic)  # when something last came or ended

    def to_json(self) -> dict[str, Any]:
        """Return the upload as a JSON object."""
        names = ("state", "files", "bytes", "done", "total", "error")
        document = {name: getattr(self, name) for name in names}
        if self.summary is not None:
            shown = ("images", "classes", "splits", "bad", "left_out", "warnings")
            document["summary"] = {name: getattr(self.summary, name) for name in shown}
        return document


class Uploads:
    """The uploads below a folder, by id."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / UPLOADS_DIR
        self._uploads: dict[str, Upload] = {}

    def create(self) -> str:
        """Begin an upload; return its id. ApiError 503 where too many are open."""
        if len(self._uploads) >= MAX_UPLOADS:
            raise ApiError(503, f"{MAX_UPLOADS} uploads are open; finish one", retry_after=10)
        upload_id = secrets.token_hex(16)
        folder = self._folder / upload_id
        folder.mkdir(parents=True)
        self._uploads[upload_id] = Upload(folder)
        return upload_id

    def get(self, upload_id: str) -> Upload:
        """Return an upload; ApiError 404."""
        if upload_id not in self._uploads:
            raise ApiError(404, "upload: not found; it may have been deleted")
        return self._uploads[upload_id]

    def delete(self, upload_id: str) -> None:
        """Forget an upload and delete its images; a preparation is cancelled."""
        upload = self.get(upload_id)
        self._uploads.pop(upload_id, None)
        upload.cancelled.set()
        shutil.rmtree(upload.folder, ignore_errors=True)

    def remove_abandoned(self) -> None:
        """Delete what nobody will finish: uploads of closed pages, and of servers before."""
        now = time.monotonic()
        for upload_id, upload in list(self._uploads.items()):
            if upload.state != "preparing" and now - upload.used > IDLE_SECONDS:
                self.delete(upload_id)
        for old in self._folder.iterdir() if self._folder.is_dir() else ():
            is_old = time.time() - old.stat().st_mtime > ABANDONED_SECONDS
            if is_old and old.name not in self._uploads:
                shutil.rmtree(old, ignore_errors=True)

    def close(self) -> None:
        """Delete all uploads: nobody can finish them."""
        for upload_id in list(self._uploads):
            self.delete(upload_id)


# ---- receiving


async def receive(
    upload: Upload, label: str, name: str, chunks: AsyncIterator[bytes], max_bytes: int
) -> None:
    """Store a file of an upload; ApiError 400, 409, 413, 415 or 507 where it is not accepted.

    The file has its name once it is complete; a file that comes again replaces the first.
    """
    require_safe(label, "class")
    require_safe(name, "file")
    if not is_image_name(name):
        raise ApiError(415, f"{name}: expected a file with an image's extension, such as .jpg")
    if upload.state != "receiving":
        raise ApiError(409, f"the upload is {upload.state}; begin another one")
    if upload.files >= MAX_FILES:
        raise ApiError(413, f"expected at most {MAX_FILES:,} images; prepare more from a terminal")
    path = upload.folder / label / name
    partial = path.with_name(f".{secrets.token_hex(8)}")  # hidden: never read as an image
    try:
        path.parent.mkdir(exist_ok=True)
        size = await _write(partial, chunks, max_bytes)
        is_new = not path.exists()
        partial.replace(path)
    except FileNotFoundError as error:
        raise ApiError(404, "upload: was deleted") from error
    finally:
        partial.unlink(missing_ok=True)
    upload.files += is_new
    upload.bytes += size
    upload.used = time.monotonic()


async def _write(path: Path, chunks: AsyncIterator[bytes], max_bytes: int) -> int:
    """Write chunks to a file while they are few enough and the disk has room; return the size."""
    free = shutil.disk_usage(path.parent).free - MIN_FREE_BYTES
    size = 0
    with path.open("wb") as file:
        async for chunk in chunks:
            size += len(chunk)
            if size > max_bytes:
                raise ApiError(413, f"file: expected at most {max_bytes:,} bytes")
            if size > free:
                raise ApiError(507, "the disk is almost full; free some space")
            file.write(chunk)
    return size


def require_safe(name: str, what: str) -> None:
    """Raise ApiError 400 unless a name can be a file's on every system, and is not hidden.

    Class names may be in any language: the name of the folder is the name of the class.
    """
    is_safe = (
        0 < len(name.encode("utf-8", "replace")) <= MAX_NAME_BYTES
        and name.isprintable()
        and UNSAFE.isdisjoint(name)
        and name == name.strip(" ")
        and not name.endswith(".")
        and not hidden_reason(name)
        and not is_device(name)
    )
    if not is_safe:
        raise ApiError(400, f"{what} {name!r}: expected a plain name without / \\ or a leading dot")


# ---- preparing


def start_preparing(upload: Upload, dataset: Path, size: int, val_fraction: float) -> None:
    """Make a dataset of an upload in a thread; the upload tells how far it is."""
    if upload.state != "receiving":
        raise ApiError(409, f"the upload is {upload.state}; begin another one")
    upload.state = "preparing"
    upload.total = upload.files
    thread = threading.Thread(
        target=_prepare,
        args=(upload, dataset, size, val_fraction),
        name=f"prepare {dataset.name}",
        daemon=True,
    )
    thread.start()


def _prepare(upload: Upload, dataset: Path, size: int, val_fraction: float) -> None:
    """Prepare an upload's images; delete them if that went well."""

    def progress(done: int, total: int) -> None:
        if upload.cancelled.is_set():
            raise Cancelled("cancelled")
        upload.done = done
        upload.total = total

    try:
        with open_source(str(upload.folder)) as source:
            upload.summary = prepare(
                source,
                dataset,
                DecodeConfig(size=size, encoding=choose_encoding(size), exif=source.exif),
                SplitFractions(val_fraction, 0.0),
                on_error="skip",
                workers=available_cores(),
                progress=progress,
            )
    except Exception as error:
        shutil.rmtree(dataset.with_name(f"{dataset.name}.unfinished"), ignore_errors=True)
        upload.error = str(error) or type(error).__name__
        upload.used = time.monotonic()
        upload.state = "failed"
        if not isinstance(error, AlexNetError | OSError):
            raise  # a defect of ours; the traceback goes to the log
        return
    shutil.rmtree(upload.folder, ignore_errors=True)
    upload.used = time.monotonic()
    upload.state = "prepared"
