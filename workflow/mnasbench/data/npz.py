"""The npz files of one image each: its pixels or its scores, one array a file, under the vendor's key.

Read without numpy's loader: no pickle, and nothing is allocated that the file's own size does not warrant.
"""

import functools
import io
import lzma
import math
import os
import re
import zipfile
import zlib
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mnasbench.errors import DatasetError, one_line
from mnasbench.files import TEMPORARY, read_regular, written_atomically

# uint8; float32 where a user's own code made the net's input.
Pixels = npt.NDArray[Any]

INPUT_KEY = "input_0"
OUTPUT_KEY = "output_0"
# A full-size image of preprocess.MAX_PIXELS; outputs are far smaller.
_MAX_BYTES = 3 * 89_478_485 + 4096
_MOST_MEMBERS = 1000


def write_npz(path: Path, array: npt.NDArray[np.generic], key: str = INPUT_KEY) -> None:
    """Write one array, uncompressed and atomically; equal arrays give equal files."""
    with written_atomically(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **{key: np.asarray(array, order="C")})


def npz_names(folder: Path) -> list[str]:
    """The npz files below a folder that are not being written just now: their names relative to it, sorted."""
    names = []
    for where, _, files in os.walk(folder):
        below = os.path.relpath(where, folder)
        whole = (name for name in files if name.endswith(".npz") and not name.startswith(TEMPORARY))
        names += [name if below == "." else f"{below}/{name}" for name in whole]
    return sorted(names)


def npy_header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """What stands before an array's bytes in an .npy file, in C order."""
    stream = io.BytesIO()
    description = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, description)
    return stream.getvalue()


def read_npz(path: Path) -> Pixels:
    """Pixels, uint8 (3, height, width), under the key ``input_0``; DatasetError says what is wrong.

    float32 of that shape is a net's input, made by a user's own code.
    """
    array = _read_array(path, INPUT_KEY)
    if array.dtype not in (np.uint8, np.float32) or array.ndim != 3 or array.shape[0] != 3:
        raise DatasetError(
            f"{one_line(path)}: {INPUT_KEY} is {array.dtype} {array.shape}, expected uint8 (3, height, width)"
        )
    return array


def read_output(path: Path) -> npt.NDArray[np.float32]:
    """One image's scores, float32 (classes,), under the key ``output_0``; leading axes of 1 are dropped."""
    array = _read_array(path, OUTPUT_KEY)
    if array.dtype.kind != "f" or array.size == 0 or array.shape[-1:] != (array.size,):
        raise DatasetError(f"{one_line(path)}: {OUTPUT_KEY} is {array.dtype} {array.shape}, expected float (classes,)")
    if not np.isfinite(array).all():
        raise DatasetError(f"{one_line(path)}: {OUTPUT_KEY} holds NaN or infinity")
    return array.reshape(-1).astype(np.float32)


def _read_array(path: Path, key: str) -> npt.NDArray[np.generic]:
    """The array under ``key``, which has just the bytes that the file holds of it."""
    try:
        file = read_regular(path, _MAX_BYTES)
    except OSError as error:
        raise DatasetError(f"{one_line(path)}: cannot be read ({error.strerror or error})") from error
    if sum(1 for _ in islice(re.finditer(b"PK\x01\x02", file), _MOST_MEMBERS + 1)) > _MOST_MEMBERS:
        # Each costs zipfile half a KB: the largest file that is read could hold millions.
        raise DatasetError(f"{one_line(path)}: has more than {_MOST_MEMBERS} members, expected {key} alone")
    content = _member(path, file, f"{key}.npy")
    try:
        shape, fortran, dtype, offset = parse_npy_header(content[: 10 + int.from_bytes(content[8:10], "little")])
    except ValueError as error:
        raise DatasetError(f"{one_line(path)}: {key} is not a numpy array ({one_line(error)})") from error
    if dtype.hasobject or min(shape, default=0) < 0 or len(content) - offset != math.prod(shape) * dtype.itemsize:
        raise DatasetError(f"{one_line(path)}: {key} claims {dtype} {shape}, which its bytes are not")
    flat = np.frombuffer(content, dtype=dtype, offset=offset)
    return flat.reshape(shape, order="F" if fortran else "C")


@functools.lru_cache(maxsize=64)  # the files of a list differ in their data, seldom in their header
def parse_npy_header(head: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, Fortran order and dtype of an .npy file, and where its data begins.

    ``head`` is magic and version, the header's length as two bytes, and the header. ValueError for anything else.
    """
    stream = io.BytesIO(head)
    try:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            raise ValueError(f"npy format {version[0]}.{version[1]}")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    except Exception as error:  # numpy takes a header apart with Python's own parser, which raises half a dozen
        raise ValueError(str(error)) from error
    return shape, fortran, dtype, stream.tell()


def _member(path: Path, file: bytes, member: str) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(file)) as archive:
            info = archive.NameToInfo.get(member)
            if info is None:
                keys = ", ".join(one_line(name.removesuffix(".npy")) for name in archive.namelist()[:5]) or "nothing"
                raise DatasetError(f"{one_line(path)}: has no key {member.removesuffix('.npy')}, but {keys}")
            if info.file_size > _MAX_BYTES:
                raise DatasetError(
                    f"{one_line(path)}: unpacks to {info.file_size} bytes, more than {_MAX_BYTES} accepted"
                )
            return archive.read(info)
    except (
        OSError,
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        NotImplementedError,
        RuntimeError,
        ValueError,
    ) as error:
        raise DatasetError(f"{one_line(path)}: is not a whole npz file ({one_line(error)})") from error
