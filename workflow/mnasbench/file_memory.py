"""A memory of what was once found out about files, believed while their size, times and inode stay the same.

It saves reading a file again. Nothing rests on it: whatever is wrong with it, the files themselves are read.
"""

import contextlib
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mnasbench.errors import InputError, MnasbenchError
from mnasbench.files import canonical_json, read_json, sha256_of_bytes, sha256_of_file, write_text
from mnasbench.machine import boot_id

# Raised whenever what is remembered of a file changes.
_FORMAT = 1
# A file system's clock may be this coarse: what changed later than that may change again without another time.
TICK_NS = 2_000_000_000
# ImageNet's training images are 1.3 million; nobody calibrates or validates on more.
MOST_FILES = 2_000_000
# What planning and the steps of the workflow share, on one machine.
MEMORY_FOLDER = Path("results/logs/memory")
# Nodes of a cluster, and former starts of this machine, of which something is kept.
_MOST_MACHINES = 64


class FileState(NamedTuple):
    """What tells that a file changed; ``changed_ns`` is the inode's time of change, which cannot be set back."""

    size: int
    modified_ns: int
    changed_ns: int
    inode: int


def state_from(status: os.stat_result) -> FileState:
    """The state that a call of ``stat`` found."""
    return FileState(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def state_of(path: Path | str) -> FileState | None:
    """The state of a file, or of what a link leads to; None where there is nothing."""
    try:
        return state_from(os.stat(path))  # noqa: PTH116 - a Path a file costs more than its stat
    except OSError:
        return None


def digest_of_states(states: Mapping[str, FileState], *more: str) -> str:
    """One SHA-256 (hexadecimal) over names, states and ``more``: the same digest, and nothing has changed."""
    lines = [f"{name}\0{' '.join(map(str, state))}" for name, state in states.items()]
    lines.sort()
    return sha256_of_bytes("\n".join([canonical_json(more), *lines]).encode("utf-8", "surrogateescape"))


class FileMemory:
    """Values (whatever JSON can hold) by the names of files and the states that they were found in.

    ``file``: where it is kept; None keeps nothing. A power cut may empty files that were new and leave their times, so
    nothing that was found before the machine started is believed, unless ``across_boots``: for files that somebody
    else wrote long ago. Beyond ``most`` the values that were remembered first are dropped.
    """

    def __init__(self, file: Path | None, *, across_boots: bool = False, most: int = MOST_FILES) -> None:
        self._file = file
        self._boot = "" if across_boots else boot_id()
        self._most = most
        self._entries: dict[str, list[Any]] | None = None
        self._new: dict[str, list[Any]] = {}

    def recall(self, name: str, state: FileState | None) -> Any:
        """What is remembered of a file in this state; None where that is nothing."""
        entry = self._loaded().get(name)
        return entry[4] if state is not None and entry is not None and tuple(entry[:4]) == state else None

    def recall_all(self, states: Mapping[str, FileState]) -> dict[str, Any]:
        """As ``recall``, of many files; those of which nothing is remembered are left out."""
        entries = self._loaded()
        return {
            name: entry[4]
            for name, state in states.items()
            if (entry := entries.get(name)) is not None and tuple(entry[:4]) == state
        }

    def remember(self, name: str, state: FileState | None, value: Any) -> None:
        """Keep what a file was found to be in this state."""
        if state is not None:
            self.remember_all({name: (state, value)})

    def remember_all(self, entries: Mapping[str, tuple[FileState, Any]]) -> None:
        """As ``remember``, of many files. One that changed a moment ago is left out: see ``TICK_NS``."""
        latest = time.time_ns() - TICK_NS
        new = {name: [*state, value] for name, (state, value) in entries.items() if state.changed_ns <= latest}
        self._loaded().update(new)
        self._new.update(new)

    def forget(self, names: Iterable[str]) -> None:
        """Drop what is remembered of these files."""
        for name in names:
            self._loaded().pop(name, None)
            self._new.pop(name, None)

    def sha256(self, path: Path) -> str:
        """The SHA-256 (hexadecimal) of a file, remembered or read; InputError where it cannot be read."""
        before = state_of(path)
        remembered = self.recall(str(path), before)
        if isinstance(remembered, str):
            return remembered
        digest = sha256_of_file(path)
        if before == state_of(path):  # nobody wrote to it meanwhile
            self.remember(str(path), before, digest)
        return digest

    def save(self) -> None:
        """Write what is new, beside what other processes wrote meanwhile; a refusal is no reason to fail."""
        if self._file is None or not self._new:
            return
        entries = self._read() | self._new
        kept = dict(list(entries.items())[-self._most :])
        with contextlib.suppress(MnasbenchError, OSError):
            write_text(self._file, canonical_json({"format": _FORMAT, "boot": self._boot, "files": kept}))
            self._new = {}

    def _loaded(self) -> dict[str, list[Any]]:
        if self._entries is None:
            self._entries = self._read()
        return self._entries

    def _read(self) -> dict[str, list[Any]]:
        if self._file is None or not self._file.is_file():
            return {}
        try:
            content = read_json(self._file)
            if (content["format"], content["boot"]) != (_FORMAT, self._boot):
                return {}
            return {name: entry for name, entry in content["files"].items() if _is_entry(entry)}
        except (InputError, KeyError, TypeError, AttributeError):
            return {}


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, list) and len(entry) == 5


def memory_of_this_machine(folder: Path = MEMORY_FOLDER) -> FileMemory:
    """The memory that this machine keeps in a folder since it started; nodes of a cluster keep one each."""
    boot = boot_id()
    if not boot:
        return FileMemory(None)
    file = folder / f"{boot}.json"
    if not file.exists():
        _forget_machines(folder)
    return FileMemory(file)


def _forget_machines(folder: Path) -> None:
    with contextlib.suppress(OSError):
        files = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        for file in files[: 1 - _MOST_MACHINES]:
            file.unlink(missing_ok=True)
