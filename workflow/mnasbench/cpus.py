"""How many CPUs this process may use, which is the one count that workers, sessions and estimates go by."""

import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def usable_cpus() -> int:
    """Whole CPUs that this process may use: the affinity mask, cut to the cgroup's CPU quota; at least 1."""
    cpus = len(usable_cpu_numbers())
    quota = _cgroup_quota()
    return max(1, min(cpus, int(quota))) if quota is not None else cpus


def usable_cpu_numbers() -> frozenset[int]:
    """Numbers of the CPUs that this process may run on, as /proc/stat counts them; all where the system has no mask."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def _cgroup_quota() -> float | None:
    """The tightest CPU quota from this process's cgroup up to the root, in CPUs; None without one."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    own = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    folders = (_CGROUPS / own, *(_CGROUPS / own).parents)
    quotas = [_cpu_max(folder) for folder in folders if folder.is_relative_to(_CGROUPS)]
    v1 = _cpu_cfs_quota(_CGROUPS / "cpu")
    return min((quota for quota in (*quotas, v1) if quota is not None), default=None)


def _cpu_max(folder: Path) -> float | None:
    """The quota of a cgroup of version 2."""
    try:
        quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _cpu_cfs_quota(folder: Path) -> float | None:
    """The quota of a cgroup of version 1."""
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text(encoding="ascii"))
        return quota / int((folder / "cpu.cfs_period_us").read_text(encoding="ascii")) if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
