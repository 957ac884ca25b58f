"""Files that give images their classes: a text of ``<image> <class>`` lines, or a CSV with ``path`` and ``label``.

A class is an index or a name; names get their indices from ``class_order``. Light on purpose: planning reads them.
"""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mnasbench.data.class_order import ClassOrder, class_order, is_number, is_wnid
from mnasbench.errors import DatasetError, did_you_mean, one_line
from mnasbench.files import read_text

CSV_COLUMNS = ("path", "label")


@dataclass(frozen=True)
class Labels:
    """What a label file says: class indices by the images' names as they stand there, and in what order classes are.

    ``lines``: the line of each image, for messages.
    """

    classes: dict[str, int]
    lines: dict[str, int]
    order: ClassOrder


def is_csv(path: Path) -> bool:
    """Whether a label file is a CSV: told by its name."""
    return path.suffix.lower() == ".csv"


def read_labels(path: Path, classes: int | None = None, wnids: Path | None = None) -> Labels:
    """Read a label file of either form.

    In a text the name may hold spaces, and the class is the last word. In a CSV the header names the columns ``path``
    and ``label``, in any order and among others. Windows line ends and a byte-order mark are taken. ``classes``,
    where it is known, bounds the indices. DatasetError names the file and the line that is wrong.
    """
    words = _words_of_csv(path) if is_csv(path) else _words_of_text(path)
    order = _order(path, words, wnids)
    labels = {name: order.indices[word] for name, (_, word) in words.items()}
    for name, index in labels.items():
        if classes is not None and index >= classes:
            raise DatasetError(f"{_at(path, words[name][0])}: class {index} is outside 0..{classes - 1}")
    return Labels(labels, {name: line for name, (line, _) in words.items()}, order)


def _words_of_text(path: Path) -> dict[str, tuple[int, str]]:
    words: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        name, _, word = line.strip().replace("\t", " ").rpartition(" ")
        name = name.strip()
        if not name:
            raise DatasetError(f"{_at(path, number)}: {one_line(line.strip())!r} is not '<image name> <class>'")
        _add(path, words, name, number, word)
    if not words:
        raise DatasetError(f"{one_line(path)}: is empty, expected lines '<image name> <class index>'")
    return words


def _words_of_csv(path: Path) -> dict[str, tuple[int, str]]:
    words: dict[str, tuple[int, str]] = {}
    rows = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        header = [column.strip() for column in next(rows, [])]
        places = [_place_of(path, column, header) for column in CSV_COLUMNS]
        for row in rows:
            if not row:
                continue
            if len(row) != len(header):
                raise DatasetError(
                    f"{_at(path, rows.line_num)}: has {len(row)} columns, but the header {len(header)}; put a text "
                    "with a comma in quotes"
                )
            name, word = row[places[0]], row[places[1]].strip()
            if not name or not word:
                raise DatasetError(f"{_at(path, rows.line_num)}: has no {'label' if name else 'path'}")
            _add(path, words, name, rows.line_num, word)
    except csv.Error as error:
        raise DatasetError(f"{_at(path, rows.line_num)}: {one_line(error)}") from error
    if not words:
        raise DatasetError(f"{one_line(path)}: names no image, expected lines with a path and a label")
    return words


def _place_of(path: Path, column: str, header: list[str]) -> int:
    if header.count(column) == 1:
        return header.index(column)
    what = "stands twice" if column in header else "is missing"
    near = "" if column in header or not any(header) else did_you_mean(column, header)
    raise DatasetError(f"{_at(path, 1)}: the column '{column}' {what} in the header{one_line(near)[:1000]}")


def _add(path: Path, words: dict[str, tuple[int, str]], name: str, number: int, word: str) -> None:
    if name in words:
        raise DatasetError(f"{_at(path, number)}: {one_line(name)} stands twice (first in line {words[name][0]})")
    words[name] = (number, word)


def _order(path: Path, words: Mapping[str, tuple[int, str]], wnids: Path | None) -> ClassOrder:
    """The indices of the words, which must all be of the kind of the first one."""
    first = next(iter(words.values()))[1]
    if is_number(first):
        is_alike, expected = is_number, "a class index"
    elif is_wnid(first):
        is_alike, expected = is_wnid, "a WordNet id as in n01440764"
    elif is_csv(path):
        is_alike, expected = _is_name, "a class name, as the lines before have"
    else:
        is_alike, expected = is_number, "a class index"
    for number, word in words.values():
        if not is_alike(word):
            raise DatasetError(f"{_at(path, number)}: {one_line(word)!r} is not {expected}")
    if is_number(first):
        indices = {word: int(word) for _, word in words.values()}
        reason = f"as {one_line(path)} numbers them, {min(indices.values())} to {max(indices.values())}"
        return ClassOrder(indices, reason, is_guess=False)
    return class_order((word for _, word in words.values()), wnids)


def _is_name(word: str) -> bool:
    return not is_number(word) and not is_wnid(word)


def _at(path: Path, line: int) -> str:
    return f"{one_line(path)} line {line}"
