"""Receipts: what each job of the workflow used, made and took, and whether what it made is still there.

A receipt is a JSON file beside what the job made. Paths in it are relative to the folder that the workflow ran in, so
a moved checkout keeps its results.
"""

import contextlib
import functools
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from mnasbench.cpus import usable_cpus
from mnasbench.errors import InputError, one_line
from mnasbench.file_memory import FileMemory, FileState, digest_of_states, state_from
from mnasbench.files import canonical_json, read_json, sha256_of_bytes, sha256_of_file, write_json

RECEIPT_SUFFIX = ".receipt.json"
# Raised whenever a receipt's content changes so that former ones cannot be read any more.
FORMAT = 2


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file as a job left it: its size in bytes and its SHA-256 (hexadecimal)."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class FolderRecord:
    """A folder as a job left it: how many files, bytes in all, digests over names and sizes and over contents."""

    files: int
    bytes: int
    listing_sha256: str
    content_sha256: str


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Somebody's word that a job need not run again for an edit of its code; ``code_sha256`` is of the code it ran."""

    code_sha256: str
    at: str
    because: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """What one job used, made and took.

    ``settings``: all that the job's command depends on besides its files. ``code_sha256``: see ``code_digest``.
    ``inputs``: the digest of each file that was read; of a receipt, of what it says was made. ``started``: ISO 8601.
    """

    rule: str
    command: Sequence[str]
    settings: Any
    code_sha256: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, FileRecord]
    folders: Mapping[str, FolderRecord]
    git_commit: str | None
    versions: Mapping[str, str]
    machine: Mapping[str, Any]
    threads: int
    started: str
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    accepted: Sequence[Acceptance] = ()

    def to_json(self) -> dict[str, Any]:
        """As it is written."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, content: Any) -> Self:
        """As it was written; ValueError, TypeError or KeyError where it was not."""
        values = {name: _checked(content[name], kind) for name, kind in _KINDS.items()}
        if content["format"] != FORMAT:
            raise ValueError(f"format is {content['format']!r}, expected {FORMAT}")
        if any("\0" in name for made in ("inputs", "outputs", "folders") for name in values[made]):
            raise ValueError("the name of a file holds a NUL")
        values["inputs"] = {name: _checked(digest, str) for name, digest in values["inputs"].items()}
        values["outputs"] = {name: _file_record(record) for name, record in values["outputs"].items()}
        values["folders"] = {name: _folder_record(record) for name, record in values["folders"].items()}
        values["accepted"] = [Acceptance(**entry) for entry in values["accepted"]]
        return cls(settings=content["settings"], **values)

    @property
    def made_sha256(self) -> str:
        """SHA-256 over the names and contents of what was made."""
        made = {name: record.sha256 for name, record in self.outputs.items()}
        made |= {name: record.content_sha256 for name, record in self.folders.items()}
        return sha256_of_bytes(canonical_json(made).encode())


_Number = (int, float)
_KINDS: dict[str, type | tuple[type, ...]] = {
    "rule": str,
    "command": list,
    "code_sha256": str,
    "inputs": dict,
    "outputs": dict,
    "folders": dict,
    "git_commit": (str, type(None)),
    "versions": dict,
    "machine": dict,
    "threads": int,
    "started": str,
    "seconds": _Number,
    "cpu_seconds": _Number,
    "peak_bytes": int,
    "accepted": list,
}


def _checked(value: Any, kind: type | tuple[type, ...]) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no {kind}")
    return value


def _file_record(record: Any) -> FileRecord:
    return FileRecord(_checked(record["bytes"], int), _checked(record["sha256"], str))


def _folder_record(record: Any) -> FolderRecord:
    numbers = [_checked(record[key], int) for key in ("files", "bytes")]
    digests = [_checked(record[key], str) for key in ("listing_sha256", "content_sha256")]
    return FolderRecord(*numbers, *digests)


def write_receipt(path: Path, receipt: Receipt) -> None:
    """Write a receipt, atomically."""
    write_json(path, receipt.to_json())


def read_receipt(path: Path) -> Receipt:
    """Read a receipt; InputError where it is none."""
    try:
        return Receipt.from_json(read_json(path))
    except (InputError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{one_line(path)}: is not a receipt; delete it, and the next run makes it again") from error


# ------------------------------------------------------------------------------------------------------ files, folders
def record_file(path: Path) -> FileRecord:
    """A file as it is now."""
    return FileRecord(path.stat().st_size, sha256_of_file(path))


def record_folder(folder: Path) -> FolderRecord:
    """A folder as it is now; a link in it counts with the file that it leads to."""
    listing = _listing(folder)
    return FolderRecord(len(listing), sum(listing.values()), _listing_digest(listing), _content_digest(folder, listing))


def _listing(folder: Path, most: int | None = None) -> dict[str, int]:
    """Size in bytes of every file below ``folder``, by its relative POSIX path, sorted; -1 of a link to nothing.

    With ``most`` the search ends when there are more: a damaged receipt must not send it through the whole disk.
    """
    sizes: dict[str, int] = {}
    waiting = [""]
    while waiting and (most is None or len(sizes) <= most):
        below = waiting.pop()
        with os.scandir(folder / below) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{below}{entry.name}/")
                else:
                    try:
                        sizes[below + entry.name] = entry.stat().st_size
                    except OSError:
                        sizes[below + entry.name] = -1
    return dict(sorted(sizes.items()))


def _listing_digest(listing: Mapping[str, int]) -> str:
    lines = "".join(f"{name}\0{size}\n" for name, size in listing.items())
    return sha256_of_bytes(lines.encode("utf-8", "surrogateescape"))


def _content_digest(folder: Path, names: Mapping[str, int]) -> str:
    digest = hashlib.sha256()
    with ThreadPoolExecutor(usable_cpus()) as pool:  # hashing runs outside the interpreter's lock
        contents = pool.map(lambda name: sha256_of_file(folder / name), names)
        for name, content in zip(names, contents, strict=True):
            digest.update(f"{name}\0{content}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


# -------------------------------------------------------------------------------------------------------------- damage
def damage(receipt: Receipt) -> str | None:
    """Why what a job made is no longer there as it was left, in one line; None where it is, by names and sizes.

    Fast enough for every planning. What changed and kept its size is found where it is read: see ``changed_since``.
    """
    for name, record in receipt.outputs.items():
        try:
            size = os.stat(name).st_size  # noqa: PTH116 - a Path a file costs more than its stat
        except OSError:
            return f"{one_line(name)} is missing"
        if size != record.bytes:
            what = "was cut short" if size < record.bytes else "grew"
            return f"{one_line(name)} {what} ({size} bytes, {record.bytes} were written)"
    for name, folder in receipt.folders.items():
        try:
            listing = _listing(Path(name), folder.files)
        except OSError:
            return f"{one_line(name)} is missing"
        if _listing_digest(listing) != folder.listing_sha256:
            return f"{one_line(name)} holds other files than were made"
    return None


def damage_of(path: Path, by_contents: bool = False) -> str | None:
    """As ``damage``, of a receipt that may itself be damaged; ``by_contents`` reads all that was made as well."""
    try:
        receipt = read_receipt(path)
        problem = damage(receipt)
        if problem is None and by_contents and (changed := changed_since(receipt, FileMemory(None))):
            problem = f"{one_line(changed)} was changed after it was made"
    except InputError as error:
        return str(error)
    return problem


def changed_since(receipt: Receipt, memory: FileMemory) -> str | None:
    """The first output or folder of a job whose content is no longer what the job left; None where all is.

    Reads everything that is not as ``memory`` has it. Raises InputError where a file is gone.
    """
    for name, record in receipt.outputs.items():
        if memory.sha256(Path(name)) != record.sha256:
            return name
    for name, folder in receipt.folders.items():
        if _remembered_content(Path(name), folder.files, memory) != folder.content_sha256:
            return name
    return None


def _remembered_content(folder: Path, files: int, memory: FileMemory) -> str:
    """The digest over a folder's contents; read only where one of its files is in another state than remembered.

    "" where there are more than ``files``.
    """
    try:
        listing = _listing(folder, files)
        if len(listing) > files:
            return ""
        states = {name: state_from(os.stat(folder / name)) for name in listing}  # noqa: PTH116
    except OSError as error:
        raise InputError(f"{one_line(folder)}: cannot be read ({error.strerror or error})") from error
    digest = digest_of_states(states)
    # The folder as one file: as young as its youngest, and never mistaken for another, because the digest tells.
    changed = max((state.changed_ns for state in states.values()), default=0)
    state = FileState(sum(listing.values()), 0, changed, 0)
    remembered = memory.recall(f"{folder}/", state)
    if isinstance(remembered, list) and remembered[:1] == [digest]:
        return str(remembered[1])
    content = _content_digest(folder, listing)
    memory.remember(f"{folder}/", state, [digest, content])
    return content


# -------------------------------------------------------------------------------------------------------------- inputs
def is_receipt(path: Path | str) -> bool:
    """Whether a file is a receipt, by its name."""
    return str(path).endswith(RECEIPT_SUFFIX)


def input_digest(path: Path, memory: FileMemory) -> str:
    """The digest of a file that a job reads; of a receipt that of what it says was made, not of when and how."""
    return read_receipt(path).made_sha256 if is_receipt(path) else memory.sha256(path)


@dataclass
class Records:
    """The receipts of several jobs, each read once, and which of them made which file."""

    paths: Iterable[Path]
    _read: dict[Path, Receipt | InputError] = field(default_factory=dict)

    def receipt(self, path: Path) -> Receipt:
        """A receipt; InputError where it is none."""
        if path not in self._read:
            try:
                self._read[path] = read_receipt(path)
            except InputError as error:
                self._read[path] = error
        receipt = self._read[path]
        if isinstance(receipt, InputError):
            raise receipt
        return receipt

    def all(self) -> dict[Path, Receipt]:
        """All that can be read."""
        for path in self.paths:
            with contextlib.suppress(InputError):
                self.receipt(path)
        return {path: receipt for path, receipt in self._read.items() if isinstance(receipt, Receipt)}

    @functools.cached_property
    def _made(self) -> dict[str, str]:
        receipts = self.all()
        made = {str(path): receipt.made_sha256 for path, receipt in receipts.items()}
        for receipt in receipts.values():
            made.update({name: record.sha256 for name, record in receipt.outputs.items()})
        return made

    def made_sha256(self, name: str) -> str | None:
        """The digest that the job which made a file recorded for it; None for a file that none of the jobs made."""
        return self._made.get(name)
