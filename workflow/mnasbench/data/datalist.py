"""List files: the npz inputs of a run, one path a line, as vamp reads them."""

import functools
import os
from collections.abc import Iterable
from pathlib import Path

from mnasbench.errors import DatasetError, one_line
from mnasbench.files import read_text, write_text


def write_datalist(path: Path, files: Iterable[Path], *, relative: bool = False) -> None:
    """Write one path a line: absolute, as vamp wants them, or relative to the list's own folder.

    With relative paths a results folder can be moved as a whole, and be a link to another disk.
    """
    folder = path.parent.resolve()
    place = functools.cache(Path.resolve)
    lines = [
        os.path.relpath(place(file.parent) / file.name, folder) if relative else str(file.absolute()) for file in files
    ]
    for name in lines:
        require_listable(name)
    write_text(path, "".join(f"{name}\n" for name in lines))


def require_listable(name: str) -> None:
    """DatasetError for a path that would be several lines of a list, or none."""
    if "\n" in name or "\r" in name or name != name.strip():
        raise DatasetError(
            f"{one_line(repr(name))}: the path holds a line break, or a space at an end, which no list can carry; name "
            "another"
        )


def read_datalist(path: Path) -> list[Path]:
    """The paths of a list file; relative ones are taken from the list's folder.

    Raises DatasetError for an empty list or a doubled line.
    """
    names = [name for name in map(str.strip, read_text(path).split("\n")) if name]
    if not names:
        raise DatasetError(f"{one_line(path)}: lists no inputs; write it with image2npz.py")
    distinct: set[str] = set()
    for name in names:
        if "\0" in name:
            raise DatasetError(
                f"{one_line(path)}: {one_line(name)} holds a NUL, which no file's name can; write it again"
            )
        if name in distinct:
            raise DatasetError(f"{one_line(path)}: lists {one_line(name)} more than once")
        distinct.add(name)
    return [path.parent / name for name in names]
