"""What a result came from: digests of code, settings, inputs and outputs, versions, machine, time and memory.

Every job of the workflow leaves a *receipt*: a JSON file with all of this. The receipts answer three questions:
what a number rests on (the report prints them), whether a file still is what its job wrote (planning reads the
sizes, readers compare the digests), and how long a job takes (the next run's estimate).

A step's *code digest* is taken over the syntax trees of its script and of every module of ours that it imports,
directly or not, and over the versions of the other libraries among its imports. Comments, docstrings, formatting,
modification times and the place of the checkout do not change it; an edited function does.
"""

import ast
import functools
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mnasbench.errors import InputError, one_line
from mnasbench.files import canonical_json, read_json, sha256_of_bytes, sha256_of_file

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


def installed_versions() -> dict[str, str]:
    """Versions of the libraries that decide what a result is."""
    names = ("numpy", "onnx", "onnxruntime", "pillow", "simplejpeg", "snakemake", "timm", "torch", "torchvision")
    return {name: importlib.metadata.version(name) for name in names}


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
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
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
    found: list[tuple[str, int]] = []
    waiting = [str(folder)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    # A link to a picture counts with that picture's size, one to nothing with -1.
                    size = _size_of(Path(entry.path))
                    found.append((os.path.relpath(entry.path, folder), -1 if size is None else size))
    yield from sorted(found)


def describe_folder(folder: Path) -> dict[str, Any]:
    """Count, bytes, and a digest over the names and sizes of the files below ``folder``."""
    digest, count, total = hashlib.sha256(), 0, 0
    for name, size in folder_listing(folder):
        digest.update(f"{name}\0{size}\n".encode("utf-8", "surrogateescape"))
        count, total = count + 1, total + size
    return {"files": count, "bytes": total, "listing_sha256": digest.hexdigest()}


def folder_content(folder: Path) -> str:
    """SHA-256 (hexadecimal) over the names and contents of the files below ``folder``, read by several threads."""
    names = [name for name, _ in folder_listing(folder)]
    digest = hashlib.sha256()
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing runs outside the interpreter's lock
        for name, found in zip(names, pool.map(lambda name: sha256_of_file(folder / name), names), strict=True):
            digest.update(f"{name}\0{found}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def changed_since(receipt: Path) -> str | None:
    """The first output or folder of a finished job whose content is no longer what the job left; None where all is.

    Reads everything; ``damaged_outputs`` is the quick look. Raises InputError where a file is gone.
    """
    content = read_json(receipt)
    try:
        for name, told in content["outputs"].items():
            if sha256_of_file(Path(name)) != told["sha256"]:
                return str(name)
        for name, told in content["folders"].items():
            # Receipts of earlier versions have no digest of a folder's content.
            if "content_sha256" in told and folder_content(Path(name)) != told["content_sha256"]:
                return str(name)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{one_line(receipt)}: is not a receipt; delete it, and the next run makes it again"
        ) from error
    return None


def describe_file(path: Path) -> dict[str, Any]:
    """Size in bytes and SHA-256 of a file."""
    return {"bytes": path.stat().st_size, "sha256": sha256_of_file(path)}


def damaged_outputs(receipt: Path) -> list[str]:
    """Declared outputs of a finished job that are missing or no longer have the size they were written with.

    Sizes and names only, so that planning stays fast; content is compared when a file is read.
    """
    try:
        content = read_json(receipt)
        outputs: Mapping[str, Any] = content["outputs"]
        folders: Mapping[str, Any] = content["folders"]
        damaged = [name for name, told in outputs.items() if _size_of(Path(name)) != told["bytes"]]
        if not damaged and any(not _folder_is_whole(Path(name), told) for name, told in folders.items()):
            damaged = list(outputs)
    except (InputError, KeyError, TypeError, AttributeError):
        return [str(receipt)]
    return damaged


def _size_of(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _folder_is_whole(folder: Path, told: Mapping[str, Any]) -> bool:
    return folder.is_dir() and describe_folder(folder).items() <= told.items()
