"""Is the dataset still what its manifests say? Answered from file times, fast enough for every planning.

Light on purpose (no numpy, no Pillow): Snakemake asks it before it plans anything.
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mnasbench.cpus import usable_cpus
from mnasbench.data.choice import shard_of
from mnasbench.data.layouts import Dataset, deciding, layout_of, scan
from mnasbench.data.listing import Listing, state_in_listing
from mnasbench.data.looks import LookMemory
from mnasbench.data.manifest_file import read_manifest
from mnasbench.errors import DatasetError, MnasbenchError, one_line
from mnasbench.file_memory import FileMemory, FileState, digest_of_states, state_of
from mnasbench.files import canonical_json, read_text, sha256_of_file, write_text


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
    files that are not as they were when they were last read are read again (all of them where ``rehash``). Where no
    name, state of a file, label or manifest differs from those of the last call that found no change, the manifests
    are not even read: for 50,000 images that is the difference between half a second and several. ``files``: what the
    layout listed a moment ago. Raises DatasetError where the dataset cannot be indexed any more.
    """
    written = {shard: path for shard, path in enumerate(manifests) if path.is_file()}
    if not written:
        return []
    files = layout_of(dataset).files() if files is None else files
    memory = FileMemory(manifests[0].with_name("looked-at.json"))
    snapshot = _snapshot(dataset, files, manifests)
    first = next(iter(written.values()))
    if not rehash and memory.recall(first.name, state_of(first)) == snapshot:
        return []
    images = scan(dataset, files)
    shards = {name: shard_of(name, len(manifests)) for name in images}
    recorded = {
        image.name: (shard, image) for shard, path in written.items() for image in read_manifest(path, with_faulty=True)
    }
    states = {name: file.state for name, file in images.items() if shards[name] in written}
    digests: dict[str, str] = {}
    if not rehash:
        for path in written.values():
            digests |= {name: look[0] for name, look in LookMemory(path).recall(states).items()}
    digests |= _digests(dataset.root, {n: state for n, state in states.items() if n not in digests}, memory, rehash)
    changes = [Change(name, "is gone", shard) for name, (shard, _) in recorded.items() if name not in images]
    for name in states:
        _, image = recorded.get(name, (0, None))
        if image is None:
            changes.append(Change(name, _NEW, shards[name]))
        elif digests[name] != image.sha256:
            changes.append(Change(name, _CHANGED, shards[name]))
        elif images[name].class_index != image.class_index:
            became = f"class {image.class_index} became {images[name].class_index}"
            changes.append(Change(name, became, shards[name]))
    # A file that could not be read may be readable next time without any change of its state.
    if not changes and all(digests.values()):
        memory.remember(first.name, state_of(first), snapshot)
    memory.save()
    return changes


def _snapshot(dataset: Dataset, files: Listing, manifests: Sequence[Path]) -> str:
    """Digest of all that decides what a manifest says, images by the state of their files."""
    states = [(str(path), state_of(path)) for path in manifests]
    head = [str(dataset.root), dataset.limit, *deciding(dataset), *states]
    return digest_of_states(files, canonical_json(head))


def _digests(root: Path, states: Mapping[str, FileState], memory: FileMemory, rehash: bool = False) -> dict[str, str]:
    """The digest of each file below ``root``, remembered or read; "" where it cannot be read."""
    digests: dict[str, str] = {} if rehash else memory.recall_all(states)
    unread = [name for name in states if not isinstance(digests.get(name), str)]
    if unread:
        with ThreadPoolExecutor(max_workers=usable_cpus()) as pool:
            digests |= zip(unread, pool.map(lambda name: digest_or_empty(root / name), unread), strict=True)
    memory.remember_all({name: (states[name], digests[name]) for name in unread if digests[name]})
    return digests


def write_digests(path: Path, files: Sequence[Path]) -> None:
    """Write the SHA-256 of each file in the form that ``sha256sum -c`` reads, paths relative to the list's folder.

    ``changed_files`` remembers them, which makes it quick.
    """
    names = [os.path.relpath(file, path.parent.resolve()) for file in files]
    states = {name: state_in_listing(file) for name, file in zip(names, files, strict=True)}
    digests = [sha256_of_file(file) for file in files]
    write_text(path, "".join(f"{digest}  {name}\n" for name, digest in zip(names, digests, strict=True)))
    memory = _memory_of_digests(path)
    memory.remember_all({name: (states[name], digest) for name, digest in zip(names, digests, strict=True)})
    memory.save()


def changed_files(digests: Path) -> list[str]:
    """What is gone or no longer has the digest in a list that ``write_digests`` wrote, one line a file."""
    recorded = read_digests(digests)
    memory = _memory_of_digests(digests)
    now = _digests(digests.parent, {name: state_in_listing(digests.parent / name) for name in recorded}, memory)
    memory.save()
    changed = [name for name in recorded if now[name] != recorded[name]]
    return [f"{one_line(name)}: {'has changed' if now[name] else 'is gone'}" for name in changed]


def read_digests(path: Path) -> dict[str, str]:
    """The SHA-256 of each file by its name, of a list that ``write_digests`` wrote."""
    recorded: dict[str, str] = {}
    for number, line in enumerate(read_text(path).removesuffix("\n").split("\n"), start=1):
        digest, _, name = line.partition("  ")
        if not name:
            raise DatasetError(f"{one_line(path)} line {number}: expected '<SHA-256>  <file>'")
        recorded[name] = digest
    return recorded


def _memory_of_digests(path: Path) -> FileMemory:
    return FileMemory(path.with_name(f"{path.name}.looks.json"), across_boots=True)


def digest_or_empty(path: Path) -> str:
    """A file's SHA-256, or "" where it cannot be read: that is what the manifest says of such a file, too."""
    try:
        return sha256_of_file(path)
    except MnasbenchError:
        return ""
