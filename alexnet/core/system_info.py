"""What this machine is: the facts that measurements are quoted with, and those a bug report needs.

Runs, experiments and benchmarks record `machine_info`; `alexnet doctor` shows both.
"""

import os
import platform
import shutil
from importlib.metadata import version
from pathlib import Path

import torch

from alexnet import __version__
from alexnet.core.cache import cache_folder
from alexnet.core.device import has_bf16

LIBRARIES = ("numpy", "pillow", "safetensors", "click", "rich", "matplotlib")


def machine_info() -> dict[str, str]:
    """Return the processor, cores, GPU, bf16 support and versions, as text."""
    gpu = torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    return {
        "processor": _processor_name(),
        "cores": f"{os.cpu_count()} (torch uses {torch.get_num_threads()})",
        "gpu": torch.cuda.get_device_name() if gpu else "none",
        "bf16 units": "yes" if has_bf16(device) else "no",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "alexnet": __version__,
    }


def environment_info() -> dict[str, str]:
    """Return what else a bug report needs: libraries, compiler, cache folder, free disk space."""
    libraries = {name: version(name) for name in LIBRARIES}
    free = shutil.disk_usage(".").free
    return libraries | {
        "C++ compiler": shutil.which("c++") or "none",
        "cache folder": str(cache_folder()),
        "free disk here": f"{free / 2**30:.1f} GiB",
    }


def _processor_name() -> str:
    """Return the name of the processor, from /proc/cpuinfo on Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):  # not Linux, or a processor without a name
        return platform.processor() or "unknown"
    return model.split(":", 1)[1].strip()
