"""Facts about the machine, its software and the checkout that a figure was made with."""

import importlib.metadata
import platform
import resource
import subprocess
from pathlib import Path
from typing import Any

from mnasbench.cpus import usable_cpus
from mnasbench.runtimes import DISTRIBUTIONS


def machine() -> dict[str, Any]:
    """The CPU and system that a job ran on; no host name, which says nothing of a measurement."""
    return {
        "cpu": _cpu_model(),
        "cpus": usable_cpus(),
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "python": platform.python_version(),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def installed_versions() -> dict[str, str]:
    """Versions of the libraries that decide what a result is; one that is not installed is left out."""
    names = ("numpy", "onnx", "pillow", "simplejpeg", "snakemake", "timm", "torch", "torchvision")
    versions = {name: _version(name) for name in sorted((*names, *DISTRIBUTIONS))}
    return {name: version for name, version in versions.items() if version is not None}


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def git_commit(folder: Path) -> str | None:
    """The commit of the checkout, with ``+changed`` where tracked files differ from it; None outside git."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    return commit + ("+changed" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")


def _git(folder: Path, *words: str) -> str | None:
    command = ["git", "-C", str(folder), *words]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def used_by_children() -> tuple[float, int]:
    """CPU seconds of the ended child processes together, and the peak memory of the largest of them in bytes."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def boot_id() -> str:
    """Names the time since this machine started; "" where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
