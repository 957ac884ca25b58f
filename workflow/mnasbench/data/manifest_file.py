"""The manifest as a file: a CSV with a row for each image, read and written.

Light on purpose (no numpy, no Pillow): planning reads it.
"""

import csv
import io
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path

from mnasbench.errors import DatasetError, one_line
from mnasbench.files import read_text, write_text

COLUMNS = ("name", "class_index", "width", "height", "mode", "bytes", "sha256", "shard", "fault")


@dataclass(frozen=True, slots=True)
class IndexedImage:
    """One row of the manifest.

    ``name``: path below the dataset's root, with ``/``. ``mode``: Pillow's (``L`` is greyscale). ``bytes`` and
    ``sha256`` are of the file. ``fault``: why the image is excluded; empty where it is fine.
    """

    name: str
    class_index: int
    width: int
    height: int
    mode: str
    bytes: int
    sha256: str
    shard: int
    fault: str


def read_manifest(path: Path, shard: int | None = None, with_faulty: bool = False) -> list[IndexedImage]:
    """The manifest's images in its order, of one shard or all; excluded ones only ``with_faulty``.

    Raises DatasetError that names the line which is not as ``index_dataset`` writes it.
    """
    rows = csv.reader(io.StringIO(read_text(path), newline=""))
    try:
        if tuple(next(rows, ())) != COLUMNS:
            raise DatasetError(f"{one_line(path)}: is not a manifest, expected the columns {','.join(COLUMNS)}")
        images = [_image(row) for row in rows]
    except (ValueError, TypeError, csv.Error) as error:
        raise DatasetError(f"{one_line(path)} line {rows.line_num}: {one_line(error)}") from error
    return [image for image in images if (shard is None or image.shard == shard) and (with_faulty or not image.fault)]


def is_manifest(text: str) -> bool:
    """Whether the text of a file is that of a manifest: told by its first line."""
    return text.startswith(",".join(COLUMNS))


def _image(row: list[str]) -> IndexedImage:
    name, class_index, width, height, mode, size, sha256, shard, fault = row
    if not name or name.startswith("/") or ".." in name.split("/") or "\0" in name:
        raise ValueError(f"{name!r} is not a path below the dataset's root")
    return IndexedImage(name, int(class_index), int(width), int(height), mode, int(size), sha256, int(shard), fault)


def write_manifest(path: Path, images: Iterable[IndexedImage]) -> None:
    """Write the rows that ``read_manifest`` reads, atomically, with Unix line ends."""
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    rows.writerows(astuple(image) for image in images)
    write_text(path, text.getvalue())
