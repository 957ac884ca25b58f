"""ImageNet's validation images, flat as they are published, laid out in class folders; and back again."""

import contextlib
import errno
import os
from pathlib import Path
from typing import Literal

from mnasbench.data.class_names import read_class_names
from mnasbench.data.class_order import imagenet_wnids
from mnasbench.data.layouts import Dataset, scan
from mnasbench.errors import DatasetError, InputError, one_line
from mnasbench.files import copy_file, read_json, read_text, refusal_named, sha256_of_file, write_json, write_text

Mode = Literal["link", "copy", "move"]
_JOURNAL = "valprep.json"
_GROUND_TRUTH = "data/ILSVRC2012_validation_ground_truth.txt"
_META = "data/meta.mat"


def make_class_folders(dataset: Dataset, target: Path, mode: Mode = "link") -> int:
    """Place each image of ``dataset`` at ``target/val/<wnid>/<image>``; gives their number.

    ``mode``: ``"link"`` and ``"copy"`` leave the user's files alone, ``"move"`` does not. What is done is first
    written to ``target/valprep.json``, by which ``undo`` takes it back, a call that was cut off included; one that
    fails takes it back itself. Raises InputError where the target has a journal or a ``val`` folder already.
    """
    journal = target / _JOURNAL
    for path in (journal, target / "val"):
        if path.exists():
            raise InputError(f"{one_line(path)}: exists already; undo it first (--undo), or give another target")
    images = scan(dataset)
    wnids = _wnids(dataset)
    stray = next((wnid for wnid in wnids if "/" in wnid or wnid in {".", ".."}), None)
    if stray is not None:
        raise DatasetError(f"{one_line(dataset.wnids_file())}: {one_line(stray)!r} cannot be the name of a folder")
    largest = max(file.class_index for file in images.values())
    if largest >= len(wnids):
        raise DatasetError(f"{one_line(dataset.root)}: class {largest} has no WordNet id; {len(wnids)} are known")
    moves = [
        [str((dataset.root / name).absolute()), f"val/{wnids[file.class_index]}/{Path(name).name}"]
        for name, file in images.items()
    ]
    write_json(journal, {"mode": mode, "files": moves})
    try:
        for source, below in moves:
            _place(Path(source), target / below, mode)
    except BaseException:
        with contextlib.suppress(Exception):  # then the journal is there yet, and says what --undo has to do
            undo(target)
        raise
    return len(moves)


def _place(source: Path, path: Path, mode: Mode) -> None:
    with refusal_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    if mode == "link":
        with refusal_named(path):
            path.symlink_to(source)
    elif mode == "copy":
        copy_file(source, path)
    else:
        _move(source, path)


def _move(source: Path, path: Path) -> None:
    """Rename a file; to another file system it is copied whole before it leaves its place."""
    with refusal_named(path):
        try:
            source.rename(path)
            return
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
    copy_file(source, path)
    with refusal_named(source):
        source.unlink()


def undo(target: Path) -> int:
    """Take back what ``make_class_folders`` did in ``target``; gives the number of files taken back.

    Only what the journal names is touched, and folders only when they are empty then. A file that stands where a
    moved one belongs is never written over: of an equal one the moved copy is removed, any other is an InputError.
    """
    journal = target / _JOURNAL
    content = read_json(journal)
    try:
        mode, files = content["mode"], [(Path(source), Path(below)) for source, below in content["files"]]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{one_line(journal)}: is not a journal of valprep") from error
    if mode not in ("link", "copy", "move") or any(below.is_absolute() or ".." in below.parts for _, below in files):
        raise InputError(f"{one_line(journal)}: is not a journal of valprep")
    taken = 0
    for source, below in files:
        path = target / below
        if not path.is_symlink() and not path.exists():
            continue
        if mode == "move" and not os.path.lexists(source):
            _move(path, source)
        elif mode == "move" and sha256_of_file(path) != sha256_of_file(source):
            raise InputError(f"{one_line(source)}: is another file than {one_line(path)}, which belongs there")
        else:
            path.unlink()
        taken += 1
    for folder in [*sorted({(target / below).parent for _, below in files}), target / "val"]:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    journal.unlink()
    return taken


def _wnids(dataset: Dataset) -> list[str]:
    file = dataset.wnids_file()
    return imagenet_wnids() if file is None else read_class_names(file)


def write_labels_of_devkit(devkit: Path, root: Path, part: str, path: Path) -> None:
    """Write the label file (``<image name> <wnid>``) of the images in ``root/part`` from the ILSVRC2012 devkit.

    The devkit gives the n-th image (in the order of names) an ILSVRC2012_ID, and its meta.mat gives that id's
    WordNet id; the ids are not the class indices that classifiers are trained with.
    """
    from scipy.io import loadmat

    truth = devkit / _GROUND_TRUTH
    ids = read_text(truth).split()
    try:
        synsets = loadmat(devkit / _META, squeeze_me=True)["synsets"]
        wnids = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets if int(row["num_children"]) == 0}
        words = [wnids[int(number)] for number in ids]
    except Exception as error:  # loadmat raises whatever its parsing meets
        raise InputError(f"{one_line(devkit)}: is not the ILSVRC2012 devkit ({one_line(error)})") from error
    names = sorted(entry.name for entry in os.scandir(root / part) if not entry.name.startswith("."))
    if len(names) != len(words):
        raise DatasetError(
            f"{one_line(truth)}: has {len(words)} lines, but {one_line(root / part)} {len(names)} images"
        )
    write_text(path, "".join(f"{name} {word}\n" for name, word in zip(names, words, strict=True)))
