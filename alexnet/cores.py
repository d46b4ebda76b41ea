"""How many cores this process may use: a container or a scheduler often gives it fewer than the machine has."""

import os
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: microseconds of work in a period, "max" for no limit, and the period


def cores() -> int:
    """Those of its affinity, or those that its quota comes to if that is less; at least one."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = map(int, QUOTA.read_text().split())
    except (OSError, ValueError):  # not in a container, or without a limit
        return allowed
    return max(1, min(allowed, quota // period))
