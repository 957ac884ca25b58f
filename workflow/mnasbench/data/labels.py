"""Files that give images their classes: a text of ``<image> <class>`` lines, or a table of paths and labels.

A class is an index or a name; names get their indices from ``class_order``. Light on purpose: planning reads them.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mnasbench.data.class_order import (
    ClassOrder,
    ClassRule,
    class_order,
    is_number,
    is_numeric,
    is_wnid,
    order_of_indices,
)
from mnasbench.data.image_files import has_image_suffix
from mnasbench.data.image_keys import composed
from mnasbench.errors import DatasetError, did_you_mean, one_line
from mnasbench.files import read_text

# Columns in the words of those who write such tables: ours, Hugging Face's, Kaggle's, timm's. The first that is there.
PATH_COLUMNS = (
    *("path", "file_name", "filename", "file", "file_path", "filepath", "image_path", "image", "image_name"),
    *("image_id", "imageid", "img", "id"),
)
LABEL_COLUMNS = (
    *("label", "class", "class_index", "class_id", "label_id", "target", "category", "category_id", "class_name"),
    *("label_name", "wnid", "synset", "labels", "predictionstring"),
)
# Tiny ImageNet's labels of its validation images.
TINY_IMAGENET = "val_annotations.txt"
_SEPARATORS = {".csv": ",;\t|", ".tsv": "\t"}


@dataclass(frozen=True)
class Labels:
    """What a label file says: class indices by the images' names as they stand there, and in what order classes are.

    Names are in composed Unicode. ``lines``: the line of each image, for messages.
    """

    classes: dict[str, int]
    lines: dict[str, int]
    order: ClassOrder


# What stands in a file: the line and the class of each image, by its name.
_Words = dict[str, tuple[int, str]]


def is_table(path: Path) -> bool:
    """Whether a label file is a table of paths and labels: told by its name."""
    return path.suffix.lower() in {*_SEPARATORS, ".jsonl"}


def read_labels(path: Path, rule: ClassRule | None = None) -> Labels:
    """Read a label file of any form.

    In a text the name may hold spaces, and the class is the last word; a text without spaces is a table. In a CSV, a
    TSV or JSON lines a header names the columns (``PATH_COLUMNS``, ``LABEL_COLUMNS``), in any order and among others; a
    table of two columns may go without. Windows line ends and a byte-order mark are taken. DatasetError names the file
    and the line that is wrong.
    """
    words: _Words = {}
    for number, name, word in _rows(path):
        if not name or not word:
            raise DatasetError(f"{_at(path, number)}: has no {'label' if name else 'path'}")
        name = composed(name)
        if name in words:
            raise DatasetError(f"{_at(path, number)}: {one_line(name)} stands twice (first in line {words[name][0]})")
        words[name] = (number, word)
    if not words:
        raise DatasetError(f"{one_line(path)}: names no image, expected lines with a path and a label")
    order = _order(path, words, rule or ClassRule())
    labels = {name: order.indices[composed(word)] for name, (_, word) in words.items()}
    return Labels(labels, {name: line for name, (line, _) in words.items()}, order)


def has_labels(path: Path) -> bool:
    """Whether a table has a column of labels: its first line says so."""
    first = read_text(path).partition("\n")[0]
    if path.suffix.lower() == ".jsonl":
        try:
            return _column(LABEL_COLUMNS, list(json.loads(first))) is not None
        except (ValueError, TypeError, RecursionError):
            return False
    return _column(LABEL_COLUMNS, first.split(_separator(path, first))) is not None


def _rows(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line, name and class of each image."""
    text = read_text(path)
    if not text.strip():
        raise DatasetError(f"{one_line(path)}: is empty, expected lines '<image name> <class>' or a path and a label")
    if path.suffix.lower() == ".jsonl":
        return _rows_of_json(path, text)
    if path.name == TINY_IMAGENET:
        return _rows_of_annotations(path, text)
    first = next(line for line in text.split("\n") if line.strip()).strip()
    if is_table(path) or (len(first.split()) == 1 and any(sign in first for sign in ",;|")):
        return _rows_of_table(path, text)
    return _rows_of_text(path, text)


def _rows_of_text(path: Path, text: str) -> Iterator[tuple[int, str, str]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        name, _, word = line.strip().replace("\t", " ").rpartition(" ")
        if not name.strip():
            raise DatasetError(f"{_at(path, number)}: {one_line(line.strip())!r} is not '<image name> <class>'")
        yield number, name.strip(), word


def _rows_of_annotations(path: Path, text: str) -> Iterator[tuple[int, str, str]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            name, _, rest = line.strip().partition("\t")  # then the WordNet id, and the corners of a box
            yield number, name, rest.partition("\t")[0]


def _rows_of_json(path: Path, text: str) -> Iterator[tuple[int, str, str]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DatasetError(f"{_at(path, number)}: is not JSON ({one_line(error)[:200]})") from error
        if not isinstance(row, dict):
            raise DatasetError(f"{_at(path, number)}: is not an object with a file_name and a label")
        columns = [_place_of(path, kind, names, list(row), number) for kind, names in _COLUMNS.items()]
        name, word = (list(row.values())[column] for column in columns)
        if not isinstance(name, str) or isinstance(word, bool) or not isinstance(word, str | int):
            raise DatasetError(
                f"{_at(path, number)}: expected a text as the file's name, and a text or an index as label"
            )
        yield number, name.strip(), str(word).strip()


_COLUMNS = {"path": PATH_COLUMNS, "label": LABEL_COLUMNS}


def _rows_of_table(path: Path, text: str) -> Iterator[tuple[int, str, str]]:
    first = text.lstrip("\r\n").partition("\n")[0]
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(path, first), strict=True)
    try:
        header = [cell.strip() for cell in next((row for row in rows if row), [])]
        if _is_header(header):
            places = [_place_of(path, kind, names, header, rows.line_num) for kind, names in _COLUMNS.items()]
        else:
            places = [0, 1]
            yield rows.line_num, header[0], header[1]
        boxes = header[places[1]].lower() == "predictionstring"  # Kaggle's ImageNet: an id, then corners of boxes
        for row in rows:
            if not row:
                continue
            if len(row) != len(header):
                raise DatasetError(
                    f"{_at(path, rows.line_num)}: has {len(row)} columns, but the header {len(header)}; put a text "
                    "with a comma in quotes"
                )
            word = row[places[1]].strip()
            yield rows.line_num, row[places[0]], (word.partition(" ")[0] if boxes else word)
    except csv.Error as error:
        raise DatasetError(f"{_at(path, rows.line_num)}: {one_line(error)}") from error


def _separator(path: Path, line: str) -> str:
    """The separator of a table: what its name says, else the first usual one that stands in a line of it."""
    signs = _SEPARATORS.get(path.suffix.lower(), ",;\t|")
    return next((sign for sign in signs if sign in line), signs[0])


def _is_header(row: Sequence[str]) -> bool:
    """Whether a first row names columns: it holds no image and no class where data would."""
    if any(_column(names, row) is not None for names in _COLUMNS.values()):
        return True
    return len(row) != 2 or not (has_image_suffix(row[0]) or is_number(row[1]) or is_wnid(row[1]))


def _column(names: Sequence[str], header: Sequence[str]) -> int | None:
    """The place of the first of these names in a header, in any case; None where none is there."""
    written = [cell.strip().strip('"').lower().replace(" ", "_") for cell in header]
    return next((written.index(name) for name in names if name in written), None)


def _place_of(path: Path, kind: str, names: Sequence[str], header: Sequence[str], number: int) -> int:
    place = _column(names, header)
    if place is not None and list(header).count(header[place]) > 1:
        raise DatasetError(f"{_at(path, number)}: the column '{one_line(header[place])}' stands twice in the header")
    if place is None and kind == "label" and len(header) == 2:  # id,breed: what is not the path
        path_column = _column(PATH_COLUMNS, header)
        place = None if path_column is None else 1 - path_column
    if place is None:
        near = did_you_mean(kind, header) if any(header) else ""
        raise DatasetError(f"{_at(path, number)}: the column '{kind}' is missing in the header{one_line(near)[:1000]}")
    return place


def _order(path: Path, words: Mapping[str, tuple[int, str]], rule: ClassRule) -> ClassOrder:
    """The indices of the words, which must all be of the kind of the first one."""
    first = next(iter(words.values()))[1]
    if is_number(first):
        is_alike, expected = is_number, "a class index"
    elif is_wnid(first):
        is_alike, expected = is_wnid, "a WordNet id as in n01440764"
    elif is_table(path) or not is_numeric(first):
        is_alike, expected = _is_name, "a class name, as the lines before have"
    else:
        is_alike, expected = is_number, "a class index"
    for number, word in words.values():
        if not is_alike(word):
            raise DatasetError(f"{_at(path, number)}: {one_line(word)!r} is not {expected}")
    if is_number(first):
        return order_of_indices({word: int(word) for _, word in words.values()}, path)
    try:
        return class_order((word for _, word in words.values()), rule)
    except DatasetError as error:
        raise DatasetError(f"{one_line(path)}: {error}") from error


def _is_name(word: str) -> bool:
    return not is_number(word) and not is_wnid(word)


def _at(path: Path, line: int) -> str:
    return f"{one_line(path)} line {line}"
