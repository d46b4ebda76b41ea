"""What a file's name says: is it an image, and in which order do names sort?

Nothing is opened here. A file counts as an image by its extension; hidden files and what
operating systems leave behind are no part of a data set. Names are compared by their UTF-8 bytes,
so the order is the same on every system.
"""

import os

IMAGE_SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".png",
    ".webp",
    ".bmp",
    ".gif",
    ".tif",
    ".tiff",
    ".ppm",
    ".pgm",
    ".pbm",
    ".pnm",
)
SYSTEM_FILES = {"thumbs.db", "desktop.ini", "__macosx", ".ds_store"}


def is_image_name(name: str) -> bool:
    """Whether a file of that name, relative to the source, is read as an image."""
    return skip_reason(name) is None


def skip_reason(name: str) -> str | None:
    """Return why a file is not read as an image, None if it is."""
    return hidden_reason(name) or _suffix_reason(name)


def hidden_reason(name: str) -> str | None:
    """Return why a file or folder is no part of the data set, None if its name does not say so."""
    parts = name.strip("/").split("/")
    if any(part.lower() in SYSTEM_FILES or part.startswith("._") for part in parts):
        return "system file"
    return "hidden" if any(part.startswith(".") for part in parts) else None


def name_bytes(name: str) -> bytes:
    """Return the bytes by which names are sorted and hashed."""
    return name.encode("utf-8", "surrogateescape")


def normalize_name(name: str) -> str:
    """Return an archive member's name without "./" and without leading or doubled slashes."""
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def _suffix_reason(name: str) -> str | None:
    suffix = os.path.splitext(name)[1].lower()
    if suffix in IMAGE_SUFFIXES:
        return None
    return f"unknown extension {suffix}" if suffix else "no extension"
