"""How a dataset may lie on the disk: one class a layout, which says what its images are and which class each has.

A layout is added by its class and its place in ``LAYOUTS``; everything that reads a dataset goes through ``scan`` or
``labelled``. Light on purpose (no numpy, no Pillow): planning asks it.
"""

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from mnasbench.data.choice import sample_of
from mnasbench.data.class_order import ClassOrder, class_order
from mnasbench.data.labels import Labels, is_csv, read_labels
from mnasbench.data.listing import Listing, folders_in, valid_name, walk
from mnasbench.errors import DatasetError, named, one_line
from mnasbench.file_memory import FileState, state_from
from mnasbench.files import sha256_of_file


@dataclass(frozen=True)
class Dataset:
    """Where the images of one part of a dataset are and how they get their classes.

    ``root``: holds the folder ``part`` with the images, flat or in class folders. ``labels``: a label file; None
    takes ``<part>_label.txt`` where ``root`` has it, else the class folders. A CSV names the images itself, anywhere
    below ``root``. ``wnids``: a file with the classes' names in class order; None takes ``wnids.txt`` where ``root``
    has it (see ``class_order``). ``classes``: the number of classes, where known. ``limit``: keep this many images,
    chosen by a hash of their names, so that the choice does not depend on the other images' contents.
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
        """The file of class names that counts, or None."""
        return self.wnids or _if_file(self.root / "wnids.txt")


def _if_file(path: Path) -> Path | None:
    return path if path.is_file() else None


@dataclass(frozen=True, slots=True)
class LabelledFile:
    """A file of the dataset: its class, and what tells that it changed."""

    class_index: int
    state: FileState


class Layout(Protocol):
    """One way in which a dataset lies on the disk.

    ``name`` is for people. ``has_part``: whether all images lie in the dataset's folder ``part``, so that one without
    it is refused early.
    """

    name: ClassVar[str]
    has_part: ClassVar[bool]

    def __init__(self, dataset: Dataset) -> None: ...

    @staticmethod
    def suits(dataset: Dataset) -> bool:
        """Whether the dataset lies so; the first layout of ``LAYOUTS`` that says yes is in force."""

    def files(self) -> Listing:
        """The images, by their names below the root; nothing is opened."""

    def classes(self, files: Iterable[str]) -> tuple[dict[str, int], ClassOrder]:
        """The class index of each of these images; DatasetError names those that have none."""

    def label_files(self) -> list[Path]:
        """The user's files that ``classes`` reads, besides ``wnids``: an edit of one makes the manifest stale."""

    def deciding(self) -> list[str]:
        """What else decides the classes than those files and the images' names."""


class _LayoutWithCsv:
    """A CSV of ``path`` and ``label`` says which files are the dataset; others below the root are not part of it.

    Paths are relative to the root or to the CSV's folder, by where the first of them is; absolute ones are taken, too.
    """

    name: ClassVar[str] = "a CSV of paths and labels"
    has_part: ClassVar[bool] = False

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._labels: tuple[Labels, dict[str, str]] | None = None

    @staticmethod
    def suits(dataset: Dataset) -> bool:
        """Whether the label file is a CSV."""
        return dataset.labels is not None and is_csv(dataset.labels)

    def files(self) -> Listing:
        """The files that the CSV names; DatasetError with the line of one that is not there."""
        labels, names = self._read()
        listing: dict[str, FileState] = {}
        for written, name in names.items():
            path = f"{self._dataset.root}/{name}"
            try:
                status = os.stat(path)  # noqa: PTH116 - a Path a file costs more than its stat
            except OSError as error:
                raise DatasetError(f"{self._at(labels, written)}: {one_line(path)} is not there") from error
            if stat.S_ISDIR(status.st_mode):
                raise DatasetError(f"{self._at(labels, written)}: {one_line(path)} is a folder")
            listing[name] = state_from(status)
        return listing

    def classes(self, files: Iterable[str]) -> tuple[dict[str, int], ClassOrder]:
        """The CSV's labels."""
        labels, names = self._read()
        by_name = {name: labels.classes[written] for written, name in names.items()}
        return {name: by_name[name] for name in files}, labels.order

    def label_files(self) -> list[Path]:
        """The CSV."""
        return [self._dataset.labels] if self._dataset.labels else []

    def deciding(self) -> list[str]:
        """Nothing."""
        return []

    def _at(self, labels: Labels, written: str) -> str:
        return f"{one_line(self._dataset.labels)} line {labels.lines[written]}"

    def _read(self) -> tuple[Labels, dict[str, str]]:
        """The labels by the paths that are written, and the name below the root of each such path."""
        if self._labels is None:
            file, root = self._dataset.labels, _normal(self._dataset.root)
            assert file is not None, "suits says so"
            labels = read_labels(file, self._dataset.classes, self._dataset.wnids_file())
            first = next(iter(labels.classes))
            base = root if os.path.lexists(f"{root}/{first}") else _normal(file.parent)
            names: dict[str, str] = {}
            lines: dict[str, int] = {}
            for written in labels.classes:
                path = os.path.normpath(written if written.startswith("/") else f"{base}/{written}")
                if "\0" in path or not path.startswith(f"{root}/"):
                    raise DatasetError(
                        f"{self._at(labels, written)}: {one_line(written)} leads out of {one_line(root)}; paths are "
                        "relative to dataset.root or to the CSV"
                    )
                name = names[written] = valid_name(path[len(root) + 1 :])
                if name in lines:
                    raise DatasetError(
                        f"{self._at(labels, written)}: {one_line(written)} stands twice (first in line {lines[name]})"
                    )
                lines[name] = labels.lines[written]
            self._labels = labels, names
        return self._labels


def _normal(folder: Path) -> str:
    """The absolute path of a folder, without ``..`` and without a slash at its end; links are left as they are."""
    return os.path.normpath(folder.absolute()).rstrip("/")


class _LayoutWithLabelFile:
    """A label file has a line for each file in the folder of images, which may have folders of its own."""

    name: ClassVar[str] = "a label file"
    has_part: ClassVar[bool] = True

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    @staticmethod
    def suits(dataset: Dataset) -> bool:
        """Whether there is a label file, named or in its usual place."""
        return dataset.label_file() is not None

    def files(self) -> Listing:
        """Every file that is not hidden."""
        return dict(walk(self._dataset.root, self._dataset.part))

    def classes(self, files: Iterable[str]) -> tuple[dict[str, int], ClassOrder]:
        """The label of each image, by its name below the folder of images, below the root, or by its last part."""
        dataset, label_file = self._dataset, self._dataset.label_file()
        assert label_file is not None, "suits says so"
        labels = read_labels(label_file, dataset.classes, dataset.wnids_file())
        classes: dict[str, int] = {}
        used: set[str] = set()
        without = []
        for name in files:
            below = name.removeprefix(f"{dataset.part}/")
            key = next((key for key in (below, name, below.rpartition("/")[2]) if key in labels.classes), None)
            if key is None:
                without.append(name)
            elif key in used:
                raise DatasetError(f"{one_line(label_file)}: {one_line(key)} names two images, one is {one_line(name)}")
            else:
                used.add(key)
                classes[name] = labels.classes[key]
        if without:
            raise DatasetError(f"{one_line(label_file)}: has no label for {named(without)}")
        if len(used) < len(labels.classes):
            missing = [key for key in labels.classes if key not in used]
            raise DatasetError(
                f"{one_line(label_file)}: labels images that are not in {dataset.part}/: {named(missing)}"
            )
        return classes, labels.order

    def label_files(self) -> list[Path]:
        """The label file."""
        file = self._dataset.label_file()
        return [file] if file else []

    def deciding(self) -> list[str]:
        """Nothing."""
        return []


class _LayoutOfClassFolders:
    """A folder for each class; one without images counts as a class, so that the others keep their indices."""

    name: ClassVar[str] = "class folders"
    has_part: ClassVar[bool] = True

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    @staticmethod
    def suits(dataset: Dataset) -> bool:
        """What is left where nothing else suits."""
        return True

    def files(self) -> Listing:
        """Every file that is not hidden."""
        return dict(walk(self._dataset.root, self._dataset.part))

    def classes(self, files: Iterable[str]) -> tuple[dict[str, int], ClassOrder]:
        """The class of each image's folder."""
        dataset = self._dataset
        parts = {name: name.split("/") for name in files}
        stray = [name for name, words in parts.items() if len(words) != 3]
        if stray:
            expected = f"{dataset.part}_label.txt, or {dataset.part}/<class>/<image>"
            raise DatasetError(
                f"{one_line(dataset.root)}: no label file, and no class folder for {named(stray)}; expected {expected}"
            )
        folders = self.deciding()
        try:
            order = class_order(folders, dataset.wnids_file())
        except DatasetError as error:
            raise DatasetError(f"{one_line(dataset.root / dataset.part)}: {error}") from error
        if dataset.classes is not None and len(folders) > dataset.classes:
            raise DatasetError(
                f"{one_line(dataset.root)}: has {len(folders)} class folders, expected {dataset.classes} classes"
            )
        return {name: order.indices[words[1]] for name, words in parts.items()}, order

    def label_files(self) -> list[Path]:
        """None."""
        return []

    def deciding(self) -> list[str]:
        """The folders, the empty ones among them."""
        return folders_in(self._dataset.root / self._dataset.part)


# The first that suits a dataset is in force.
LAYOUTS: list[type[Layout]] = [_LayoutWithCsv, _LayoutWithLabelFile, _LayoutOfClassFolders]


def layout_of(dataset: Dataset) -> Layout:
    """The layout that is in force for a dataset."""
    return next(layout for layout in LAYOUTS if layout.suits(dataset))(dataset)


@dataclass(frozen=True)
class Labelled:
    """All images of a dataset, whatever its limit: their classes and file status by name, and why these classes."""

    layout: str
    classes: dict[str, int]
    files: Listing
    order: ClassOrder

    @property
    def message(self) -> str:
        """One line: which layout is in force, and which class has which index."""
        empty = self.empty_classes
        without = f"; {len(empty)} without an image: {named(empty, 3)}" if empty else ""
        guess = "; dataset.wnids, a file of their names in class order, says otherwise" if self.order.is_guess else ""
        return f"{self.layout}, {len(self.order.indices)} classes {self.order.reason}{without}{guess}"

    @property
    def empty_classes(self) -> list[str]:
        """Names of the classes that no image has."""
        present = set(self.classes.values())
        return [name for name, index in self.order.indices.items() if index not in present]


def labelled(dataset: Dataset, files: Listing | None = None) -> Labelled:
    """Every image of the dataset with its class; nothing is opened.

    Every file that is not hidden counts as an image, unless a CSV names them. DatasetError where the folder is missing
    or empty, an image has no label, or a label has no image. ``files``: what the layout's ``files`` said a moment ago.
    """
    layout = layout_of(dataset)
    files = layout.files() if files is None else files
    if not files:
        raise DatasetError(f"{one_line(dataset.root / dataset.part)}: holds no images")
    classes, order = layout.classes(files)
    return Labelled(layout.name, classes, files, order)


def scan(dataset: Dataset, files: Listing | None = None) -> dict[str, LabelledFile]:
    """The images of the dataset within its limit, by name below the root, sorted; see ``labelled``."""
    return chosen_images(dataset, labelled(dataset, files))


def chosen_images(dataset: Dataset, images: Labelled) -> dict[str, LabelledFile]:
    """The images within the dataset's limit, by name below the root, sorted."""
    names = sorted(images.files)
    if dataset.limit is not None:
        names = sample_of(names, dataset.limit)
    return {name: LabelledFile(images.classes[name], images.files[name]) for name in names}


def files_of_classes(dataset: Dataset) -> list[Path]:
    """The user's own files that give images their classes."""
    wnids = dataset.wnids_file()
    return [*layout_of(dataset).label_files(), *([wnids] if wnids else [])]


def deciding(dataset: Dataset) -> list[str]:
    """What decides the classes besides the images' names: digests of the user's files, names of folders."""
    return [*map(sha256_of_file, files_of_classes(dataset)), *layout_of(dataset).deciding()]


__all__: Sequence[str] = (
    "LAYOUTS",
    "Dataset",
    "Labelled",
    "LabelledFile",
    "Layout",
    "chosen_images",
    "deciding",
    "files_of_classes",
    "labelled",
    "layout_of",
    "scan",
)
