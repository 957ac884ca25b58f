"""The images that a list names, whichever form their files have: npz of one image each, or shards of many."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from mnasbench.data.image_files import without_suffix
from mnasbench.data.npz import Pixels, read_npz
from mnasbench.data.shard import InputShard, is_shard
from mnasbench.errors import InputError, one_line


class ImageFiles:
    """Consecutive npz files of one image each, read as the images of a shard are."""

    def __init__(self, paths: Sequence[Path], names: Sequence[str]) -> None:
        self.paths, self.names = paths, names

    def rows(self, first: int, last: int, buffer: Pixels | None = None) -> list[Pixels]:
        """The pixels of images ``first`` to ``last`` (without), uint8 (3, height, width) of any sizes."""
        return [read_npz(path) for path in self.paths[first:last]]

    def require_whole(self) -> None:
        """Each file's checksum was compared when it was read."""


Part = InputShard | ImageFiles


def listed_parts(paths: Sequence[Path]) -> list[Part]:
    """The shards of a list, and its files of one image each, as parts in the list's order.

    Files of one image need not be there. Raises DatasetError for a damaged shard.
    """
    names = iter(names_of_images(paths))
    parts: list[Part] = []
    for of_many, group in groupby(paths, key=is_shard):
        files = list(group)
        own = [next(names) for _ in files]
        parts += map(InputShard, files) if of_many else [ImageFiles(files, own)]
    return parts


@dataclass(frozen=True)
class ListedImage:
    """A listed image: its name, and where it is."""

    name: str
    part: Part
    row: int

    @property
    def path(self) -> Path:
        """What the image is called by in a text: its own file, or its name in a shard."""
        return self.part.paths[self.row] if isinstance(self.part, ImageFiles) else Path(self.name)

    def pixels(self) -> Pixels:
        """The image, uint8 (3, height, width)."""
        return self.part.rows(self.row, self.row + 1)[0]


def listed_images(paths: Sequence[Path]) -> list[ListedImage]:
    """All images of a list, in its order."""
    return [ListedImage(name, part, row) for part in listed_parts(paths) for row, name in enumerate(part.names)]


def names_of_images(paths: Sequence[Path]) -> list[str]:
    """As ``names_of_files``, with two of the folders that all share: which class an image of one folder is of."""
    return [without_suffix(name) for name in _below(paths, kept=2)]


def names_of_files(paths: Iterable[Path]) -> list[str]:
    """The name of each file's output: the file's own, class folders kept, without the folder that all of them share.

    Raises InputError where two files would share an output.
    """
    names = [f"{without_suffix(name)}.npz" for name in _below(paths)]
    if len(set(names)) < len(names):
        doubled = next(name for name, times in Counter(names).items() if times > 1)
        raise InputError(f"{one_line(doubled)}: the output of this name would be that of two inputs of the list")
    return names


def _below(paths: Iterable[Path], kept: int = 0) -> list[str]:
    """The paths below the folder that all of them share, and ``kept`` folders above it."""
    # A `..` that stayed would lead out of the folder again; resolve() would follow the links of the inputs, too.
    absolute = [os.path.abspath(path) for path in paths]  # noqa: PTH100 - three paths an image take a tenth of a run
    shared = os.path.commonpath({os.path.dirname(path) for path in absolute}).split("/")  # noqa: PTH120
    length = len("/".join(shared[: max(1, len(shared) - kept)]).rstrip("/")) + 1
    return [path[length:] for path in absolute]
