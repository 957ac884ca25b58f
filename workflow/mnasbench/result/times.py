"""Where a run's time went, from the receipts of its jobs."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from mnasbench.errors import InputError
from mnasbench.files import read_json


@dataclass(frozen=True)
class JobTime:
    """One job: its rule, wall-clock and CPU seconds, and the peak memory of its largest process in bytes."""

    rule: str
    seconds: float
    cpu_seconds: float
    peak_bytes: int


def job_times(receipts: Iterable[Path]) -> list[JobTime]:
    """The jobs of these receipts in the order of their start; one that cannot be read is left out."""
    found: list[tuple[str, JobTime]] = []
    for receipt in receipts:
        try:
            told = read_json(receipt)
            job = JobTime(told["rule"], told["seconds"], told["cpu_seconds"], told["peak_bytes"])
            found.append((told["started"], job))
        except (InputError, KeyError, TypeError):
            continue
    return [job for _, job in sorted(found, key=lambda entry: entry[0])]


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
