"""What an image is called by in label files, lists and outputs alike."""

from collections.abc import Iterable

from mnasbench.data.npz import without_suffix
from mnasbench.errors import DatasetError, one_line


def image_key(name: str) -> str:
    """What an image is known by in label files, lists and outputs alike: its file name without folders and suffix."""
    return without_suffix(name.rpartition("/")[2])


def by_key(names: Iterable[str]) -> dict[str, str]:
    """Names by their key; DatasetError where two share one, because their answers could not be told apart."""
    names_by_key: dict[str, str] = {}
    for name in names:
        key = image_key(name)
        if key in names_by_key:
            raise DatasetError(
                f"{one_line(name)} and {one_line(names_by_key[key])}: have the same name without folder and suffix, "
                "so their outputs cannot be told apart; rename one"
            )
        names_by_key[key] = name
    return names_by_key
