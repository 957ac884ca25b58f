"""The files of a folder as the file system shows them: names, sizes, times. Nothing is opened.

Light on purpose (no numpy, no Pillow): planning lists the dataset.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from mnasbench.data.image_files import is_hidden
from mnasbench.errors import DatasetError, one_line
from mnasbench.file_memory import FileState, state_from

# Files by their names below a root, with "/".
Listing = Mapping[str, FileState]
# Of a file that cannot be looked at.
NO_FILE = FileState(-1, -1, -1, -1)


def walk(root: Path, below: str = "", hidden: list[str] | None = None) -> Iterator[tuple[str, FileState]]:
    """(name below ``root``, state) of every file in ``root/below`` and its folders that is not hidden.

    ``hidden`` takes the names of what is, and of what systems leave in folders (``is_hidden``). Raises DatasetError for
    a folder that cannot be listed and for a name that no list can carry.
    """
    waiting = [below]
    while waiting:
        below = waiting.pop()
        folder, prefix = root / below, f"{below}/" if below else ""
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if is_hidden(entry.name):
                        if hidden is not None:
                            hidden.append(prefix + entry.name)
                        continue
                    if entry.is_dir():
                        if entry.is_symlink():
                            _require_no_loop(root, prefix, entry)
                        waiting.append(prefix + entry.name)
                    else:
                        yield valid_name(prefix + entry.name), state_in_listing(entry)
        except OSError as error:
            raise _cannot_be_listed(folder, error) from error


def folders_in(folder: Path) -> list[str]:
    """Names of the folders in ``folder`` that are not hidden, sorted; DatasetError where it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return sorted(valid_name(entry.name) for entry in entries if entry.is_dir() and not is_hidden(entry.name))
    except OSError as error:
        raise _cannot_be_listed(folder, error) from error


def state_in_listing(entry: os.DirEntry[str] | Path) -> FileState:
    """The state of a file, ``NO_FILE`` for a dangling link: found unreadable, and said so, when it is indexed."""
    try:
        return state_from(entry.stat())
    except OSError:
        return NO_FILE


def valid_name(name: str) -> str:
    """``name``; DatasetError where no list can carry it."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise DatasetError(f"{one_line(name)}: the file name is not UTF-8; rename the file") from error
    if "\n" in name or "\r" in name:
        raise DatasetError(
            f"{one_line(name)}: the file name holds a line break, which no list can carry; rename the file"
        )
    return name


def _require_no_loop(root: Path, prefix: str, link: os.DirEntry[str]) -> None:
    """Raise DatasetError where a link leads to a folder that it stands in: two of them have no end in any lifetime."""
    folder = root / prefix
    for above in (folder, *(root / part for part in Path(prefix).parents)):
        if os.path.samestat(above.stat(), link.stat()):
            raise DatasetError(f"{one_line(link.path)}: links to a folder that it stands in; remove the link")


def _cannot_be_listed(folder: Path, error: OSError) -> DatasetError:
    expected = "expected a folder of images, flat or in class folders"
    return DatasetError(f"{one_line(folder)}: cannot be listed ({error.strerror or error}); {expected}")
