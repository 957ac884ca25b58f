"""Which process works on a results folder, and whether it lives: what a killed run left is told from a live one.

A process is named by host, number and time of start, because numbers are used again.
"""

import fcntl
import os
import socket
from pathlib import Path
from typing import IO

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
    lock.write_text(this_process() + "\n", encoding="utf-8")
