"""List the files of a tar, or of the tars in a tar, as ranges of its bytes; nothing is extracted.

The headers are parsed here, not by `tarfile`: it stops in silence at a damaged header, and before
Python 3.11.10 it also passes over damaged pax records, so that files get lost or wrong names. It
also cannot read a tar inside a range of bytes, and keeps an object for each of ImageNet's 1.3
million members. Here all damage is an error that states the byte. Compressed tars are refused,
since their files cannot be reached one by one.
"""

import os
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import NamedTuple

from alexnet.core.errors import AlexNetError
from alexnet.data.dataset_format import TAR_BLOCK
from alexnet.data.prefetch import prefetch
from alexnet.data.readers.listing import FileEntry, Listing, PositionedFile
from alexnet.data.readers.names import normalize_name

# type flags
REGULAR = (b"0", b"\0", b"7")
LINKS = (b"1", b"2")
FOLDER = b"5"
WITHOUT_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")
GNU_LONG_NAME = b"L"
PAX = b"x"
SPARSE = b"S"
EXTENSIONS = (b"L", b"K", b"x", b"g")  # these describe the next member, or all of them

MAX_EXTENSION_SIZE = 1 << 20  # bytes
LISTING_THREADS = 8  # for the tars in a tar: they mostly wait for the disk
SCAN_CHUNK = 1 << 20  # bytes


def is_tar_start(data: bytes) -> bool:
    """Whether a file's first bytes are those of a tar: a member's header, or the end mark."""
    if len(data) < TAR_BLOCK:
        return False
    header = data[:TAR_BLOCK]
    return not any(header) or _checksum_matches(header)


def list_tar(path: str) -> Listing:
    """Return all files of a tar; AlexNetError with the byte if it is damaged."""
    archive = PositionedFile(path)
    try:
        return _list_range(archive, 0, os.path.getsize(path))
    except AlexNetError as error:
        archive.close()
        raise _damaged_archive(path, error) from error


def list_tar_of_tars(path: str) -> Listing:
    """Return all files of the tars in a tar, each a folder named like its file without ".tar".

    Files that are no tars are ignored. Raises AlexNetError if any of the tars is damaged.
    """
    archive = PositionedFile(path)
    try:
        return _list_inner_tars(archive, _list_range(archive, 0, os.path.getsize(path)))
    except AlexNetError as error:
        archive.close()
        raise _damaged_archive(path, error) from error


def _damaged_archive(path: str, error: AlexNetError) -> AlexNetError:
    return AlexNetError(f"{path}: {error}: create or download the archive again")


def _list_inner_tars(archive: PositionedFile, outer: Listing) -> Listing:
    inner_tars = [file for file in outer.files if file.name.endswith(".tar")]
    others = [(file.name, "not a tar") for file in outer.files if not file.name.endswith(".tar")]
    listing = outer._replace(files=[], folders=[], ignored=[*outer.ignored, *others])
    jobs = (partial(_list_inner_tar, archive, file) for file in inner_tars)
    with closing(prefetch(jobs, LISTING_THREADS)) as inner_listings:
        for inner in inner_listings:
            listing.files.extend(inner.files)
            listing.folders.extend(inner.folders)
            listing.ignored.extend(inner.ignored)
    return listing


def _list_inner_tar(archive: PositionedFile, file: FileEntry) -> Listing:
    """Return the files of a tar in a tar, with offsets in the outer one."""
    try:
        inner = _list_range(archive, file.offset, file.offset + file.size)
    except AlexNetError as error:
        raise AlexNetError(f"{file.name}: {error}") from error
    folder = file.name.removesuffix(".tar")
    return inner._replace(
        files=[entry._replace(name=f"{folder}/{entry.name}") for entry in inner.files],
        folders=[folder, *(f"{folder}/{name}" for name in inner.folders)],
        ignored=[(f"{folder}/{name}", reason) for name, reason in inner.ignored],
    )


def _list_range(archive: PositionedFile, start: int, end: int) -> Listing:
    """Return the files of the tar in the bytes [start, end) of a file."""
    listing = Listing("tar", [], [], [], partial(_fetch, archive), archive.close)
    for member in _members(archive, start, end):
        _add_member(member, listing)
    return listing


def _fetch(archive: PositionedFile, file: FileEntry) -> bytes:
    return archive.read(file.offset, file.size)


# ---- headers


class Member(NamedTuple):
    """A tar member as its headers describe it."""

    name: str
    kind: bytes  # type flag
    size: int  # bytes
    offset: int  # of its data


def _add_member(member: Member, listing: Listing) -> None:
    name = normalize_name(member.name)
    is_regular = member.kind in REGULAR
    if member.kind == FOLDER or (is_regular and member.name.endswith("/")):
        listing.folders.append(name)
    elif is_regular:
        listing.files.append(FileEntry(name, member.size, member.offset))
    else:
        reason = "link" if member.kind in LINKS else "not a regular file"
        listing.ignored.append((name, reason))


def _members(archive: PositionedFile, position: int, end: int) -> Iterator[Member]:
    """Yield a tar's members from its first byte to its end mark.

    Raises AlexNetError with the byte at which something is not as it should be.
    """
    extension: dict[str, str] = {}
    while True:
        size = min(TAR_BLOCK, max(0, end - position))
        header = archive.read_up_to(position, size)
        if len(header) < TAR_BLOCK:
            raise AlexNetError(f"cut short at byte {end}, before the end mark")
        if not any(header):
            _expect_zeros(archive, position, end)
            return
        member = _parse_header(header, position, extension)
        member_end = member.offset + member.size
        if member_end > end:
            raise AlexNetError(
                f"cut short inside member {member.name} at byte {position}: "
                f"{end} bytes, expected {member_end}"
            )
        if member.kind in EXTENSIONS:
            extension |= _read_extension(archive, member)
        else:
            extension = {}
            yield member
        position = member.offset + -(-member.size // TAR_BLOCK) * TAR_BLOCK


def _parse_header(header: bytes, position: int, extension: dict[str, str]) -> Member:
    """Return the member of a header; `extension` is what extension headers before it say."""
    if not _checksum_matches(header):
        raise AlexNetError(f"damaged header at byte {position} (its checksum differs)")
    kind = header[156:157]
    if kind == SPARSE or any(word.startswith("GNU.sparse") for word in extension):
        raise AlexNetError(
            f"sparse member at byte {position}, expected plain ones (tar without --sparse)"
        )
    name = _header_name(header)
    try:
        size = _header_size(header, {} if kind in EXTENSIONS else extension)
    except ValueError as error:
        raise AlexNetError(f"damaged size of member {name} at byte {position}") from error
    if kind in WITHOUT_DATA:
        size = 0
    if kind not in EXTENSIONS:
        name = extension.get("path", name)
    return Member(name, kind, size, position + TAR_BLOCK)


def _header_name(header: bytes) -> str:
    name = _text(header[:100])
    has_prefix = header[257:263] == b"ustar\0" and header[345] != 0
    return f"{_text(header[345:500])}/{name}" if has_prefix else name


def _header_size(header: bytes, extension: dict[str, str]) -> int:
    if "size" in extension:
        return _parse_digits(extension["size"], 10)
    return _parse_number(header[124:136])


def _checksum_matches(header: bytes) -> bool:
    """Whether a header's bytes, its checksum field as spaces, add up to its checksum.

    Some old tars add up signed bytes.
    """
    counted = header[:148] + b" " * 8 + header[156:]
    try:
        stated = _parse_number(header[148:156])
    except ValueError:
        return False
    unsigned = sum(counted)
    signed = unsigned - 256 * sum(byte > 127 for byte in counted)
    return stated in (unsigned, signed)


def _read_extension(archive: PositionedFile, member: Member) -> dict[str, str]:
    """Return what an extension header says about the next member: a long name, or pax keys."""
    position = member.offset - TAR_BLOCK
    if member.size > MAX_EXTENSION_SIZE:
        raise AlexNetError(
            f"extension header at byte {position} of {member.size} bytes, "
            f"expected at most {MAX_EXTENSION_SIZE}"
        )
    data = archive.read(member.offset, member.size)
    if member.kind == GNU_LONG_NAME:
        return {"path": _text(data)}
    return _parse_pax(data, position) if member.kind == PAX else {}


def _parse_pax(data: bytes, position: int) -> dict[str, str]:
    r"""Return the keys of pax records "LENGTH KEY=VALUE\n", LENGTH counting all of the record."""
    values = {}
    while data.strip(b"\0"):
        digits = data.partition(b" ")[0]
        length = int(digits) if digits.isdigit() and len(digits) < 10 else 0
        name, equals, value = data[len(digits) + 1 : length].partition(b"=")
        if not equals or not value.endswith(b"\n"):
            raise AlexNetError(f"damaged pax header at byte {position}")
        values[name.decode(errors="replace")] = _decode_name(value[:-1])
        data = data[length:]
    return values


def _parse_number(field: bytes) -> int:
    """Return a header's number: octal digits, or GNU's binary form for large ones; ValueError."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    return _parse_digits(field.strip(b" \0") or b"0", 8)


def _parse_digits(digits: str | bytes, base: int) -> int:
    if not digits.isdigit():
        raise ValueError("not a number")
    return int(digits, base)


def _text(field: bytes) -> str:
    return _decode_name(field.split(b"\0", 1)[0])


def _decode_name(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _expect_zeros(archive: PositionedFile, position: int, end: int) -> None:
    """Raise AlexNetError if anything follows the end mark: no reader would see those images."""
    while position < end:
        data = archive.read_up_to(position, min(SCAN_CHUNK, end - position))
        if any(data):
            raise AlexNetError(f"data after the end mark, from byte {position}")
        if not data:  # the file became shorter while it was read
            raise AlexNetError(f"cut short at byte {position}")
        position += len(data)
