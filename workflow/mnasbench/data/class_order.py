"""Which class has which index: decided here alone, and with the reason, because a wrong order spoils every number.

Light on purpose (no numpy, no Pillow): planning asks it.
"""

import importlib.util
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from mnasbench.data.class_names import read_class_ids, read_class_names
from mnasbench.data.image_keys import composed
from mnasbench.errors import DatasetError, named, one_line

# What decides indices: ImageNet's own 1,000 ids, the order of the classes' names, or a file.
Numbering = Literal["imagenet", "folders", "file"]
NUMBERINGS: tuple[Numbering, ...] = get_args(Numbering)

_WNID = re.compile(r"n\d{8}")
# At most 6 digits: no dataset has a million classes, and int() of a huge literal is slow.
_NUMBER = re.compile(r"[0-9]{1,6}")
_DIGITS = re.compile(r"([0-9]{1,18})")
IMAGENET_CLASSES = 1000
# Of nets with a class for the background before ImageNet's own.
WITH_BACKGROUND = IMAGENET_CLASSES + 1


@dataclass(frozen=True)
class ClassRule:
    """What is known of the order of a dataset's classes besides their names.

    ``wnids``: a file of their names in class order; ``is_given``: somebody named it, it does not merely lie there.
    ``numbering``: what decides, where that is settled. ``outputs``: how many classes the models have, where known.
    """

    wnids: Path | None = None
    is_given: bool = True
    numbering: Numbering | None = None
    outputs: frozenset[int] = frozenset()


@dataclass(frozen=True)
class ClassOrder:
    """The index of each class by its name in composed Unicode; classes that no image has may be among them.

    ``reason``: why these, for people. ``is_guess``: whether nobody said so; then the run says the reason.
    ``numbering``: what decided; None for indices that a label file gives. ``classes``: how many a model must have for
    these indices to be its own; None where any number above the greatest index will do. ``note``: what may be wrong.
    """

    indices: dict[str, int]
    reason: str
    is_guess: bool
    numbering: Numbering | None = None
    classes: int | None = None
    note: str = ""

    @property
    def greatest(self) -> int:
        """The greatest index."""
        return max(self.indices.values())


def class_order(names: Iterable[str], rule: ClassRule | None = None) -> ClassOrder:
    """The class index of each class by its name: that of its folder, or the word in its labels.

    1. From the file ``rule.wnids`` where it is given, or where it lies there and says the same as what follows.
    2. Where all are ImageNet's ids, ImageNet's index, so that a part of its classes keeps its indices; their rank where
       the models have just as many classes.
    3. Where all are numbers, the numbers; they count from 0, or from 1 without a gap (then one less).
    4. Else the rank in sorted order, as torchvision's ``ImageFolder``.

    ``rule.numbering`` chooses among them. DatasetError names what a file lacks, numbers that say nothing, and a file
    that lies there and says otherwise.
    """
    rule = rule or ClassRule()
    present = _different(names)
    if rule.numbering == "imagenet":
        return _order_of_imagenet(present)
    if rule.numbering == "folders":
        return _order_of_names(present)
    if rule.numbering == "file" or (rule.wnids is not None and rule.is_given):
        if rule.wnids is None:
            raise DatasetError("dataset.classes is file, but there is no such file; name it in dataset.wnids")
        return _order_of_file(rule.wnids, present)
    natural = _natural_order(present, rule.outputs)
    return natural if rule.wnids is None else _agreed(natural, rule.wnids, present)


def _different(names: Iterable[str]) -> list[str]:
    """The names, sorted, in composed Unicode; DatasetError where two of them are then one."""
    names = set(names)
    present = sorted(map(composed, names))
    if len(set(present)) < len(present):
        doubled = next(name for name, times in Counter(present).items() if times > 1)
        raise DatasetError(f"two classes are called {one_line(doubled)}, in two forms of Unicode; rename one")
    return present


def _natural_order(present: list[str], outputs: frozenset[int]) -> ClassOrder:
    if not present or not set(present) <= _imagenet_indices(present).keys():
        return _order_of_names(present)
    imagenet = _order_of_imagenet(present)
    if len(present) == IMAGENET_CLASSES or not outputs or outputs <= {IMAGENET_CLASSES, WITH_BACKGROUND}:
        return imagenet
    if outputs == {len(present)}:
        order = _order_of_names(present)
        reason = f"{order.reason}, because the models have {len(present)} classes, too (dataset.classes)"
        return ClassOrder(order.indices, reason, True, order.numbering, order.classes)
    counts = " and of ".join(map(str, sorted(outputs)))
    raise DatasetError(
        f"{len(present)} classes by ImageNet's ids, and models of {counts} classes: their indices are ImageNet's for "
        f"models of {IMAGENET_CLASSES} classes, and their order for models of {len(present)}; set dataset.classes to "
        "imagenet, folders or file, and run models of other classes from a configuration of their own"
    )


def _imagenet_indices(present: Sequence[str]) -> dict[str, int]:
    """ImageNet's indices by id; empty where the classes are not called so, which saves reading the list."""
    return {wnid: index for index, wnid in enumerate(imagenet_wnids())} if all(map(is_wnid, present)) else {}


def _order_of_imagenet(present: list[str]) -> ClassOrder:
    imagenet = _imagenet_indices(present)
    others = [name for name in present if name not in imagenet]
    if others:
        raise DatasetError(f"dataset.classes is imagenet, but these are none of ImageNet's 1,000 ids: {named(others)}")
    indices = {wnid: imagenet[wnid] for wnid in present}
    is_part = len(present) < len(imagenet)
    return ClassOrder(indices, "with ImageNet's own indices", is_part, "imagenet", IMAGENET_CLASSES)


def _order_of_names(present: list[str]) -> ClassOrder:
    if present and all(map(is_number, present)):
        return _order_of_numbers(present)
    if len(present) > 1 and all(map(is_numeric, present)):
        other = next(name for name in present if not is_number(name))
        raise DatasetError(
            f"classes are numbers, but {one_line(other)} is no class index, and sorted as texts they would be in no "
            "order of theirs; number them from 0, or give dataset.wnids, a file with all their names in class order"
        )
    ranks = {name: rank for rank, name in enumerate(present)}
    return ClassOrder(ranks, f"in the sorted order of their names{_by_text(present)}", True, "folders", len(present))


def _by_text(present: Sequence[str]) -> str:
    """Two names with numbers in them that are sorted as texts, not by their numbers; empty where it is the same."""
    pairs = zip(present, sorted(present, key=_numbers_apart), strict=True)
    other = next((pair for pair in pairs if pair[0] != pair[1]), None)
    return (
        f" as texts ({one_line(other[0])} before {one_line(other[1])}), as torchvision's ImageFolder" if other else ""
    )


def _numbers_apart(name: str) -> list[str | int]:
    """Texts and numbers in turn, a text first."""
    return [int(part) if place % 2 else part for place, part in enumerate(_DIGITS.split(name))]


def _order_of_file(wnids: Path, present: list[str]) -> ClassOrder:
    indices, classes = _indices_from(wnids)
    unknown = [name for name in present if name not in indices]
    if unknown:
        raise DatasetError(f"{one_line(wnids)}: lacks {named(unknown)}, which the dataset has")
    # One name for each: a file may give an id and a name of every class.
    by_index = {index: name for name, index in reversed(indices.items())}
    by_index |= {indices[name]: name for name in present}
    ordered = {by_index[index]: index for index in sorted(by_index)}
    return ClassOrder(ordered, f"in the order of {one_line(wnids)}", False, "file", classes)


def _agreed(natural: ClassOrder, wnids: Path, present: list[str]) -> ClassOrder:
    """The order of a file that merely lies there, where it gives the same indices; DatasetError where it does not."""
    indices, _ = _indices_from(wnids)
    if not indices.keys() & set(present):
        reason = f"{natural.reason} ({one_line(wnids)} names none of them and is not used)"
        return ClassOrder(natural.indices, reason, natural.is_guess, natural.numbering, natural.classes)
    order = _order_of_file(wnids, present)
    other = next((name for name in present if order.indices[name] != natural.indices[name]), None)
    if other is not None:
        raise DatasetError(
            f"{one_line(wnids)} lies there and has {one_line(other)} as class {order.indices[other]}, which "
            f"{natural.reason} is class {natural.indices[other]}; say which with dataset.classes: file or "
            f"{natural.numbering}"
        )
    return order


def _indices_from(wnids: Path) -> tuple[dict[str, int], int]:
    """Index by name or id, and how many classes there are."""
    entries = [[composed(word) for word in words] for words in read_class_ids(wnids)]
    indices: dict[str, int] = {}
    for index, (first, *_) in enumerate(entries):
        if first in indices:
            raise DatasetError(f"{one_line(wnids)}: {one_line(first)} stands twice")
        indices[first] = index
    # A name beside an id may be that of two classes, as crane is in ImageNet, and then says nothing.
    times = Counter(word for words in entries for word in words)
    for index, words in enumerate(entries):
        indices |= {word: index for word in words[1:] if times[word] == 1}
    return indices, len(entries)


def _order_of_numbers(present: list[str]) -> ClassOrder:
    numbers = {name: int(name) for name in present}
    if len(set(numbers.values())) < len(numbers):
        doubled = next(name for name, n in numbers.items() if list(numbers.values()).count(n) > 1)
        raise DatasetError(f"classes are numbered, and {doubled} names two of them; rename one")
    least, most = min(numbers.values()), max(numbers.values())
    if least == 0:
        return ClassOrder(numbers, f"by their numbers, 0 to {most}", True, "folders")
    if (least, most) == (1, len(numbers)):
        ranks = {name: number - 1 for name, number in numbers.items()}
        reason = f"by their numbers, 1 to {most}, the first being class 0"
        return ClassOrder(ranks, reason, True, "folders", len(numbers))
    raise DatasetError(
        f"classes are numbered from {least} to {most} with {len(numbers)} numbers, which says neither that they count "
        "from 0 nor from 1; give dataset.wnids, a file with all their names in class order"
    )


def order_of_indices(indices: Mapping[str, int], source: Path) -> ClassOrder:
    """The order where a label file gives the indices themselves; it is said where none is of class 0."""
    least, most = min(indices.values()), max(indices.values())
    reason = f"as {one_line(source)} numbers them, {least} to {most}"
    note = "no image is of class 0: if the labels count from 1, write them from 0" if least == 1 else ""
    return ClassOrder(dict(indices), reason, is_guess=False, note=note)


def require_outputs(order: ClassOrder, outputs: Mapping[str, int], where: str) -> None:
    """DatasetError where a model's number of classes shows that the indices are not its own.

    ``outputs``: the number by model. ``where``: what the classes are of, for the message.
    """
    for model, classes in outputs.items():
        begin = f"{where}: {len(order.indices)} classes {order.reason}; but {one_line(model)} has {classes} classes"
        is_imagenet = order.classes == IMAGENET_CLASSES or (order.numbering is None and order.greatest == 999)
        if classes == WITH_BACKGROUND and is_imagenet:
            raise DatasetError(
                f"{begin}, as nets with a class for the background before ImageNet's 1,000 have; give labels that "
                "count it: dataset.wnids, a file with a line for it before the 1,000 ids, or labels of 1 to 1000"
            )
        if order.numbering is None and classes == order.greatest:
            advice = "if the labels count from 1, write them from 0" if min(order.indices.values()) > 0 else "mend them"
            raise DatasetError(f"{begin}, 0 to {classes - 1}; {advice}")
        if order.greatest >= classes == len(order.indices):
            raise DatasetError(
                f"{begin}, 0 to {classes - 1}; give dataset.wnids, a file of the {classes} names in the model's order"
            )
        if order.greatest >= classes:
            raise DatasetError(
                f"{begin}, 0 to {classes - 1}; give the weights that were trained on these classes, or the dataset "
                "that belongs to the weights"
            )
        if order.classes is not None and classes != order.classes:
            raise DatasetError(
                f"{begin}, so which of them is which is not known; give dataset.wnids, a file of the names of all "
                f"{classes} classes in the model's order"
            )


def require_answers_of(order: ClassOrder, greatest: int, where: Path) -> None:
    """DatasetError where a model answered with a class that an order of so many classes does not have."""
    if order.classes is not None and greatest >= order.classes:
        raise DatasetError(
            f"{one_line(where)}: {len(order.indices)} classes {order.reason}; but an answer is class {greatest}, so "
            "the model has others, too; give --wnids, a file of the names of all its classes in order"
        )


def is_wnid(word: str) -> bool:
    """Whether ``word`` has the form of a WordNet id."""
    return _WNID.fullmatch(word) is not None


def is_number(word: str) -> bool:
    """Whether ``word`` is a class index, or a name that is a number."""
    return _NUMBER.fullmatch(word) is not None


def is_numeric(word: str) -> bool:
    """Whether ``word`` is a number of any kind, and so no name: -1, 1.0, 10000000."""
    try:
        float(word)
    except ValueError:
        return False
    return True


def imagenet_wnids() -> list[str]:
    """The 1,000 WordNet ids of ImageNet in class order, from timm's data files (timm itself is not imported)."""
    package = importlib.util.find_spec("timm")
    if package is None or not package.submodule_search_locations:
        raise DatasetError("timm is not installed, so ImageNet's WordNet ids are unknown; give a wnids file")
    return read_class_names(Path(package.submodule_search_locations[0]) / "data" / "_info" / "imagenet_synsets.txt")
