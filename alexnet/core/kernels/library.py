"""The C++ kernels of kernels.cpp, compiled on the machine that runs them at their first use.

That takes a few seconds. The library is kept in the cache folder under a hash of the source, the
compiler and the processor's features, so that a home shared by several machines never runs another
one's instructions. It needs no headers but the compiler's own, and is called through ctypes, which
lets other threads run meanwhile. Without a compiler there is no library, and every caller has a
plain form. ALEXNET_KERNELS=plain asks for that form; =native turns a missing library into an error
that says why.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from alexnet.core.cache import cache_folder
from alexnet.core.errors import AlexNetError, UsageError

SOURCE = Path(__file__).with_name("kernels.cpp")
COMPILERS = ("c++", "g++", "clang++")
COMPILE_FLAGS = (
    "-std=c++17",
    "-O3",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-shared",
    "-w",
    # Code on Windows needs no -fPIC, and does not find the compiler's own libraries at run time.
    "-static" if sys.platform == "win32" else "-fPIC",
)
# The first of these that the compiler takes is used: macOS's clang has no OpenMP, and compilers
# differ in how they name the processor they run on.
TARGET_FLAGS = (
    ("-march=native", "-fopenmp"),
    ("-mcpu=native", "-fopenmp"),
    ("-march=native",),
    ("-mcpu=native",),
    (),
)
LIBRARY_SUFFIX = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")
COMPILE_TIMEOUT = 120  # seconds


def load_library() -> ctypes.CDLL | None:
    """Return the kernels, or None if the plain forms are to be used.

    AlexNetError if ALEXNET_KERNELS=native asks for kernels that cannot be compiled or loaded.
    """
    form = requested_form()
    if form == "plain":
        return None
    library, reason = _load()
    if library is None and form == "native":
        raise AlexNetError(
            f"ALEXNET_KERNELS=native: {reason}; install a C++ compiler or leave the setting out"
        )
    return library


def requested_form() -> str:
    """Return ALEXNET_KERNELS: native, plain or "" (native if possible); UsageError if another."""
    form = os.environ.get("ALEXNET_KERNELS", "")
    if form not in ("", "native", "plain"):
        raise UsageError(
            f"ALEXNET_KERNELS={form}: expected native, plain, or nothing: native where there is a "
            "compiler"
        )
    return form


def describe_form() -> str:
    """Return in words which form the kernels have on the CPU and, if it is the plain one, why."""
    if os.environ.get("ALEXNET_KERNELS") == "plain":
        return "plain torch, as ALEXNET_KERNELS asks"
    library, reason = _load()
    return f"plain torch: {reason}" if library is None else f"native, {Path(library._name).name}"


@functools.cache
def _load() -> tuple[ctypes.CDLL | None, str]:
    """Return the library and "", or None and why there is none."""
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        return None, f"no C++ compiler found (looked for {', '.join(COMPILERS)})"
    try:
        path = cache_folder() / "kernels" / f"{_cache_key(compiler)}{LIBRARY_SUFFIX}"
        if not path.exists():
            path = _compile(compiler, path)
        return ctypes.CDLL(str(path)), ""
    except (OSError, subprocess.SubprocessError) as error:
        first_line = str(error).splitlines()[0]
        return None, f"the kernels could not be compiled or loaded ({first_line})"


def _cache_key(compiler: str) -> str:
    """Return a hash of everything on which the compiled code depends."""
    version = subprocess.run(
        [compiler, "--version"], capture_output=True, check=True, timeout=COMPILE_TIMEOUT
    ).stdout
    flags = repr((COMPILE_FLAGS, TARGET_FLAGS)).encode()
    parts = (SOURCE.read_bytes(), version, _processor_features().encode(), flags)
    digests = (hashlib.sha256(part).digest() for part in parts)
    return hashlib.sha256(b"\0".join(digests)).hexdigest()[:24]


def _processor_features() -> str:
    """Return the processor's instruction sets, or what else this system says of it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):  # not Linux
        return f"{platform.machine()} {platform.processor()} {platform.node()}"


def _compile(compiler: str, path: Path) -> Path:
    """Compile the source and return the library's path.

    That is `path`, or a path in a folder of this process if the cache cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=path.parent))
    except OSError:
        path = Path(tempfile.mkdtemp(prefix="alexnet-kernels-")) / path.name
        folder = Path(tempfile.mkdtemp(dir=path.parent))
    try:
        _run_compiler(compiler, folder / path.name)
        _install(folder / path.name, path)
        return path
    finally:
        shutil.rmtree(folder)


def _run_compiler(compiler: str, output: Path) -> None:
    """Compile with the first target flags that work; OSError with the compiler's first message."""
    message = ""
    for flags in TARGET_FLAGS:
        command = [compiler, *COMPILE_FLAGS, *flags, str(SOURCE), "-o", str(output)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_TIMEOUT)
        if done.returncode == 0:
            return
        message = done.stderr.strip()
    raise OSError(f"{compiler} says: {(message or 'nothing').splitlines()[0]}")


def _install(compiled: Path, path: Path) -> None:
    """Give a compiled library its name at once, whole, for all processes."""
    try:
        os.replace(compiled, path)
    except PermissionError:
        if not path.exists():  # else another process was faster, and Windows locks what it loaded
            raise
