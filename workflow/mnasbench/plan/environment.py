"""What the jobs of a run find in their environment."""

import os
import sys
from pathlib import Path

import mnasbench
from mnasbench.data.available import Extent
from mnasbench.errors import InputError, one_line
from mnasbench.processes import this_process

# The process that runs the jobs: theirs end when it is gone.
RUNNER = "MNASBENCH_RUNNER"
# The run that holds the results; the jobs of a killed one see that they are no longer its.
RUN = "MNASBENCH_RUN"
# How many images the dataset has, so that no job counts those of a shared disk.
IMAGES = "MNASBENCH_IMAGES"
# What decides the dataset's classes; empty where a label file does.
CLASSES = "MNASBENCH_CLASSES"
# The folder of the commands. A command that named it would change with the place of the checkout.
SCRIPTS = "MNASBENCH_SCRIPTS"


def extent_environment(extent: Extent) -> dict[str, str]:
    """What planning found out about the dataset, for the jobs."""
    return {IMAGES: str(extent.images), CLASSES: extent.numbering or ""}


def job_environment(scripts: Path) -> dict[str, str]:
    """Variables by which jobs find their commands and know who runs them.

    Raises InputError where ``scripts`` belongs to another checkout than the library in use.
    """
    library = Path(mnasbench.__file__).parent.parent
    if scripts.is_dir() and not scripts.parent.samefile(library):
        raise InputError(
            f"{one_line(scripts.parent)}: belongs to another checkout than the mnasbench of this Python "
            f"({sys.prefix}); run `make` here, or this checkout's own .venv/bin/snakemake"
        )
    path = os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()])
    return {SCRIPTS: str(scripts), RUNNER: this_process(), "PATH": path}
