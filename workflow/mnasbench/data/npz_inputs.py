"""Images to the npz files that the run stage reads, on every core: one shard, or one file an image."""

import contextlib
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from mnasbench.data.datalist import require_listable
from mnasbench.data.image_files import without_suffix
from mnasbench.data.manifest_file import IndexedImage
from mnasbench.data.npz import INPUT_KEY, Pixels, write_npz
from mnasbench.data.parallel import map_in_processes
from mnasbench.data.preprocess import decode, pixels_of_bytes, read_image
from mnasbench.data.resample import compile_now
from mnasbench.data.shard import RowWriter, new_shard
from mnasbench.disk_room import require_room
from mnasbench.errors import DatasetError, one_line
from mnasbench.files import make_folders, sha256_of_bytes
from mnasbench.preprocessing import Preprocessing
from mnasbench.progress import SILENT, Progress

# Zip and npy headers of one file.
_OVERHEAD = 512


def npz_paths(target: Path, names: Sequence[str]) -> list[Path]:
    """The npz files of images: class folders are kept below ``target``, the suffix is replaced.

    Images whose names differ in their suffix alone keep it. DatasetError where two would still have one file.
    """
    stems = Counter(map(without_suffix, names))
    below = [name if stems[without_suffix(name)] > 1 else without_suffix(name) for name in names]
    if len(set(below)) < len(below):
        doubled = next(name for name, times in Counter(below).items() if times > 1)
        raise DatasetError(f"{one_line(target)}/{one_line(doubled)}.npz: two images would be written here; rename one")
    return [Path(f"{target}/{name}.npz") for name in below]


def write_input_shard(
    root: Path,
    images: Sequence[IndexedImage],
    path: Path,
    preprocessing: Preprocessing,
    *,
    workers: int | None = None,
    progress: Progress = SILENT,
) -> None:
    """Write the pixels of ``images``, uint8 (images, *shape), RGB, into one shard, with their names.

    float32 where the preprocessing is a user's own code.

    An image whose content is not what the manifest says is an error, as is a disk that will not hold the file,
    before it is begun.
    """
    if not images:
        raise DatasetError(f"{one_line(root)}: no images to convert; does the manifest have this shard?")
    require_listable(str(path.resolve()))
    require_room({path.parent: bytes_needed(images, preprocessing)}, f"writing {len(images)} images")
    compile_now()
    names = [image.name for image in images]
    with new_shard(path, names, INPUT_KEY, preprocessing.shape, preprocessing.dtype) as shard:
        write = partial(_write_row, root, preprocessing, shard.rows)
        crcs = map_in_processes(write, list(enumerate(images)), workers)
        for crc in progress.loop("npz", crcs, len(images)):
            shard.add_crc(crc, 1)


def _write_row(root: Path, preprocessing: Preprocessing, rows: RowWriter, job: tuple[int, IndexedImage]) -> int:
    row, image = job
    return rows.write(row, _pixels_of(root, image, preprocessing))


def write_npz_inputs(
    root: Path,
    images: Sequence[IndexedImage],
    target: Path,
    preprocessing: Preprocessing | None,
    *,
    exact: bool = False,
    workers: int | None = None,
    progress: Progress = SILENT,
) -> list[Path]:
    """Write one npz (uint8, RGB, planar, key ``input_0``) for each image; gives their absolute paths, in order.

    With ``preprocessing`` an array has its ``shape``; without, it is the whole image (3, height, width), as the
    vendor's tools take it. An image whose content is not what the manifest says is an error, as is a disk that
    will not hold the files, before the first of them is written. Other npz files below ``target``, of images that
    left the dataset or the shard, are removed where ``exact``.
    """
    if not images:
        raise DatasetError(f"{one_line(root)}: no images to convert; does the manifest have this shard?")
    folder, is_new = target.resolve(), not target.exists()
    paths = npz_paths(folder, [image.name for image in images])
    require_listable(str(paths[0].parent))
    target.mkdir(parents=True, exist_ok=True)
    if exact:
        _remove_others(folder, set(paths))
    make_folders(target, dict.fromkeys(path.parent for path in paths))
    need = bytes_needed(images, preprocessing)
    # What is there is replaced, so its space is free.
    there = 0 if is_new else sum(path.stat().st_size for path in paths if path.is_file())
    require_room({target: need - there}, f"writing {len(paths)} npz files")
    if preprocessing is not None:
        compile_now()
    jobs = list(zip(images, paths, strict=True))
    for _ in progress.loop("npz", map_in_processes(partial(_write_one, root, preprocessing), jobs, workers), len(jobs)):
        pass
    return paths


def _remove_others(folder: Path, kept: set[Path]) -> None:
    for path in folder.rglob("*.npz"):
        if path not in kept:
            path.unlink()
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            with contextlib.suppress(OSError):
                path.rmdir()  # only where it is empty


def bytes_needed(images: Iterable[IndexedImage], preprocessing: Preprocessing | None) -> int:
    """Size of the npz files of ``images``."""
    if preprocessing is not None:
        return sum(preprocessing.input_bytes + _OVERHEAD for _ in images)
    return sum(3 * image.width * image.height + _OVERHEAD for image in images)


def _write_one(root: Path, preprocessing: Preprocessing | None, job: tuple[IndexedImage, Path]) -> None:
    image, path = job
    write_npz(path, _pixels_of(root, image, preprocessing))


def _pixels_of(root: Path, image: IndexedImage, preprocessing: Preprocessing | None) -> Pixels:
    """What the model sees of an image, or the whole of it, planar; DatasetError where it is no longer that image."""
    source = root / image.name
    content = read_image(source)
    if sha256_of_bytes(content) != image.sha256:
        raise DatasetError(f"{one_line(source)}: has changed since it was indexed; index the dataset again")
    if preprocessing is None:
        return np.ascontiguousarray(decode(content, source).transpose(2, 0, 1))
    return pixels_of_bytes(content, source, preprocessing)
