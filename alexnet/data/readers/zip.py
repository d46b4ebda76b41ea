"""List a zip archive's files and read them one by one; the zip's own checksums find damage."""

import zipfile
import zlib
from functools import partial

from alexnet.core.errors import AlexNetError
from alexnet.data.readers.listing import FileEntry, Listing
from alexnet.data.readers.names import normalize_name


def list_zip(path: str) -> Listing:
    """Return all files of a zip; AlexNetError if its directory is damaged."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise AlexNetError(f"{path}: damaged zip ({error}): create or download it again") from error
    members = {member.header_offset: member for member in archive.infolist()}
    files: list[FileEntry] = []
    folders: list[str] = []
    for member in archive.infolist():
        name = normalize_name(member.filename)
        if member.is_dir():
            folders.append(name)
        else:
            files.append(FileEntry(name, member.file_size, member.header_offset))
    return Listing("zip", files, folders, [], partial(_read, archive, members), archive.close)


def _read(archive: zipfile.ZipFile, members: dict[int, zipfile.ZipInfo], file: FileEntry) -> bytes:
    member = members[file.offset]
    try:
        with archive.open(member) as opened:
            # one byte more than declared: reading the end is what compares the checksum
            return opened.read(member.file_size + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise AlexNetError(f"cannot be read from the zip: {error}") from error
