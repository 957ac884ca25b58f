"""The npz files that inputs and outputs are exchanged in: one array a file, under the vendor's key.

Read without numpy's loader: no pickle, and nothing is allocated that the file's own size does not warrant.
"""

import functools
import io
import lzma
import math
import os
import re
import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from isal import isal_zlib

from mnasbench.errors import DatasetError, one_line
from mnasbench.files import REGULAR_FLAGS, TEMPORARY, read_regular_into, write_parts

Pixels = npt.NDArray[np.uint8]

INPUT_KEY = "input_0"
OUTPUT_KEY = "output_0"
# A full-size image of preprocess.MAX_PIXELS; outputs are far smaller.
_MAX_BYTES = 3 * 89_478_485 + 4096
_MOST_MEMBERS = 1000
_NO_BUFFER = bytearray()
_END = struct.Struct("<4s4HIIH")  # end of the central directory of a zip
_ENTRY = struct.Struct("<4s6H3I5H2I")  # its entry of a file


def write_npz(path: Path, array: npt.NDArray[np.generic], key: str = INPUT_KEY) -> None:
    """Write one array, uncompressed and atomically; equal arrays give equal files."""
    write_parts(path, npz_parts(array, key))


def without_suffix(name: str) -> str:
    """A file's name, with the folders before it, without its last suffix."""
    # As pathlib's with_suffix(""), which takes a second for the four times that 50,000 images are asked for theirs.
    stem, _, suffix = name.rpartition(".")
    return stem if suffix and "/" not in suffix and stem.rpartition("/")[2] else name


def npz_names(folder: Path) -> list[str]:
    """The npz files below a folder that are not being written just now: their names relative to it, sorted."""
    found = []
    for where, _, files in os.walk(folder):
        below = os.path.relpath(where, folder)
        names = (name for name in files if name.endswith(".npz") and not name.startswith(TEMPORARY))
        found += [name if below == "." else f"{below}/{name}" for name in names]
    return sorted(found)


def npz_parts(array: npt.NDArray[np.generic], key: str) -> list[bytes | memoryview]:
    """What numpy writes for one array, uncompressed, in parts; the array's own bytes are not copied.

    Files of one shape differ in the array's bytes and their checksum only, so numpy makes one of each shape. Its own
    writer takes as long as a tenth of an int8 inference.
    """
    head, tail, checksum = _around(array.shape, array.dtype, key)
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    crc = isal_zlib.crc32(data, checksum).to_bytes(4, "little")
    return [head[:14], crc, head[18:], data, tail[:16], crc, tail[20:]]


@functools.lru_cache(maxsize=256)
def _around(shape: tuple[int, ...], dtype: np.dtype[Any], key: str) -> tuple[bytes, bytes, int]:
    """What stands before and behind an array's bytes in an npz, and the checksum of the .npy file so far."""
    array = np.zeros(shape, dtype)
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **{key: array})
    content = stream.getvalue()
    # A stored zip: local header, the .npy, then the central directory, which ends the file. Both hold the CRC-32.
    directory = content.rindex(b"PK\x01\x02")
    begin = directory - array.nbytes
    return content[:begin], content[directory:], isal_zlib.crc32(content[content.index(b"\x93NUMPY") : begin])


def read_npz(path: Path) -> Pixels:
    """Pixels, uint8 (3, height, width), under the key ``input_0``; DatasetError says what is wrong."""
    return _pixels(path, _read_content(path, _NO_BUFFER))


class PixelReader:
    """Reads one input after another into the same memory; fresh memory costs the system more time than the reading.

    The files of a list differ in their pixels, seldom in anything else. Of one whose headers are those of the file
    before it, only the checksum is left to verify. One reader is for one thread.
    """

    def __init__(self) -> None:
        self._buffer = _NO_BUFFER
        self._known: _Layout | None = None

    def read(self, path: Path) -> Pixels:
        """What ``read_npz`` gives; the pixels lie there until the next file is read."""
        if self._known is None or not self._is_alike(path, self._known):
            content = _read_content(path, self._buffer)
            pixels = _pixels(path, content)
            self._buffer = cast(bytearray, content.obj)
            self._known = _layout_of(content, pixels)
            return pixels
        return self._known.pixels

    def _is_alike(self, path: Path, known: "_Layout") -> bool:
        """Read a file of the known layout; False, and nothing said, where it has another one or cannot be read."""
        content = self._buffer
        try:
            descriptor = os.open(path, REGULAR_FLAGS)
            try:
                about = os.fstat(descriptor)
                if not stat.S_ISREG(about.st_mode) or about.st_size != known.size:
                    return False
                if os.readv(descriptor, [memoryview(content)[: known.size]]) != known.size:
                    return False
            finally:
                os.close(descriptor)
        except OSError:
            return False
        checksum = content[14:18]
        others = (content[:14], content[18 : known.data], content[known.directory : known.directory + 16])
        return (
            (*others, content[known.directory + 20 : known.size]) == known.constant
            and content[known.directory + 16 : known.directory + 20] == checksum
            and isal_zlib.crc32(known.member) == int.from_bytes(checksum, "little")
        )


@dataclass(frozen=True)
class _Layout:
    """Where the parts of a file lie in a reader's memory, and all of its bytes that are neither pixels nor checksum."""

    size: int
    data: int
    directory: int
    constant: tuple[bytearray, ...]
    member: memoryview
    pixels: Pixels


def _layout_of(content: memoryview, pixels: Pixels) -> _Layout | None:
    """The layout of a file that numpy wrote; None for one that was packed or written in another way."""
    member = _stored_member(content, f"{INPUT_KEY}.npy")
    if member is None or not pixels.flags.c_contiguous:
        return None
    directory = len(content) - _END.size - _END.unpack_from(content, len(content) - _END.size)[5]
    if content[14:18] != content[directory + 16 : directory + 20]:
        return None
    data = directory - pixels.nbytes
    parts = (slice(14), slice(18, data), slice(directory, directory + 16), slice(directory + 20, None))
    return _Layout(len(content), data, directory, tuple(bytearray(content[part]) for part in parts), member, pixels)


def _pixels(path: Path, content: memoryview) -> Pixels:
    array = _array(path, INPUT_KEY, content)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[0] != 3:
        raise DatasetError(
            f"{one_line(path)}: {INPUT_KEY} is {array.dtype} {array.shape}, expected uint8 (3, height, width)"
        )
    return array.astype(np.uint8, copy=False)


def read_output(path: Path) -> npt.NDArray[np.float32]:
    """One image's scores, float32 (classes,), under the key ``output_0``; leading axes of 1 are dropped."""
    array = _array(path, OUTPUT_KEY, _read_content(path, _NO_BUFFER))
    if array.dtype.kind != "f" or array.size == 0 or array.shape[-1:] != (array.size,):
        raise DatasetError(f"{one_line(path)}: {OUTPUT_KEY} is {array.dtype} {array.shape}, expected float (classes,)")
    if not np.isfinite(array).all():
        raise DatasetError(f"{one_line(path)}: {OUTPUT_KEY} holds NaN or infinity")
    return array.reshape(-1).astype(np.float32)


def _array(path: Path, key: str, file: memoryview) -> npt.NDArray[np.generic]:
    """The array under ``key`` of the npz whose bytes ``file`` holds, in that memory where it was not packed."""
    stored = _stored_member(file, f"{key}.npy")
    if stored is None and sum(1 for _ in islice(re.finditer(b"PK\x01\x02", file), _MOST_MEMBERS + 1)) > _MOST_MEMBERS:
        # Each costs zipfile half a KB: the largest file that is read could hold millions.
        raise DatasetError(f"{one_line(path)}: has more than {_MOST_MEMBERS} members, expected {key} alone")
    content = _unpacked_member(path, f"{key}.npy") if stored is None else stored
    try:
        shape, fortran, dtype, offset = _parse_header(bytes(content[: 10 + int.from_bytes(content[8:10], "little")]))
    except (ValueError, EOFError, TypeError, SyntaxError, RecursionError) as error:
        raise DatasetError(f"{one_line(path)}: {key} is not a numpy array ({one_line(error)})") from error
    if dtype.hasobject or min(shape, default=0) < 0 or len(content) - offset != math.prod(shape) * dtype.itemsize:
        raise DatasetError(f"{one_line(path)}: {key} claims {dtype} {shape}, which its bytes are not")
    flat = np.frombuffer(content, dtype=dtype, offset=offset)
    return flat.reshape(shape, order="F" if fortran else "C")


@functools.lru_cache(maxsize=64)  # the files of a list differ in their data, seldom in their header
def _parse_header(head: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, Fortran order and dtype of an .npy file, and where its data begins.

    ``head`` is magic and version, the header's length as two bytes, and the header.
    """
    stream = io.BytesIO(head)
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):
        raise ValueError(f"npy format {version[0]}.{version[1]}")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    return shape, fortran, dtype, stream.tell()


def _read_content(path: Path, buffer: bytearray) -> memoryview:
    try:
        return read_regular_into(path, _MAX_BYTES, buffer)
    except OSError as error:
        raise DatasetError(f"{one_line(path)}: cannot be read ({error.strerror or error})") from error


def _stored_member(content: memoryview, member: str) -> memoryview | None:
    """The only member of a zip, uncompressed and of the right checksum; None where the file is anything else.

    numpy writes such files. Seeing them by their three headers takes half of the time that ``zipfile`` takes.
    """
    name = member.encode()
    if len(content) < _END.size or bytes(content[:4]) != b"PK\x03\x04":
        return None
    *_, entries, size, directory, comment = _END.unpack_from(content, len(content) - _END.size)
    ends = directory + size + _END.size == len(content) and size == _ENTRY.size + len(name)
    if entries != 1 or comment or not ends or bytes(content[directory + _ENTRY.size : directory + size]) != name:
        return None
    entry = _ENTRY.unpack_from(content, directory)
    (signature, method, checksum, packed, unpacked, name_bytes, offset) = (entry[i] for i in (0, 4, 7, 8, 9, 10, 16))
    if signature != b"PK\x01\x02" or method or packed != unpacked or name_bytes != len(name) or offset:
        return None
    data = content[directory - unpacked : directory]
    return data if isal_zlib.crc32(data) == checksum else None


def _unpacked_member(path: Path, member: str) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.NameToInfo.get(member)
            if info is None:
                keys = ", ".join(one_line(name.removesuffix(".npy")) for name in archive.namelist()[:5]) or "nothing"
                raise DatasetError(f"{one_line(path)}: has no key {member.removesuffix('.npy')}, but {keys}")
            if info.file_size > _MAX_BYTES:
                raise DatasetError(
                    f"{one_line(path)}: unpacks to {info.file_size} bytes, more than {_MAX_BYTES} accepted"
                )
            return archive.read(info)
    except OSError as error:
        raise DatasetError(f"{one_line(path)}: cannot be read ({error.strerror or error})") from error
    except (
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        NotImplementedError,
        RuntimeError,
        ValueError,
    ) as error:
        raise DatasetError(f"{one_line(path)}: is not a whole npz file ({one_line(error)})") from error
