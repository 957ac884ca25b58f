"""Where a run's time went, from the receipts of its jobs."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from mnasbench.errors import InputError
from mnasbench.files import read_json
from mnasbench.receipts import RECEIPT_SUFFIX

# Folders of a file for each image, with no receipt among them: up to 50,000 of them for each row of the summary.
_FILLED = frozenset({"npz", "outputs", "images"})


@dataclass(frozen=True)
class JobTime:
    """One job: its rule, wall-clock and CPU seconds, and the peak memory of its largest process in bytes."""

    receipt: Path
    rule: str
    seconds: float
    cpu_seconds: float
    peak_bytes: int


def find_receipts(results: Path) -> list[Path]:
    """Every receipt below a results folder, by path; folders that a job fills with files are not walked."""
    receipts = []
    for folder, below, names in os.walk(results):
        below[:] = [name for name in below if name not in _FILLED]
        receipts += [Path(folder, name) for name in names if name.endswith(RECEIPT_SUFFIX)]
    return sorted(receipts)


def job_times(receipts: Iterable[Path]) -> list[JobTime]:
    """The jobs of these receipts in the order of their start; one that cannot be read is left out."""
    return [job for _, job, _ in sorted(read_receipts(receipts), key=lambda entry: entry[0])]


def read_receipts(receipts: Iterable[Path]) -> Iterable[tuple[str, JobTime, Mapping[str, Any]]]:
    """For each receipt when its job began, what it took, and the receipt; one that cannot be read is left out."""
    for receipt in receipts:
        try:
            content = read_json(receipt)
            job = JobTime(receipt, content["rule"], content["seconds"], content["cpu_seconds"], content["peak_bytes"])
            yield content["started"], job, content
        except (InputError, KeyError, TypeError):
            continue


def times_table(jobs: Iterable[JobTime]) -> str:
    """A row for each rule, in the order in which the rules first appear."""
    by_rule: dict[str, list[JobTime]] = {}
    for job in jobs:
        by_rule.setdefault(job.rule, []).append(job)
    rows = [
        (
            rule,
            len(done),
            f"{sum(job.seconds for job in done):.1f}",
            f"{sum(job.cpu_seconds for job in done):.1f}",
            f"{max(job.peak_bytes for job in done) / 1e6:.0f}",
        )
        for rule, done in by_rule.items()
    ]
    headers = ("step", "jobs", "seconds", "CPU seconds", "peak MB")
    return tabulate(rows, headers, colalign=("left", *["right"] * 4), disable_numparse=True)
