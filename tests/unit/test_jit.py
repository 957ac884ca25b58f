"""Functions that numba compiles give what Python gives, and what is hidden while numba loads is there afterwards."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from mnasbench.jit import jit


@jit()
def _sum_of_squares(values):  # type: ignore[no-untyped-def]
    total = 0.0
    for value in values:
        total += value * value
    return total


def test_a_function_gives_what_python_gives() -> None:
    values = np.random.default_rng(0).normal(size=50)
    assert _sum_of_squares(values) == _sum_of_squares.py_func(values)


def test_scipy_can_be_imported_after_numba_was_loaded_without_it(repository: Path) -> None:
    program = (
        "import sys, mnasbench.jit; assert 'scipy.linalg' not in sys.modules, 'numba loaded it'; "
        "import scipy.linalg; print(scipy.linalg.inv([[2.0]])[0, 0])"
    )
    environment = os.environ | {"PYTHONPATH": str(repository / "workflow")}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("0.5\n", "")
