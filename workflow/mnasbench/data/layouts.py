"""How a dataset may lie on the disk: one class a layout, which says what its images are and which class each has.

A layout is added by its class and its place in ``LAYOUTS``; everything that reads a dataset goes through ``scan`` or
``labelled``. Light on purpose (no numpy, no Pillow): planning asks it.
"""

import os
import stat
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Protocol

from mnasbench.data.choice import sample_of
from mnasbench.data.class_order import ClassOrder, ClassRule, Numbering, class_order
from mnasbench.data.image_files import has_image_suffix, images_among, without_suffix
from mnasbench.data.image_keys import composed
from mnasbench.data.labels import TINY_IMAGENET, Labels, has_labels, is_table, read_labels
from mnasbench.data.listing import Listing, folders_in, valid_name, walk
from mnasbench.errors import DatasetError, named, one_line
from mnasbench.file_memory import FileState, state_from
from mnasbench.files import sha256_of_file

# The folders of images that are looked for below a root, in this order; the root itself where none is there.
PARTS = ("val", "validation", "valid", "test")
_TRAINING = ("train", "training")
_ILSVRC = "ILSVRC/Data/CLS-LOC/val"


@dataclass(frozen=True)
class Dataset:
    """Where the images of one part of a dataset are and how they get their classes.

    ``root``: holds the folder ``part`` with the images, flat or in class folders; None takes the first of ``PARTS``
    that is there, else the root itself. ``labels``: a label file; None takes ``<part>_label.txt`` or ``val_label.txt``
    where ``root`` has it, else what the layout has. A table names the images itself, anywhere below ``root``.
    ``wnids``: a file with the classes' names in class order; None takes ``wnids.txt`` where ``root`` has it (see
    ``class_order``). ``numbering``, ``outputs``: as in ``ClassRule``. ``limit``: keep this many images, chosen by a
    hash of their names, so that the choice does not depend on the other images' contents.
    """

    root: Path
    labels: Path | None = None
    part: str | None = None
    wnids: Path | None = None
    numbering: Numbering | None = None
    limit: int | None = None
    outputs: frozenset[int] = frozenset()

    @cached_property
    def folder(self) -> str:
        """The folder of images below the root; empty for the root itself. DatasetError where only train/ is there."""
        if self.part is not None:
            return self.part
        part = next((part for part in PARTS if (self.root / part).is_dir()), "")
        training = next((name for name in _TRAINING if (self.root / name).is_dir()), None)
        if not part and training is not None and not self._has_table:
            raise DatasetError(
                f"{one_line(self.root)}: has {training}/, but none of {', '.join(PARTS)} to judge on; name the folder "
                f"of images itself ({one_line(self.root / training)})"
            )
        return part

    @property
    def images_folder(self) -> Path:
        """The path of the folder of images."""
        return self.root / self.folder if self.folder else self.root

    @property
    def _has_table(self) -> bool:
        return self.labels is not None and is_table(self.labels)

    def label_file(self) -> Path | None:
        """The label file that counts, or None where the class folders do."""
        usual = [f"{self.folder}_label.txt"] if self.folder else []
        usual += [] if self.part or self.folder == "test" else ["val_label.txt"]
        return self.labels or next((self.root / name for name in usual if (self.root / name).is_file()), None)

    def wnids_file(self) -> Path | None:
        """The file of class names that counts, or None."""
        return self.wnids or _if_file(self.root / "wnids.txt")

    @property
    def rule(self) -> ClassRule:
        """What is known of the classes' order."""
        return ClassRule(self.wnids_file(), self.wnids is not None, self.numbering, self.outputs)


def beside(dataset: Dataset, root: Path) -> Dataset:
    """Another dataset whose classes have the same indices: by the same file, or by the order of their names."""
    if dataset.numbering == "file":
        return Dataset(root, wnids=dataset.wnids_file(), numbering="file")
    return Dataset(root, numbering="folders" if dataset.numbering == "folders" else None)


def _if_file(path: Path) -> Path | None:
    return path if path.is_file() else None


@dataclass(frozen=True, slots=True)
class LabelledFile:
    """A file of the dataset: its class, and what tells that it changed."""

    class_index: int
    state: FileState


class Layout(Protocol):
    """One way in which a dataset lies on the disk; ``name`` is for people."""

    name: ClassVar[str]

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


def _images_below(dataset: Dataset, named_ones: Iterable[str] = ()) -> tuple[dict[str, FileState], list[str]]:
    """The images in the dataset's folder, and what was passed over, to be said.

    ``named_ones``: of what does not look like an image by its name, these are images all the same (below the folder).
    """
    hidden: list[str] = []
    listing = dict(walk(dataset.root, dataset.folder, hidden))
    images, others = images_among(listing)
    if others:
        length = len(dataset.folder) + 1 if dataset.folder else 0
        named_ones = set(named_ones)
        images += [name for name in others if composed(name[length:]) in named_ones]
        others = [name for name in others if composed(name[length:]) not in named_ones]
    notes = [f"{len(others)} files are no images by their names: {named(others, 3)}"] if others else []
    notes += [f"{len(hidden)} hidden files or folders are passed over"] if hidden else []
    return {name: listing[name] for name in images}, notes


class _LayoutWithTable:
    """A table of paths and labels says which files are the dataset; others below the root are not part of it.

    Paths are relative to one of ``_bases``, by where the first of them is; absolute ones are taken, too. A name
    without the suffix of an image may be that of the one image which has it with one.
    """

    name: ClassVar[str] = "a CSV of paths and labels"

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._labels: tuple[Labels, dict[str, str]] | None = None
        self.notes: list[str] = []

    @staticmethod
    def suits(dataset: Dataset) -> bool:
        """Whether the label file is a table."""
        return dataset.labels is not None and is_table(dataset.labels)

    @classmethod
    def table(cls, dataset: Dataset) -> Path | None:
        """The table."""
        return dataset.labels

    def files(self) -> Listing:
        """The files that the table names; DatasetError with the line of one that is not there."""
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
        """The table's labels."""
        labels, names = self._read()
        by_name = {name: labels.classes[written] for written, name in names.items()}
        return {name: by_name[name] for name in files}, labels.order

    def label_files(self) -> list[Path]:
        """The table."""
        return [self._file]

    def deciding(self) -> list[str]:
        """Nothing."""
        return []

    @property
    def _file(self) -> Path:
        file = self.table(self._dataset)
        assert file is not None, "suits says so"
        return file

    def _rule(self) -> ClassRule:
        return self._dataset.rule

    def _bases(self) -> list[Path]:
        """Folders that paths may be relative to."""
        root = self._dataset.root
        return [root, self._file.parent, *(root / part for part in (*PARTS, _ILSVRC))]

    def _at(self, labels: Labels, written: str) -> str:
        return f"{one_line(self._file)} line {labels.lines[written]}"

    def _read(self) -> tuple[Labels, dict[str, str]]:
        """The labels by the paths that are written, and the name below the root of each such path."""
        if self._labels is None:
            root = _normal(self._dataset.root)
            labels = read_labels(self._file, self._rule())
            first = next(iter(labels.classes))
            bases = [_Base(folder) for folder in dict.fromkeys(map(_normal, self._bases()))]
            base = next((base for base in bases if base.path_of(first)), bases[0])
            names: dict[str, str] = {}
            lines: dict[str, int] = {}
            for written in labels.classes:
                path = base.path_of(written) or os.path.normpath(base.joined(written))
                if "\0" in path or not path.startswith(f"{root}/"):
                    raise DatasetError(
                        f"{self._at(labels, written)}: {one_line(written)} leads out of {one_line(root)}; paths are "
                        "relative to dataset.root or to the table's folder"
                    )
                name = names[written] = valid_name(path[len(root) + 1 :])
                if name in lines:
                    raise DatasetError(
                        f"{self._at(labels, written)}: {one_line(written)} stands twice (first in line {lines[name]})"
                    )
                lines[name] = labels.lines[written]
            self._labels = labels, names
        return self._labels


class _Base:
    """A folder that the paths of a table are relative to."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._by_stem: dict[str, str] | None = None

    def joined(self, written: str) -> str:
        """The path that a table's entry means as it stands."""
        return written if written.startswith("/") else f"{self._folder}/{written}"

    def path_of(self, written: str) -> str | None:
        """The path of the file that an entry means; None where there is none."""
        path = self.joined(written)
        if "\0" in path:
            return None
        path = os.path.normpath(path)
        if self._by_stem is not None and path in self._by_stem:  # as the names before it
            return self._by_stem[path]
        forms = [path] if path.isascii() else [path, *(unicodedata.normalize(form, path) for form in ("NFC", "NFD"))]
        existing = next((form for form in forms if os.path.lexists(form)), None)
        return self._stems().get(path) if existing is None and not has_image_suffix(path) else existing

    def _stems(self) -> dict[str, str]:
        """Paths of the images below the folder by themselves without their suffix, where only one has it."""
        if self._by_stem is None:
            self._by_stem = {}
            doubled = set()
            folder = Path(self._folder)
            listed = (name for name, _ in walk(folder)) if folder.is_dir() else ()
            for name in images_among(listed)[0]:
                path = f"{self._folder}/{name}"
                stem = composed(without_suffix(path))
                if self._by_stem.setdefault(stem, path) != path:
                    doubled.add(stem)
            for stem in doubled:
                del self._by_stem[stem]
        return self._by_stem


def _normal(folder: Path) -> str:
    """The absolute path of a folder, without ``..`` and without a slash at its end; links are left as they are."""
    return os.path.normpath(folder.absolute()).rstrip("/")


class _LayoutOfImagefolder(_LayoutWithTable):
    """Hugging Face's imagefolder: ``metadata.csv`` or ``.jsonl`` with the columns ``file_name`` and ``label``.

    It stands in the folder of images, or in the root; then only the rows of that folder count.
    """

    name: ClassVar[str] = "an imagefolder's metadata"

    @classmethod
    def suits(cls, dataset: Dataset) -> bool:
        """Whether there is such a file, and it has labels."""
        return dataset.labels is None and cls.table(dataset) is not None

    @classmethod
    def table(cls, dataset: Dataset) -> Path | None:
        """The metadata."""
        folders = dict.fromkeys((dataset.images_folder, dataset.root))
        files = [folder / f"metadata{suffix}" for folder in folders for suffix in (".csv", ".jsonl")]
        return next((file for file in files if file.is_file() and has_labels(file)), None)

    def _bases(self) -> list[Path]:
        return [self._file.parent]

    def _read(self) -> tuple[Labels, dict[str, str]]:
        labels, names = super()._read()
        part = f"{self._dataset.folder}/" if self._dataset.folder else ""
        kept = {written: name for written, name in names.items() if name.startswith(part)}
        return labels, kept or names


class _LayoutOfTinyImagenet(_LayoutWithTable):
    """Tiny ImageNet: ``val/images`` and ``val/val_annotations.txt``; its classes are numbered by its ``wnids.txt``."""

    name: ClassVar[str] = "Tiny ImageNet's annotations"

    @classmethod
    def suits(cls, dataset: Dataset) -> bool:
        """Whether the annotations are there."""
        return dataset.labels is None and cls.table(dataset) is not None

    @classmethod
    def table(cls, dataset: Dataset) -> Path | None:
        """The annotations."""
        return _if_file(dataset.images_folder / TINY_IMAGENET)

    def _rule(self) -> ClassRule:
        rule = self._dataset.rule
        if rule.wnids is not None and rule.numbering is None and not rule.is_given:
            self.notes = ["dataset.classes: folders takes their sorted order, by which many nets for it were trained"]
        return replace(rule, is_given=True)  # its wnids.txt is a part of it

    def _bases(self) -> list[Path]:
        return [self._file.parent / "images", self._file.parent]


class _LayoutOfIlsvrc(_LayoutWithTable):
    """ImageNet as Kaggle has it: ``LOC_val_solution.csv`` and ``ILSVRC/Data/CLS-LOC/val``, flat."""

    name: ClassVar[str] = "ILSVRC's LOC_val_solution.csv"

    @classmethod
    def suits(cls, dataset: Dataset) -> bool:
        """Whether the solution is there, and the images beside it."""
        return dataset.labels is None and cls.table(dataset) is not None and (dataset.root / _ILSVRC).is_dir()

    @classmethod
    def table(cls, dataset: Dataset) -> Path | None:
        """The solution."""
        return _if_file(dataset.root / "LOC_val_solution.csv")

    def _bases(self) -> list[Path]:
        return [self._dataset.root / _ILSVRC]


class _LayoutWithLabelFile:
    """A label file has a line for each file in the folder of images, which may have folders of its own."""

    name: ClassVar[str] = "a label file"

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self.notes: list[str] = []

    @staticmethod
    def suits(dataset: Dataset) -> bool:
        """Whether there is a label file, named or in its usual place."""
        return dataset.label_file() is not None

    @cached_property
    def _labels(self) -> Labels:
        return read_labels(self._file, self._dataset.rule)

    @property
    def _file(self) -> Path:
        file = self._dataset.label_file()
        assert file is not None, "suits says so"
        return file

    def files(self) -> Listing:
        """Every image in the folder, and what else the label file names there."""
        listing, self.notes = _images_below(self._dataset, self._labels.classes)
        return listing

    def classes(self, files: Iterable[str]) -> tuple[dict[str, int], ClassOrder]:
        """The label of each image, by its name below the folder of images, below the root, or by its last part.

        A suffix that the label file leaves out is no difference.
        """
        dataset, label_file, labels = self._dataset, self._file, self._labels
        classes: dict[str, int] = {}
        used: set[str] = set()
        without = []
        for name in files:
            whole = composed(name)
            below = whole.removeprefix(f"{dataset.folder}/")
            key = below
            if below not in labels.classes:
                forms = (
                    whole,
                    below.rpartition("/")[2],
                    *map(without_suffix, (below, whole, below.rpartition("/")[2])),
                )
                key = next((form for form in forms if form in labels.classes), "")
            if not key:
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
            where = f"{dataset.folder}/" if dataset.folder else one_line(dataset.root)
            raise DatasetError(f"{one_line(label_file)}: labels images that are not in {where}: {named(missing)}")
        return classes, labels.order

    def label_files(self) -> list[Path]:
        """The label file."""
        return [self._file]

    def deciding(self) -> list[str]:
        """Nothing."""
        return []


class _LayoutOfClassFolders:
    """A folder for each class; one without images counts as a class, so that the others keep their indices."""

    name: ClassVar[str] = "class folders"

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self.notes: list[str] = []

    @staticmethod
    def suits(dataset: Dataset) -> bool:
        """What is left where nothing else suits."""
        return True

    def files(self) -> Listing:
        """Every image in the folder."""
        listing, self.notes = _images_below(self._dataset)
        return listing

    def classes(self, files: Iterable[str]) -> tuple[dict[str, int], ClassOrder]:
        """The class of each image's folder."""
        dataset = self._dataset
        length = len(dataset.folder) + 1 if dataset.folder else 0
        parts = {name: name[length:].split("/") for name in files}
        self._require_one_level(parts)
        folders = self.deciding()
        try:
            order = class_order(folders, dataset.rule)
        except DatasetError as error:
            raise DatasetError(f"{one_line(dataset.images_folder)}: {error}") from error
        return {name: order.indices[composed(words[0])] for name, words in parts.items()}, order

    def _require_one_level(self, parts: Mapping[str, Sequence[str]]) -> None:
        """DatasetError for an image that lies in no class folder, or in a folder of one which others have not."""
        dataset = self._dataset
        part = f"{dataset.folder}/" if dataset.folder else ""
        stray = [name for name, words in parts.items() if len(words) < 2]
        if stray:
            expected = f"{f'{dataset.folder}_label.txt, or ' if part else ''}{part}<class>/<image>"
            lying = [path.name for path in sorted(dataset.root.iterdir()) if path.is_file() and is_table(path)]
            also = f"; dataset.labels may name {named(lying, 3)}" if lying else "; dataset.labels names one elsewhere"
            raise DatasetError(
                f"{one_line(dataset.root)}: no label file, and no class folder for {named(stray)}; expected "
                f"{expected}{also}"
            )
        # Tiny ImageNet's training images lie in <class>/images: that says nothing but their class.
        if len({tuple(words[1:-1]) for words in parts.values()}) > 1:
            deep = next(words for words in parts.values() if len(words) > 2)
            split = next((place for place, word in enumerate(deep[:-1]) if word in PARTS), 0)
            if split:
                below = dataset.images_folder.joinpath(*deep[:split])
                raise DatasetError(
                    f"{one_line(dataset.images_folder)}: has {one_line(deep[split])}/ in a folder of its own; name "
                    f"{one_line(below)} as dataset.root"
                )
            raise DatasetError(
                f"{one_line(dataset.images_folder)}: {one_line('/'.join(deep))} lies in a folder of a class folder, so "
                f"whether {one_line(deep[0])} or {one_line(deep[-2])} is its class is not known; move the images into "
                "their class folders, or name a table of paths and labels in dataset.labels"
            )

    def label_files(self) -> list[Path]:
        """None."""
        return []

    def deciding(self) -> list[str]:
        """The folders, the empty ones among them."""
        return folders_in(self._dataset.images_folder)


# The first that suits a dataset is in force.
LAYOUTS: list[type[Layout]] = [
    _LayoutWithTable,
    _LayoutWithLabelFile,
    _LayoutOfImagefolder,
    _LayoutOfTinyImagenet,
    _LayoutOfIlsvrc,
    _LayoutOfClassFolders,
]


def layout_of(dataset: Dataset) -> Layout:
    """The layout that is in force for a dataset."""
    return next(layout for layout in LAYOUTS if layout.suits(dataset))(dataset)


@dataclass(frozen=True)
class Labelled:
    """All images of a dataset, whatever its limit: their classes and file status by name, and why these classes.

    ``notes``: what else was decided on the way, as sentences without a point.
    """

    layout: str
    classes: dict[str, int]
    files: Listing
    order: ClassOrder
    notes: tuple[str, ...] = ()

    @property
    def message(self) -> str:
        """One line: which layout is in force, which class has which index, and what else was decided."""
        return "; ".join(
            [f"{self.layout}, {len(self.order.indices)} classes {self.order.reason}", *self._on_classes(), *self.notes]
        )

    def _on_classes(self) -> list[str]:
        empty = self.empty_classes
        said = [f"{len(empty)} without an image: {named(empty, 3)}"] if empty else []
        if self.order.is_guess:
            said.append("dataset.wnids, a file of their names in class order, says otherwise")
        return [*said, self.order.note] if self.order.note else said

    @property
    def empty_classes(self) -> list[str]:
        """Names of the classes that no image has."""
        present = set(self.classes.values())
        return [name for name, index in self.order.indices.items() if index not in present]


def labelled(dataset: Dataset, files: Listing | None = None) -> Labelled:
    """Every image of the dataset with its class; nothing is opened.

    DatasetError where the folder is missing or holds no image, an image has no label, or a label has no image.
    ``files``: what the layout's ``files`` said a moment ago.
    """
    layout = layout_of(dataset)
    files = layout.files() if files is None else files
    if not files:
        others = "; ".join(getattr(layout, "notes", ()))
        raise DatasetError(f"{one_line(dataset.images_folder)}: holds no images{f' ({others})' if others else ''}")
    classes, order = layout.classes(files)
    return Labelled(layout.name, classes, files, order, (*_on_part(dataset), *getattr(layout, "notes", ())))


def _on_part(dataset: Dataset) -> list[str]:
    """Which folder of images was taken where several are there, or it is not the usual one."""
    if dataset.part is not None or (dataset.labels is not None and is_table(dataset.labels)):
        return []
    others = [part for part in PARTS if part != dataset.folder and (dataset.root / part).is_dir()]
    if not others and dataset.folder == PARTS[0]:
        return []
    left = f" ({', '.join(others)} lies there, too)" if others else ""
    return [f"the images are those of {one_line(dataset.images_folder)}{left}"]


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
    digests = map(sha256_of_file, files_of_classes(dataset))
    return [dataset.folder, dataset.numbering or "", *digests, *layout_of(dataset).deciding()]


__all__: Sequence[str] = (
    "LAYOUTS",
    "PARTS",
    "Dataset",
    "Labelled",
    "LabelledFile",
    "Layout",
    "beside",
    "chosen_images",
    "deciding",
    "files_of_classes",
    "labelled",
    "layout_of",
    "scan",
)
