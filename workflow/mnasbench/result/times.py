"""Where a run's time went, from the receipts of its jobs, and how long the next one will take."""

import heapq
import os
from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tabulate import tabulate

from mnasbench.errors import InputError
from mnasbench.files import read_json
from mnasbench.provenance import RECEIPT_SUFFIX

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
    found = []
    for folder, below, names in os.walk(results):
        below[:] = [name for name in below if name not in _FILLED]
        found += [Path(folder, name) for name in names if name.endswith(RECEIPT_SUFFIX)]
    return sorted(found)


def job_times(receipts: Iterable[Path]) -> list[JobTime]:
    """The jobs of these receipts in the order of their start; one that cannot be read is left out."""
    return [job for _, job, _ in sorted(_read(receipts), key=lambda entry: entry[0])]


def _read(receipts: Iterable[Path]) -> Iterable[tuple[str, JobTime, Mapping[str, Any]]]:
    for receipt in receipts:
        try:
            told = read_json(receipt)
            job = JobTime(receipt, told["rule"], told["seconds"], told["cpu_seconds"], told["peak_bytes"])
            yield told["started"], job, told
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


# --------------------------------------------------------------------------------------------- how long it will take
@dataclass(frozen=True)
class PlannedJob:
    """A job that is about to run: what it writes as receipt, the threads it takes, and the jobs that it waits for."""

    rule: str
    receipt: Path | None
    threads: int
    needs: Collection[Hashable]


@dataclass(frozen=True)
class RecordedJob:
    """A finished job: its place in the run, what it took, and when it began, in POSIX seconds."""

    plan: PlannedJob
    time: JobTime
    begin: float


def recorded_jobs(results: Path) -> dict[Hashable, RecordedJob]:
    """The jobs of a results folder by their receipts; each needs those whose files it read.

    Receipts of before threads were recorded count as of one.
    """
    read = list(_read(find_receipts(results)))
    made: dict[str, Path] = {}
    for _, job, told in read:
        # Paths in receipts are relative to the folder that the workflow ran in, which `results` was in.
        made[(Path("results") / job.receipt.relative_to(results)).as_posix()] = job.receipt
        made.update(dict.fromkeys((*told["outputs"], *told["folders"]), job.receipt))
    return {
        job.receipt: RecordedJob(
            PlannedJob(
                job.rule,
                job.receipt,
                told.get("threads", 1),
                {made[name] for name in told["inputs"] if name in made} - {job.receipt},
            ),
            job,
            datetime.fromisoformat(started).timestamp(),
        )
        for started, job, told in read
    }


def wall_seconds(jobs: Iterable[RecordedJob]) -> float:
    """Seconds from the first start of a job to the last end."""
    spans = [(job.begin, job.begin + job.time.seconds) for job in jobs]
    return max(end for _, end in spans) - min(begin for begin, _ in spans) if spans else 0.0


def longest_chain(planned: Mapping[Hashable, PlannedJob], seconds: Mapping[Hashable, float]) -> list[Hashable]:
    """The jobs, first to last, of which each needs the one before it and which together take longest."""
    ends: dict[Hashable, tuple[float, Hashable | None]] = {}

    def end(key: Hashable) -> float:
        if key not in ends:
            before = max((need for need in planned[key].needs if need in planned), key=end, default=None)
            ends[key] = (seconds[key] + (0.0 if before is None else end(before)), before)
        return ends[key][0]

    chain: list[Hashable] = []
    last = max(planned, key=end, default=None)
    while last is not None:
        chain.append(last)
        last = ends[last][1]
    return chain[::-1]


def held_seconds(planned: Mapping[Hashable, PlannedJob], seconds: Mapping[Hashable, float], cores: int) -> float:
    """Seconds that ``cores`` would be held if none was ever free: no order of the jobs can take less."""
    return sum(seconds[key] * min(plan.threads, cores) for key, plan in planned.items()) / cores


@dataclass(frozen=True)
class Estimate:
    """Wall-clock seconds of the jobs whose duration is known (None: of none), and the rules of the others."""

    seconds: float | None
    unknown: tuple[str, ...]


def estimate(planned: Mapping[Hashable, PlannedJob], earlier: Iterable[JobTime], cores: int) -> Estimate:
    """How long ``planned`` will take on ``cores``, by what the same jobs, else others of their rules, took before.

    Jobs are placed as Snakemake does, each as soon as its inputs are there and enough cores are free. A rule that
    never ran counts as nothing, and is named. ``planned`` is by any key, to which ``needs`` refer.
    """
    known = list(earlier)
    by_receipt = {job.receipt: job.seconds for job in known}
    by_rule: dict[str, list[float]] = {}
    for job in known:
        by_rule.setdefault(job.rule, []).append(job.seconds)
    seconds: dict[Hashable, float] = {}
    unknown: dict[str, None] = {}
    for key, plan in planned.items():
        if plan.receipt is None:  # a target, which runs nothing
            seconds[key] = 0.0
        elif plan.receipt in by_receipt:
            seconds[key] = by_receipt[plan.receipt]
        elif plan.rule in by_rule:
            seconds[key] = sum(by_rule[plan.rule]) / len(by_rule[plan.rule])
        else:
            seconds[key] = 0.0
            unknown[plan.rule] = None
    runs = sum(plan.receipt is not None for plan in planned.values())
    if runs and {plan.rule for plan in planned.values() if plan.receipt is not None} <= set(unknown):
        return Estimate(None, tuple(unknown))
    return Estimate(makespan(planned, seconds, max(1, cores)), tuple(unknown))


def makespan(planned: Mapping[Hashable, PlannedJob], seconds: Mapping[Hashable, float], cores: int) -> float:
    """Seconds from the first start to the last end, each job begun as soon as its inputs and cores are there."""
    waiting = {key: {need for need in plan.needs if need in planned} for key, plan in planned.items()}
    running: list[tuple[float, int, Hashable]] = []
    now, free = 0.0, cores
    while waiting or running:
        for key in [key for key, needs in waiting.items() if not needs]:
            threads = min(planned[key].threads, cores)
            if threads <= free:
                free -= threads
                del waiting[key]
                heapq.heappush(running, (now + seconds[key], len(waiting), key))
        if not running:
            return now  # Only a circle of needs could be left
        now, _, done = heapq.heappop(running)
        free += min(planned[done].threads, cores)
        for needs in waiting.values():
            needs.discard(done)
    return now


def duration(seconds: float) -> str:
    """As people say it: ``40 s``, ``5 min``, ``2 h 10 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
