"""Which class has which index: decided here alone, and with the reason, because a wrong order spoils every number.

Light on purpose (no numpy, no Pillow): planning asks it.
"""

import importlib.util
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mnasbench.errors import DatasetError, named, one_line
from mnasbench.files import read_text

_WNID = re.compile(r"n\d{8}")
# At most 6 digits: no dataset has a million classes, and int() of a huge literal is slow.
_NUMBER = re.compile(r"[0-9]{1,6}")


@dataclass(frozen=True)
class ClassOrder:
    """The index of each class by its name; classes that no image has may be among them.

    ``reason``: why these, for people. ``is_guess``: whether nobody said so; then the run says the reason.
    """

    indices: dict[str, int]
    reason: str
    is_guess: bool


def class_order(names: Iterable[str], wnids: Path | None = None) -> ClassOrder:
    """The class index of each class by its name: that of its folder, or the word in its labels.

    1. From the file ``wnids`` (one name a line, in class order) where it is given.
    2. Where all are ImageNet's ids, ImageNet's index, so that a part of its classes keeps its indices.
    3. Where all are numbers, the numbers; they count from 0, or from 1 without a gap (then one less).
    4. Else the rank in sorted order, as torchvision's ``ImageFolder``.

    DatasetError names what the file lacks, and numbers that say nothing.
    """
    present = sorted(set(names))
    if wnids is not None:
        return ClassOrder(_indices_from(wnids, present), f"in the order of {one_line(wnids)}", is_guess=False)
    if present and all(map(is_wnid, present)):
        imagenet = {wnid: index for index, wnid in enumerate(imagenet_wnids())}
        if set(present) <= set(imagenet):
            indices = {wnid: imagenet[wnid] for wnid in present}
            return ClassOrder(indices, "with ImageNet's own indices", is_guess=len(present) < len(imagenet))
    if present and all(map(is_number, present)):
        return _order_of_numbers(present)
    ranks = {name: rank for rank, name in enumerate(present)}
    return ClassOrder(ranks, "in the sorted order of their names", is_guess=True)


def _indices_from(wnids: Path, present: list[str]) -> dict[str, int]:
    listed = read_class_names(wnids)
    indices = {name: index for index, name in enumerate(listed)}
    if len(indices) < len(listed):
        doubled = next(name for name in listed if listed.count(name) > 1)
        raise DatasetError(f"{one_line(wnids)}: {one_line(doubled)} stands twice")
    unknown = [name for name in present if name not in indices]
    if unknown:
        raise DatasetError(f"{one_line(wnids)}: lacks {named(unknown)}, which the dataset has")
    return indices


def _order_of_numbers(present: list[str]) -> ClassOrder:
    numbers = {name: int(name) for name in present}
    if len(set(numbers.values())) < len(numbers):
        doubled = next(name for name, n in numbers.items() if list(numbers.values()).count(n) > 1)
        raise DatasetError(f"classes are numbered, and {doubled} names two of them; rename one")
    least, most = min(numbers.values()), max(numbers.values())
    if least == 0:
        return ClassOrder(numbers, f"by their numbers, 0 to {most}", is_guess=True)
    if (least, most) == (1, len(numbers)):
        ranks = {name: number - 1 for name, number in numbers.items()}
        return ClassOrder(ranks, f"by their numbers, 1 to {most}, the first being class 0", is_guess=True)
    raise DatasetError(
        f"classes are numbered from {least} to {most} with {len(numbers)} numbers, which says neither that they count "
        "from 0 nor from 1; give dataset.wnids, a file with all their names in class order"
    )


def is_wnid(word: str) -> bool:
    """Whether ``word`` has the form of a WordNet id."""
    return _WNID.fullmatch(word) is not None


def is_number(word: str) -> bool:
    """Whether ``word`` is a class index, or a name that is a number."""
    return _NUMBER.fullmatch(word) is not None


def read_class_names(path: Path) -> list[str]:
    """Class names, one a line, in class order; DatasetError names an empty line in between."""
    # Not splitlines, which ends lines at U+2028 and others as well, and so would give later classes another's name.
    names = [line.strip() for line in read_text(path).split("\n")]
    while names and not names[-1]:
        names.pop()
    if not names:
        raise DatasetError(f"{one_line(path)}: is empty, expected one class name a line")
    if "" in names:
        raise DatasetError(f"{one_line(path)}: line {names.index('') + 1} is empty, expected a class name")
    return names


def imagenet_wnids() -> list[str]:
    """The 1,000 WordNet ids of ImageNet in class order, from timm's data files (timm itself is not imported)."""
    package = importlib.util.find_spec("timm")
    if package is None or not package.submodule_search_locations:
        raise DatasetError("timm is not installed, so ImageNet's WordNet ids are unknown; give a wnids file")
    return read_class_names(Path(package.submodule_search_locations[0]) / "data" / "_info" / "imagenet_synsets.txt")
