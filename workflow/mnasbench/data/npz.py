"""The npz files that inputs and outputs are exchanged in: one array a file, under the vendor's key.

Read without numpy's loader: no pickle, and nothing is allocated that the file's own size does not warrant.
"""

import io
import zipfile
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mnasbench.errors import DatasetError, one_line
from mnasbench.files import written_atomically

INPUT_KEY = "input_0"
OUTPUT_KEY = "output_0"
# A full-size picture of preprocess.MAX_PIXELS; outputs are far smaller.
_MAX_BYTES = 3 * 89_478_485 + 4096


def write_npz(path: Path, array: npt.NDArray[np.generic], key: str = INPUT_KEY) -> None:
    """Write one array, uncompressed and atomically; equal arrays give equal files."""
    with written_atomically(path) as temporary:
        np.savez(temporary, allow_pickle=False, **{key: array})


def read_npz(path: Path) -> npt.NDArray[np.uint8]:
    """Pixels, uint8 (3, height, width), under the key ``input_0``; DatasetError says what is wrong."""
    array = _read_array(path, INPUT_KEY)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[0] != 3:
        raise DatasetError(
            f"{one_line(path)}: {INPUT_KEY} is {array.dtype} {array.shape}, expected uint8 (3, height, width)"
        )
    return array.astype(np.uint8, copy=False)


def read_output(path: Path) -> npt.NDArray[np.float32]:
    """One picture's scores, float32 (classes,), under the key ``output_0``; leading axes of 1 are dropped."""
    array = _read_array(path, OUTPUT_KEY)
    if array.dtype.kind != "f" or array.size == 0 or array.shape[-1:] != (array.size,):
        raise DatasetError(f"{one_line(path)}: {OUTPUT_KEY} is {array.dtype} {array.shape}, expected float (classes,)")
    if not np.isfinite(array).all():
        raise DatasetError(f"{one_line(path)}: {OUTPUT_KEY} holds NaN or infinity")
    return array.reshape(-1).astype(np.float32)


def _read_array(path: Path, key: str) -> npt.NDArray[np.generic]:
    content = _read_member(path, f"{key}.npy")
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            raise ValueError(f"npy format {version[0]}.{version[1]}")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    except (ValueError, EOFError, TypeError, SyntaxError, RecursionError) as error:
        raise DatasetError(f"{one_line(path)}: {key} is not a numpy array ({one_line(error)})") from error
    count = int(np.prod(shape, dtype=object)) if shape else 1
    if dtype.hasobject or min(shape, default=0) < 0 or len(content) - stream.tell() != count * dtype.itemsize:
        raise DatasetError(f"{one_line(path)}: {key} claims {dtype} {shape}, which its bytes are not")
    flat = np.frombuffer(content, dtype=dtype, offset=stream.tell())
    return flat.reshape(shape, order="F" if fortran else "C")


def _read_member(path: Path, member: str) -> bytes:
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
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise DatasetError(f"{one_line(path)}: is not a whole npz file ({one_line(error)})") from error
