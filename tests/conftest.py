"""Fixtures that every kind of test shares."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# No test is about time, and on a busy machine any example may be slow.
settings.register_profile("any_machine", deadline=None)
settings.load_profile("any_machine")
REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout under test."""
    return REPOSITORY


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder of real photographs and trained weights beside the project; skips where it is missing."""
    folder = Path(os.environ.get("MNASBENCH_REAL", REPOSITORY.parent / "shared" / "real"))
    if not (folder / "val_label.txt").is_file():
        pytest.skip(f"no real photographs at {folder} (set MNASBENCH_REAL)")
    return folder


@pytest.fixture(scope="session")
def vendor() -> Path:
    """The folder of the vendor's own files beside the project, one folder a card; skips where it is missing."""
    folder = Path(os.environ.get("MNASBENCH_VENDOR", REPOSITORY.parent / "shared" / "vendor"))
    if not (folder / "mnasnet").is_dir():
        pytest.skip(f"no files of the vendor's at {folder} (set MNASBENCH_VENDOR)")
    return folder
