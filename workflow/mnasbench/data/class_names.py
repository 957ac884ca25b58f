"""Files of class names in class order, in the forms in which people have them.

Light on purpose (no numpy, no Pillow): planning reads them.
"""

import ast
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnasbench.errors import DatasetError, named, one_line
from mnasbench.files import read_json, read_text

# Lines of ImageNet's synset_words.txt and LOC_synset_mapping.txt: an id, and names with commas in them.
_SYNSET = re.compile(r"(n\d{8})\s+(\S.*)")


def read_class_names(path: Path) -> list[str]:
    """Class names in class order.

    A name a line; or lines of a WordNet id and its names; or JSON: a list, or names by index, ids and names by index,
    indices by name. DatasetError names an empty line in between, or an index that is missing.
    """
    return [words[-1] for words in read_class_ids(path)]


def read_class_ids(path: Path) -> list[tuple[str, ...]]:
    """What each class is called, in class order: its name, or its WordNet id and its name. See ``read_class_names``."""
    if path.suffix.lower() == ".json":
        return _from_json(path, read_json(path))
    text = read_text(path)
    if text.lstrip().startswith("{"):  # imagenet1000_clsidx_to_labels.txt, as Python writes a dict
        try:
            content = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
            raise DatasetError(f"{one_line(path)}: begins as a dict of names by index, but is none") from error
        return _from_json(path, content)
    # Not splitlines, which ends lines at U+2028 and others as well, and so would give later classes another's name.
    lines = [line.strip() for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise DatasetError(f"{one_line(path)}: is empty, expected one class name a line")
    if "" in lines:
        raise DatasetError(f"{one_line(path)}: line {lines.index('') + 1} is empty, expected a class name")
    matches = [_SYNSET.fullmatch(line) for line in lines]
    if any(matches) and not all(matches):
        line = next(number for number, match in enumerate(matches, 1) if match is None)
        if line > 1 or not all(matches[1:]):
            raise DatasetError(f"{one_line(path)}: line {line} has no WordNet id before its name, but others have")
    return [(match[1], match[2]) if match else (line,) for line, match in zip(lines, matches, strict=True)]


def _from_json(path: Path, content: Any) -> list[tuple[str, ...]]:
    expected = "expected a list of class names, names by index, or indices by name"
    if isinstance(content, dict) and content and all(type(value) is int for value in content.values()):
        content = {index: name for name, index in content.items()}
    if isinstance(content, dict):
        by_index = {int(key): value for key, value in content.items() if re.fullmatch(r"\d{1,6}", str(key))}
        missing = sorted(set(range(len(content))) - by_index.keys())
        if missing:
            raise DatasetError(f"{one_line(path)}: has no class {named(map(str, missing), 3)}; {expected}")
        content = [by_index[index] for index in range(len(by_index))]
    if not isinstance(content, list) or not content:
        raise DatasetError(f"{one_line(path)}: {expected}")
    return [_words(path, index, entry, expected) for index, entry in enumerate(content)]


def _words(path: Path, index: int, entry: Any, expected: str) -> tuple[str, ...]:
    words = (entry,) if isinstance(entry, str) else entry
    if not isinstance(words, list | tuple) or not words or not all(isinstance(word, str) and word for word in words):
        raise DatasetError(f"{one_line(path)}: class {index} is {one_line(repr(entry))[:200]}; {expected}")
    return tuple(words)


def require_names_of(names: Sequence[str], path: Path, classes: int, whose: str) -> None:
    """DatasetError where a file of names does not have one for each of a model's classes: all may be shifted."""
    if len(names) != classes:
        raise DatasetError(
            f"{one_line(path)}: has {len(names)} class names (the first: {one_line(names[0])[:80]}), but "
            f"{one_line(whose)} has {classes} classes; give a name for each in class order, and no other lines"
        )
