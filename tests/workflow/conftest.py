"""Fixtures of the tests that run Snakemake."""

from pathlib import Path

import pytest

from checkout import Workflow, make_workflow


@pytest.fixture
def workflow(repository: Path, tmp_path: Path) -> Workflow:
    """A fresh checkout for one test."""
    return make_workflow(repository, tmp_path / "checkout")
