"""Is the dataset still what its manifests say? Answered from file times, fast enough for every planning.

Light on purpose (no numpy, no Pillow): Snakemake asks it before it plans anything.
"""

import contextlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mnasbench.cpus import usable_cpus
from mnasbench.data.cache import CACHE_FORMAT, cache_beside, read_cache, write_cache
from mnasbench.data.choice import shard_of
from mnasbench.data.layouts import Dataset, LabelledFile, deciding, layout_of, scan
from mnasbench.data.listing import Listing, status_of
from mnasbench.data.manifest_file import read_manifest
from mnasbench.errors import DatasetError, MnasbenchError, one_line
from mnasbench.files import canonical_json, read_json, read_text, sha256_of_bytes, sha256_of_file, write_text


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
        """Whether no manifest of its shard has the image."""
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
    between a third of a second and several. ``files``: what the layout listed a moment ago. Raises
    DatasetError where the dataset cannot be indexed any more.
    """
    written = {shard: path for shard, path in enumerate(manifests) if path.is_file()}
    if not written:
        return []
    files = layout_of(dataset).files() if files is None else files
    snapshot, memory = _snapshot(dataset, files, manifests), seen_beside(manifests[0])
    if not rehash and _read_seen(memory) == snapshot:
        return []
    images = scan(dataset, files)
    shards = {name: shard_of(name, len(manifests)) for name in images}
    recorded = {
        image.name: (shard, image) for shard, path in written.items() for image in read_manifest(path, with_faulty=True)
    }
    digests = _digests(dataset.root, {n: f for n, f in images.items() if shards[n] in written}, written, shards, rehash)
    changes = [Change(name, "is gone", shard) for name, (shard, _) in recorded.items() if name not in images]
    for name, digest in digests.items():
        _, image = recorded.get(name, (0, None))
        if image is None:
            changes.append(Change(name, _NEW, shards[name]))
        elif digest != image.sha256:
            changes.append(Change(name, _CHANGED, shards[name]))
        elif images[name].class_index != image.class_index:
            became = f"class {image.class_index} became {images[name].class_index}"
            changes.append(Change(name, became, shards[name]))
    # A file that could not be read may be readable next time without any change of its size and time.
    if not changes and all(digests.values()):
        # A results folder that cannot be written is no reason to fail: the next planning reads it all again.
        with contextlib.suppress(OSError):
            write_text(memory, canonical_json({"format": CACHE_FORMAT, "seen": snapshot}))
    return changes


def seen_beside(manifest: Path) -> Path:
    """The side file with the digest of names, sizes and times that the manifests were last found true of."""
    return manifest.with_name("seen.json")


def _read_seen(path: Path) -> str | None:
    try:
        content = read_json(path)
        return str(content["seen"]) if content["format"] == CACHE_FORMAT else None
    except (MnasbenchError, KeyError, TypeError):
        return None


def _snapshot(dataset: Dataset, files: Listing, manifests: Sequence[Path]) -> str:
    """Digest of all that decides what a manifest says, images by size and time of change."""
    times = [(str(path), (s := path.stat()).st_size, s.st_mtime_ns) for path in manifests if path.is_file()]
    head = [str(dataset.root), dataset.part, dataset.classes, dataset.limit, len(manifests), *deciding(dataset), *times]
    lines = [f"{name}\0{size}\0{time}" for name, (size, time) in files.items()]
    lines.sort()
    return sha256_of_bytes("\n".join([canonical_json(head), *lines]).encode())


def _digests(
    root: Path,
    images: Mapping[str, LabelledFile],
    manifests: Mapping[int, Path],
    shards: Mapping[str, int],
    rehash: bool,
) -> dict[str, str]:
    """Digest of each image, in order; the caches beside the manifests are brought up to date."""
    caches = {shard: read_cache(cache_beside(path)) for shard, path in manifests.items()}
    digests: dict[str, str] = dict.fromkeys(images, "")
    stale = []
    for name, file in images.items():
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
        cached = caches[shards[name]]
        entry = cached.get(name)
        if entry is not None and entry[2][0] == digests[name]:  # touched, but the same: remember the new time
            cached[name] = (images[name].size, images[name].changed_ns, entry[2])
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
    looks = zip(names, files, digests, strict=True)
    write_cache(cache_beside(path), {n: (*status_of(file), (digest, 0, 0, "", "")) for n, file, digest in looks})


def changed_files(digests: Path) -> list[str]:
    """What is gone or no longer has the digest in a list that ``write_digests`` wrote, one line a file."""
    recorded: dict[str, str] = {}
    for number, line in enumerate(read_text(digests).removesuffix("\n").split("\n"), start=1):
        digest, _, name = line.partition("  ")
        if not name:
            raise DatasetError(f"{one_line(digests)} line {number}: expected '<SHA-256>  <file>'")
        recorded[name] = digest
    files = {name: LabelledFile(-1, *status_of(digests.parent / name)) for name in recorded}
    now = _digests(digests.parent, files, {0: digests}, dict.fromkeys(files, 0), rehash=False)
    return [
        f"{one_line(name)}: {'has changed' if now[name] else 'is gone'}"
        for name in recorded
        if now[name] != recorded[name]
    ]


def digest_or_empty(path: Path) -> str:
    """A file's SHA-256, or "" where it cannot be read: that is what the manifest says of such a file, too."""
    try:
        return sha256_of_file(path)
    except MnasbenchError:
        return ""
