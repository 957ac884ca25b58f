"""Is the dataset still what its manifest says? Answered from file times, fast enough for every planning.

Light on purpose (no numpy, no Pillow): Snakemake asks it before it plans anything.
"""

import contextlib
import csv
import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mnasbench.data.labels import class_order, named, read_labels
from mnasbench.errors import DatasetError, MnasbenchError, one_line
from mnasbench.files import canonical_json, read_json, read_text, sha256_of_file, write_text

# Raised whenever what the cache records about a file, or how it is judged, changes.
_CACHE_FORMAT = 2
COLUMNS = ("name", "class_index", "width", "height", "mode", "bytes", "sha256", "shard", "fault")


@dataclass(frozen=True, slots=True)
class Picture:
    """One row of the manifest.

    ``name``: path below the dataset's root, with ``/``. ``mode``: Pillow's (``L`` is greyscale). ``bytes`` and
    ``sha256`` are of the file. ``fault``: why the picture is excluded; empty where it is fine.
    """

    name: str
    class_index: int
    width: int
    height: int
    mode: str
    bytes: int
    sha256: str
    shard: int
    fault: str


@dataclass(frozen=True, slots=True)
class Found:
    """A file of the dataset as the file system shows it: its class, and what tells a change.

    ``changed_ns``: the later of the times of change of content and of inode; copying tools set only the first back.
    """

    class_index: int
    size: int
    changed_ns: int


# What the cache knows of a file whose size and time are these: sha256, width, height, mode, fault.
Known = tuple[str, int, int, str, str]


@dataclass(frozen=True)
class Dataset:
    """Where the pictures of one part of a dataset are and how they get their classes.

    ``root``: holds the folder ``part`` with the pictures, flat or in class folders. ``labels``: a label file; None
    takes ``<part>_label.txt`` where ``root`` has it, else the class folders. ``wnids``: a file with the class
    folders' names in class order; None takes ``wnids.txt`` where ``root`` has it (see ``labels.class_order``).
    ``classes``: the number of classes, where known. ``limit``: keep this many pictures, chosen by a hash of
    their names, so that the choice does not depend on the other pictures' contents.
    """

    root: Path
    labels: Path | None = None
    part: str = "val"
    wnids: Path | None = None
    classes: int | None = None
    limit: int | None = None

    def label_file(self) -> Path | None:
        """The label file that counts, or None where the class folders do."""
        return self.labels or _if_file(self.root / f"{self.part}_label.txt")

    def wnids_file(self) -> Path | None:
        """The file of class folder names that counts, or None."""
        return self.wnids or _if_file(self.root / "wnids.txt")


def _if_file(path: Path) -> Path | None:
    return path if path.is_file() else None


def scan(dataset: Dataset) -> dict[str, Found]:
    """Every picture of the dataset, by its name below the root, sorted; nothing is opened.

    Every file that is not hidden counts as a picture. DatasetError where the folder is missing or empty,
    a picture has no label, or a label has no picture.
    """
    files = dict(walk(dataset.root, dataset.part))
    if not files:
        raise DatasetError(f"{one_line(dataset.root / dataset.part)}: holds no pictures")
    classes = _classes_of(dataset, files)
    names = sorted(files)
    if dataset.limit is not None and dataset.limit < len(names):
        names = sorted(sorted(names, key=_name_digest)[: dataset.limit])
    return {name: Found(classes[name], *files[name]) for name in names}


def walk(root: Path, below: str = "") -> Iterator[tuple[str, tuple[int, int]]]:
    """(name below ``root``, (size, changed_ns)) of every file in ``root/below`` and its folders that is not hidden.

    Raises DatasetError for a folder that cannot be listed and for a name that no list can carry.
    """
    folder = root / below
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = f"{below}/{entry.name}" if below else entry.name
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    yield from walk(root, name)
                else:
                    yield _valid_name(name), _stat(entry)
    except OSError as error:
        expected = "expected a folder of pictures, flat or in class folders"
        raise DatasetError(f"{one_line(folder)}: cannot be listed ({error.strerror or error}); {expected}") from error


def _stat(entry: os.DirEntry[str] | Path) -> tuple[int, int]:
    try:
        status = entry.stat()
    except OSError:  # a dangling link: found unreadable, and said so, when it is indexed
        return -1, -1
    return status.st_size, max(status.st_mtime_ns, status.st_ctime_ns)


def _valid_name(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise DatasetError(f"{one_line(name)}: the file name is not UTF-8; rename the file") from error
    if "\n" in name or "\r" in name:
        raise DatasetError(
            f"{one_line(name)}: the file name holds a line break, which no list can carry; rename the file"
        )
    return name


def _name_digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def _classes_of(dataset: Dataset, files: Iterable[str]) -> dict[str, int]:
    label_file = dataset.label_file()
    if label_file is None:
        return _classes_of_folders(dataset, files)
    labels = read_labels(label_file, dataset.classes, dataset.wnids_file())
    classes: dict[str, int] = {}
    used: set[str] = set()
    without = []
    for name in files:
        below = name.removeprefix(f"{dataset.part}/")
        key = next((key for key in (below, name, below.rpartition("/")[2]) if key in labels), None)
        if key is None:
            without.append(name)
        elif key in used:
            raise DatasetError(f"{one_line(label_file)}: {one_line(key)} names two pictures, one is {one_line(name)}")
        else:
            used.add(key)
            classes[name] = labels[key]
    if without:
        raise DatasetError(f"{one_line(label_file)}: has no label for {named(without)}")
    if len(used) < len(labels):
        missing = [key for key in labels if key not in used]
        raise DatasetError(f"{one_line(label_file)}: labels pictures that are not in {dataset.part}/: {named(missing)}")
    return classes


def _classes_of_folders(dataset: Dataset, files: Iterable[str]) -> dict[str, int]:
    folders = {name: name.split("/") for name in files}
    stray = [name for name, parts in folders.items() if len(parts) != 3]
    if stray:
        expected = f"{dataset.part}_label.txt, or {dataset.part}/<class>/<picture>"
        raise DatasetError(
            f"{one_line(dataset.root)}: no label file, and no class folder for {named(stray)}; expected {expected}"
        )
    order = class_order((parts[1] for parts in folders.values()), dataset.wnids_file())
    if dataset.classes is not None and len(order) > dataset.classes:
        raise DatasetError(
            f"{one_line(dataset.root)}: has {len(order)} class folders, expected {dataset.classes} classes"
        )
    return {name: order[parts[1]] for name, parts in folders.items()}


def cache_beside(manifest: Path) -> Path:
    """The side file that remembers digests by size and time of change."""
    return manifest.with_name(f"{manifest.name}.cache.json")


def read_cache(path: Path) -> dict[str, tuple[int, int, Known]]:
    """name -> (size, changed_ns, what is known); empty where there is no cache or none that can be trusted."""
    try:
        content = read_json(path)
        if content["format"] != _CACHE_FORMAT:
            return {}
        return {name: (size, mtime, tuple(known)) for name, (size, mtime, *known) in content["files"].items()}
    except (MnasbenchError, KeyError, TypeError, ValueError, AttributeError):
        return {}  # only a memory: whatever is wrong with it, the files themselves are read again


def write_cache(path: Path, files: Mapping[str, tuple[int, int, Known]]) -> None:
    """Write what ``read_cache`` reads, atomically."""
    rows = {name: [size, mtime, *known] for name, (size, mtime, known) in files.items()}
    write_text(path, canonical_json({"format": _CACHE_FORMAT, "files": rows}))


def read_manifest(path: Path, shard: int | None = None, with_faulty: bool = False) -> list[Picture]:
    """The manifest's pictures in its order, of one shard or all; excluded ones only ``with_faulty``.

    Raises DatasetError that names the line which is not as ``index_dataset`` writes it.
    """
    rows = csv.reader(io.StringIO(read_text(path), newline=""))
    try:
        if tuple(next(rows, ())) != COLUMNS:
            raise DatasetError(f"{one_line(path)}: is not a manifest, expected the columns {','.join(COLUMNS)}")
        pictures = [_picture(row) for row in rows]
    except (ValueError, TypeError, csv.Error) as error:
        raise DatasetError(f"{one_line(path)} line {rows.line_num}: {one_line(error)}") from error
    return [
        picture
        for picture in pictures
        if (shard is None or picture.shard == shard) and (with_faulty or not picture.fault)
    ]


def _picture(row: list[str]) -> Picture:
    name, class_index, width, height, mode, size, sha256, shard, fault = row
    if not name or name.startswith("/") or ".." in name.split("/"):
        raise ValueError(f"{name!r} is not a path below the dataset's root")
    return Picture(name, int(class_index), int(width), int(height), mode, int(size), sha256, int(shard), fault)


def dataset_changes(dataset: Dataset, manifest: Path, cache: Path | None = None) -> list[str]:
    """What differs between the dataset and its manifest, one line a difference; empty where nothing does.

    Only files whose size or time of change differ from the cache are read again, and the cache then remembers
    them. Raises DatasetError where the dataset cannot be indexed at all any more.
    """
    cache = cache or cache_beside(manifest)
    found = scan(dataset)
    recorded = {picture.name: picture for picture in read_manifest(manifest, with_faulty=True)}
    digests = _digests(dataset.root, found, cache)
    changes = [f"{one_line(name)}: is gone" for name in recorded if name not in found]
    for name, file in found.items():
        picture = recorded.get(name)
        if picture is None:
            changes.append(f"{one_line(name)}: is new")
        elif digests[name] != picture.sha256:
            changes.append(f"{one_line(name)}: has changed")
        elif file.class_index != picture.class_index:
            changes.append(f"{one_line(name)}: class {picture.class_index} became {file.class_index}")
    return changes


def _digests(root: Path, found: Mapping[str, Found], cache: Path) -> dict[str, str]:
    known = read_cache(cache)
    digests: dict[str, str] = {}
    stale = []
    for name, file in found.items():
        entry = known.get(name)
        if entry is not None and entry[:2] == (file.size, file.changed_ns):
            digests[name] = entry[2][0]
        else:
            stale.append(name)
    if not stale:
        return digests
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        digests.update(zip(stale, pool.map(lambda name: digest_or_empty(root / name), stale), strict=True))
    for name in stale:
        entry = known.get(name)
        if entry is not None and entry[2][0] == digests[name]:  # touched, but the same: remember the new time
            known[name] = (found[name].size, found[name].changed_ns, entry[2])
    # A results folder that cannot be written is no reason to fail: the next planning reads these files again.
    with contextlib.suppress(OSError):
        write_cache(cache, known)
    return digests


def write_digests(path: Path, files: Sequence[Path]) -> None:
    """Write the SHA-256 of each file in the form that ``sha256sum -c`` reads, paths relative to the list's folder.

    Beside it a cache of their sizes and times, by which ``changed_files`` is quick.
    """
    names = [os.path.relpath(file, path.parent.resolve()) for file in files]
    digests = [sha256_of_file(file) for file in files]
    write_text(path, "".join(f"{digest}  {name}\n" for name, digest in zip(names, digests, strict=True)))
    found = {name: _stat(file) for name, file in zip(names, files, strict=True)}
    known = {name: (*found[name], (digest, 0, 0, "", "")) for name, digest in zip(names, digests, strict=True)}
    write_cache(cache_beside(path), known)


def changed_files(digests: Path) -> list[str]:
    """What is gone or no longer has the digest in a list that ``write_digests`` wrote, one line a file."""
    told: dict[str, str] = {}
    for number, line in enumerate(read_text(digests).splitlines(), start=1):
        digest, _, name = line.partition("  ")
        if not name:
            raise DatasetError(f"{one_line(digests)} line {number}: expected '<SHA-256>  <file>'")
        told[name] = digest
    found = {name: Found(-1, *_stat(digests.parent / name)) for name in told}
    now = _digests(digests.parent, found, cache_beside(digests))
    return [
        f"{one_line(name)}: {'has changed' if now[name] else 'is gone'}" for name in told if now[name] != told[name]
    ]


def digest_or_empty(path: Path) -> str:
    """A file's SHA-256, or "" where it cannot be read: that is what the manifest says of such a file, too."""
    try:
        return sha256_of_file(path)
    except MnasbenchError:
        return ""
