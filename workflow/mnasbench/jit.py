"""Functions that numba compiles, kept for the next process where there is a place for that."""

import importlib
import sys
from collections.abc import Callable
from typing import Any

import numba


def _look_for_no_blas() -> None:
    """Load numba's array functions as if SciPy were not installed.

    numba looks into scipy.linalg for a BLAS, which takes a third of the time that numba loads in (``import_jit`` of
    benchmarks/shortcuts.py); every job that reads an image would pay it. The price: a function that is compiled here
    cannot use numpy.linalg, and numba says so. tests/unit/test_jit.py holds that SciPy is importable afterwards.
    """
    name = "scipy.linalg"
    if name in sys.modules:
        return
    sys.modules[name] = None  # type: ignore[assignment]  # Python's own way to say that a module cannot be imported
    try:
        importlib.import_module("numba.np.arraymath")
    finally:
        del sys.modules[name]


_look_for_no_blas()


def jit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """A decorator: compiled at the first call, without Python's lock; ``options`` are numba's.

    Kept beside the module or in the user's own cache. Where neither can be written to (a shared installation, a
    service without a home) numba refuses; then every process compiles anew, which takes seconds.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(function, nogil=True, cache=True, **options)
        except RuntimeError:
            return numba.njit(function, nogil=True, **options)

    return decorate
