"""Functions that numba compiles, kept for the next process where there is a place for that."""

from collections.abc import Callable
from typing import Any

import numba


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
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
