"""How long a plan will take, by what the same jobs took before, and which of them decide it."""

import heapq
import sys
from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mnasbench.plan.names import RESULTS
from mnasbench.result.times import JobTime, find_receipts, job_times, read_receipts


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
    read = list(read_receipts(find_receipts(results)))
    made: dict[str, Path] = {}
    for _, job, content in read:
        # Paths in receipts are relative to the folder that the workflow ran in, which `results` was in.
        made[(Path("results") / job.receipt.relative_to(results)).as_posix()] = job.receipt
        made.update(dict.fromkeys((*content["outputs"], *content["folders"]), job.receipt))
    return {
        job.receipt: RecordedJob(
            PlannedJob(
                job.rule,
                job.receipt,
                content.get("threads", 1),
                {made[name] for name in content["inputs"] if name in made} - {job.receipt},
            ),
            job,
            datetime.fromisoformat(started).timestamp(),
        )
        for started, job, content in read
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
    earlier = list(earlier)
    by_receipt = {job.receipt: job.seconds for job in earlier}
    by_rule: dict[str, list[float]] = {}
    for job in earlier:
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


def expected_time(planned: Mapping[Hashable, PlannedJob], cores: int | None) -> str:
    """One line: how long the planned jobs will take, by the receipts of earlier ones."""
    expected = estimate(planned, job_times(find_receipts(RESULTS)), cores or sys.maxsize)
    if expected.seconds is None:
        return "How long this takes is not known: nothing was run here before."
    without = f", without {', '.join(expected.unknown)}, never run here" if expected.unknown else ""
    return f"This takes about {duration(expected.seconds)} by what the same jobs took before{without}."
