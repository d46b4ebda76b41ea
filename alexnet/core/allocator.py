"""Settings of glibc's memory allocator: keep large tensors between steps instead of returning them.

glibc reads them before the first line of Python, so the process has to replace itself once. Other
systems have other allocators: there nothing is done, and `alexnet doctor` says so.
"""

import os
import sys

GLIBC_TUNABLES = (
    "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=4294967296"
)


def restart_with_allocator_settings() -> None:
    """Replace this process by the same command with GLIBC_TUNABLES set; its process id stays.

    Return at once where there is no glibc, where the user has set GLIBC_TUNABLES, or where the
    process cannot be replaced: the command then runs as it is, with the same results.
    """
    if not uses_glibc() or "GLIBC_TUNABLES" in os.environ or not sys.executable:
        return
    os.environ["GLIBC_TUNABLES"] = GLIBC_TUNABLES
    try:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    except OSError:
        del os.environ["GLIBC_TUNABLES"]


def uses_glibc() -> bool:
    """Return whether this is Linux with glibc, whose allocator the settings are for."""
    if sys.platform != "linux":
        return False
    try:
        return bool(os.confstr("CS_GNU_LIBC_VERSION"))
    except (OSError, ValueError):  # another C library, such as musl
        return False


def describe_allocator() -> str:
    """Return in words which allocator settings a computing command has here."""
    chosen = os.environ.get("GLIBC_TUNABLES")
    if not uses_glibc():
        return "the system's own settings: not Linux with glibc"
    return "keeps large tensors" if chosen in (None, GLIBC_TUNABLES) else f"as set: {chosen}"
