"""The manifest: every image of a dataset, its class, its size, its digest, and what is wrong with it."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import simplejpeg

from mnasbench.data.choice import shard_of
from mnasbench.data.image_files import images_among
from mnasbench.data.layouts import Dataset, Labelled, chosen_images, labelled
from mnasbench.data.listing import walk
from mnasbench.data.looks import Look, LookMemory, memories_in
from mnasbench.data.manifest_file import IndexedImage, read_manifest, write_manifest
from mnasbench.data.parallel import map_in_processes
from mnasbench.data.preprocess import decode, open_image, read_image
from mnasbench.errors import DatasetError, MnasbenchError, SettingsError, named, one_line
from mnasbench.files import sha256_of_bytes
from mnasbench.progress import SILENT, Progress

OnFault = Literal["error", "exclude"]


def index_dataset(
    dataset: Dataset,
    manifest: Path,
    *,
    on_fault: OnFault = "error",
    shards: int = 1,
    shard: int | None = None,
    workers: int | None = None,
    rehash: bool = False,
    images_in_all: Labelled | None = None,
    progress: Progress = SILENT,
) -> list[IndexedImage]:
    """Look at every image of ``dataset`` and write its manifest (a CSV of ``manifest_file.COLUMNS``).

    An image is whole when its entropy-coded data decode without a complaint. Files that are as they were when they
    were last read (see ``LookMemory``) are not read again, unless ``rehash``; nor are those that the
    manifests in the same folder remember, where another number of shards had them. An image's shard depends on its
    name alone; with ``shard`` only the images of that one of ``shards`` are looked at. Raises DatasetError that
    names the faulty images, unless ``on_fault`` is ``"exclude"``: then they stand in the manifest with their fault.
    Gives all rows, faulty ones included. ``images_in_all``: what ``labelled`` gave for the dataset a moment ago.
    """
    if shards < 1 or not 0 <= (shard or 0) < shards:
        raise SettingsError(f"shard {shard or 0} of {shards} is none: expected one of 0 to {max(shards, 1) - 1}")
    files = chosen_images(dataset, labelled(dataset) if images_in_all is None else images_in_all)
    if shard is not None:
        total = len(files)
        files = {name: file for name, file in files.items() if shard_of(name, shards) == shard}
        if not files:
            raise DatasetError(
                f"{one_line(dataset.root)}: none of its {total} images falls into shard {shard} of {shards}"
                "; set shards to fewer (one for every 1,000 images is enough)"
            )
    states = {name: file.state for name, file in files.items()}
    memory = LookMemory(manifest)
    looks: dict[str, Look] = {}
    if not rehash:
        for other in (memory, *memories_in(manifest.parent)):
            if len(looks) < len(states):
                looks |= other.recall({name: state for name, state in states.items() if name not in looks})
    unread = [name for name in states if name not in looks]
    new = map_in_processes(partial(look_at, dataset.root), unread, workers)
    looks |= zip(unread, progress.loop("indexing", new, len(unread)), strict=True)
    memory.keep({name: (states[name], look) for name, look in looks.items()})
    images = []
    for name, file in files.items():
        sha256, width, height, mode, fault = looks[name]
        place = shard_of(name, shards)
        images.append(
            IndexedImage(name, file.class_index, width, height, mode, max(file.state.size, 0), sha256, place, fault)
        )
    _judge(dataset.root, images, on_fault)
    write_manifest(manifest, images)
    return images


def look_at_folder(folder: Path, workers: int | None = None) -> list[IndexedImage]:
    """Every image below ``folder``, of no known class; DatasetError names those that are faulty."""
    names = sorted(images_among(name for name, _ in walk(folder))[0])
    if not names:
        raise DatasetError(f"{one_line(folder)}: holds no images")
    looks = map_in_processes(partial(look_at, folder), names, workers)
    images = [
        IndexedImage(name, -1, width, height, mode, (folder / name).stat().st_size, sha256, 0, fault)
        for name, (sha256, width, height, mode, fault) in zip(names, looks, strict=True)
    ]
    _judge(folder, images, "error")
    return images


def look_at(root: Path, name: str) -> Look:
    """(sha256, width, height, mode, fault) of one image; what cannot be known is empty or 0."""
    path = root / name
    try:
        content = read_image(path)
    except DatasetError as error:
        # An empty file has a digest, so that the cache and the planning treat it as any other.
        empty = path.is_file() and path.stat().st_size == 0
        return sha256_of_bytes(b"") if empty else "", 0, 0, "", _fault(error, path)
    sha256 = sha256_of_bytes(content)
    width = height = 0
    mode = ""
    try:
        image = open_image(content, path)
        (width, height), mode = image.size, image.mode
        if not _is_whole_jpeg(content):
            decode(content, path)
    except DatasetError as error:
        return sha256, width, height, mode, _fault(error, path)
    return sha256, width, height, mode, ""


def _fault(error: MnasbenchError, path: Path) -> str:
    return str(error).removeprefix(f"{one_line(path)}: ")


def _is_whole_jpeg(content: bytes) -> bool:
    """Whether all entropy-coded data of a JPEG decode; at an eighth of its size, which skips most of the work."""
    try:
        simplejpeg.decode_jpeg(content, "GRAY", fastdct=True, fastupsample=True, min_height=1, min_width=1)
    except ValueError:
        return False
    return True


def _judge(root: Path, images: list[IndexedImage], on_fault: OnFault) -> None:
    faulty = [image for image in images if image.fault]
    if faulty and on_fault == "error":
        what = f"{len(faulty)} of {len(images)} images cannot be used"
        advice = "mend or remove them, or exclude them with on_fault: exclude"
        raise DatasetError(f"{one_line(root)}: {what} ({advice}): {named(f'{p.name} {p.fault}' for p in faulty)}")
    if len(faulty) == len(images):
        raise DatasetError(f"{one_line(root)}: no usable image is left of {len(images)}")


def gather_manifests(shards: Sequence[Path], manifest: Path) -> list[IndexedImage]:
    """Write the manifest of all images from those of its shards; gives its rows, faulty ones included.

    Raises DatasetError where a manifest holds an image of another shard: then they are not of one indexing.
    """
    images = []
    for number, path in enumerate(shards):
        for image in read_manifest(path, with_faulty=True):
            if image.shard != number or shard_of(image.name, len(shards)) != number:
                raise DatasetError(
                    f"{one_line(path)}: {one_line(image.name)} does not belong to shard {number} of {len(shards)}; "
                    "delete the file, and the next run makes it again"
                )
            images.append(image)
    images.sort(key=lambda image: image.name)
    write_manifest(manifest, images)
    return images
