"""A user's own preprocessing: a Python file with a function that makes the net's input of an image.

``file.py:function`` takes uint8 (height, width, 3), RGB, as it was decoded, and gives float32 (3, height, width) of the
net's size, resized, normalised, its channels in the net's order. One file alone, so that its content says whether what
it made is stale.
"""

import functools
import linecache
import runpy
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mnasbench.errors import DatasetError, SettingsError, one_line
from mnasbench.preprocessing import Size, split_code

UInt8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]


def input_by(code: str, pixels: UInt8Array, size: Size) -> Float32Array:
    """The net's input, float32 (3, *size), that a user's function makes of uint8 (height, width, 3).

    Raises SettingsError for a file that cannot be loaded, DatasetError where the function fails or gives anything else;
    both name the line.
    """
    function = function_of(code)
    try:
        made = function(np.array(pixels, order="C"))
    except (Exception, SystemExit) as error:
        raise DatasetError(f"{_where(code, error)}: {_what(error)}") from error
    expected = (3, *size)
    if not isinstance(made, np.ndarray) or made.dtype != np.float32 or made.shape != expected:
        is_array = isinstance(made, np.ndarray)
        given = f"{made.dtype} {made.shape}" if is_array else type(made).__name__
        cast = "; end it with .astype(np.float32)" if is_array and made.shape == expected else ""
        raise DatasetError(f"{one_line(code)}: gave {given}, expected float32 {expected}, the net's input{cast}")
    if not np.isfinite(made).all():
        raise DatasetError(f"{one_line(code)}: gave values that are not finite")
    return np.ascontiguousarray(made)


@functools.cache
def function_of(code: str) -> Callable[[UInt8Array], Any]:
    """The function that ``file.py:function`` names; SettingsError where there is none, or the file does not run."""
    file, name = split_code(code)
    if not Path(file).is_file():
        raise SettingsError(f"{one_line(file)}: there is no such file of preprocessing")
    try:
        made = runpy.run_path(file, run_name="mnasbench_own_code")
    except (Exception, SystemExit) as error:
        raise SettingsError(f"{_where(code, error)}: {_what(error)}") from error
    if not callable(made.get(name)):
        names = [key for key, value in made.items() if callable(value) and not key.startswith("_")]
        raise SettingsError(f"{one_line(file)}: has no function '{name}', but {', '.join(names) or 'none'}")
    function: Callable[[UInt8Array], Any] = made[name]
    return function


def _where(code: str, error: BaseException) -> str:
    """The user's file, and the line of it that an error comes from."""
    file, _ = split_code(code)
    if isinstance(error, SyntaxError) and error.lineno is not None:
        return f"{one_line(file)}: line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    if not lines or lines[-1] is None:
        return one_line(code)
    text = linecache.getline(file, lines[-1]).strip()
    return f"{one_line(file)}: line {lines[-1]} ({one_line(text[:80])})"


def _what(error: BaseException) -> str:
    return one_line(f"{type(error).__name__}: {error}"[:300])
