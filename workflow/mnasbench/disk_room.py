"""Whether the disks have room for what is about to be written: asked here, by whoever asks.

Light on purpose: planning imports it.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

from mnasbench.errors import OutputError, one_line

# Most file systems round what a file takes up to this; some say far more of themselves.
_BLOCK = 4096


def on_disk(content: int) -> int:
    """Bytes that a file of ``content`` bytes takes on a disk."""
    return -(-content // _BLOCK) * _BLOCK


def free_bytes(folder: Path) -> int:
    """Free bytes of the disk that ``folder`` is on, or would be on once it is made."""
    return shutil.disk_usage(_existing(folder)).free


def require_room(needs: Mapping[Path, int], purpose: str) -> None:
    """Raise OutputError where a disk has less room than all folders on it will need together.

    ``needs``: bytes by folder, of files that are not written yet; the folders need not exist. ``purpose`` begins the
    message, as in "this run".
    """
    disks: dict[int, tuple[Path, int]] = {}
    for folder, need in needs.items():
        place = _existing(folder)
        first, others = disks.get(place.stat().st_dev, (place, 0))
        disks[place.stat().st_dev] = (first, others + need)
    for place, need in disks.values():
        free = shutil.disk_usage(place).free
        if need > free:
            raise OutputError(
                f"{one_line(place.resolve())}: {purpose} needs about {_size(need)} there, but {_size(free)} are free; "
                "make room, or write to another disk"
            )


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.absolute().parents) if path.is_dir())


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
