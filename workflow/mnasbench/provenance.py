"""What a result came from: digests of code, settings, inputs and outputs, versions, machine, time and memory.

Every job of the workflow leaves a *receipt*: a JSON file with all of this. The receipts answer three questions:
what a number rests on (the report prints them), whether a file still is what its job wrote (planning reads the
sizes, readers compare the digests), and how long a job takes (the next run's estimate).

A step's *code digest* is taken over the syntax trees of its script and of every module of ours that it imports,
directly or not, and over the versions of the other libraries among its imports. Comments, docstrings, formatting,
modification times and the place of the checkout do not change it; an edited function does.
"""

import ast
import contextlib
import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mnasbench.cpus import usable_cpus
from mnasbench.errors import InputError, OutputError, one_line
from mnasbench.files import canonical_json, read_json, sha256_of_bytes, sha256_of_file, write_json, write_text

RECEIPT_SUFFIX = ".receipt.json"
_LIBRARY = Path(__file__).resolve().parent
_SCRIPTS = _LIBRARY.parent / "scripts"


# ---------------------------------------------------------------------------------------------------- code digest
def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                # A body must keep one statement; Ellipsis stands for whatever text was there.
                node.body = node.body[1:] or [ast.Expr(ast.Constant(...))]
    return tree


def _module_file(name: str) -> Path | None:
    """The file of one of our modules: ``mnasbench.x.y``, or a script by its bare name."""
    head, _, rest = name.partition(".")
    base = _LIBRARY.joinpath(*rest.split(".")) if head == "mnasbench" else _SCRIPTS / head
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@functools.cache
def _read_module(path: Path) -> tuple[str, frozenset[str]]:
    """Digest of a file's syntax tree, and every module name that it imports anywhere (functions included)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    digest = sha256_of_bytes(ast.dump(_without_docstrings(tree)).encode())
    return digest, frozenset(names)


def imported_files(script: Path) -> list[Path]:
    """``script`` and the files of ours that it imports, directly or not, sorted."""
    found: set[Path] = set()
    waiting = [script.resolve()]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        for name in _read_module(path)[1]:
            parts = name.split(".")
            # Importing a.b.c runs a/__init__ and a.b/__init__ as well.
            for end in range(1, len(parts) + 1):
                file = _module_file(".".join(parts[:end]))
                if file is not None:
                    waiting.append(file)
    return sorted(found)


@functools.cache
def _distributions() -> Mapping[str, Sequence[str]]:
    return importlib.metadata.packages_distributions()


def _distribution_version(module: str) -> tuple[str, str] | None:
    for distribution in _distributions().get(module, ()):
        # The local part (+cpu) names a build of the same release, which machines legitimately differ in.
        return distribution.lower(), importlib.metadata.version(distribution).partition("+")[0]
    return None


def library_versions(script: Path) -> dict[str, str]:
    """Versions of the installed libraries that ``script`` imports, directly or through our modules."""
    modules = {name.partition(".")[0] for path in imported_files(script) for name in _read_module(path)[1]}
    found = (_distribution_version(module) for module in modules - {"mnasbench"})
    return dict(sorted(pair for pair in found if pair))


@functools.cache
def code_digest(script: Path) -> str:
    """SHA-256 (hexadecimal) over the code that a step runs; see the module's text for what counts."""
    parts: dict[str, Any] = {"versions": library_versions(script)}
    for path in imported_files(script):
        parts[path.relative_to(_LIBRARY.parent).as_posix()] = _read_module(path)[0]
    return sha256_of_bytes(canonical_json(parts).encode())


# -------------------------------------------------------------------------------------------------------- machine
def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def machine() -> dict[str, Any]:
    """The CPU and system that a job ran on; no host name, which says nothing of a measurement."""
    return {
        "cpu": _cpu_model(),
        "cpus": usable_cpus(),
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "python": platform.python_version(),
    }


def git_commit(folder: Path) -> str | None:
    """The commit of the checkout, with ``+changed`` where tracked files differ from it; None outside git."""

    def ask(*words: str) -> str | None:
        command = ["git", "-C", str(folder), *words]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
        except (OSError, subprocess.SubprocessError):
            return None
        return answer.stdout.strip()

    commit = ask("rev-parse", "HEAD")
    if commit is None:
        return None
    return commit + ("+changed" if ask("status", "--porcelain", "--untracked-files=no") else "")


# ------------------------------------------------------------------------------------------------------- receipts
def folder_listing(folder: Path) -> Iterator[tuple[str, int]]:
    """Relative POSIX path and size in bytes of every file below ``folder``, sorted by path."""
    yield from _listing(folder, {})


def _listing(folder: Path, directories: dict[str, int], most: int | None = None) -> list[tuple[str, int]]:
    """As ``folder_listing``; the time of change of every directory below is added to ``directories``.

    With ``most`` the search ends when there are more: a damaged receipt must not send it through the whole disk.
    """
    found: list[tuple[str, int]] = []
    waiting = [""]
    while waiting and (most is None or len(found) <= most):
        below = waiting.pop()
        with os.scandir(folder / below) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    directories[entry.path] = _time_of(entry.path)  # before it is read
                    waiting.append(f"{below}{entry.name}/")
                else:
                    # A link to an image counts with that image's size, one to nothing with -1.
                    try:
                        size = entry.stat().st_size
                    except OSError:
                        size = -1
                    found.append((below + entry.name, size))
    found.sort()
    return found


def describe_folder(folder: Path) -> dict[str, Any]:
    """Count, bytes, and a digest over the names and sizes of the files below ``folder``."""
    return _describe_listing(_listing(folder, {}))


def _describe_listing(listing: Sequence[tuple[str, int]]) -> dict[str, Any]:
    lines = "".join(f"{name}\0{size}\n" for name, size in listing)
    digest = sha256_of_bytes(lines.encode("utf-8", "surrogateescape"))
    return {"files": len(listing), "bytes": sum(size for _, size in listing), "listing_sha256": digest}


def folder_content(folder: Path) -> str:
    """SHA-256 (hexadecimal) over the names and contents of the files below ``folder``, read by several threads."""
    names = [name for name, _ in folder_listing(folder)]
    digest = hashlib.sha256()
    with ThreadPoolExecutor(usable_cpus()) as pool:  # hashing runs outside the interpreter's lock
        for name, found in zip(names, pool.map(lambda name: sha256_of_file(folder / name), names), strict=True):
            digest.update(f"{name}\0{found}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def changed_since(receipt: Path, remember: bool = False) -> str | None:
    """The first output or folder of a finished job whose content is no longer what the job left; None where all is.

    Reads everything; ``damaged_outputs`` is the quick look. With ``remember`` a folder is read once, and again when
    one of its files has another size, time of change (that of the inode included, which cannot be set back) or inode;
    what it was found as stands beside the receipt. Raises InputError where a file is gone.
    """
    content = read_json(receipt)
    seen = _read_seen(receipt) if remember else {}
    found: dict[str, list[str]] = {}
    try:
        for name, told in content["outputs"].items():
            if sha256_of_file(Path(name)) != told["sha256"]:
                return str(name)
        for name, told in content["folders"].items():
            # Receipts of earlier versions have no digest of a folder's content.
            if "content_sha256" not in told:
                continue
            state = _state_of(Path(name)) if remember else None
            if state is not None and seen.get(name) == [state, told["content_sha256"]]:
                continue
            if folder_content(Path(name)) != told["content_sha256"]:
                return str(name)
            if state is not None:
                found[name] = [state, told["content_sha256"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{one_line(receipt)}: is not a receipt; delete it, and the next run makes it again"
        ) from error
    if found:
        with contextlib.suppress(OutputError):  # somebody else's results, that may only be read
            _write_seen(receipt, seen | found)
    return None


# A file system's clock may be this coarse: what changed later than that may change again without another time.
_TICK_NS = 2_000_000_000
_MOST_MACHINES = 256


def _seen_beside(receipt: Path) -> Path:
    return receipt.with_suffix(".seen")


def _read_seen(receipt: Path) -> dict[str, Any]:
    """What this machine found since it started: a power cut may empty files and leave their times."""
    seen = _all_seen(receipt).get(_boot(), {})
    return seen if isinstance(seen, dict) else {}


def _all_seen(receipt: Path) -> dict[str, Any]:
    try:
        seen = read_json(_seen_beside(receipt))
    except InputError:  # none, or not whole
        return {}
    return seen if isinstance(seen, dict) else {}


def _write_seen(receipt: Path, seen: Mapping[str, Any]) -> None:
    others = {boot: known for boot, known in _all_seen(receipt).items() if boot != _boot()}
    # Of the nodes of a cluster; the machines that were started again since then make it no longer than this.
    latest = dict(list(others.items())[-_MOST_MACHINES:])
    write_json(_seen_beside(receipt), {**latest, _boot(): seen})


def _state_of(folder: Path) -> str | None:
    """Digest of names, sizes, times of change and inodes of the files below; None where one changed a moment ago."""
    before = time.time_ns() - _TICK_NS
    lines = []
    for name, size in folder_listing(folder):
        try:
            status = os.stat(folder / name)  # noqa: PTH116 - a Path a file costs more than its stat
        except OSError:
            return None
        if max(status.st_mtime_ns, status.st_ctime_ns) > before:
            return None
        lines.append(f"{name}\0{size}\0{status.st_mtime_ns}\0{status.st_ctime_ns}\0{status.st_ino}\n")
    return sha256_of_bytes("".join(lines).encode("utf-8", "surrogateescape"))


def describe_file(path: Path) -> dict[str, Any]:
    """Size in bytes and SHA-256 of a file."""
    return {"bytes": path.stat().st_size, "sha256": sha256_of_file(path)}


def damaged_outputs(receipt: Path) -> list[str]:
    """Declared outputs of a finished job that are missing or no longer have the size they were written with.

    Sizes and names only, so that planning stays fast; content is compared when a file is read.
    """
    return damaged_receipts([receipt]).get(receipt, [])


def damaged_receipts(
    receipts: Iterable[Path], memory: Path | None = None, by_contents: bool = False
) -> dict[Path, list[str]]:
    """The receipts of jobs whose outputs are damaged (see ``damaged_outputs``), each with those outputs.

    Folders that the jobs filled are looked at file by file while all of them together hold no more than
    ``LOOKED_AT`` files. Beyond that (50,000 images, 24 rows: 1.2 million) a folder that was looked at once is
    looked at again only when the time of change of one of its directories is another: a file that came, went or
    was renamed in it. ``memory`` is the file that remembers these times; without it every folder is looked at.
    ``by_contents``: everything is read, and compared by its digest.
    """
    told: dict[Path, Mapping[str, Any]] = {}
    damaged: dict[Path, list[str]] = {}
    for receipt in receipts:
        try:
            told[receipt] = read_json(receipt)
            outputs = told[receipt]["outputs"].items()
            lost = [name for name, entry in outputs if _size_of(Path(name)) != entry["bytes"]]
            if by_contents and not lost and (changed := changed_since(receipt)):
                lost = [changed]
        except (InputError, KeyError, TypeError, AttributeError, ValueError):
            lost = [str(receipt)]
        if lost:
            damaged[receipt] = lost
    try:
        folders = {
            receipt: {Path(name): dict(entry) for name, entry in content["folders"].items()}
            for receipt, content in told.items()
            if receipt not in damaged
        }
        many = sum(entry["files"] for entries in folders.values() for entry in entries.values()) > LOOKED_AT
    except (KeyError, TypeError, AttributeError, ValueError):
        return damaged | {receipt: [str(receipt)] for receipt in told if not _has_folders(told[receipt])}
    remembered = _FolderMemory(memory if many else None)
    for receipt, entries in folders.items():
        if not all(remembered.is_whole(folder, entry) for folder, entry in entries.items()):
            damaged[receipt] = list(told[receipt]["outputs"]) or [str(receipt)]
    remembered.keep()
    return damaged


# A tenth of a second's work. Also what the demo's six rows come to, with 10 times its images.
LOOKED_AT = 60_000


def _has_folders(content: Any) -> bool:
    try:
        return all(isinstance(entry["files"], int) for entry in content["folders"].values())
    except (KeyError, TypeError, AttributeError):
        return False


class _FolderMemory:
    """Times of change of the directories of folders that were found whole since the machine started.

    Before that power may have failed, which empties files that were new without a change of their directory.
    """

    _TICK_NS = _TICK_NS

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._folders: dict[str, Any] = {}
        self._changed = False
        if file is not None:
            try:
                remembered = read_json(file)
                if remembered["boot"] == _boot():
                    self._folders = dict(remembered["folders"])
            except (InputError, TypeError, ValueError, KeyError):
                self._folders = {}  # only a memory

    def is_whole(self, folder: Path, told: dict[str, Any]) -> bool:
        """Whether the folder's listing is what the receipt says."""
        if self._file is not None and self._is_as_seen(folder, told):
            return True
        directories = {str(folder): _time_of(folder)}
        try:
            listing = _listing(folder, directories, told["files"])
        except OSError:  # not there, no folder, or not ours to read
            return False
        if not _describe_listing(listing).items() <= told.items():
            return False
        now = time.time_ns()
        if self._file is not None and all(now - changed > self._TICK_NS for changed in directories.values()):
            self._folders[str(folder)] = [told["listing_sha256"], directories]
            self._changed = True
        return True

    def _is_as_seen(self, folder: Path, told: dict[str, Any]) -> bool:
        try:
            listing, directories = self._folders[str(folder)]
            return bool(listing == told["listing_sha256"]) and all(
                os.stat(path).st_mtime_ns == changed  # noqa: PTH116 - a Path a directory costs more than its stat
                for path, changed in directories.items()
            )
        except (KeyError, TypeError, ValueError, AttributeError, OSError):
            return False

    def keep(self) -> None:
        """Write what was found, where anything was; a folder that cannot be written is no reason to fail."""
        if self._file is not None and self._changed:
            with contextlib.suppress(OSError):
                write_text(self._file, canonical_json({"boot": _boot(), "folders": self._folders}))


def _boot() -> str:
    """Names the time since this machine started; "" where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _time_of(path: Path | str) -> int:
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116
    except OSError:
        return 0


def _size_of(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
