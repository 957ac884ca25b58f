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
        images = images_a_shard(settings, extent.images)
        if job.rule in ("write_npz", "write_image_npz"):
            geometry, shard = wildcards["geometry"], wildcards["shard"]
            place = names.input_shard if job.rule == "write_npz" else names.image_npz
            path = Path(place(settings, geometry, shard))
            if geometry not in sizes:
                sizes[geometry] = _input_bytes(settings, geometry)
            # What a killed run left in a folder is written anew, and takes no more room than it has.
            present = sum(len(files) for _, _, files in os.walk(path))
            missing[path] = sizes[geometry] * max(0, images - present)
        elif job.rule == "run_accuracy":
            path = Path(names.scores(wildcards["variant"], wildcards["precision"], wildcards["shard"]))
            missing[path] = output_bytes(extent.classes) * images
    return missing


def _input_bytes(settings: Settings, geometry: str) -> int:
    """What the input of one image takes on a disk."""
    if geometry != "original":
        return input_bytes(names.model_of_geometry(settings, geometry).preprocessing)
    is_made = not settings.is_demo or Path(names.dataset_root(settings)).is_dir()
    return whole_input_bytes(described_dataset(settings)) if is_made else 0
