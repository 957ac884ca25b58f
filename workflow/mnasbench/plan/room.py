"""The room on a disk that the jobs of a plan will need."""

import os
from collections.abc import Iterable
from pathlib import Path

from mnasbench.data.available import Extent, input_bytes, output_bytes, whole_input_bytes
from mnasbench.disk_room import require_room
from mnasbench.plan import names
from mnasbench.plan.dataset_look import described_dataset
from mnasbench.plan.reasons import Job
from mnasbench.plan.resources import images_a_shard
from mnasbench.settings import Settings


def require_room_for(settings: Settings, extent: Extent, jobs: Iterable[Job]) -> None:
    """Raise OutputError where the disk will not hold what ``jobs`` write of each image.

    Asked of the whole plan and not by the jobs, because each of them knows its own shard only: the disk would fill
    in the middle.
    """
    require_room(_missing_bytes(settings, extent, jobs), "this run")


def _missing_bytes(settings: Settings, extent: Extent, jobs: Iterable[Job]) -> dict[Path, int]:
    missing = {}
    sizes: dict[str, int] = {}
    for job in jobs:
        wildcards = job.wildcards
        if job.rule == "write_npz":
            geometry, shard = wildcards["geometry"], wildcards["shard"]
            folder = Path(names.inputs(settings, geometry, shard))
            if geometry not in sizes:
                sizes[geometry] = _input_bytes(settings, geometry)
            size = sizes[geometry]
        elif job.rule == "run_accuracy":
            folder = Path(names.outputs(wildcards["variant"], wildcards["precision"], wildcards["shard"]))
            size = output_bytes(extent.classes)
        else:
            continue
        # What a killed run left, or what is written anew, takes no more room than it has.
        present = sum(len(files) for _, _, files in os.walk(folder))
        missing[folder] = size * max(0, images_a_shard(settings, extent.images) - present)
    return missing


def _input_bytes(settings: Settings, geometry: str) -> int:
    """What the input of one image takes on a disk."""
    if geometry != "original":
        return input_bytes(names.model_of_geometry(settings, geometry).size)
    is_made = not settings.is_demo or Path(names.dataset_root(settings)).is_dir()
    return whole_input_bytes(described_dataset(settings)) if is_made else 0
