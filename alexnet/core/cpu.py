"""How many cores this process may use, often fewer than the machine has.

A scheduler restricts a process to some of them (its affinity), a container to a share of their time
(its quota).
"""

import os
from pathlib import Path

# The quota of a container: microseconds of work in a period ("max": no limit), and the period.
CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def available_cores() -> int:
    """Return the cores in the affinity or, if fewer, those that the quota comes to; at least 1."""
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # Linux
        cores = len(os.sched_getaffinity(0))
    try:
        quota, period = map(int, CGROUP_QUOTA.read_text(encoding="ascii").split())
    except (OSError, ValueError):  # not in a container, or no limit
        return cores
    return max(1, min(cores, quota // period))
