"""Which process works on a results folder, whether it lives, and that none outlives the one it works for.

A process is named by host, number and time of start, because numbers are used again.
"""

import ctypes
import fcntl
import os
import signal
import socket
from pathlib import Path
from typing import IO

# <linux/prctl.h>
_PR_SET_PDEATHSIG = 1
# Looked up here: between fork and exec nothing may be that takes a lock.
_prctl = getattr(ctypes.CDLL(None), "prctl", None)
# Open files that hold a lock; the system drops it with the process, however that ends.
_held: list[IO[str]] = []


def this_process() -> str:
    """The name of this process: ``host:pid:start``."""
    return f"{socket.gethostname()}:{os.getpid()}:{_start_of(os.getpid())}"


def is_gone(name: str) -> bool:
    """Whether a process is known to have ended; False for one of another host, or where ``/proc`` cannot tell."""
    host, _, rest = name.rpartition(":")[0].partition(":")
    start = name.rpartition(":")[2]
    if host != socket.gethostname() or not rest.isdigit() or not start:
        return False
    return _start_of(int(rest)) != start


def _start_of(pid: int) -> str:
    try:
        # The command's name, in parentheses, may hold anything; the 22nd field of the line is the time of start.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def end_with_parent() -> None:
    """Have the system kill this process when its parent ends, however that ends; only Linux can.

    To be called by the child itself, between fork and exec or first of all. A worker would otherwise wait for ever
    for a killed parent's next message, and a step go on beside the same step of the next run.
    """
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def take(lock: Path) -> str | None:
    """Hold ``lock`` until this process ends: None, or the name of the process that holds it already.

    A file system that knows no locks gives None, too: there Snakemake's own lock must do.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    stream = lock.open("a+", encoding="utf-8")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.seek(0)
        return stream.read().strip() or "another process"
    except OSError:
        return None
    _held.append(stream)
    return None


def former_holder(lock: Path) -> str:
    """The process that wrote its name into a lock last; "" where none did."""
    try:
        return lock.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def sign(lock: Path) -> None:
    """Write this process's name into a lock that it holds."""
    with lock.open("w", encoding="utf-8") as stream:
        stream.write(this_process() + "\n")
        stream.flush()
        os.fsync(stream.fileno())  # Snakemake's own lock, made after it, may outlast a power cut
