"""Label files, class folders and class names: which class an image belongs to.

A class is always an index; names may be shared by two classes (ImageNet has two "crane").
"""

import importlib.util
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from mnasbench.errors import DatasetError, one_line
from mnasbench.files import read_text

_WNID = re.compile(r"n\d{8}")


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


def class_order(folders: Iterable[str], wnids: Path | None = None) -> dict[str, int]:
    """The class index of each class folder (or WordNet id).

    From the file ``wnids`` (one id a line, in class order) where it is given; else, where all are ImageNet's
    ids, ImageNet's index, so that a part of its classes keeps its indices; else the rank in sorted order,
    as torchvision's ``ImageFolder``. DatasetError names ids that the file lacks.
    """
    present = sorted(set(folders))
    if wnids is not None:
        known = read_class_names(wnids)
    elif present and all(map(_is_wnid, present)) and set(present) <= set(imagenet_wnids()):
        known = imagenet_wnids()
    else:
        known = present
    order = {name: index for index, name in enumerate(known)}
    if len(order) < len(known):
        doubled = next(name for name in known if known.count(name) > 1)
        raise DatasetError(f"{one_line(wnids)}: {one_line(doubled)} stands twice")
    unknown = [name for name in present if name not in order]
    if unknown:
        raise DatasetError(f"{one_line(wnids)}: lacks {named(unknown)}, which the dataset has")
    return order


def read_labels(path: Path, classes: int | None = None, wnids: Path | None = None) -> dict[str, int]:
    """Image name -> class index, from lines ``<image name> <class index>`` or ``<image name> <wnid>``.

    The name may hold spaces; the class is the last word. Windows line ends and a byte-order mark are taken.
    ``classes``, where known, bounds the indices. DatasetError names the file and the line that is wrong.
    """
    words: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        name, _, word = line.strip().replace("\t", " ").rpartition(" ")
        name = name.strip()
        if not name:
            raise DatasetError(f"{_at(path, number)}: {one_line(line.strip())!r} is not '<image name> <class>'")
        if name in words:
            raise DatasetError(f"{_at(path, number)}: {one_line(name)} stands twice (first in line {words[name][0]})")
        words[name] = (number, word)
    if not words:
        raise DatasetError(f"{one_line(path)}: is empty, expected lines '<image name> <class index>'")
    return _indices(path, words, classes, wnids)


def _indices(
    path: Path, words: Mapping[str, tuple[int, str]], classes: int | None, wnids: Path | None
) -> dict[str, int]:
    # One kind of class for the whole file: that of its first line.
    are_wnids = _is_wnid(next(iter(words.values()))[1])
    expected = "a WordNet id as in n01440764" if are_wnids else "a class index"
    for number, word in words.values():
        if not (_is_wnid(word) if are_wnids else _is_index(word)):
            raise DatasetError(f"{_at(path, number)}: {one_line(word)!r} is not {expected}")
    if not are_wnids:
        labels = {name: int(word) for name, (_, word) in words.items()}
    else:
        order = class_order((word for _, word in words.values()), wnids)
        labels = {name: order[word] for name, (_, word) in words.items()}
    for name, index in labels.items():
        if classes is not None and index >= classes:
            raise DatasetError(f"{_at(path, words[name][0])}: class {index} is outside 0..{classes - 1}")
    return labels


def _is_wnid(word: str) -> bool:
    return _WNID.fullmatch(word) is not None


def _is_index(word: str) -> bool:
    # At most 6 digits: no label file has a million classes, and int() of a huge literal is slow.
    return word.isascii() and word.isdigit() and len(word) <= 6


def _at(path: Path, line: int) -> str:
    return f"{one_line(path)} line {line}"


def named(names: Iterable[str], most: int = 10) -> str:
    """The first few names and how many more there are, for an error message."""
    listed = list(names)
    rest = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(one_line(name) for name in listed[:most]) + rest
