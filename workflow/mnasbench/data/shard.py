"""A shard: many images' inputs, or their scores, in one npz file.

A shard of inputs holds ``input_0``, uint8 (images, 3, height, width), one of scores ``output_0``, float32
(images, classes); both hold ``names``, the images' names. ``np.load(file, allow_pickle=False)`` reads either. Two
things are stricter than npz asks for: nothing is packed, and ``names`` stands first. So a row's place in the file is
known, workers write their rows and readers read theirs without what lies between. The array begins at a page.
"""

import os
import struct
import weakref
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from isal import isal_zlib

from mnasbench.data.npz import INPUT_KEY, OUTPUT_KEY, Pixels, npy_header, parse_npy_header
from mnasbench.errors import DatasetError, one_line
from mnasbench.files import REGULAR_FLAGS, written_atomically

Scores = npt.NDArray[np.float32]

NAMES_KEY = "names"
_PAGE = 4096
# How a zip introduces a member: signature, version, flags, method, time, date, CRC-32, sizes, lengths of what follows.
_LOCAL = struct.Struct("<4s5H3I2H")
_MEMBER = b"PK\x03\x04"
_DIRECTORY = b"PK\x01\x02"
# Ids of what may follow a member's name: its sizes as 64 bits, and padding (as Android's zipalign writes it).
_ZIP64, _PADDING = 1, 0xD935
_IN_ZIP64 = 0xFFFFFFFF
# More than a million names of 255 characters.
_MAX_NAMES_BYTES = 1 << 30


# ---------------------------------------------------------------------------------------------------------- writing
class RowWriter:
    """Takes the rows of an array, in any order and from any process that was forked meanwhile."""

    def __init__(self, descriptor: int, offset: int, row_bytes: int) -> None:
        self._descriptor, self._offset, self._row_bytes = descriptor, offset, row_bytes

    def write(self, first: int, rows: npt.NDArray[Any]) -> int:
        """Write consecutive rows, of which ``first`` is the first; gives their CRC-32."""
        data = np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data
        at, rest = self._offset + first * self._row_bytes, data
        while rest:  # a disk that is nearly full takes a part at first
            written = os.pwrite(self._descriptor, rest, at)
            at, rest = at + written, rest[written:]
        return isal_zlib.crc32(data)


@dataclass
class ShardWriter:
    """The rows of a shard that is being written, and the checksums of those that are there, in their order."""

    rows: RowWriter
    row_bytes: int
    crc: int
    done: int = 0

    def add_crc(self, crc: int, rows: int) -> None:
        """Count the next rows, which were written, by their CRC-32."""
        self.crc = isal_zlib.crc32_combine(self.crc, crc, rows * self.row_bytes)
        self.done += rows


@contextmanager
def new_shard(
    path: Path, names: Sequence[str], key: str, row_shape: tuple[int, ...], dtype: npt.DTypeLike
) -> Iterator[ShardWriter]:
    """Make a shard atomically; within the block every row is written and its checksum added, in order of the rows.

    Equal names and rows give equal files. Raises OutputError where the system refuses.
    """
    array_of_names = np.array(names, dtype=np.str_)
    shape = (len(names), *row_shape)
    header = npy_header(shape, np.dtype(dtype))
    row_bytes = int(np.prod(row_shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    with written_atomically(path) as temporary, temporary.open("r+b") as stream:
        listed = npy_header(array_of_names.shape, array_of_names.dtype) + array_of_names.tobytes()
        first = _member(NAMES_KEY, 0, len(listed), zlib.crc32(listed))
        stream.write(first.FileHeader(zip64=True) + listed)
        at = stream.tell()
        member = _member(key, at, len(header) + len(names) * row_bytes)
        begin = at + len(member.FileHeader(zip64=True)) + 4 + len(header)
        member.extra = struct.pack("<HH", _PADDING, -begin % _PAGE) + bytes(-begin % _PAGE)
        offset = at + len(member.FileHeader(zip64=True)) + len(header)
        stream.flush()
        rows = RowWriter(stream.fileno(), offset, row_bytes)
        writer = ShardWriter(rows, row_bytes, isal_zlib.crc32(header))
        yield writer
        if writer.done != len(names):
            raise ValueError(f"{writer.done} of {len(names)} rows were written")
        member.CRC = writer.crc
        stream.write(member.FileHeader(zip64=True) + header)
        stream.seek(offset + len(names) * row_bytes)
        with zipfile.ZipFile(stream, "w") as archive:  # at the stream's place: only the directory of what is before it
            archive.infolist().extend([first, member])


def _member(key: str, offset: int, size: int, crc: int = 0) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(f"{key}.npy")  # of 1980, so that equal content gives equal bytes
    info.header_offset, info.file_size, info.compress_size, info.CRC = offset, size, size, crc
    return info


def write_scores(path: Path, names: Sequence[str], scores: Scores) -> None:
    """Write a shard of scores, float32 (images, classes)."""
    with new_shard(path, names, OUTPUT_KEY, scores.shape[1:], np.float32) as shard:
        shard.add_crc(shard.rows.write(0, scores.astype(np.float32, copy=False)), len(scores))


# ---------------------------------------------------------------------------------------------------------- reading
def is_shard(path: Path) -> bool:
    """Whether a file begins as a shard does; what else it may be, its own reader says."""
    name = f"{NAMES_KEY}.npy".encode()
    try:
        descriptor = os.open(path, REGULAR_FLAGS)
        try:
            begin = os.pread(descriptor, _LOCAL.size + len(name), 0)
        finally:
            os.close(descriptor)
    except (OSError, ValueError):
        return False
    return begin[:4] == _MEMBER and begin[_LOCAL.size :] == name


@dataclass(frozen=True)
class _Part:
    """An array in a file: its dtype and shape, where its bytes begin, the member's CRC-32, and that of the header."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int
    nbytes: int
    crc: int
    header_crc: int

    @property
    def end(self) -> int:
        return self.offset + self.nbytes


class _Shard:
    """A shard, open as long as this lives: its names, and its array row by row, for any number of threads."""

    def __init__(self, path: Path, key: str) -> None:
        """Raises DatasetError, which names the file, for anything but a shard with this key."""
        self.path, self._key = path, key
        try:
            if "\0" in str(path):
                raise DatasetError(f"{one_line(path)}: its name holds a NUL")
            self._descriptor = os.open(path, REGULAR_FLAGS)
        except OSError as error:
            raise DatasetError(f"{one_line(path)}: cannot be read ({error.strerror or error})") from error
        weakref.finalize(self, os.close, self._descriptor)
        os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        listed = self._part(0, NAMES_KEY)
        self._array = self._part(listed.end, key)
        if self._pread(4, self._array.end) != _DIRECTORY:
            raise self._error(f"has more than {NAMES_KEY} and {key}")
        self.names = self._read_names(listed)
        self._read_crcs: dict[int, tuple[int, int]] = {}  # first row: rows, CRC-32

    def _error(self, what: str) -> DatasetError:
        return DatasetError(f"{one_line(self.path)}: {what}; make it again with image2npz.py or ort-vamp")

    def _pread(self, size: int, offset: int) -> bytes:
        try:
            return os.pread(self._descriptor, size, offset)
        except OSError as error:
            raise DatasetError(f"{one_line(self.path)}: cannot be read ({error.strerror or error})") from error

    def _part(self, at: int, key: str) -> _Part:
        """The member that begins at ``at``, which must be ``key``, unpacked, and an array as large as the member."""
        name = f"{key}.npy".encode()
        head = self._pread(_LOCAL.size + 2 * 0xFFFF, at)
        if len(head) < _LOCAL.size or head[:4] != _MEMBER:
            raise self._error("is not a whole shard (npz)")
        _, _, flags, method, _, _, crc, packed, size, name_bytes, extra_bytes = _LOCAL.unpack_from(head)
        begin = _LOCAL.size + name_bytes + extra_bytes
        if head[_LOCAL.size : _LOCAL.size + name_bytes] != name:
            raise self._error(f"has no {key} where a shard has it")
        sizes = _sizes_of(head[_LOCAL.size + name_bytes : begin]) if _IN_ZIP64 in (packed, size) else (size, packed)
        if method or flags & 0x9 or sizes is None or sizes[0] != sizes[1]:
            raise self._error(f"has {key} packed or encrypted, expected as np.savez writes it")
        header = self._pread(10 + 0xFFFF, at + begin)[: sizes[0]]
        try:
            shape, fortran, dtype, data = parse_npy_header(header[: 10 + int.from_bytes(header[8:10], "little")])
        except ValueError as error:
            raise self._error(f"has {key} that is not a numpy array ({one_line(error)})") from error
        nbytes = dtype.itemsize
        for side in shape:
            nbytes *= side
        if fortran or dtype.hasobject or min(shape, default=0) < 0 or data + nbytes != sizes[0]:
            raise self._error(f"has {key} that claims {dtype} {shape}, which its bytes are not")
        if at + begin + sizes[0] > os.fstat(self._descriptor).st_size:
            raise self._error("is not a whole shard (npz)")
        return _Part(dtype, shape, at + begin + data, nbytes, crc, isal_zlib.crc32(header[:data]))

    def _read_names(self, part: _Part) -> list[str]:
        if part.dtype.kind != "U" or len(part.shape) != 1 or part.nbytes > _MAX_NAMES_BYTES:
            raise self._error(f"has names that are {part.dtype} {part.shape}, expected text (images,)")
        content = self._pread(part.nbytes, part.offset)
        if isal_zlib.crc32(content, part.header_crc) != part.crc:
            raise self._error("has damaged names")
        try:
            names: list[str] = np.frombuffer(content, part.dtype).tolist() if part.nbytes else []
            "".join(names).encode()
        except ValueError as error:
            raise self._error("has names that are no text") from error
        if not names or len(names) != len(set(names)) or not all(names) or len(names) != self._array.shape[0]:
            raise self._error(f"has {len(set(names))} different names for {self._array.shape[:1]} images")
        return names

    def read(self, first: int, into: npt.NDArray[Any]) -> None:
        """Read the rows from ``first`` on into an array of so many, which has the shard's own dtype and order."""
        row_bytes = self._array.nbytes // self._array.shape[0]
        rest = into.reshape(-1).view(np.uint8).data
        at = self._array.offset + first * row_bytes
        while rest:
            try:
                size = os.preadv(self._descriptor, [rest], at)
            except OSError as error:
                raise DatasetError(f"{one_line(self.path)}: cannot be read ({error.strerror or error})") from error
            if size == 0:
                raise self._error("is not a whole shard (npz)")
            at, rest = at + size, rest[size:]
        crc = isal_zlib.crc32(into.reshape(-1).view(np.uint8).data)
        self._read_crcs[first] = (len(into), crc)

    def require_whole(self) -> None:
        """Raise DatasetError unless the rows that were read, which must be all, have the file's checksum."""
        row_bytes = self._array.nbytes // self._array.shape[0]
        crc, row = self._array.header_crc, 0
        while row in self._read_crcs:
            rows, part = self._read_crcs[row]
            crc, row = isal_zlib.crc32_combine(crc, part, rows * row_bytes), row + rows
        if row != self._array.shape[0] or crc != self._array.crc:
            raise self._error(f"has a damaged {self._key} (its checksum differs)")


def _sizes_of(extra: bytes) -> tuple[int, int] | None:
    """The two sizes of a member in what follows its name; None where they are not there."""
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        if kind == _ZIP64 and size >= 16 and len(extra) >= 20:
            return struct.unpack_from("<QQ", extra, 4)
        extra = extra[4 + size :]
    return None


class InputShard(_Shard):
    """The images of a shard: ``names``, and their pixels, uint8 (3, height, width) each, in that order.

    float32 is a net's input, made by a user's own code.
    """

    def __init__(self, path: Path) -> None:
        """Raises DatasetError, which names the file, for anything but a shard of inputs."""
        super().__init__(path, INPUT_KEY)
        dtype, shape = self._array.dtype, self._array.shape
        if dtype not in (np.uint8, np.float32) or len(shape) != 4 or shape[1] != 3 or 0 in shape:
            raise self._error(f"has {INPUT_KEY} {dtype} {shape}, expected uint8 (images, 3, height, width)")
        self.shape: tuple[int, int, int] = (3, shape[2], shape[3])
        self.dtype = dtype

    def rows(self, first: int, last: int, buffer: Pixels | None = None) -> Pixels:
        """The pixels of images ``first`` to ``last`` (without), in ``buffer`` where it is given and large enough."""
        count = last - first
        fits = buffer is not None and buffer.dtype == self.dtype and buffer.shape[1:] == self.shape
        is_large = buffer is not None and len(buffer) >= count
        into = (
            buffer[:count] if fits and is_large and buffer is not None else np.empty((count, *self.shape), self.dtype)
        )
        self.read(first, into)
        return into


def read_scores(path: Path) -> tuple[list[str], Scores]:
    """Names and scores, float32 (images, classes), of a shard; DatasetError for what is damaged or not finite."""
    shard = _Shard(path, OUTPUT_KEY)
    array = shard._array
    if array.dtype != np.float32 or len(array.shape) != 2 or 0 in array.shape:
        raise shard._error(f"has {OUTPUT_KEY} {array.dtype} {array.shape}, expected float32 (images, classes)")
    scores = np.empty(array.shape, np.float32)
    shard.read(0, scores)
    shard.require_whole()
    if not np.isfinite(scores).all():
        raise shard._error(f"has {OUTPUT_KEY} that holds NaN or infinity")
    return shard.names, scores
