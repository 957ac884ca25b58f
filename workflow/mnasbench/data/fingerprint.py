"""Is the dataset still what its manifest says? Answered from file times, fast enough for every planning.

Light on purpose (no numpy, no Pillow): Snakemake asks it before it plans anything.
"""

import contextlib
import csv
import hashlib
import io
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mnasbench.cpus import usable_cpus
from mnasbench.data.labels import class_order, named, read_labels
from mnasbench.errors import DatasetError, MnasbenchError, one_line
from mnasbench.files import canonical_json, read_json, read_text, sha256_of_bytes, sha256_of_file, write_text

# Raised whenever what the cache records about a file, or how it is judged, changes.
_CACHE_FORMAT = 2
COLUMNS = ("name", "class_index", "width", "height", "mode", "bytes", "sha256", "shard", "fault")


@dataclass(frozen=True, slots=True)
class IndexedImage:
    """One row of the manifest.

    ``name``: path below the dataset's root, with ``/``. ``mode``: Pillow's (``L`` is greyscale). ``bytes`` and
    ``sha256`` are of the file. ``fault``: why the image is excluded; empty where it is fine.
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


# Size and time of change (ns) of files, by their names below a root.
Listing = Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class Dataset:
    """Where the images of one part of a dataset are and how they get their classes.

    ``root``: holds the folder ``part`` with the images, flat or in class folders. ``labels``: a label file; None
    takes ``<part>_label.txt`` where ``root`` has it, else the class folders. ``wnids``: a file with the class
    folders' names in class order; None takes ``wnids.txt`` where ``root`` has it (see ``labels.class_order``).
    ``classes``: the number of classes, where known. ``limit``: keep this many images, chosen by a hash of
    their names, so that the choice does not depend on the other images' contents.
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


def scan(dataset: Dataset, files: Listing | None = None) -> dict[str, Found]:
    """Every image of the dataset, by its name below the root, sorted; nothing is opened.

    Every file that is not hidden counts as an image. DatasetError where the folder is missing or empty,
    an image has no label, or a label has no image. ``files``: what ``walk`` said of it a moment ago.
    """
    return _select(dataset, dict(walk(dataset.root, dataset.part)) if files is None else files)


def shard_of(name: str, shards: int) -> int:
    """The shard (0-based) of an image: by its name alone, so another image's coming or going moves none."""
    return zlib.crc32(name.encode()) % shards


def _select(dataset: Dataset, files: Listing) -> dict[str, Found]:
    if not files:
        raise DatasetError(f"{one_line(dataset.root / dataset.part)}: holds no images")
    classes = _classes_of(dataset, files)
    names = sorted(files)
    if dataset.limit is not None:
        names = sample_of(names, dataset.limit)
    return {name: Found(classes[name], *files[name]) for name in names}


def walk(root: Path, below: str = "") -> Iterator[tuple[str, tuple[int, int]]]:
    """(name below ``root``, (size, changed_ns)) of every file in ``root/below`` and its folders that is not hidden.

    Raises DatasetError for a folder that cannot be listed and for a name that no list can carry.
    """
    waiting = [below]
    while waiting:
        below = waiting.pop()
        folder, prefix = root / below, f"{below}/" if below else ""
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir():
                        if entry.is_symlink():
                            _require_no_loop(root, prefix, entry)
                        waiting.append(prefix + entry.name)
                    else:
                        yield _valid_name(prefix + entry.name), _stat(entry)
        except OSError as error:
            expected = "expected a folder of images, flat or in class folders"
            raise DatasetError(
                f"{one_line(folder)}: cannot be listed ({error.strerror or error}); {expected}"
            ) from error


def _require_no_loop(root: Path, prefix: str, link: os.DirEntry[str]) -> None:
    """Raise DatasetError where a link leads to a folder that it stands in: two of them have no end in any lifetime."""
    folder = root / prefix
    for above in (folder, *(root / part for part in Path(prefix).parents)):
        if os.path.samestat(above.stat(), link.stat()):
            raise DatasetError(f"{one_line(link.path)}: links to a folder that it stands in; remove the link")


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


def sample_of(names: Sequence[str], images: int) -> list[str]:
    """``images`` of the names (all, where there are no more), sorted: those whose digests come first.

    As good as drawn at random, but always the same, and one name's coming or going moves at most one other.
    """
    return sorted(names if len(names) <= images else sorted(names, key=_name_digest)[:images])


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
            raise DatasetError(f"{one_line(label_file)}: {one_line(key)} names two images, one is {one_line(name)}")
        else:
            used.add(key)
            classes[name] = labels[key]
    if without:
        raise DatasetError(f"{one_line(label_file)}: has no label for {named(without)}")
    if len(used) < len(labels):
        missing = [key for key in labels if key not in used]
        raise DatasetError(f"{one_line(label_file)}: labels images that are not in {dataset.part}/: {named(missing)}")
    return classes


def _classes_of_folders(dataset: Dataset, files: Iterable[str]) -> dict[str, int]:
    folders = {name: name.split("/") for name in files}
    stray = [name for name, parts in folders.items() if len(parts) != 3]
    if stray:
        expected = f"{dataset.part}_label.txt, or {dataset.part}/<class>/<image>"
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


def read_manifest(path: Path, shard: int | None = None, with_faulty: bool = False) -> list[IndexedImage]:
    """The manifest's images in its order, of one shard or all; excluded ones only ``with_faulty``.

    Raises DatasetError that names the line which is not as ``index_dataset`` writes it.
    """
    rows = csv.reader(io.StringIO(read_text(path), newline=""))
    try:
        if tuple(next(rows, ())) != COLUMNS:
            raise DatasetError(f"{one_line(path)}: is not a manifest, expected the columns {','.join(COLUMNS)}")
        images = [_image(row) for row in rows]
    except (ValueError, TypeError, csv.Error) as error:
        raise DatasetError(f"{one_line(path)} line {rows.line_num}: {one_line(error)}") from error
    return [image for image in images if (shard is None or image.shard == shard) and (with_faulty or not image.fault)]


def _image(row: list[str]) -> IndexedImage:
    name, class_index, width, height, mode, size, sha256, shard, fault = row
    if not name or name.startswith("/") or ".." in name.split("/") or "\0" in name:
        raise ValueError(f"{name!r} is not a path below the dataset's root")
    return IndexedImage(name, int(class_index), int(width), int(height), mode, int(size), sha256, int(shard), fault)


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one image since its manifest was written: ``what`` is "is new", "is gone", ..."""

    name: str
    what: str
    shard: int

    def __str__(self) -> str:
        """One line for a message."""
        return f"{one_line(self.name)}: {self.what}"

    @property
    def is_of_content(self) -> bool:
        """Whether the image is the same file of the same class, with other bytes."""
        return self.what == _CHANGED

    @property
    def is_new(self) -> bool:
        """Whether no manifest of its shard knows the image."""
        return self.what == _NEW


_CHANGED, _NEW = "has changed", "is new"


def dataset_changes(
    dataset: Dataset, manifests: Sequence[Path], rehash: bool = False, files: Listing | None = None
) -> list[Change]:
    """What differs between the dataset and its manifests; empty where nothing does.

    ``manifests[k]`` holds the images of shard k of ``len(manifests)``; one that is missing is not asked about. Only
    files whose size or time of change differ from the caches are read again (all of them where ``rehash``), and the
    caches then remember them. Where neither any name, size or time nor a label or manifest differs from those of the
    last call that found no change, the manifests are not even read: for 50,000 images that is the difference
    between a third of a second and several. ``files``: what ``walk`` said of the dataset a moment ago. Raises
    DatasetError where the dataset cannot be indexed any more.
    """
    written = {shard: path for shard, path in enumerate(manifests) if path.is_file()}
    if not written:
        return []
    files = dict(walk(dataset.root, dataset.part)) if files is None else files
    seen, seen_file = _snapshot(dataset, files, manifests), seen_beside(manifests[0])
    if not rehash and _read_seen(seen_file) == seen:
        return []
    found = _select(dataset, files)
    shards = {name: shard_of(name, len(manifests)) for name in found}
    recorded = {
        image.name: (shard, image) for shard, path in written.items() for image in read_manifest(path, with_faulty=True)
    }
    digests = _digests(dataset.root, {n: f for n, f in found.items() if shards[n] in written}, written, shards, rehash)
    changes = [Change(name, "is gone", shard) for name, (shard, _) in recorded.items() if name not in found]
    for name, digest in digests.items():
        _, image = recorded.get(name, (0, None))
        if image is None:
            changes.append(Change(name, _NEW, shards[name]))
        elif digest != image.sha256:
            changes.append(Change(name, _CHANGED, shards[name]))
        elif found[name].class_index != image.class_index:
            became = f"class {image.class_index} became {found[name].class_index}"
            changes.append(Change(name, became, shards[name]))
    # A file that could not be read may be readable next time without any change of its size and time.
    if not changes and all(digests.values()):
        # A results folder that cannot be written is no reason to fail: the next planning reads it all again.
        with contextlib.suppress(OSError):
            write_text(seen_file, canonical_json({"format": _CACHE_FORMAT, "seen": seen}))
    return changes


def seen_beside(manifest: Path) -> Path:
    """The side file with the digest of names, sizes and times that the manifests were last found true of."""
    return manifest.with_name("seen.json")


def _read_seen(path: Path) -> str | None:
    try:
        content = read_json(path)
        return str(content["seen"]) if content["format"] == _CACHE_FORMAT else None
    except (MnasbenchError, KeyError, TypeError):
        return None


def _snapshot(dataset: Dataset, files: Listing, manifests: Sequence[Path]) -> str:
    """Digest of all that decides what a manifest says, images by size and time of change."""
    sources = [sha256_of_file(path) if path else "" for path in (dataset.label_file(), dataset.wnids_file())]
    times = [(str(path), (s := path.stat()).st_size, s.st_mtime_ns) for path in manifests if path.is_file()]
    head = [str(dataset.root), dataset.part, dataset.classes, dataset.limit, len(manifests), *sources, *times]
    lines = [f"{name}\0{size}\0{time}" for name, (size, time) in files.items()]
    lines.sort()
    return sha256_of_bytes("\n".join([canonical_json(head), *lines]).encode())


def _digests(
    root: Path, found: Mapping[str, Found], manifests: Mapping[int, Path], shards: Mapping[str, int], rehash: bool
) -> dict[str, str]:
    """Digest of each image, in order; the caches beside the manifests are brought up to date."""
    caches = {shard: read_cache(cache_beside(path)) for shard, path in manifests.items()}
    digests: dict[str, str] = dict.fromkeys(found, "")
    stale = []
    for name, file in found.items():
        entry = caches[shards[name]].get(name)
        if not rehash and entry is not None and entry[:2] == (file.size, file.changed_ns):
            digests[name] = entry[2][0]
        else:
            stale.append(name)
    if not stale:
        return digests
    with ThreadPoolExecutor(max_workers=usable_cpus()) as pool:
        digests.update(zip(stale, pool.map(lambda name: digest_or_empty(root / name), stale), strict=True))
    touched = set()
    for name in stale:
        known = caches[shards[name]]
        entry = known.get(name)
        if entry is not None and entry[2][0] == digests[name]:  # touched, but the same: remember the new time
            known[name] = (found[name].size, found[name].changed_ns, entry[2])
            touched.add(shards[name])
    with contextlib.suppress(OSError):
        for shard in touched:
            write_cache(cache_beside(manifests[shard]), caches[shard])
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
    for number, line in enumerate(read_text(digests).removesuffix("\n").split("\n"), start=1):
        digest, _, name = line.partition("  ")
        if not name:
            raise DatasetError(f"{one_line(digests)} line {number}: expected '<SHA-256>  <file>'")
        told[name] = digest
    found = {name: Found(-1, *_stat(digests.parent / name)) for name in told}
    now = _digests(digests.parent, found, {0: digests}, dict.fromkeys(found, 0), rehash=False)
    return [
        f"{one_line(name)}: {'has changed' if now[name] else 'is gone'}" for name in told if now[name] != told[name]
    ]


def digest_or_empty(path: Path) -> str:
    """A file's SHA-256, or "" where it cannot be read: that is what the manifest says of such a file, too."""
    try:
        return sha256_of_file(path)
    except MnasbenchError:
        return ""
