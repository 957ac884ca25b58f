"""What indexing found out about each image file, remembered beside its manifest.

Light on purpose (no numpy, no Pillow): planning asks it.
"""

from collections.abc import Mapping
from pathlib import Path

from mnasbench.data.listing import Listing
from mnasbench.file_memory import FileMemory, FileState

_SUFFIX = ".looks.json"
# Raised whenever what is remembered of an image, or how it is judged, changes.
_FORMAT = 3
# What is recorded of a file: sha256, width, height, mode, fault.
Look = tuple[str, int, int, str, str]
_TYPES = [int, str, int, int, str, str]


class LookMemory:
    """The looks at the images of one manifest. The user's images outlast a power cut, so they are kept across boots."""

    def __init__(self, manifest: Path) -> None:
        self._memory = FileMemory(manifest.with_name(f"{manifest.name}{_SUFFIX}"), across_boots=True)

    def recall(self, files: Listing) -> dict[str, Look]:
        """The looks at those of these files that are as they were then."""
        looks = {}
        for name, value in self._memory.recall_all(files).items():
            if isinstance(value, list) and [type(part) for part in value] == _TYPES and value[0] == _FORMAT:
                _, sha256, width, height, mode, fault = value
                looks[name] = (sha256, width, height, mode, fault)
        return looks

    def keep(self, looks: Mapping[str, tuple[FileState, Look]]) -> None:
        """Remember these looks; a file that could not be read may be readable next time, so it is left out."""
        read = {name: (state, [_FORMAT, *look]) for name, (state, look) in looks.items() if look[0]}
        self._memory.remember_all(read)
        self._memory.save()


def memories_in(folder: Path) -> list[LookMemory]:
    """The memories beside all manifests of a folder."""
    files = sorted(folder.glob(f"*{_SUFFIX}"))
    return [LookMemory(file.with_name(file.name.removesuffix(_SUFFIX))) for file in files]
