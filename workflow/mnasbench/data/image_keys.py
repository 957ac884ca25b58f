"""What an image is called by in answers, and which image a file of inputs, an output or a line of a text is of."""

import unicodedata
from collections.abc import Iterable, Sequence
from itertools import takewhile

from mnasbench.data.image_files import without_suffix
from mnasbench.errors import DatasetError, one_line


def image_key(name: str) -> str:
    """The file name of an image without folders and suffix."""
    return without_suffix(name.rpartition("/")[2])


def composed(name: str) -> str:
    """A name in composed Unicode (NFC), as which names are compared: systems write the same one in several ways."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def by_key(names: Iterable[str]) -> dict[str, str]:
    """Names by their key: the file name without folders and suffix where no two share that, else the name itself."""
    names = list(dict.fromkeys(names))
    by_stem = {image_key(name): name for name in names}
    return by_stem if len(by_stem) == len(names) else {name: name for name in names}


class ImageKeys:
    """Which of a dataset's images another name means.

    ``keys``: names of the images as ``by_key`` gives them, or paths below one folder, with suffixes or without.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._keys = {composed(key): key for key in keys}
        # What lies before the folders in which the images differ says nothing of an image.
        folders = [key.split("/")[:-1] for key in self._keys]
        self._shared = _alike(min(folders), max(folders)) if folders else 0
        # By file name, with its folder (thousands may be called 0001) and without; the suffix may be missing.
        self._by_file: dict[str, list[str]] = {}
        self._by_folder: dict[tuple[str, str], list[str]] = {}
        for key in self._keys:
            *before, file = key.split("/")[self._shared :]
            for form in {file, without_suffix(file)}:
                self._by_file.setdefault(form, []).append(key)
                self._by_folder.setdefault((before[-1] if before else "", form), []).append(key)

    def find(self, name: str) -> str | None:
        """The key of the image that ``name`` means; None where it is none of them.

        ``name`` may have more or fewer folders before it, another suffix or none, and ``.npz`` at its end. The folder
        that an image lies in must agree where both names have one. DatasetError where that leaves several images.
        """
        name = composed(name)
        if name in self._keys:
            return self._keys[name]
        *folders, file = name.removesuffix(".npz").split("/")
        candidates = self._candidates(folders, file) or self._candidates(folders, without_suffix(file))
        agreeing = [(self._agreeing(key.split("/")[self._shared : -1], folders), key) for key in candidates]
        most = max((length for length, _ in agreeing), default=-1)
        best = [key for length, key in agreeing if length == most]
        if most < 0:
            return None
        if len(best) > 1:
            raise DatasetError(
                f"{one_line(name)}: may be {one_line(best[0])} or {one_line(best[1])}; give names with the folders, or "
                "the suffix, that tell them apart"
            )
        return self._keys[best[0]]

    def __getitem__(self, name: str) -> str:
        """As ``find``, but ``name`` itself where it is none of the images."""
        key = self.find(name)
        return name if key is None else key

    def _candidates(self, folders: Sequence[str], file: str) -> list[str]:
        if not folders:
            return self._by_file.get(file, [])
        return [*self._by_folder.get((folders[-1], file), []), *self._by_folder.get(("", file), [])]

    @staticmethod
    def _agreeing(mine: list[str], theirs: list[str]) -> int:
        """How many folders before the file are the same; -1 where the last of both is not."""
        length = _alike(mine[::-1], theirs[::-1])
        return -1 if mine and theirs and not length else length


def _alike(a: Sequence[str], b: Sequence[str]) -> int:
    """How many words at the beginning of both are the same."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
