"""The C++ kernels of kernels.cpp, compiled on the machine that runs them when they are first wanted, in a few seconds.

The library is kept in the cache folder under a hash of the source, the compiler and the processor's features, so a home shared by
several machines never runs another's instructions. It needs no headers but the compiler's own, and is called through ctypes,
which lets other threads run meanwhile. Without a compiler there is no library, and every caller has a plain form to fall back on.
ALEXNET_KERNELS=plain asks for that form, =native makes a missing library an error that says why.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from alexnet.cache import cache_folder
from alexnet.errors import AlexNetError, UsageError

SOURCE = Path(__file__).with_name("kernels.cpp")
COMPILERS = ("c++", "g++", "clang++")
ALWAYS = ("-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-fPIC", "-shared", "-w")
# The first of these the compiler takes: OpenMP is missing from macOS's clang, and some name the processor in another way.
CHOICES = (("-march=native", "-fopenmp"), ("-mcpu=native", "-fopenmp"), ("-march=native",), ("-mcpu=native",), ())
SECONDS_TO_COMPILE = 120


def library() -> ctypes.CDLL | None:
    """The kernels, or None where the plain forms are to be used; AlexNetError if they are asked for and cannot be had."""
    wanted = setting()
    if wanted == "plain":
        return None
    found, complaint = _loaded()
    if found is None and wanted == "native":
        raise AlexNetError(f"ALEXNET_KERNELS=native: {complaint}; install a C++ compiler or leave the setting out")
    return found


def setting() -> str:
    """What ALEXNET_KERNELS asks for on every device: native, plain, or nothing; UsageError if it is anything else."""
    wanted = os.environ.get("ALEXNET_KERNELS", "")
    if wanted not in ("", "native", "plain"):
        raise UsageError(f"ALEXNET_KERNELS={wanted}: expected native, plain, or nothing: native where there is a compiler")
    return wanted


def state() -> str:
    """How the kernels are had here, in words."""
    if os.environ.get("ALEXNET_KERNELS") == "plain":
        return "plain torch, as ALEXNET_KERNELS asks"
    found, complaint = _loaded()
    return f"plain torch: {complaint}" if found is None else f"native, {Path(found._name).name}"


@functools.cache
def _loaded() -> tuple[ctypes.CDLL | None, str]:
    """The library and an empty string, or None and why there is none."""
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        return None, f"no C++ compiler found (looked for {', '.join(COMPILERS)})"
    try:
        path = cache_folder() / "kernels" / f"{_key(compiler)}.so"
        if not path.exists():
            path = _compile(compiler, path)
        return ctypes.CDLL(str(path)), ""
    except (OSError, subprocess.SubprocessError) as reason:
        return None, f"the kernels could not be compiled or loaded ({str(reason).splitlines()[0]})"


def _key(compiler: str) -> str:
    """What must be the same for a compiled library to be used again."""
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True, timeout=SECONDS_TO_COMPILE).stdout
    parts = SOURCE.read_bytes(), version, _features().encode(), repr((ALWAYS, CHOICES)).encode()
    return hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:24]


def _features() -> str:
    """The processor, as exactly as this system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):  # not Linux
        return f"{platform.machine()} {platform.processor()} {platform.node()}"


def _compile(compiler: str, path: Path) -> Path:
    """Compile aside and put the result in its place at once; into a folder of this process's own if the cache takes no files."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=path.parent))
    except OSError:
        path = Path(tempfile.mkdtemp(prefix="alexnet-kernels-")) / path.name
        aside = Path(tempfile.mkdtemp(dir=path.parent))
    try:
        for choice in CHOICES:
            command = [compiler, *ALWAYS, *choice, str(SOURCE), "-o", str(aside / path.name)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_TO_COMPILE)
            if done.returncode == 0:
                os.replace(aside / path.name, path)
                return path
        raise OSError(f"{compiler} says: {(done.stderr.strip() or 'nothing').splitlines()[0]}")
    finally:
        shutil.rmtree(aside)
