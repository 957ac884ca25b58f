"""The calibration set: images of every class, chosen by a seed, the same ones whatever happens to the others."""

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from mnasbench.data.available import check_calibration
from mnasbench.data.changes import write_digests
from mnasbench.data.choice import calibration_choice
from mnasbench.data.datalist import write_datalist
from mnasbench.data.layouts import Dataset, scan
from mnasbench.data.looks import Look
from mnasbench.data.manifest import OnFault, look_at
from mnasbench.data.parallel import map_in_processes
from mnasbench.errors import DatasetError, InputError, SettingsError, named, one_line
from mnasbench.files import open_for_reading, refusal_named

# Tells a folder of ours from anybody else's; hidden, so that nobody takes it for an image.
_MARK = ".mnasbench-calibration"


def sample_calibration(
    dataset: Dataset,
    images: int,
    seed: int,
    *,
    expected_classes: Iterable[int] | None = None,
    on_fault: OnFault = "error",
    workers: int | None = None,
) -> list[str]:
    """Names (below the root, sorted) of ``images`` images of ``dataset``, every class as often as possible.

    An image's rank depends on the seed and its name alone, so replacing or adding an image does not change
    which others are chosen, unless it takes a place itself. The chosen ones are looked at; a faulty one is an
    error, or passed over with ``on_fault="exclude"``. Raises DatasetError where there are fewer images, or
    ``expected_classes`` (None: those of the dataset) are more than ``images`` or not all there.
    """
    if images < 1:
        raise SettingsError(f"calibration.images is {images}, expected 1 or more")
    classes = {name: file.class_index for name, file in scan(dataset).items()}
    where = one_line(dataset.images_folder)
    while True:
        check_calibration(where, classes, images, expected_classes)
        chosen = calibration_choice(classes, images, seed)
        faults = _faults(dataset.root, chosen, workers)
        if not faults:
            return chosen
        if on_fault == "error":
            listed = named(f"{name} {fault}" for name, fault in faults.items())
            raise DatasetError(f"{where}: {len(faults)} of the chosen images cannot be used: {listed}")
        for name in faults:
            del classes[name]


def _faults(root: Path, names: Sequence[str], workers: int | None) -> dict[str, str]:
    looks: Iterable[Look] = map_in_processes(partial(look_at, root), names, workers)
    return {name: fault for name, (*_, fault) in zip(names, looks, strict=True) if fault}


def _flat_names(names: Sequence[str]) -> list[str]:
    """A file name for each image, all different, and all with the one suffix that compilers are told to look for.

    What a file holds is told by its content; the vendor's compiler takes files of one suffix alone.
    """
    flat = [name.replace("/", "_") for name in names]
    named = [name if name.lower().endswith(".jpeg") else f"{name}.JPEG" for name in flat]
    times = Counter(map(str.lower, named))
    return [name if times[name.lower()] == 1 else f"{place:06d}_{name}" for place, name in enumerate(named)]


def write_calibration(
    root: Path, names: Sequence[str], list_file: Path, folder: Path, mode: Literal["link", "copy"] = "link"
) -> None:
    """Write the chosen images' absolute paths, one a line, and a flat folder of links to them (or copies).

    Beside the list, with the suffix ``.sha256``, their digests, by which planning sees that one was replaced.

    The folder replaces one that an earlier call made, whole or not at all; InputError where ``folder`` holds
    anything else. Links and paths are absolute, or relative where ``root`` is.
    """
    sources = [(root / name).resolve() for name in names]
    # Links from a results folder to images in the same folder must survive that it is moved as a whole.
    relative = not root.is_absolute()
    # The system follows a link's `..` from where the link really is, and the results may be a link to another disk.
    place = folder.parent.resolve() / folder.name
    targets = _flat_names(names)
    if folder.exists() and not (folder / _MARK).exists() and any(folder.iterdir()):
        raise InputError(f"{one_line(folder)}: holds other files than a calibration set; give an empty folder")
    with refusal_named(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for source, target in zip(sources, targets, strict=True):
            if mode == "copy":
                with open_for_reading(source) as stream, refusal_named(folder / target):
                    (temporary / target).write_bytes(stream.read())
            else:
                with refusal_named(folder / target):
                    (temporary / target).symlink_to(os.path.relpath(source, place) if relative else source)
        with refusal_named(folder):
            (temporary / _MARK).touch()
            temporary.chmod(0o755)  # mkdtemp's 0700 would keep a shared results folder from its team
            if folder.exists():
                shutil.rmtree(folder)
            temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    write_digests(list_file.with_suffix(".sha256"), sources)
    write_datalist(list_file, sources, relative=relative)
